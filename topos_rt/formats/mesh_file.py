"""A mesh as read from a file, and the helpers that readers of all formats share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.head.normals import unit_vectors, vertex_normals
from topos_rt.head.topology import Topology


@dataclass(frozen=True, eq=False)
class MeshFile:
    """A mesh with its vertices in the order of its file."""

    topology: Topology
    positions: np.ndarray  # [V,3] float32, the file's units and axes
    normals: np.ndarray | None  # [V,3] float32, unit length; None when some corner lacks one
    notes: tuple[str, ...] = ()  # what was left out


@dataclass(frozen=True, eq=False)
class Part:
    """One of the meshes of a file, in the frame of the file."""

    positions: np.ndarray  # [v,3]
    triangles: np.ndarray  # [f,3] integers
    normals: np.ndarray | None = None  # [v,3], of any length; None has them made from the triangles
    uvs: np.ndarray | None = None  # [v,2], origin bottom left


def joined(parts: Sequence[Part], what: str, notes: Sequence[str] = ()) -> MeshFile:
    """Return one mesh of all parts, one after the other.

    In a mesh with UVs, parts that have none get (0, 0). Raises MeshInputError where there are no triangles,
    or a position or UV is not finite.
    """
    if not sum(len(part.triangles) for part in parts):
        refuse_no_polygons(what, notes)
    counts = [len(part.positions) for part in parts]
    starts = np.cumsum([0, *counts])[:-1]
    corners = np.concatenate(
        [(part.triangles + start).reshape(-1) for part, start in zip(parts, starts, strict=True)]
    ).astype(np.int32)
    positions = [finite(part.positions, f"{what}: positions") for part in parts]
    normals = [
        vertex_normals(some, part.triangles) if part.normals is None else unit_vectors(part.normals)
        for part, some in zip(parts, positions, strict=True)
    ]
    mapped = any(part.uvs is not None for part in parts)
    uvs = np.zeros((0, 2), np.float32)
    if mapped:
        uvs = finite(
            np.concatenate(
                [
                    np.zeros((count, 2)) if part.uvs is None else part.uvs
                    for part, count in zip(parts, counts, strict=True)
                ]
            ),
            f"{what}: UVs",
        )
    topology = Topology(
        sum(counts),
        np.full(len(corners) // 3, 3, np.uint8),
        corners,
        corners.copy() if mapped else np.zeros(0, np.int32),
        uvs,
    )
    return MeshFile(topology, np.concatenate(positions), np.concatenate(normals), tuple(notes))


def refuse_no_polygons(what: str, notes: Sequence[str] = ()) -> NoReturn:
    """Raise the MeshInputError for a file without a surface; `notes` say what it has instead."""
    got = f"no polygons ({', '.join(notes)})" if notes else "no polygons"
    raise MeshInputError(what, got=got, expected="a surface", fix="export the faces as well")


def finite(values: Any, what: str) -> np.ndarray:
    """Return `values` as float32. Raises MeshInputError for NaN, infinity and what float32 cannot hold."""
    with np.errstate(over="ignore"):
        array32 = np.ascontiguousarray(values, np.float32)
    bad = np.flatnonzero(~np.isfinite(array32).all(1))
    if len(bad):
        raise MeshInputError(
            what,
            got=f"{np.asarray(values)[bad[0]].tolist()} at number {bad[0] + 1}",
            expected="finite numbers",
            fix="export the mesh again",
        )
    return array32
