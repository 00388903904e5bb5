"""Find faces with BlazeFace, in its full-range form (Bazarevsky et al. 2019, arXiv 1907.05047)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image

from topos_rt.faces.warp import Square, cut, to_floats

SIDE = 192  # of the pictures that the network takes
_GRID = 48
_SURE = 0.5
_SAME = 0.3  # boxes that share so much of their union are one face
_SMALLEST_PX = 40  # tiles go on until a face this large fills enough of one
_SEEN = 12  # pixels of a face in the network's picture, from which on it is found reliably
_MOST_TILES = 400
_RIGHT_EYE, _LEFT_EYE = 0, 1

Sides: TypeAlias = tuple[float, float, float, float]  # left, top, right and bottom, pixels
Detect: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Detection:
    """A box around a face and six points on it, in the picture's pixels."""

    score: float  # 0 to 1
    box: Sides
    points: np.ndarray  # [6,2]: the eyes (the right one first), nose tip, mouth, and where the ears begin

    @property
    def side(self) -> float:
        """The larger side of the box."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    def square(self, margin: float) -> Square:
        """Return the square around the box, `margin` times as large, turned so that the eyes are level."""
        left, top, right, bottom = self.box
        across = self.points[_LEFT_EYE] - self.points[_RIGHT_EYE]
        angle = math.atan2(float(across[1]), float(across[0]))
        return Square((left + right) / 2, (top + bottom) / 2, self.side * margin, angle)


def searches(size: tuple[int, int]) -> Iterator[list[Square]]:
    """Yield the squares to search in a picture of a size, in turns, until a large face is found.

    First comes the whole picture; then, since the network knows only faces that are about upright, the whole
    picture turned by quarters; then overlapping tiles, each turn of half the size of the one before, down to
    faces of 40 pixels.
    """
    width, height = size
    side = float(max(size))
    for quarters in range(4):
        yield [Square(width / 2, height / 2, side, quarters * np.pi / 2)]
    while side * _SEEN / SIDE > _SMALLEST_PX:
        side /= 2
        columns, rows = (_starts(length, side) for length in size)
        if len(columns) * len(rows) > _MOST_TILES:
            return
        yield [Square(x, y, side) for y in rows for x in columns]


def detections(picture: Image.Image, squares: list[Square], detect: Detect) -> list[Detection]:
    """Return the faces in squares of an RGB picture, the largest first.

    detect: takes [1,192,192,3] in -1..1; returns boxes [1,2304,16] and scores [1,2304,1] before the sigmoid.
    """
    found = [face for square in squares for face in _in_square(picture, square, detect)]
    return sorted(_merged(found), key=lambda face: -face.side)


def overlaps(box: Sides, others: list[Sides]) -> bool:
    """Return whether a box shares enough with one of the others to hold the same face."""
    return bool(others) and bool((_overlap(np.array(box), np.array(others)) > _SAME).any())


def _starts(length: int, side: float) -> list[float]:
    """Return the centres of tiles that cover a length and overlap by a third or more."""
    if length <= side:
        return [length / 2]
    count = int(np.ceil((length - side) / (side * 2 / 3))) + 1
    return np.linspace(side / 2, length - side / 2, count).tolist()


def _in_square(picture: Image.Image, square: Square, detect: Detect) -> list[Detection]:
    boxes, scores = detect(to_floats(cut(picture, square, SIDE)) * 2 - 1)
    logits = scores.reshape(-1)
    kept = np.flatnonzero(logits >= np.log(_SURE / (1 - _SURE)))
    values = boxes.reshape(-1, 8, 2)[kept]
    centres = np.stack([kept % _GRID, kept // _GRID], 1)[:, None] + 0.5
    points = values / SIDE + centres / _GRID  # in the square: 0 to 1
    middle, extent = points[:, 0], values[:, 1] / SIDE
    matrix = square.matrix(1)
    certain = [1 / (1 + math.exp(-logit)) for logit in logits[kept].tolist()]
    found = []
    for score, at, wide, marks in zip(certain, middle, extent, points[:, 2:], strict=True):
        # The box stays upright in the picture, whichever way the square is turned.
        x, y = matrix[:, :2] @ at + matrix[:, 2]
        half = float(wide.max()) * square.side / 2
        box = (x - half, y - half, x + half, y + half)
        found.append(Detection(float(score), box, marks @ matrix[:, :2].T + matrix[:, 2]))
    return found


def _merged(found: list[Detection]) -> list[Detection]:
    """Return one detection for each face: the mean of those that overlap, weighted by their scores."""
    rest, kept = sorted(found, key=lambda face: -face.score), []
    while rest:
        boxes = np.array([face.box for face in rest])
        same = _overlap(boxes[0], boxes) > _SAME
        group = [face for face, close in zip(rest, same, strict=True) if close]
        shares = np.array([face.score for face in group])
        shares /= shares.sum()
        left, top, right, bottom = (shares @ np.array([face.box for face in group])).tolist()
        points = np.tensordot(shares, np.stack([face.points for face in group]), 1)
        kept.append(Detection(group[0].score, (left, top, right, bottom), points))
        rest = [face for face, close in zip(rest, same, strict=True) if not close]
    return kept


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the share of a box [4] and each of boxes [n,4] that both cover, of what either covers: [n].

    A box against itself gives 1 even where it has no area.
    """
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    either = areas[0] + areas - shared
    result: np.ndarray = np.where(either > 0, shared / np.maximum(either, 1e-12), 0.0)
    result[np.all(boxes == box, axis=1)] = 1.0
    return result
