"""The `Atlas` of a topology: how textures lie on its heads, and the material that every head has.

`python -m export atlas` makes the atlas of a bundle from its topology and its landmark map.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from os import PathLike
from pathlib import Path

import numpy as np

from topos_rt.errors import BundleError, MeshInputError
from topos_rt.head.landmark_map import COUNT
from topos_rt.head.topology import Topology
from topos_rt.support.checks import frozen, require, require_finite, require_shape
from topos_rt.support.pixels import square_pixels
from topos_rt.support.strictjson import AGAIN
from topos_rt.support.tensorfile import read_tensors, write_tensors

# What a UV island shows; `Atlas.parts` has the position in this tuple.
PARTS = ("skin", "mouth", "eyes", "tongue", "socket", "neck")
MASK_SIDE = 256
# Areas of the skin, as seen in the atlas.
MASKS = ("face", "lips", "brows", "eyes", "nose", "scalp", "ears", "detail")
_MAX_SIDE = 4096
_ARRAYS: dict[str, type[np.generic]] = {
    "uvs": np.float32,
    "parts": np.uint8,
    "landmark_uvs": np.float32,
    "masks": np.uint8,
    "albedo": np.uint8,
    "warp": np.float16,
    "warp_vertices": np.int32,
    "warp_landmarks": np.int32,
}


@dataclass(frozen=True, eq=False)
class Atlas:
    """How textures lie on the heads of a topology with U UVs. Pictures have v = 1 in their first row.

    Raises MeshInputError where the parts do not fit together.
    """

    uvs: np.ndarray  # [U,2] float32, in place of the topology's, origin bottom left, within 0..1
    parts: np.ndarray  # [U] uint8: which of PARTS an UV belongs to
    landmark_uvs: np.ndarray  # [468,2] float32: where the landmarks of the face mesh lie
    mirror: float  # u + u' of points that mirror each other on the skin; 0 where nothing does
    masks: np.ndarray  # [len(MASKS),MASK_SIDE,MASK_SIDE] uint8: 255 inside the area
    albedo: np.ndarray  # [n] uint8: the base material's colours, a square PNG in sRGB
    # Spreads what is known at k landmarks over m vertices of the face: a smoothing thin-plate spline.
    warp: np.ndarray  # [m,k] float16
    warp_vertices: np.ndarray  # [m] int32
    warp_landmarks: np.ndarray  # [k] int32, below 468
    source: str = ""  # where the base material comes from, and its licence

    def __post_init__(self) -> None:
        for name, dtype in _ARRAYS.items():
            object.__setattr__(self, name, frozen(getattr(self, name), dtype, f"atlas {name}"))
        count = len(self.uvs)
        shapes = {
            "uvs": (count, 2),
            "parts": (count,),
            "landmark_uvs": (COUNT, 2),
            "masks": (len(MASKS), MASK_SIDE, MASK_SIDE),
            "warp": (len(self.warp_vertices), len(self.warp_landmarks)),
        }
        for name, shape in shapes.items():
            require_shape(getattr(self, name), shape, f"atlas {name}")
        for name in ("uvs", "landmark_uvs"):
            values = getattr(self, name)
            require_finite(values, f"atlas {name}")
            inside = values.size == 0 or bool((values.min() >= 0) & (values.max() <= 1))
            require(inside, f"atlas {name}", "points outside", "0..1")
        require_finite(self.warp.astype(np.float32), "atlas warp")
        for name, end in (("warp_vertices", None), ("warp_landmarks", COUNT)):
            ids = getattr(self, name)
            require(ids.ndim == 1, f"atlas {name}", f"shape {list(ids.shape)}", "one row of numbers")
            low, high = int(ids.min(initial=0)), int(ids.max(initial=0))
            require(
                low >= 0 and (end is None or high < end),
                f"atlas {name}", f"{low}..{high}", f"0..{'' if end is None else end - 1}",
            )  # fmt: skip
        last = int(self.parts.max(initial=0))
        require(last < len(PARTS), "atlas parts", str(last), f"0..{len(PARTS) - 1}")
        require(0 <= self.mirror <= 2, "atlas mirror", f"{self.mirror:g}", "0 to 2")

    def mask(self, name: str) -> np.ndarray:
        """Return an area of MASKS as [MASK_SIDE,MASK_SIDE] float32 in 0..1."""
        return self.masks[MASKS.index(name)].astype(np.float32) / np.float32(255)

    @cached_property
    def base(self) -> np.ndarray:
        """The base material's albedo, [S,S,3] uint8 sRGB. Raises BundleError for a damaged picture."""
        try:
            pixels = square_pixels(self.albedo.tobytes(), ("PNG",), "RGB", (MASK_SIDE, _MAX_SIDE))
        except ValueError as error:
            expected = f"a square RGB picture of {MASK_SIDE} to {_MAX_SIDE} pixels"
            raise BundleError("atlas albedo", got=error, expected=expected, fix=AGAIN) from error
        pixels.setflags(write=False)
        return pixels

    @cached_property
    def spread(self) -> np.ndarray:
        """The warp as [m,k] float64, which matrix products take."""
        wide = self.warp.astype(np.float64)
        wide.setflags(write=False)
        return wide

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file (atomically)."""
        tensors = {name: getattr(self, name) for name in _ARRAYS}
        about = {"mirror": repr(float(self.mirror)), "masks": " ".join(MASKS), "source": self.source}
        write_tensors(path, tensors, about)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Atlas:
        """Read what `save` wrote. Raises BundleError for anything else."""
        tensors, metadata = read_tensors(path)
        what, expected = f"atlas file {Path(path).name}", "a file written by Atlas.save"
        if set(tensors) != set(_ARRAYS) or metadata.get("masks") != " ".join(MASKS):
            got = ", ".join(sorted(tensors))[:150] + f"; masks: {metadata.get('masks', 'none')[:40]}"
            raise BundleError(what, got=got, expected=expected, fix=AGAIN)
        try:
            mirror = float(metadata["mirror"])
            return cls(mirror=mirror, source=metadata.get("source", ""), **tensors)
        except (KeyError, ValueError, MeshInputError) as error:
            raise BundleError(what, got=f"no valid {error}", expected=expected, fix=AGAIN) from error


@lru_cache(maxsize=8)
def laid(topology: Topology, atlas: Atlas) -> Topology:
    """Return the topology with the atlas's UVs, the same object each time. Raises MeshInputError."""
    require_shape(atlas.uvs, topology.uvs.shape, "atlas uvs")
    return dataclasses.replace(topology, uvs=atlas.uvs)


def in_part(topology: Topology, atlas: Atlas, name: str) -> np.ndarray:
    """Return which triangles [F] of a topology belong to one of PARTS, as bool."""
    found: np.ndarray = atlas.parts[topology.triangle_uvs[:, 0]] == PARTS.index(name)
    return found


def facts(atlas: Atlas) -> Mapping[str, int]:
    """Return how many UVs each part has, by its name."""
    return {name: int(np.count_nonzero(atlas.parts == number)) for number, name in enumerate(PARTS)}
