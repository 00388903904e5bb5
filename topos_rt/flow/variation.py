"""The `Variation` of a model: the directions of the latent that a picture leaves open.

A model that sees a face well is sampled best with little noise, but then all seeds look alike. So the noise
is split: along the directions that no picture of a face decides, such as the back of the head, it has a scale
of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from topos_rt.errors import BundleError
from topos_rt.flow.settings import MAX_TEMPERATURE
from topos_rt.support.arrays import Array
from topos_rt.support.strictjson import AGAIN
from topos_rt.support.tensorfile import read_tensors, write_tensors

_ARRAYS = ("directions", "open_temperature")
_TOLERANCE = 1e-3  # of each product of two rows


@dataclass(frozen=True, eq=False)
class Variation:
    """Orthonormal directions of the flattened latent. Raises BundleError for any that are not."""

    directions: Array  # [k,N*D] float32, 1 <= k <= N*D
    open_temperature: float  # scale of the noise along them, 0 to 2

    def __post_init__(self) -> None:
        rows = self.directions
        if rows.dtype != np.float32 or rows.ndim != 2 or not 1 <= len(rows) <= rows.shape[1]:
            got = f"{rows.dtype} of shape {list(rows.shape)}"
            raise _wrong("directions", got, "float32 [k,N*D] with 1 <= k <= N*D")
        if not np.isfinite(rows).all():
            raise _wrong("directions", "numbers that are not finite", "finite numbers")
        wide = rows.astype(np.float64)
        off = float(np.abs(wide @ wide.T - np.eye(len(rows))).max())
        if not off <= _TOLERANCE:
            raise _wrong(
                "directions",
                f"products of rows that are off by {off:.3g}",
                f"orthonormal rows, to {_TOLERANCE:g}",
            )
        if not 0 <= self.open_temperature <= MAX_TEMPERATURE:
            raise _wrong("open_temperature", self.open_temperature, f"0 to {MAX_TEMPERATURE:g}")

    def scaled(self, noise: Array, temperature: float) -> Array:
        """Return noise e [1,N,D] as temperature * (e - P e) + open_temperature * P e, float32.

        P projects on the directions. It is computed in float64, so that seeds mean the same on every machine.
        """
        e = noise.reshape(-1).astype(np.float64)
        rows = self.directions.astype(np.float64)
        # Running sums add in the order of the numbers, as the C library does; BLAS has an order of its own.
        along = np.cumsum(rows * e, axis=1)[:, -1]
        inside = np.cumsum(along[:, None] * rows, axis=0)[-1]
        mixed = temperature * (e - inside) + self.open_temperature * inside
        return mixed.astype(np.float32).reshape(noise.shape)

    def check_size(self, size: int) -> None:
        """Raise BundleError unless the directions are those of latents of `size` = N*D numbers."""
        _check_width(self.directions, size)

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file (atomically)."""
        temperature = np.array([self.open_temperature], np.float32)
        write_tensors(path, {"directions": self.directions, "open_temperature": temperature}, {})

    @classmethod
    def load(cls, path: str | PathLike[str], size: int) -> Variation:
        """Read what `save` wrote, for latents of `size` = N*D numbers. Raises BundleError for all else."""
        tensors, _ = read_tensors(path)
        if set(tensors) != set(_ARRAYS):
            got = ", ".join(sorted(tensors))[:200] or "no tensors"
            raise _wrong(f"file {Path(path).name}", got, f"the tensors {' and '.join(_ARRAYS)}")
        rows, scale = (tensors[name] for name in _ARRAYS)
        _check_width(rows, size)
        if scale.shape != (1,) or scale.dtype != np.float32:
            raise _wrong("open_temperature", f"{scale.dtype} of shape {list(scale.shape)}", "float32 [1]")
        return cls(rows, float(scale[0]))


def _check_width(rows: Array, size: int) -> None:
    if rows.shape[1:] != (size,):
        raise _wrong("directions", f"shape {list(rows.shape)}", f"[k,{size}], as a latent has {size} numbers")


def _wrong(part: str, got: object, expected: str) -> BundleError:
    return BundleError(f"variation of a bundle, {part}", got=got, expected=expected, fix=AGAIN)
