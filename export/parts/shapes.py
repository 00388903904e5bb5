"""The meshes of the parts, made from MakeHuman's helper vertices of one head or of many.

A strip of lashes is MakeHuman's. Its teeth are two bands of sixteen quads around the arch, gum included;
from each band we make sixteen teeth of their usual widths, with grooves between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from export.parts.makehuman import MakeHuman, grid_of
from topos_rt.head.part_kit import PIECES

# Widths of the teeth from the middle outwards, in millimetres (Wheeler's Dental Anatomy).
WIDTHS = {
    "upper_teeth": (8.5, 6.5, 7.5, 7.0, 7.0, 10.0, 9.0, 8.5),
    "lower_teeth": (5.0, 5.5, 7.0, 7.0, 7.0, 11.0, 10.5, 10.0),
}
# Rows across a band: top of the gum, its edge, the crown, the biting edge outside and inside, the inner gum.
# Each is a place on the helper's profile, where 0 is the gum, 1 its middle, 2 the edge and 3 the inside; then
# how far it is pushed out in the middle of a tooth and in the grooves, and how far the grooves fall short.
_ROWS = (
    (0.0, 0.0, 0.0, 0.0),
    (1.05, 0.0003, 0.0, 0.0),
    (1.55, 0.0006, -0.0007, 0.0),
    (2.0, 0.0, -0.0008, 0.0006),
    (2.22, 0.0, 0.0, 0.0006),
    (3.0, 0.0, 0.0, 0.0),
)
GUM_EDGE, BITE = 1, 3  # rows
# The helper's teeth bite edge on edge, far behind the lips. These lay the upper before the lower ones, where
# an open mouth shows them: out of the arch, up and forward, in metres.
_SHIFTS = {"upper_teeth": (-0.0004, -0.0030, 0.0026), "lower_teeth": (-0.0010, 0.0, 0.0014)}
ROW_PLACES = (0.0, 0.34, 0.55, 0.76, 0.83, 1.0)  # of the rows in the picture


@dataclass(frozen=True, eq=False)
class Strip:
    """The grid of one piece: its vertices are numbered row by row."""

    name: str
    rows: int
    columns: int
    helper: np.ndarray  # [r,c] helper vertices, from the root or gum, and from the right or inner corner
    across: np.ndarray  # [columns] 0..1, where the columns lie in the picture
    along: np.ndarray  # [rows] 0..1 from the root or gum, where the rows lie in the picture

    @property
    def count(self) -> int:
        return self.rows * self.columns

    def quads(self) -> np.ndarray:
        """Return the quads [q,4], with corners in the order of rows, then columns."""
        number = np.arange(self.count).reshape(self.rows, self.columns)
        corners = (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:])
        return np.stack([corner.reshape(-1) for corner in corners], 1)

    def points(self, helpers: np.ndarray) -> np.ndarray:
        """Return the vertices [n,count,3] float64 of heads with helper vertices [n,h,3]."""
        grid = helpers[:, self.helper].astype(np.float64)  # [n,r,c,3]
        made = _teeth(grid, self.name) if PIECES[self.name].material == "teeth" else grid
        return made.reshape(len(helpers), self.count, 3)


def strips(source: MakeHuman) -> list[Strip]:
    """Return the strips of all pieces, in order."""
    found = []
    for name, quads in source.quads.items():
        grid = _oriented(grid_of(quads), source.part, name)
        if PIECES[name].material == "teeth":
            ends = _ends(name)
            columns = 2 * len(ends) - 1
            across = _places(source.part[grid][1], columns, ends)
            along = np.array(ROW_PLACES)
            found.append(Strip(name, len(_ROWS), columns, grid, across, along))
        else:
            across = _lengths(source.part[grid][1])
            along = np.linspace(0, 1, len(grid))
            found.append(Strip(name, len(grid), grid.shape[1], grid, across, along))
    return found


def _oriented(grid: np.ndarray, points: np.ndarray, name: str) -> np.ndarray:
    """Return a grid with its rows from the gum or root, its columns from the right or the inner corner."""
    x = points[grid][..., 0]
    first, last = (np.abs(x[0, 0]), np.abs(x[0, -1])) if "lashes" in name else (x[0, 0], x[0, -1])
    if first > last:
        grid = grid[:, ::-1]
    if "lashes" in name:  # the root lies behind the tips
        ends = points[grid[[0, -1]]][..., 2].mean(1)
        return grid[::-1] if ends[0] > ends[1] else grid
    middle = points[grid[[0, -1]], :][:, grid.shape[1] // 2, 2]  # the outside lies before the inside
    return grid[::-1] if middle[0] < middle[1] else grid


def _ends(name: str) -> np.ndarray:
    """Return where the teeth of an arch end, 17 numbers from 0 to 1."""
    half = np.array(WIDTHS[name])
    widths = np.concatenate([half[::-1], half])
    return np.concatenate([[0], np.cumsum(widths)]) / widths.sum()


def _lengths(row: np.ndarray) -> np.ndarray:
    """Return the places [c] of the points [c,3] of a line along it, from 0 to 1."""
    steps = np.linalg.norm(np.diff(row, axis=0), axis=1)
    return np.concatenate([[0], np.cumsum(steps)]) / steps.sum()


def _places(row: np.ndarray, columns: int, ends: np.ndarray) -> np.ndarray:
    places = np.zeros(columns)
    places[::2], places[1::2] = ends, (ends[1:] + ends[:-1]) / 2
    return places


def _teeth(grid: np.ndarray, name: str) -> np.ndarray:
    """Return the vertices [n,rows,columns,3] of teeth from bands [n,4,17,3]."""
    ends = _ends(name)
    columns = 2 * len(ends) - 1
    known = _lengths(grid.mean(0)[1])
    wanted = _places(grid.mean(0)[1], columns, ends)
    band = _along(grid, known, wanted)
    outward = _outward(band[:, 1])
    is_groove = (np.arange(columns) % 2 == 0)[None, :, None]
    rows = []
    for place, belly, groove, short in _ROWS:
        low = min(int(place), 2)
        part = place - low
        row = band[:, low] * (1 - part) + band[:, low + 1] * part
        back = band[:, 1] - band[:, 2]  # from the edge to the gum
        back = back / np.maximum(np.linalg.norm(back, axis=2, keepdims=True), 1e-9)
        push = np.where(is_groove, groove, belly) + _SHIFTS[name][0]
        rows.append(row + push * outward + np.where(is_groove, short, 0.0) * back)
    return np.stack(rows, 1) + np.array([0, *_SHIFTS[name][1:]])


def _along(grid: np.ndarray, known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return columns at other places along the arch by cubic interpolation, [n,r,len(wanted),3]."""
    from scipy.interpolate import PchipInterpolator

    return np.asarray(PchipInterpolator(known, grid, axis=2)(wanted))


def _outward(arch: np.ndarray) -> np.ndarray:
    """Return the horizontal directions [n,c,3] out of an arch [n,c,3] that runs from right to left."""
    along = np.gradient(arch, axis=1)
    found = np.stack([-along[..., 2], np.zeros(along.shape[:2]), along[..., 0]], -1)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=2, keepdims=True), 1e-9))
