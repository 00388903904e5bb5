"""Levels of detail: fixed index maps of a topology, so that level k of every head has the same vertices.

The vertices of a level are some of the full head's, where they were: positions, normals, skin weights and
blendshapes are taken over by index. `export/lods.py` makes the maps, once per topology; they are stored in
the topology's file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from topos_rt.errors import MeshInputError, OptionError

if TYPE_CHECKING:
    from topos_rt.head.mesh import HeadMesh, Rig
    from topos_rt.head.topology import Topology

# Level -> triangles. Level 0 is the head itself, with its polygons; the others are of triangles.
LODS = {0: "all polygons", 1: "half the triangles", 2: "a quarter"}
_ARRAYS = ("vertices", "triangles", "triangle_uvs")


@dataclass(frozen=True, eq=False)
class Lod:
    """One level. Raises MeshInputError for ids that do not fit together."""

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
    """Name -> array, as `lods_from_tensors` takes them back."""
    return {f"lod{k}.{name}": getattr(lod, name) for k, lod in enumerate(lods, 1) for name in _ARRAYS}


def lods_from_tensors(tensors: Mapping[str, np.ndarray]) -> tuple[Lod, ...]:
    """The levels among the tensors of a topology's file. Raises KeyError where one lacks a part."""
    count = len({name.partition(".")[0] for name in tensors if name.startswith("lod")})
    return tuple(Lod(*(tensors[f"lod{k}.{name}"] for name in _ARRAYS)) for k in range(1, count + 1))


def reduced_topology(topology: Topology, level: int) -> Topology:
    """The topology of a level that there is: its triangles, UVs and regions; of level 0, itself."""
    from topos_rt.head.topology import Topology

    if level == 0:
        return topology
    lod = topology.lods[level - 1]
    new = np.full(topology.num_vertices, -1, np.int32)
    new[lod.vertices] = np.arange(len(lod.vertices), dtype=np.int32)
    used, uv_ids = np.unique(lod.triangle_uvs, return_inverse=True)
    regions = {name: new[ids] for name, ids in topology.regions.items()}
    return Topology(
        len(lod.vertices),
        np.full(len(lod.triangles), 3, np.uint8),
        lod.triangles.reshape(-1).copy(),
        uv_ids.reshape(-1).astype(np.int32),
        topology.uvs[used].copy(),
        {name: ids[ids >= 0] for name, ids in regions.items()},
    )


def reduced_rig(rig: Rig, vertices: np.ndarray) -> Rig:
    """A fitted rig on some vertices [n], rising ids: joints stay, skin and shapes are taken over by index."""
    new = np.full(rig.num_vertices, -1, np.int32)
    new[vertices] = np.arange(len(vertices), dtype=np.int32)
    moved = new[rig.shape_index]
    kept = moved >= 0
    before = np.concatenate([[0], np.cumsum(kept)])
    return dataclasses.replace(
        rig,
        skin_joints=rig.skin_joints[vertices],
        skin_weights=rig.skin_weights[vertices],
        shape_index=moved[kept],
        shape_delta=rig.shape_delta[kept],
        shape_offsets=before[rig.shape_offsets].astype(np.int32),
        binding=None,
    )


def reduced_head(head: HeadMesh, level: int) -> HeadMesh:
    """A head at a level of detail. Normals stay those of the full surface; metadata tells the level.

    Raises OptionError for a level that the topology does not have, and for a head that is reduced already.
    """
    if "lod" in head.metadata and level:
        raise OptionError(
            "level of detail",
            got=f"{level!r} of a head at level {head.metadata['lod']}",
            expected="the full head",
            fix="take each level from that",
        )
    topology = head.topology.lod(level)
    if level == 0:
        return head
    vertices = head.topology.lods[level - 1].vertices
    return dataclasses.replace(
        head,
        positions=head.positions[vertices],
        normals=head.normals[vertices],
        topology=topology,
        rig=None if head.rig is None else reduced_rig(head.rig, vertices),
        metadata={**head.metadata, "lod": level},
    )


def check_level(topology: Topology, level: int) -> None:
    """Raises OptionError for a level that the topology does not have."""
    whole = isinstance(level, int | np.integer) and not isinstance(level, bool)
    if not whole or not 0 <= level <= len(topology.lods):
        fix = None if topology.lods else "export the model's bundle again: this one has no levels of detail"
        raise OptionError(
            "level of detail",
            got=repr(level)[:40],
            fix=fix,
            expected=f"0 to {len(topology.lods)}" if topology.lods else "0",
        )
