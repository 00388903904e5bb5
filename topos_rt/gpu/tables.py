"""Tables that the kernels gather through: made, checked and put in order once for each topology."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.head.hierarchy import Hierarchy, Level

Array: TypeAlias = Any  # a NumPy array, or one on a device
Put: TypeAlias = Callable[[np.ndarray], Array]  # brings an array to a device
MAX_TYPES = 2
# As csrc/kernels.h has them: what a block of graph_conv_tiled takes, and has room for.
TILE_ROWS = 192
TILE_SOURCES = 352
TILE_STEPS = 8  # of 16 sources that 16 rows may read
_STEP, _WARPS = 16, TILE_ROWS // 16
_TILES = (TILE_ROWS, 64, 16)  # rows that kernels take together, largest first
_LARGEST = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class Sources:
    """The rows that each row sums, for one edge type: CSR.

    Without offsets each row has exactly one source, `indices[i]`; without both it is the row itself.
    """

    offsets: Array | None = None  # [rows + 1] int32
    indices: Array | None = None  # [offsets[-1]] int32


# A TileTable of csrc/kernels.h.
TILE_TABLE = np.dtype({
    "names": ["sources", "count", "first", "steps", "slots", "ones", "degrees", "single"],
    "formats": [
        ("<i4", TILE_SOURCES), "<i4", "<i4", ("<u2", _WARPS), ("<u2", (_WARPS, _STEP * TILE_STEPS)),
        ("u1", (_WARPS, TILE_STEPS, 32)), ("<u2", TILE_ROWS), ("<u2", (MAX_TYPES, TILE_ROWS)),
    ],
    "itemsize": 8736,  # whole vectors of 16 bytes
})  # fmt: skip


@dataclass(frozen=True, eq=False)
class Tiles:
    """What each TILE_ROWS rows of a graph read: rows of x, each once, a third of the edges or fewer."""

    tables: Array  # [tiles] of TILE_TABLE; on a device their bytes
    reads: int  # rows of x, of all tiles

    def placed(self, put: Put) -> Tiles:
        """The same on a device."""
        return Tiles(put(self.tables.view(np.uint8)), self.reads)


@dataclass(frozen=True, eq=False)
class Graph:
    """From `inputs` rows of features to `rows` of sums, for one or two edge types.

    CSR and not rows padded to the largest degree: 4 to 5 sources a row against 5 to 15 places.
    Raises MeshInputError for tables that do not fit together or point outside; nothing checks them later.
    """

    rows: int
    inputs: int
    types: tuple[Sources, ...]
    tiles: Tiles | None = None  # see `tiled`

    def __post_init__(self) -> None:
        if not 1 <= len(self.types) <= MAX_TYPES:
            raise MeshInputError("edge types of a graph", got=len(self.types), expected="1 or 2")
        for kind, sources in enumerate(self.types):
            self._check(f"edges of type {kind}", sources.offsets, sources.indices)

    def _check(self, what: str, offsets: Array | None, indices: Array | None) -> None:
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

    def placed(self, put: Put) -> Graph:
        """The same graph with its tables on a device."""
        moved = tuple(
            Sources(*(None if a is None else put(a) for a in (s.offsets, s.indices))) for s in self.types
        )
        return _unchecked(self, types=moved, tiles=None if self.tiles is None else self.tiles.placed(put))

    def tiled(self) -> Graph:
        """With the tables for Hopper's kernel, or without where it cannot take this graph.

        So where a tile would not fit into its memory, and where two types are summed.
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

    @classmethod
    def each(cls, rows: int) -> Graph:
        """Every row is its own only source: what makes a linear layer of a graph convolution."""
        return cls(rows, rows, (Sources(),))

    @classmethod
    def of_level(
        cls, level: Level, order: np.ndarray, to_input: np.ndarray | None = None, inputs: int | None = None
    ) -> Graph:
        """The typed edges of one level of a hierarchy.

        order: [n] the vertex that each row is. to_input: [n] the row of x that holds a vertex's features;
        None: x is in the same order. With `cluster` in it, features are those before un-pooling.
        """
        n = len(level.features)
        rows = inverse(order)
        to_input = rows if to_input is None else to_input
        types = []
        for kind in range(MAX_TYPES):
            source, target = level.edges[level.types == kind].T
            source, target = to_input[source], rows[target]
            if len(target) == n and np.array_equal(np.sort(target), np.arange(n)):
                single = source[np.argsort(target)].astype(np.int32)
                itself = np.array_equal(single, np.arange(n))
                types.append(Sources(None, None if itself else single))
                continue
            places = np.lexsort((source, target))
            offsets = np.concatenate([[0], np.cumsum(np.bincount(target, minlength=n))])
            types.append(Sources(offsets.astype(np.int32), source[places].astype(np.int32)))
        return cls(n, n if inputs is None else inputs, tuple(types))


