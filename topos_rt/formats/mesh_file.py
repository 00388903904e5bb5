"""A mesh as read from a file, and the helpers that readers of all formats share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.formats.limits import Limits
from topos_rt.formats.polygons import distinct, triangulated
from topos_rt.head.normals import unit_vectors
from topos_rt.head.topology import MAX_CORNERS, Topology


@dataclass(frozen=True, eq=False)
class MeshFile:
    """A mesh with its vertices in the order of its file."""

    topology: Topology
    positions: np.ndarray  # [V,3] float32, the file's units and axes
    normals: np.ndarray | None  # [V,3] float32, unit length; None where the file lacks some
    notes: tuple[str, ...] = ()  # what was left out
    as_written: bool = True  # False for an OBJ that has polygons with a vertex twice

    @cached_property
    def triangles(self) -> np.ndarray:
        """The vertex ids of triangles that cover the polygons, [F,3] int32, whether these are convex or not.

        `topology.triangles` are fans, which cover convex polygons only.
        """
        sizes, corners = self.topology.polygon_sizes, self.topology.polygon_vertices
        return corners[triangulated(sizes, corners, self.positions)]


@dataclass(frozen=True, eq=False)
class Part:
    """One of the meshes of a file, in the frame of the file."""

    positions: np.ndarray  # [v,3]
    triangles: np.ndarray  # [f,3] integers
    normals: np.ndarray | None = None  # [v,3], of any length, where the file has them
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
    own = [part.normals for part in parts if part.normals is not None]
    normals = unit_vectors(np.concatenate(own)) if len(own) == len(parts) else None
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
    return MeshFile(topology, np.concatenate(positions), normals, tuple(notes))


def polygons_to_part(
    sizes: np.ndarray, corners: np.ndarray, positions: np.ndarray, what: str, limits: Limits
) -> tuple[Part, tuple[str, ...]]:
    """Return the surface of polygons, and notes on those that were left out.

    sizes: [P] corners of each; corners: [sum of sizes] vertex ids, not yet checked; positions: [V,3].

    Raises MeshInputError for ids out of range, polygons of more than 255 corners and too many triangles.
    """
    if sizes.size and int(sizes.max()) > MAX_CORNERS:
        raise MeshInputError(
            what, got=f"a polygon of {int(sizes.max())} corners", expected=f"3 to {MAX_CORNERS}"
        )
    limits.check("triangles", int((np.maximum(sizes, 2) - 2).sum()), what)
    if corners.size and not 0 <= int(corners.min()) <= int(corners.max()) < len(positions):
        raise MeshInputError(
            what,
            got=f"vertex {int(corners.min())}..{int(corners.max())} in a face",
            expected=f"0..{len(positions) - 1}",
            fix="export the mesh again",
        )
    polygons = distinct(sizes, corners, positions)
    ids = corners[polygons.corners]
    triangles = ids[triangulated(polygons.sizes, ids, positions)]
    return Part(positions, triangles), left_out(polygons.dropped)


def left_out(dropped: int) -> tuple[str, ...]:
    """Return the note on polygons without three different corners; none where there were none."""
    return (f"{dropped:,} polygons without three different corners left out",) if dropped else ()


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
