"""The `Topology` of a model: the polygons, UVs, regions and levels of detail that all its heads share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.errors import MeshInputError, OptionError
from topos_rt.head.lod import Lod, lods_from_tensors, lods_to_tensors
from topos_rt.support.arrays import Ints
from topos_rt.support.tensorfile import read_tensors, write_tensors

# Polygon sizes are stored as uint8.
MAX_CORNERS = 255
MAX_VERTICES = 1 << 24  # far more than any head has; files may say anything
_NO_UVS = np.zeros((0, 2), np.float32)


@dataclass(frozen=True, eq=False)
class Topology:
    """The polygons, UVs, named regions and levels of detail that every head of a model shares.

    Raises MeshInputError when an array has the wrong shape or type, indices are out of range, a polygon has
    fewer than three corners or repeats a vertex, or the UV corners do not match the polygon corners.
    """

    num_vertices: int
    polygon_sizes: np.ndarray  # [P] uint8
    polygon_vertices: np.ndarray  # [sum of sizes] int32, polygon after polygon, counter-clockwise
    polygon_uvs: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))  # same length, or empty
    uvs: np.ndarray = field(default_factory=lambda: _NO_UVS)  # [U,2] float32, origin bottom left
    regions: Mapping[str, np.ndarray] = field(default_factory=dict)  # name -> [n] int32 vertex ids
    lods: tuple[Lod, ...] = ()  # levels of detail 1, 2 …

    def __repr__(self) -> str:
        return f"<Topology: {self.num_vertices} vertices, {len(self.polygon_sizes)} polygons>"

    def __post_init__(self) -> None:
        self._check()
        for array in (self.polygon_sizes, self.polygon_vertices, self.polygon_uvs, self.uvs):
            array.setflags(write=False)

    def _check(self) -> None:
        sizes, corners = self.polygon_sizes, self.polygon_vertices
        check_ids("polygon sizes", sizes)
        if sizes.ndim != 1 or len(sizes) == 0 or int(sizes.min()) < 3:
            raise MeshInputError(
                "polygon sizes",
                got=sizes.min() if sizes.size else "none",
                expected="at least one polygon, 3 corners or more each",
                fix="drop points and lines",
            )
        count = int(sizes.sum(dtype=np.int64))
        if corners.shape != (count,):
            raise MeshInputError(
                "polygon corners",
                got=f"shape {list(corners.shape)}",
                expected=f"[{count}], the sum of the sizes",
                fix="rebuild the topology",
            )
        check_ids("polygon vertex ids", corners, self.num_vertices)
        repeated = _first_repeated(sizes, corners)
        if repeated is not None:
            raise MeshInputError(
                f"polygon {repeated}",
                got="the same vertex twice",
                expected="distinct corners",
                fix="remove degenerate polygons",
            )
        if self.polygon_uvs.shape not in ((0,), (count,)):
            raise MeshInputError(
                "UV corners",
                got=f"shape {list(self.polygon_uvs.shape)}",
                expected=f"[0] or [{count}]",
                fix="give one UV per corner or none at all",
            )
        if self.uvs.ndim != 2 or self.uvs.shape[1] != 2:
            raise MeshInputError(
                "UVs", got=f"shape {list(self.uvs.shape)}", expected="[U,2]", fix="rebuild the topology"
            )
        check_ids("UV ids", self.polygon_uvs, len(self.uvs))
        for name, ids in self.regions.items():
            check_ids(f"region '{name}'", ids, self.num_vertices)
        for level, lod in enumerate(self.lods, 1):
            check_ids(f"level of detail {level}: vertices", lod.vertices, self.num_vertices)
            check_ids(f"level of detail {level}: UVs", lod.triangle_uvs, len(self.uvs))

    def lod(self, level: int) -> Topology:
        """Return the topology of a level of detail, the same object each time. See `topos_rt.head.lod`.

        Raises OptionError for a level that the topology does not have.
        """
        check_level(self, level)
        if level not in self._reduced:
            self._reduced.setdefault(level, reduced_topology(self, level))  # another thread may be first
        return self._reduced[level]

    @cached_property
    def _reduced(self) -> dict[int, Topology]:
        return {}

    @property
    def has_uvs(self) -> bool:
        return len(self.polygon_uvs) > 0

    @cached_property
    def _triangle_corners(self) -> np.ndarray:
        """The triangles as indices [F,3] into the corner arrays: a fan from each polygon's first corner."""
        starts = np.cumsum(self.polygon_sizes, dtype=np.int64) - self.polygon_sizes
        fans = self.polygon_sizes.astype(np.int64) - 2
        first = np.repeat(starts, fans)
        step = np.arange(len(first)) - np.repeat(np.cumsum(fans) - fans, fans)
        return np.stack([first, first + step + 1, first + step + 2], 1)

    @cached_property
    def triangles(self) -> Ints:
        """The vertex ids of the triangles, [F,3] int32, counter-clockwise; the same for every head."""
        return self.polygon_vertices[self._triangle_corners]

    @cached_property
    def triangle_uvs(self) -> Ints:
        """The rows of `uvs` at the triangles' corners, [F,3] int32 ([0,3] without UVs)."""
        return self.polygon_uvs[self._triangle_corners] if self.has_uvs else np.zeros((0, 3), np.int32)

    @cached_property
    def edges(self) -> np.ndarray:
        """The polygon sides (no diagonals) in both directions, [E,2] int64, sorted, without duplicates."""
        sizes = self.polygon_sizes.astype(np.int64)
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        index = np.arange(len(self.polygon_vertices))
        follower = starts + (index - starts + 1) % np.repeat(sizes, sizes)
        sides = np.stack([self.polygon_vertices, self.polygon_vertices[follower]], 1).astype(np.int64)
        return np.unique(np.concatenate([sides, sides[:, ::-1]]), axis=0)

    @classmethod
    def from_polygons(
        cls,
        num_vertices: int,
        polygons: Sequence[Sequence[int]],
        uvs: np.ndarray | None = None,
        polygon_uvs: Sequence[Sequence[int]] | None = None,
    ) -> Topology:
        """Build a topology from polygons (vertex ids), with optional UVs [U,2] and one UV id per corner.

        Raises MeshInputError as the class does, and for a polygon of more than 255 corners.
        """
        largest = max(map(len, polygons), default=0)
        if largest > MAX_CORNERS:
            raise MeshInputError(
                "polygons",
                got=f"one of {largest} corners",
                expected=f"3 to {MAX_CORNERS}",
                fix="split large polygons",
            )
        flat = [i for polygon in polygons for i in polygon]
        flat_uv = [i for polygon in polygon_uvs or () for i in polygon]
        return cls(
            num_vertices,
            np.array([len(p) for p in polygons], np.uint8),
            np.array(flat, np.int32),
            np.array(flat_uv, np.int32),
            _NO_UVS if uvs is None else np.array(uvs, np.float32),
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write one safetensors file (atomically)."""
        write_tensors(path, self.to_tensors(), {"num_vertices": str(self.num_vertices)})

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Return the arrays of a file, by name."""
        return (
            {
                "polygon_sizes": self.polygon_sizes,
                "polygon_vertices": self.polygon_vertices,
                "polygon_uvs": self.polygon_uvs,
                "uvs": self.uvs,
            }
            | {f"region.{name}": ids for name, ids in self.regions.items()}
            | lods_to_tensors(self.lods)
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Topology:
        """Read what `save` wrote.

        Raises BundleError for a file that cannot be read, MeshInputError for one that holds something else.
        """
        tensors, metadata = read_tensors(path)
        return cls.from_tensors(tensors, metadata, f"topology file {Path(path).name}")

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray], metadata: Mapping[str, Any], what: str) -> Topology:
        """Return the topology that `to_tensors` gave arrays of.

        metadata: at "num_vertices" their number, or its digits. what: the file, for messages.

        Raises MeshInputError for anything else.
        """
        try:
            count = int(metadata["num_vertices"])
            if not 0 < count <= MAX_VERTICES:
                raise ValueError(f"num_vertices: {str(count)[:20]}")
            return cls(
                count,
                tensors.pop("polygon_sizes"),
                tensors.pop("polygon_vertices"),
                tensors.pop("polygon_uvs"),
                tensors.pop("uvs"),
                {name.removeprefix("region."): ids for name, ids in tensors.items() if name[:3] != "lod"},
                lods_from_tensors({name: ids for name, ids in tensors.items() if name[:3] == "lod"}),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise MeshInputError(
                what,
                got=f"no valid {error}",
                expected="a file written by Topology.save",
                fix="export the bundle again",
            ) from error


def check_ids(what: str, ids: np.ndarray, count: int | None = None) -> None:
    """Raise MeshInputError unless `ids` are whole numbers and, given `count`, in 0 .. count - 1."""
    if ids.dtype.kind not in "iu":
        raise MeshInputError(what, got=f"dtype {ids.dtype}", expected="integers", fix="rebuild the topology")
    if count is not None and ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < count:
        raise MeshInputError(
            what,
            got=f"{int(ids.min())}..{int(ids.max())}",
            expected=f"0..{count - 1}",
            fix="check that all files describe the same mesh",
        )


def _first_repeated(sizes: np.ndarray, corners: np.ndarray) -> int | None:
    if (sizes == 3).all():  # scans have millions of triangles, and the general way sorts
        a, b, c = corners.reshape(-1, 3).T
        rows = np.flatnonzero((a == b) | (b == c) | (c == a))
        return int(rows[0]) if len(rows) else None
    polygon = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((corners, polygon))
    same = (np.diff(corners[order]) == 0) & (np.diff(polygon[order]) == 0)
    return int(polygon[order][:-1][same][0]) if same.any() else None


def reduced_topology(topology: Topology, level: int) -> Topology:
    """Return the topology of an existing level: its triangles, UVs and regions. Level 0 is `topology`."""
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


def check_level(topology: Topology, level: int) -> None:
    """Raise OptionError for a level that the topology does not have."""
    whole = isinstance(level, int | np.integer) and not isinstance(level, bool)
    if not whole or not 0 <= level <= len(topology.lods):
        fix = None if topology.lods else "export the model's bundle again: this one has no levels of detail"
        raise OptionError(
            "level of detail",
            got=repr(level)[:40],
            fix=fix,
            expected=f"0 to {len(topology.lods)}" if topology.lods else "0",
        )
