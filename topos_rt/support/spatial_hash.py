"""Random numbers that belong to places in space, so that a choice of points does not depend on their order.

A generator that is run over a list gives every entry another number once one entry is moved. Here a point's
number is a hash of the cell of a grid that it lies in. The same surface, read from files of other formats, in
another order or rounded otherwise, therefore gives the same choice but for points that change their cell.
"""

from __future__ import annotations

import numpy as np

_BITS = 10  # of each axis: cells of a quarter of a millimetre on a head


def ranks(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the ids of points [n,3] in a random order that depends on where they lie alone."""
    numbers = hashes(points, seed)
    order = np.argsort(numbers, kind="stable")
    same = np.flatnonzero(numbers[order][1:] == numbers[order][:-1])
    if len(same):  # several in a cell: by their coordinates
        places = np.unique(np.concatenate([same, same + 1]))
        tied = order[places]
        order[places] = tied[np.lexsort((*np.asarray(points)[tied].T[::-1], numbers[tied]))]
    return order


def thinned(points: np.ndarray, seed: int = 0, cells: int = 40) -> np.ndarray:
    """Return the ids of one point [n,3] in each cell of a coarse grid, in a random order.

    They lie about evenly on a surface, however dense a scan is in some parts.

    cells: how many fit along the longest side of the box around the points.
    """
    order = ranks(points, seed)
    low, size = boxed_by(points)
    grid = np.minimum((points[order] - low) * (cells / size), cells - 1).astype(np.int64)
    _, first = np.unique(grid @ [cells * cells, cells, 1], return_index=True)
    return order[np.sort(first)]


def hashes(points: np.ndarray, seed: int = 0, box: tuple[np.ndarray, float] | None = None) -> np.ndarray:
    """Return a random number [n] uint64 for each point [n,3], the same for all in one cell.

    box: the least corner and the longest side of the box that the grid fills; None takes that of the points.
    """
    low, size = boxed_by(points) if box is None else box
    cells = np.floor((points - low) / size * (1 << _BITS) + 0.5).astype(np.int64).view(np.uint64)
    packed = (cells[:, 0] << np.uint64(42)) ^ (cells[:, 1] << np.uint64(21)) ^ cells[:, 2]
    return mixed(packed ^ mixed(np.array([seed % 2**64], np.uint64)))


def boxed_by(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the least corner [3] and the longest side of the box around points [n,3]."""
    return points.min(0), float(np.ptp(points, axis=0).max()) or 1.0


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Return well-mixed numbers [n] uint64 (the finalizer of SplitMix64; Steele et al. 2014)."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def unit(numbers: np.ndarray) -> np.ndarray:
    """Return hashes [n] uint64 as numbers [n] float64 in 0 to 1, 1 excluded."""
    return (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53


def keys(points: np.ndarray) -> np.ndarray:
    """Return a random number [n] uint64 for each point [n,3], without knowing the others.

    Points that differ in the sixth digit have nearly the same number, unless their cells differ. Cells are a
    4,096th of a coordinate wide, so coordinates in another unit have other numbers.
    """
    exact = np.ascontiguousarray(points, np.float64) + 0.0  # -0 becomes 0
    bits = exact.astype(np.float32).view(np.uint32).astype(np.uint64)
    cells = (bits + np.uint64(1 << 10)) >> np.uint64(11)
    coarse, fine = np.zeros((2, len(exact)), np.uint64)
    for axis in range(3):
        coarse = mixed(coarse ^ cells[:, axis])
        fine = mixed(fine ^ exact.view(np.uint64)[:, axis])
    low = np.uint64(32)
    return np.asarray((coarse >> low << low) | (fine >> low))
