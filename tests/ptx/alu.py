"""The arithmetic instructions of PTX, for all lanes at once.

FP32 is IEEE: every operation rounds once. (fma is computed in extended precision, so it rounds twice where
that lies within 2^-11 of a tie.) The approximate functions of the GPU are rounded correctly here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

TYPES: dict[str, Any] = {
    "pred": np.bool_, "u8": np.uint8, "u16": np.uint16, "s16": np.int16, "b16": np.uint16, "f16": np.float16,
    "u32": np.uint32, "s32": np.int32, "b32": np.uint32, "f32": np.float32,
    "u64": np.uint64, "s64": np.int64, "b64": np.uint64,
}  # fmt: skip
_TWICE = {"u16": np.uint32, "s16": np.int32, "u32": np.uint64, "s32": np.int64}


def _fma(a: Any, b: Any, c: Any) -> Any:
    wide = np.longdouble
    return (a.astype(wide) * b.astype(wide) + c.astype(wide)).astype(np.float32)


def _divide(a: Any, b: Any) -> Any:
    """Divide integers towards zero."""
    b = np.where(b == 0, 1, b).astype(b.dtype)
    if a.dtype.kind == "u":
        return a // b
    return (np.abs(a) // np.abs(b) * np.sign(a) * np.sign(b)).astype(a.dtype)


def _quotient(a: Any, b: Any) -> Any:
    """Divide numbers: rounding the quotient in FP64 once more gives the FP32 that is nearest to it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (a.astype(np.float64) / b.astype(np.float64)).astype(np.float32)


def _wide(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda a: function(a.astype(np.float64)).astype(np.float32)


def _clamped(count: Any, bits: int) -> Any:
    return np.minimum(count.astype(np.uint64), bits).astype(np.int64)


def _shift_left(a: Any, count: Any) -> Any:
    bits = 8 * a.dtype.itemsize
    by = _clamped(count, bits)
    return np.where(by < bits, a << (by % bits).astype(a.dtype), 0).astype(a.dtype)


def _shift_right(a: Any, count: Any) -> Any:
    bits = 8 * a.dtype.itemsize
    by = _clamped(count, bits)
    far = -(a < 0).astype(a.dtype) if a.dtype.kind == "i" else np.zeros_like(a)
    return np.where(by < bits, a >> (by % bits).astype(a.dtype), far).astype(a.dtype)


def _insert(low: Any, into: Any, at: Any, count: Any) -> Any:
    """Do bfi: put the lowest bits of a number in place of those of another, from a position on."""
    kept = ((np.uint64(1) << count.astype(np.uint64)) - np.uint64(1)) << at.astype(np.uint64)
    moved = low.astype(np.uint64) << at.astype(np.uint64)
    return (into & ~kept | moved & kept).astype(into.dtype)


def _tanh(a: Any) -> Any:
    """Compute tanh as near as the PTX ISA promises, and no nearer."""
    return np.tanh(a) * (1 - 2.0**-11 * np.sin(1e3 * a))


# Name without types -> function of the operands, which have the instruction's type.
PLAIN: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul.lo": np.multiply, "mul": np.multiply, "mul.rn": np.multiply,
    "mad.lo": lambda a, b, c: a * b + c, "fma.rn": _fma, "div": _divide,
    "div.rn": _quotient, "rcp.rn": _wide(np.reciprocal), "sqrt.rn": _wide(np.sqrt),
    "neg": np.negative, "min": np.fmin, "max": np.fmax,
    "not": lambda a: ~a, "and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b,
    "bfi": _insert, "tanh.approx": _wide(_tanh), "rsqrt.approx": _wide(lambda a: 1 / np.sqrt(a)),
    "cvta.to.global": lambda a: a,  # addresses are the same numbers in every space
}  # fmt: skip
SHIFTS: dict[str, Callable[[Any, Any], Any]] = {"shl": _shift_left, "shr": _shift_right}
_ORDERED: dict[str, Callable[[Any, Any], Any]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip


def compare(kind: str, a: Any, b: Any) -> Any:
    """Do setp. Where a float is NaN, `nan`, `equ` and the like are true, `eq` and the like false."""
    if a.dtype.kind != "f":
        return _ORDERED[kind](a, b)
    unordered = np.isnan(a) | np.isnan(b)
    if kind in ("nan", "num"):
        return unordered == (kind == "nan")
    if kind in _ORDERED:
        return _ORDERED[kind](a, b) & ~unordered
    return _ORDERED[kind[:-1]](a, b) | unordered


def multiply_wide(kind: str, a: Any, b: Any) -> Any:
    """Do mul.wide, a product of twice the width."""
    return a.astype(_TWICE[kind]) * b.astype(_TWICE[kind])


def convert(parts: tuple[str, ...], *values: Any) -> Any:
    """Do cvt, of one operand, or of two to a pair of FP16 with the first in the upper half."""
    if parts[-2] == "f16x2":
        high, low = (value.astype(np.float16).view(np.uint16).astype(np.uint32) for value in values)
        return high << np.uint32(16) | low
    return values[0].astype(TYPES[parts[-2]])
