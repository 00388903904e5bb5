"""The `LandmarkMap` of a topology: where the landmarks of the face mesh lie on its heads.

The landmarks are the first 468 of MediaPipe's face mesh, in its order, and the middles of the two irises.
`python -m export landmarks` makes the map of a bundle from drawings of its head.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from topos_rt.errors import BundleError, MeshInputError
from topos_rt.support.checks import first, frozen, require, require_finite, require_shape
from topos_rt.support.strictjson import AGAIN
from topos_rt.support.tensorfile import read_tensors, write_tensors

COUNT = 468
IRISES = (468, 473)  # the landmarks at the middle of the right iris of the face, and of the left
_UNIT_TOLERANCE = 1e-3
_ARRAYS: dict[str, type[np.generic]] = {
    "vertices": np.int32,
    "weights": np.float32,
    "noise": np.float32,
    "mirrored": np.int32,
    "irises": np.int32,
}


@dataclass(frozen=True, eq=False)
class LandmarkMap:
    """Where 468 landmarks lie on the heads of a topology with V vertices: points of its triangles.

    Raises MeshInputError where the parts do not fit together.
    """

    num_vertices: int  # V
    vertices: np.ndarray  # [468,3] int32: the corners of the triangle that a landmark lies in
    weights: np.ndarray  # [468,3] float32, >= 0, rows sum to one
    noise: (
        np.ndarray
    )  # [468] float32, > 0: how far it is found from there, as a share of the outer-eye distance
    mirrored: np.ndarray  # [468] int32: the landmark on the other side of the face; its own in the middle
    irises: np.ndarray  # [2] int32: the vertices at IRISES where the eyes look ahead; [0] without eyeballs

    def __post_init__(self) -> None:
        for name, dtype in _ARRAYS.items():
            object.__setattr__(self, name, frozen(getattr(self, name), dtype, f"landmark {name}"))
        shapes = {"vertices": (COUNT, 3), "weights": (COUNT, 3), "noise": (COUNT,), "mirrored": (COUNT,)}
        for name, shape in shapes.items():
            require_shape(getattr(self, name), shape, f"landmark {name}")
        require(
            self.irises.shape in ((2,), (0,)),
            "landmark irises",
            f"shape {list(self.irises.shape)}",
            "[2] or [0]",
        )
        for name, count in (
            ("vertices", self.num_vertices), ("irises", self.num_vertices), ("mirrored", COUNT),
        ):  # fmt: skip
            ids = getattr(self, name)
            inside = (ids >= 0) & (ids < count)
            require(inside.all(), f"landmark {name}", first(ids, ~inside), f"0..{count - 1}")
        require_finite(self.weights, "landmark weights")
        require_finite(self.noise, "landmark noise")
        sums = self.weights.sum(1)
        whole = (np.abs(sums - 1) <= _UNIT_TOLERANCE) & (self.weights.min(1) >= 0)
        require(whole.all(), "landmark weights", f"a row of sum {first(sums, ~whole)}", "rows >= 0 of sum 1")
        loud = self.noise > 0
        require(loud.all(), "landmark noise", first(self.noise, ~loud), "numbers > 0")
        own = np.arange(COUNT)
        back = self.mirrored[self.mirrored] == own
        require(back.all(), "landmark mirrored", f"landmark {first(own, ~back)} alone", "pairs")

    def points(self, values: np.ndarray) -> np.ndarray:
        """Return values [...,V,3] of the vertices, such as positions, at the landmarks: [...,468,3]."""
        corners = values[..., self.vertices, :]
        result: np.ndarray = (corners * self.weights[..., None]).sum(-2)
        return result

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file (atomically)."""
        tensors = {name: getattr(self, name) for name in _ARRAYS}
        write_tensors(path, tensors, {"num_vertices": str(self.num_vertices)})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> LandmarkMap:
        """Read what `save` wrote. Raises BundleError for anything else."""
        tensors, metadata = read_tensors(path)
        what = f"landmark file {Path(path).name}"
        if set(tensors) != set(_ARRAYS):
            expected = f"the arrays {', '.join(_ARRAYS)}"
            raise BundleError(what, got=", ".join(sorted(tensors))[:200], expected=expected, fix=AGAIN)
        try:
            return cls(int(metadata["num_vertices"]), **tensors)
        except (KeyError, ValueError, MeshInputError) as error:
            expected = "a file written by LandmarkMap.save"
            raise BundleError(what, got=f"no valid {error}", expected=expected, fix=AGAIN) from error
