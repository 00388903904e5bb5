"""Levels of detail: fixed index maps of a topology, so that level k of every head has the same vertices.

A level keeps some vertices of the full head in place: positions, normals, skin weights and blendshapes are
taken by index. `export/lods.py` makes the maps, once per topology; they are stored in the topology's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from topos_rt.errors import MeshInputError

if TYPE_CHECKING:
    pass

# Level -> triangles. Level 0 is the head itself, with its polygons; the others have triangles only.
LODS = {0: "all polygons", 1: "half the triangles", 2: "a quarter"}
_ARRAYS = ("vertices", "triangles", "triangle_uvs")


@dataclass(frozen=True, eq=False)
class Lod:
    """One level of detail. Raises MeshInputError for ids that do not fit together."""

    vertices: np.ndarray  # [n] int32, rising: ids in the full head
    triangles: np.ndarray  # [f,3] int32 ids in `vertices`
    triangle_uvs: np.ndarray  # [f,3] int32 ids in the full topology's `uvs`; [0,3] without UVs

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            array = np.array(getattr(self, name), np.int32, order="C")  # a copy: the caller's stays writable
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        ids, corners = self.vertices, self.triangles
        sound = ids.ndim == 1 and len(ids) > 0 and ids[0] >= 0 and bool((np.diff(ids) > 0).all())
        sound &= corners.ndim == 2 and corners.shape[1:] == (3,) and len(corners) > 0
        sound &= bool(sound) and 0 <= int(corners.min()) <= int(corners.max()) < len(ids)
        sound &= self.triangle_uvs.shape in ((0, 3), corners.shape)
        if not sound:
            raise MeshInputError(
                "level of detail",
                got="ids that do not fit together",
                expected="rising vertices, and triangles of them",
                fix="export the bundle again",
            )


def lods_to_tensors(lods: tuple[Lod, ...]) -> dict[str, np.ndarray]:
    """Return the levels as name -> array, which `lods_from_tensors` reads."""
    return {f"lod{k}.{name}": getattr(lod, name) for k, lod in enumerate(lods, 1) for name in _ARRAYS}


def lods_from_tensors(tensors: Mapping[str, np.ndarray]) -> tuple[Lod, ...]:
    """Return the levels among the tensors of a topology's file. Raises KeyError where one lacks a part."""
    count = len({name.partition(".")[0] for name in tensors if name.startswith("lod")})
    return tuple(Lod(*(tensors[f"lod{k}.{name}"] for name in _ARRAYS)) for k in range(1, count + 1))
