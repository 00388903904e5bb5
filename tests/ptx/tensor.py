"""The tensor cores, and copies in the background.

Source: PTX ISA, Matrix Fragments for mma.m16n8k16, wgmma.mma_async, Matrix Descriptor Format, cp.async.
Products of FP16 numbers are exact. They are summed here in FP64 and rounded once to FP32.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tests.ptx.memory import UNIT, Fault, Global, Shared, ranges
from tests.ptx.source import Instruction, Memory, Number, Operand, Register, Vector

if TYPE_CHECKING:
    from tests.ptx.machine import Block

_LANE = np.arange(32)
_G, _T = _LANE // 4, _LANE % 4
_SHAPE = re.compile(r"m64n(\d+)k16")


def run(block: Block, instruction: Instruction, active: np.ndarray, warps: np.ndarray) -> None:
    """Run mma, or one of the instructions of wgmma."""
    if instruction.parts[0] == "mma":
        assert ".".join(instruction.parts[3:]) == "m16n8k16.row.col.f32.f16.f16.f32"
        target, a, b, c = (_parts(operand) for operand in instruction.operands)
        assert target == c, "D is C"
        right = np.empty((len(warps), 16, 8))
        for r, word in enumerate(_words(block, b, warps)):
            for half, value in enumerate(_halves(word)):
                right[:, 2 * _T + half + 8 * r, _G] = value
        _accumulate(block, target, _left(block, a, warps), right, warps)
        block.counts["flop"] += len(warps) * 2 * 16 * 8 * 16
        return
    _WGMMA[instruction.parts[1]](block, instruction, warps)


def _parts(operand: Operand) -> tuple[Operand, ...]:
    assert isinstance(operand, Vector)
    return operand.parts


def _words(block: Block, registers: tuple[Operand, ...], warps: np.ndarray) -> list[np.ndarray]:
    """Return [warps, 32] for each register."""
    return [block.value(r, "b32").reshape(-1, 32)[warps] for r in registers]


def _halves(word: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pair = np.ascontiguousarray(word).view(np.float16).astype(np.float64)
    return pair[..., ::2], pair[..., 1::2]


def _left(block: Block, registers: tuple[Operand, ...], warps: np.ndarray) -> np.ndarray:
    """Return A [warps, 16, 16] from its four registers."""
    left = np.empty((len(warps), 16, 16))
    for r, word in enumerate(_words(block, registers, warps)):
        for half, value in enumerate(_halves(word)):
            left[:, _G + 8 * (r % 2), 2 * _T + half + 8 * (r // 2)] = value
    return left


def _accumulate(
    block: Block, target: tuple[Operand, ...], left: np.ndarray, right: np.ndarray, warps: np.ndarray
) -> None:
    """Add left right to D. Of 8 columns' four registers, r is row g + 8 (r / 2), column 2 t + r % 2."""
    product = left @ right
    active = (warps[:, None] * 32 + _LANE).reshape(-1)
    for place, register in enumerate(target):
        tile, r = divmod(place, 4)
        more = product[:, _G + 8 * (r // 2), 8 * tile + 2 * _T + r % 2].reshape(-1)
        with np.errstate(all="ignore"):
            block.put(register, (block.value(register, "f32")[active] + more).astype(np.float32), active)


class Products:
    """The wgmmas under way of each warp, with the registers and the shared memory that they hold."""

    def __init__(self, warps: int, used: bool) -> None:
        self.used = used
        self.committed = np.zeros(warps, np.int64)
        self.held: dict[str, dict[int, tuple[int, str]]] = {}  # register -> warp -> group, role
        self.reads: list[tuple[int, int, np.ndarray]] = []  # warp, group, units of shared memory
        self.written: dict[str, set[int]] = {}  # register -> warps that wrote it since their last wgmma.fence

    def check(self, instruction: Instruction, active: np.ndarray) -> None:
        """Raise Fault where an instruction touches what a multiplication in the background holds."""
        if not self.held or instruction.parts[0] in ("wgmma", "mov"):
            return
        warps = set((active // 32).tolist())
        for place, operand in enumerate(instruction.operands):
            for name in _names(operand):
                for warp, (_, role) in self.held.get(name, {}).items():
                    if warp in warps and (role == "D" or place == 0):
                        raise Fault(f"{name} is held by a wgmma that nobody has waited for")

    def wrote(self, name: str, active: np.ndarray) -> None:
        if self.used:
            self.written.setdefault(name, set()).update(np.unique(active // 32).tolist())

    def moved(self, target: Operand, source: Operand, active: np.ndarray) -> None:
        """Hold the copy too: nvcc writes moves around inline assembly, and ptxas removes them."""
        if isinstance(source, Register) and isinstance(target, Register) and source.name in self.held:
            self.held[target.name] = dict(self.held[source.name])

    def begin(self, name: str, role: str, warps: np.ndarray) -> None:
        group = self.held.setdefault(name, {})
        for warp in warps.tolist():
            group[warp] = int(self.committed[warp]), role

    def wait(self, shared: Shared, warps: np.ndarray, left: int) -> None:
        among = set(warps.tolist())
        for name, held in list(self.held.items()):
            for warp, (group, _) in list(held.items()):
                if warp in among and group < self.committed[warp] - left:
                    del held[warp]
            if not held:
                del self.held[name]
        kept = []
        for warp, group, units in self.reads:
            if warp in among and group < self.committed[warp] - left:
                shared.multiplied[units] -= 1
            else:
                kept.append((warp, group, units))
        self.reads = kept


def _names(operand: Operand) -> list[str]:
    if isinstance(operand, Register):
        return [operand.name]
    if isinstance(operand, Vector):
        return [name for part in operand.parts for name in _names(part)]
    return _names(operand.base) if isinstance(operand, Memory) else []


def _multiply(block: Block, instruction: Instruction, warps: np.ndarray) -> None:
    shape = _SHAPE.fullmatch(instruction.parts[4])
    assert shape and instruction.parts[5:] == ("f32", "f16", "f16"), instruction.text
    target, a, descriptor, scale_d, scale_a, scale_b, transposed = instruction.operands
    assert [n.bits for n in (scale_d, scale_a, scale_b, transposed) if isinstance(n, Number)] == [1, 1, 1, 0]
    columns, products = int(shape[1]), block.products
    for name in [*_names(target), *_names(a)]:
        if products.written.get(name, set()) & set(warps.tolist()):
            raise Fault(f"{name} was written after the last wgmma.fence")
        others = {group for warp, (group, role) in products.held.get(name, {}).items() if role == "A"}
        if others and name in _names(target):
            raise Fault(f"{name} is A of a wgmma under way")
    words = block.value(descriptor, "u64").reshape(-1, 32)[warps]
    if (words != words[:, :1]).any():
        raise Fault("a matrix descriptor that differs within a warp")
    right = np.empty((len(warps), 16, columns))
    for place, (warp, word) in enumerate(zip(warps.tolist(), words[:, 0].tolist(), strict=True)):
        right[place] = _from_shared(block, warp, word, columns)
    _accumulate(block, _parts(target), _left(block, _parts(a), warps), right, warps)
    for name in _names(target):
        products.written[name].difference_update(warps.tolist())
        products.begin(name, "D", warps)
    for name in _names(a):
        products.begin(name, "A", warps)
    block.counts["flop"] += len(warps) * 2 * 16 * columns * 16
    # Each warpgroup reads B once, so a warp's share is a quarter of it.
    turns = len(warps) * columns * 16 * 2 // 128 // 4
    block.counts.update({"wavefronts": turns, "wavefronts at least": turns})


def _from_shared(block: Block, warp: int, descriptor: int, columns: int) -> np.ndarray:
    """Return B [16, columns], K-major without a swizzle: blocks of 8 columns with 8 numbers each."""
    start, leading, stride = (((descriptor >> shift) & 0x3FFF) << 4 for shift in (0, 16, 32))
    if descriptor >> 62 or descriptor >> 46 & 0xFFFF:
        raise Fault(f"a matrix descriptor with a swizzle or an offset: {descriptor:#x}")
    k, n = np.divmod(np.arange(16 * columns), columns)
    addresses = start + k // 8 * leading + n // 8 * stride + n % 8 * 16 + k % 8 * 2
    shared, units = block.shared, addresses // UNIT
    if addresses.max() + 2 > len(shared.bytes):
        raise Fault("wgmma reads past the end of shared memory")
    if shared.generic[units].any():
        raise Fault("wgmma reads what no fence.proxy.async has shown to the tensor cores")
    own = shared.writer[units] // 32 == warp
    shared.look(units, np.where(own, shared.writer[units], warp * 32))
    shared.multiplied[units] += 1
    block.products.reads.append((warp, int(block.products.committed[warp]), units))
    return np.asarray(shared.bytes[ranges(addresses, 2)].view(np.float16).reshape(16, columns), np.float64)


def _commit(block: Block, instruction: Instruction, warps: np.ndarray) -> None:
    block.products.committed[warps] += 1


def _wait(block: Block, instruction: Instruction, warps: np.ndarray) -> None:
    (left,) = instruction.operands
    assert isinstance(left, Number)
    block.products.wait(block.shared, warps, left.bits)


def _order(block: Block, instruction: Instruction, warps: np.ndarray) -> None:
    for writers in block.products.written.values():
        writers.difference_update(warps.tolist())


_WGMMA: dict[str, Callable[[Block, Instruction, np.ndarray], None]] = {
    "mma_async": _multiply, "commit_group": _commit, "wait_group": _wait, "fence": _order,
}  # fmt: skip


class Copies:
    """The copies of cp.async. They are done when the thread that began them waits, and not before."""

    def __init__(self, threads: int, first: int) -> None:
        """first: the number of the block's first thread in the grid."""
        self.first = first
        self.committed = np.zeros(threads, np.int64)
        self.open: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]] = []

    def begin(
        self, shared: Shared, threads: np.ndarray, to: np.ndarray, start: np.ndarray, size: int
    ) -> None:
        shared.claim(threads, to, size)
        shared.copying[ranges(to, size, UNIT)] = True
        self.open.append((threads, self.committed[threads].copy(), to, start, size))

    def commit(self, threads: np.ndarray) -> None:
        self.committed[threads] += 1

    def wait(self, shared: Shared, memory: Global, threads: np.ndarray, left: int) -> None:
        asked = np.zeros(len(self.committed), bool)
        asked[threads] = True
        kept = []
        for who, group, to, start, size in self.open:
            over = asked[who] & (group < self.committed[who] - left)
            if over.any():
                units = ranges(to[over], size, UNIT)
                shared.copying[units] = False
                shared.written[units] = shared.epoch
                shared.bytes[ranges(to[over], size)] = memory.read(self.first + who[over], start[over], size)
            if not over.all():
                kept.append((who[~over], group[~over], to[~over], start[~over], size))
        self.open = kept
