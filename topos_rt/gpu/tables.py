"""Gather tables: which rows of x each row of the output sums, built and checked once per topology."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from topos_rt.errors import MeshInputError

AnyArray: TypeAlias = Any  # a NumPy array, or an array on a device
Put: TypeAlias = Callable[[np.ndarray], AnyArray]  # copies an array to a device
MAX_TYPES = 2
# A block of graph_conv_tiled takes this much and has room for this much, as in csrc/kernels.h.
TILE_ROWS = 192
TILE_SOURCES = 352  # different rows of x that a tile may read
TILE_STEPS = 8  # steps, of 16 sources each, that 16 rows may take
_STEP, _WARPS = 16, TILE_ROWS // 16
_TILES = (TILE_ROWS, 64, 16)  # rows that kernels take together, largest first
_LARGEST = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class Sources:
    """The rows of x that each row sums, for one edge type, as CSR.

    Without offsets each row has exactly one source, `indices[i]`; without both it is the row itself.
    """

    offsets: AnyArray | None = None  # [rows + 1] int32
    indices: AnyArray | None = None  # [offsets[-1]] int32


# The struct TileTable of csrc/kernels.h, which says what each field is.
TILE_TABLE = np.dtype({
    "names": ["sources", "count", "first", "steps", "slots", "ones", "degrees", "single"],
    "formats": [
        ("<i4", TILE_SOURCES), "<i4", "<i4", ("<u2", _WARPS), ("<u2", (_WARPS, _STEP * TILE_STEPS)),
        ("u1", (_WARPS, TILE_STEPS, 32)), ("<u2", TILE_ROWS), ("<u2", (MAX_TYPES, TILE_ROWS)),
    ],
    "itemsize": 8736,  # a multiple of the 16 bytes that the kernel copies at a time
})  # fmt: skip


@dataclass(frozen=True, eq=False)
class Tiles:
    """What each tile of TILE_ROWS rows reads: every row of x once, a third of the edges or fewer."""

    tables: AnyArray  # [tiles] of TILE_TABLE; on a device their bytes
    reads: int  # rows of x that all tiles read together

    def placed(self, put: Put) -> Tiles:
        """Return a copy whose tables are on a device."""
        return Tiles(put(self.tables.view(np.uint8)), self.reads)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """A gather table: the rows of x that each row of the output sums, for one or two edge types.

    It is CSR and not rows padded to the largest degree, because rows have 4 to 5 sources on average but up to
    15. Raises MeshInputError for arrays that do not fit together or point outside; nothing checks them later.
    """

    rows: int  # of the output
    inputs: int  # rows of x
    types: tuple[Sources, ...]
    tiles: Tiles | None = None  # see `tiled`

    def __post_init__(self) -> None:
        if not 1 <= len(self.types) <= MAX_TYPES:
            raise MeshInputError("edge types of a gather table", got=len(self.types), expected="1 or 2")
        for kind, sources in enumerate(self.types):
            self._check(f"edges of type {kind}", sources.offsets, sources.indices)

    def _check(self, what: str, offsets: AnyArray | None, indices: AnyArray | None) -> None:
        if offsets is None and indices is None:
            if self.rows > self.inputs:
                raise MeshInputError(
                    f"{what}: each row itself",
                    got=f"{self.rows} rows",
                    expected=f"at most {self.inputs}, the inputs",
                )
            return
        if indices is None:
            raise MeshInputError(what, got="offsets without indices", expected="both")
        count = self.rows
        if offsets is not None:
            check_offsets(f"{what}: offsets", offsets, self.rows, len(indices))
            count = len(indices)
        check_rows(what, indices, count, self.inputs)

    @classmethod
    def identity(cls, rows: int) -> Neighbours:
        """Return the table in which every row is its own only source: graph_conv is then a linear layer."""
        return cls(rows, rows, (Sources(),))

    @classmethod
    def from_edges(cls, rows: int, inputs: int, edges: Sequence[tuple[np.ndarray, np.ndarray]]) -> Neighbours:
        """Build the table from edges.

        edges: for each type two integer arrays [E]: the row of x that an edge reads, the row that sums it.
        A type with exactly one edge for every row gets no offsets; if each reads itself, no indices.
        """
        types = []
        for source, target in edges:
            if len(target) == rows and np.array_equal(np.sort(target), np.arange(rows)):
                single = source[np.argsort(target)].astype(np.int32)
                itself = np.array_equal(single, np.arange(rows))
                types.append(Sources(None, None if itself else single))
                continue
            places = np.lexsort((source, target))
            offsets = np.concatenate([[0], np.cumsum(np.bincount(target, minlength=rows))])
            types.append(Sources(offsets.astype(np.int32), source[places].astype(np.int32)))
        return cls(rows, inputs, tuple(types))

    def placed(self, put: Put) -> Neighbours:
        """Return a copy whose arrays are on a device."""
        moved = tuple(
            Sources(*(None if a is None else put(a) for a in (s.offsets, s.indices))) for s in self.types
        )
        tiles = None if self.tiles is None else self.tiles.placed(put)
        placed: Neighbours = replace_unchecked(self, types=moved, tiles=tiles)
        return placed

    def tiled(self) -> Neighbours:
        """Return a copy with the tables of graph_conv_tiled, or the same object where that cannot run.

        It cannot where a tile would not fit into its memory, and where two types are summed.
        """
        edges = [_edges(sources, self.rows) for sources in self.types]
        tables = np.zeros(-(-self.rows // TILE_ROWS), TILE_TABLE)
        if sum(sources.offsets is not None for sources in self.types) > 1:
            return self
        for table, first in zip(tables, range(0, self.rows, TILE_ROWS), strict=True):
            last = min(first + TILE_ROWS, self.rows)
            parts = [found[begin[first] : begin[last]] for begin, found in edges]
            rows, slots = np.unique(np.concatenate(parts), return_inverse=True)
            if len(rows) > TILE_SOURCES:
                return self
            table["sources"][: len(rows)], table["count"], table["first"] = rows, len(rows), first
            for kind, ((begin, _), part) in enumerate(zip(edges, parts, strict=True)):
                here, slots = slots[: len(part)], slots[len(part) :]
                if self.types[kind].offsets is None:
                    table["single"][kind, : last - first] = here
                elif not _fill_sums(table, begin[first : last + 1] - begin[first], here):
                    return self
        return dataclasses.replace(self, tiles=Tiles(tables, int(tables["count"].sum())))


def degrees(neighbours: Neighbours) -> Sequence[np.ndarray]:
    """Return [rows] the number of sources for each type; the table must be on the host."""
    rows = neighbours.rows
    return [np.ones(rows, np.int64) if s.offsets is None else np.diff(s.offsets) for s in neighbours.types]


def inverse(order: np.ndarray) -> np.ndarray:
    """Return the inverse [n] of a permutation: from row -> vertex to vertex -> row."""
    rows = np.empty(len(order), np.int64)
    rows[order] = np.arange(len(order))
    return rows


def local_order(positions: np.ndarray) -> np.ndarray:
    """Return [n] vertices, ordered so that those of a tile share most of their neighbours.

    The order is a recursive bisection: each part is cut in two across its longest principal axis, into whole
    tiles as long as there are several. Such tiles are rounder than those along a Morton curve, and read less.

    positions: [n,3] in any unit.
    """

    def parts(vertices: np.ndarray) -> list[np.ndarray]:
        unit = next((unit for unit in _TILES if unit < len(vertices)), None)
        if unit is None:
            return [vertices]
        centred = positions[vertices].astype(np.float64)
        centred -= centred.mean(0)
        axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
        axis *= np.sign(axis[np.abs(axis).argmax()])  # an eigenvector's sign is arbitrary
        cut = max(1, round(len(vertices) / 2 / unit)) * unit
        along = vertices[np.argsort(centred @ axis, kind="stable")]
        return parts(along[:cut]) + parts(along[cut:])

    return np.concatenate(parts(np.arange(len(positions))))


def check_offsets(what: str, offsets: Any, rows: int, entries: int) -> None:
    """Raise MeshInputError unless offsets are int32 [rows + 1], from 0 to `entries`, never falling."""
    _check_table(what, offsets, rows + 1)
    if int(offsets[0]) != 0 or int(offsets[-1]) != entries or bool((np.diff(offsets) < 0).any()):
        raise MeshInputError(
            what,
            got=f"{offsets[0]}..{offsets[-1]}, rising: {(np.diff(offsets) >= 0).all()}",
            expected=f"0..{entries}, never falling",
        )


def check_rows(what: str, rows: Any, count: int, limit: int) -> None:
    """Raise MeshInputError unless `rows` are `count` whole numbers (int32) below `limit`."""
    _check_table(what, rows, count)
    if count and not 0 <= int(rows.min()) <= int(rows.max()) < limit:
        raise MeshInputError(
            what,
            got=f"indices {rows.min()}..{rows.max()}",
            expected=f"0..{limit - 1}",
            fix="build the table for the array that it indexes",
        )


def _check_table(what: str, table: Any, count: int) -> None:
    if not isinstance(table, np.ndarray):
        raise MeshInputError(what, got=type(table).__name__, expected="a NumPy array; `placed` uploads it")
    if table.dtype != np.int32 or table.shape != (count,) or not table.flags.c_contiguous:
        layout = "" if table.flags.c_contiguous else ", strided"
        raise MeshInputError(
            what, got=f"{table.dtype} {list(table.shape)}{layout}", expected=f"int32 [{count}], C-contiguous"
        )
    if count > _LARGEST:
        raise MeshInputError(what, got=f"{count} entries", expected=f"at most {_LARGEST}")


def replace_unchecked(made: Any, **changes: Any) -> Any:
    """Copy a frozen dataclass with other fields, without its checks: they cannot read a device's arrays."""
    copy = object.__new__(type(made))
    for field in dataclasses.fields(made):
        object.__setattr__(copy, field.name, changes.get(field.name, getattr(made, field.name)))
    return copy


