"""Squares cut out of pictures: where their pixels come from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.sample_pictures import smooth
from topos_rt.faces.warp import Square, cut, to_floats

PICTURE = Image.fromarray(smooth(96, 128))
SIDES = st.floats(8, 200)
ANGLES = st.floats(-np.pi, np.pi)


def ramp(width: int, height: int) -> Image.Image:
    """Return a picture whose red is x and whose green is y, in pixels of 2, at the pixels' centres."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([x, y, 0 * x], -1).astype(np.uint8))


def test_the_whole_picture_is_itself() -> None:
    square = Square(48, 48, 96)
    assert np.array_equal(np.asarray(cut(PICTURE, square, 96)), np.asarray(PICTURE)[:, :96])


@given(x=st.floats(40, 160), y=st.floats(40, 160), side=st.floats(20, 60), angle=ANGLES)
def test_pixels_come_from_where_the_matrix_says(x: float, y: float, side: float, angle: float) -> None:
    square, size = Square(x, y, side, angle), 16
    made = np.asarray(cut(ramp(200, 200), square, size), np.float64)
    row, column = np.mgrid[0:size, 0:size] + 0.5
    matrix = square.matrix(size)
    places = np.stack([column, row], -1) @ matrix[:, :2].T + matrix[:, 2] - 0.5
    shrink = max(1, int(side / size))
    # Pillow rounds down to whole numbers; averages of boxes come before that.
    assert np.abs(made[..., :2] - places).max() <= 1.01 + (shrink - 1) / 2


@given(x=st.floats(0, 128), y=st.floats(0, 96), side=SIDES, angle=ANGLES)
def test_corners_are_those_of_the_cut(x: float, y: float, side: float, angle: float) -> None:
    square = Square(x, y, side, angle)
    matrix = square.matrix(10)
    ends = np.array([[0, 0], [10, 0], [10, 10], [0, 10]]) @ matrix[:, :2].T + matrix[:, 2]
    assert np.allclose(square.corners(), ends)
    assert np.allclose(square.corners().mean(0), (x, y))
    assert np.allclose(np.linalg.norm(square.corners()[1] - square.corners()[0]), side)


def test_a_turned_square_shows_the_picture_turned_the_other_way() -> None:
    upright = np.asarray(cut(PICTURE, Square(64, 48, 40), 40), np.float64)
    turned = cut(PICTURE, Square(64, 48, 40, np.pi / 2), 40).transpose(Image.Transpose.ROTATE_270)
    assert np.abs(np.asarray(turned, np.float64) - upright).max() <= 1


@pytest.mark.parametrize("filtered", [False, True])
def test_small_cuts_of_fine_detail_are_averages(filtered: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (256, 256, 1), np.uint8) * np.full(3, 255, np.uint8)
    made = np.asarray(cut(Image.fromarray(noise), Square(128, 128, 256), 32, filtered), np.float64)
    assert abs(made.mean() - 127.5) < 3
    assert made.std() < 25  # one sample for each pixel would have 127


def test_beyond_the_picture() -> None:
    white = Image.new("RGB", (50, 50), (255, 255, 255))
    assert np.asarray(cut(white, Square(0, 25, 40), 40))[:, :18].max() == 0
    assert np.asarray(cut(white, Square(0, 25, 40), 40, filtered=True)).min() == 255
    for far in (Square(500, 25, 40), Square(25, -300, 40, 1.0)):
        assert np.asarray(cut(white, far, 8)).max() == 0


def test_a_cut_many_times_the_picture() -> None:
    made = np.asarray(cut(PICTURE, Square(64, 48, 5000, 0.3), 64, filtered=True))
    assert made.shape == (64, 64, 3)


def test_floats() -> None:
    values = to_floats(PICTURE)
    assert values.shape == (1, 96, 128, 3) and values.dtype == np.float32
    assert np.array_equal(np.rint(values[0] * 255).astype(np.uint8), np.asarray(PICTURE))