def inverse(order: np.ndarray) -> np.ndarray:
    """[n] row -> vertex to vertex -> row."""
    rows = np.empty(len(order), np.int64)
    rows[order] = np.arange(len(order))
    return rows


def local_order(positions: np.ndarray) -> np.ndarray:
    """[n] vertices by recursive bisection: those of a tile share most of their neighbours.

    Each part is cut in two across its longest principal axis, into whole tiles as long as there are several.
    Such tiles are rounder than those along a Morton curve, and read less. Positions [n,3] in any unit.
    """

    def parts(vertices: np.ndarray) -> list[np.ndarray]:
        unit = next((unit for unit in _TILES if unit < len(vertices)), None)
        if unit is None:
            return [vertices]
        centred = positions[vertices].astype(np.float64)
        centred -= centred.mean(0)
        axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
        axis *= np.sign(axis[np.abs(axis).argmax()])  # which of the two directions is left to chance
        cut = max(1, round(len(vertices) / 2 / unit)) * unit
        along = vertices[np.argsort(centred @ axis, kind="stable")]
        return parts(along[:cut]) + parts(along[cut:])

    return np.concatenate(parts(np.arange(len(positions))))


def local_orders(hierarchy: Hierarchy, levels: int) -> list[np.ndarray]:
    """`local_order` of the first so many levels."""
    return [local_order(level.features[:, :3]) for level in hierarchy.levels[:levels]]


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
            fix="make the tables from the hierarchy that the features are of",
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


def _unchecked(made: Any, **changes: Any) -> Any:
    """A copy with other fields, without the checks that a device's arrays cannot go through."""
    copy = object.__new__(type(made))
    for field in dataclasses.fields(made):
        object.__setattr__(copy, field.name, changes.get(field.name, getattr(made, field.name)))
    return copy


def _edges(sources: Sources, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and sources, also where a graph does without."""
    itself = np.arange(rows + 1, dtype=np.int32)
    indices = itself[:-1] if sources.indices is None else sources.indices
    return itself if sources.offsets is None else sources.offsets, indices


def _fill_sums(table: np.void, begin: np.ndarray, slots: np.ndarray) -> bool:
    """Steps, slots, ones and degrees of a type that is summed, or False where 16 rows read too much."""
    degree = np.diff(begin)
    table["degrees"][: len(degree)] = degree
    row = np.repeat(np.arange(len(degree)), degree)
    order = np.lexsort((slots, row))
    row, slots = row[order], slots[order]
    # What 16 rows read, by slot; a source that a row has several times is there as often.
    again = _counted(row * TILE_SOURCES + slots)
    most = len(slots) + 1
    entries, place = np.unique((row // _STEP * most + again) * TILE_SOURCES + slots, return_inverse=True)
    slot, warp = entries % TILE_SOURCES, entries // (TILE_SOURCES * most)
    count = np.bincount(warp, minlength=_WARPS)
    if count.max() > _STEP * TILE_STEPS:
        return False
    # Eight that are read at a time are best of eight different residues, see csrc/graph_conv_tiled.cu.
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
    """How many equal numbers are before each, where equal ones follow each other."""
    new = np.diff(ordered, prepend=-1) != 0
    start = np.flatnonzero(new)
    return np.arange(len(ordered)) - np.repeat(start, np.diff(np.append(start, len(ordered))))


def degrees(graph: Graph) -> Sequence[np.ndarray]:
    """[rows] number of sources, for each type; of a graph on the host."""
    return [np.ones(graph.rows, np.int64) if s.offsets is None else np.diff(s.offsets) for s in graph.types]