def _edges(sources: Sources, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets and indices, and make them where the table does without."""
    itself = np.arange(rows + 1, dtype=np.int32)
    indices = itself[:-1] if sources.indices is None else sources.indices
    return itself if sources.offsets is None else sources.offsets, indices


def _fill_sums(table: np.void, begin: np.ndarray, slots: np.ndarray) -> bool:
    """Fill in steps, slots, ones and degrees of the type that is summed.

    begin: [rows + 1] where each row's slots begin. Returns False where 16 rows read more than fits.
    """
    degree = np.diff(begin)
    table["degrees"][: len(degree)] = degree
    row = np.repeat(np.arange(len(degree)), degree)
    order = np.lexsort((slots, row))
    row, slots = row[order], slots[order]
    # The sources that 16 rows read, by slot. A source that a row has several times takes as many entries.
    again = _counted(row * TILE_SOURCES + slots)
    most = len(slots) + 1
    entries, place = np.unique((row // _STEP * most + again) * TILE_SOURCES + slots, return_inverse=True)
    slot, warp = entries % TILE_SOURCES, entries // (TILE_SOURCES * most)
    count = np.bincount(warp, minlength=_WARPS)
    if count.max() > _STEP * TILE_STEPS:
        return False
    # The kernel reads eight slots at a time, without bank conflicts where they differ modulo 8.
    kind = warp * 8 + slot % 8
    residue = np.argsort(kind, kind="stable")
    turn = _counted(kind[residue])[inverse(residue)]
    spread = np.lexsort((turn, warp))
    position = _counted(warp[spread])
    table["slots"][warp[spread], position] = slot[spread]
    table["steps"] = -(-count // _STEP)
    step, k = np.divmod(position[inverse(spread)][place], _STEP)
    local = row % _STEP
    lane, bit = local % 8 * 4 + k % 8 // 2, local // 8 + k // 8 * 2 + k % 2 * 4
    np.bitwise_or.at(table["ones"], (row // _STEP, step, lane), (1 << bit).astype(np.uint8))
    return True


def _counted(ordered: np.ndarray) -> np.ndarray:
    """Return for each number how many equal ones precede it; equal numbers must be adjacent."""
    new = np.diff(ordered, prepend=-1) != 0
    start = np.flatnonzero(new)
    return np.arange(len(ordered)) - np.repeat(start, np.diff(np.append(start, len(ordered))))
