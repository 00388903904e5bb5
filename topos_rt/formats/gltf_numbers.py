"""How the numbers of a head are stored in glTF: as they are, or in 16 and 8 bits.

Source of the latter: KHR_mesh_quantization. Positions become signed 16-bit integers in a cube around the
head, and the transform from that cube to metres goes into the inverse bind matrices or, without a skin, into
the node of the mesh. Since the cube is scaled equally along each axis, normals stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

EXTENSION = "KHR_mesh_quantization"
_SHORT, _BYTE, _USHORT = 0x7FFF, 0x7F, 0xFFFF


@dataclass(frozen=True, eq=False)
class Numbers:
    """Numbers [n,k] as a file has them."""

    values: np.ndarray  # little-endian float32 or integers
    normalized: bool = False  # whether the largest integer stands for 1


class Storage(Protocol):
    """A way to store numbers."""

    origin: np.ndarray  # [3] float32, metres: where stored positions of zero lie
    scale: float  # metres per unit of stored positions

    def positions(self, values: np.ndarray) -> Numbers:
        """Return positions [n,3] in metres as they are stored."""

    def offsets(self, values: np.ndarray) -> Numbers:
        """Return the offsets [n,3] of a blendshape, metres, as they are stored."""

    def normals(self, values: np.ndarray) -> Numbers:
        """Return unit vectors [n,3] as they are stored."""

    def turns(self, values: np.ndarray) -> Numbers:
        """Return the changes [n,3] of normals in a blendshape as they are stored."""

    def uvs(self, values: np.ndarray) -> Numbers:
        """Return UVs [n,2] as they are stored."""

    def weights(self, values: np.ndarray) -> Numbers:
        """Return skin weights [n,4], rows of sum 1, as they are stored."""


def floats(values: np.ndarray) -> Numbers:
    """Return numbers as float32."""
    return Numbers(np.ascontiguousarray(values, "<f4"))


def greys(values: np.ndarray) -> Numbers:
    """Return shades [n] uint8, 255 for white, as opaque linear colours."""
    colours = np.repeat(values[:, None], 4, 1).astype("|u1")
    colours[:, 3] = 255
    return Numbers(colours, True)


class Plain:
    """Stores numbers as float32, in metres."""

    origin, scale = np.zeros(3, np.float32), 1.0
    positions = offsets = normals = turns = uvs = weights = staticmethod(floats)


class Quantized:
    """Stores numbers as normalized integers where they fit, or else as float32, in the head's cube."""

    def __init__(self, positions: np.ndarray) -> None:
        """Choose the cube around positions [V,3], metres."""
        low, high = positions.min(0).astype(np.float64), positions.max(0).astype(np.float64)
        self.origin = ((low + high) / 2).astype(np.float32)
        reach = np.abs(positions.astype(np.float64) - self.origin).max()
        self.scale = float(np.nextafter(np.float32(reach), np.float32(np.inf)))

    def positions(self, values: np.ndarray) -> Numbers:
        """See `Storage`."""
        return _integers((values.astype(np.float64) - self.origin) / self.scale, _SHORT)

    def offsets(self, values: np.ndarray) -> Numbers:
        """See `Storage`."""
        return _integers(values.astype(np.float64) / self.scale, _SHORT)

    def normals(self, values: np.ndarray) -> Numbers:
        """See `Storage`."""
        return _integers(values.astype(np.float64), _SHORT)

    def turns(self, values: np.ndarray) -> Numbers:
        """See `Storage`."""
        return _integers(values.astype(np.float64), _BYTE)

    def uvs(self, values: np.ndarray) -> Numbers:
        """See `Storage`."""
        return _integers(values.astype(np.float64), _USHORT)

    def weights(self, values: np.ndarray) -> Numbers:
        """See `Storage`. Rows keep their sum: the largest weight takes what rounding leaves."""
        rounded = np.rint(values.astype(np.float64) * _USHORT).astype(np.int64)
        largest = rounded.argmax(1)[:, None]
        left = _USHORT - rounded.sum(1, keepdims=True)
        np.put_along_axis(rounded, largest, np.take_along_axis(rounded, largest, 1) + left, 1)
        return Numbers(rounded.astype("<u2"), True)

    def error_mm(self, positions: np.ndarray, offsets: np.ndarray) -> tuple[float, float]:
        """Return by how many millimetres stored positions [V,3] and offsets [K,3] are off at most."""
        stored, moved = self.positions(positions), self.offsets(offsets)
        back = restored(stored) * self.scale + self.origin
        errors = back - positions, restored(moved) * self.scale - offsets
        rest, shapes = (float(np.linalg.norm(error, axis=1).max(initial=0)) * 1e3 for error in errors)
        return rest, shapes


def restored(numbers: Numbers) -> np.ndarray:
    """Return what stored numbers stand for, float64."""
    values = numbers.values.astype(np.float64)
    return values / np.iinfo(numbers.values.dtype).max if numbers.normalized else values


def _integers(values: np.ndarray, limit: int) -> Numbers:
    """Return numbers as integers of -limit..limit, or 0..limit for 0xFFFF; as float32 where one is beyond."""
    lowest = 0 if limit == _USHORT else -1
    if values.size and not (values.min() >= lowest and values.max() <= 1):
        return floats(values)
    dtype = {_SHORT: "<i2", _BYTE: "|i1", _USHORT: "<u2"}[limit]
    return Numbers(np.rint(values * limit).astype(dtype), True)
