"""Cuts of the C++ numerics against `topos_rt.faces.warp`."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.sdk.numerics.calls import call
from tests.sdk.numerics.test_image import noisy
from topos_rt.faces.warp import Square, cut, to_floats


def values(square: Square) -> np.ndarray:
    return np.array([square.x, square.y, square.side, square.angle])


def cuts(lib: ctypes.CDLL, pixels: np.ndarray, square: Square, size: int, filtered: bool) -> tuple:
    """Return the cut of each side as bytes and as floats."""
    height, width, _ = pixels.shape
    got, floats = np.empty((size, size, 3), np.uint8), np.empty((1, size, size, 3), np.float32)
    call(lib, "cut", pixels, width, height, values(square), size, filtered, floats, got)
    picture = cut(Image.fromarray(pixels), square, size, filtered)
    return got, np.asarray(picture), floats, to_floats(picture)


SQUARES = [
    Square(50, 40, 60), Square(50, 40, 60, 0.3), Square(50.25, 40.5, 33.3, -1.1), Square(10, 5, 90, 2.0),
    Square(-500, 40, 60), Square(50, 40, 700, 0.1), Square(50, 40, 3.5, 0.7),
    Square(50, 40, 100, math.pi / 2), Square(50, 40, 100, math.pi), Square(50, 40, 1000),
    Square(99, 0, 41, 3.0), Square(0.5, 79.5, 1e-3, 1),
]  # fmt: skip


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("size", [32, 192])
@pytest.mark.parametrize("square", SQUARES, ids=str)
def test_cuts(lib: ctypes.CDLL, square: Square, size: int, filtered: bool) -> None:
    got, want, floats, wanted = cuts(lib, noisy(100, 80, 3), square, size, filtered)
    assert np.array_equal(got, want)
    assert floats.tobytes() == wanted.tobytes()


places = st.floats(-150, 300)


@given(
    places, places, st.floats(0.5, 900), st.floats(-7, 7), st.sampled_from([16, 33, 64]), st.booleans(),
    st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=400)
def test_cuts_of_any_square(
    lib: ctypes.CDLL, x: float, y: float, side: float, angle: float, size: int, filtered: bool, seed: int
) -> None:
    pixels = noisy(150, 110, 3, seed)
    got, want, _, _ = cuts(lib, pixels, Square(x, y, side, angle), size, filtered)
    assert np.array_equal(got, want)


@given(places, places, st.floats(0.5, 900), st.floats(-7, 7), st.sampled_from([1, 112, 192, 256, 512]))
@settings(max_examples=400)
def test_maps(lib: ctypes.CDLL, x: float, y: float, side: float, angle: float, size: int) -> None:
    square = Square(x, y, side, angle)
    got, corners = np.empty((2, 3)), np.empty((4, 2))
    call(lib, "square_matrix", values(square), size, got)
    call(lib, "square_corners", values(square), corners)
    assert np.array_equal(got, square.matrix(size))
    assert np.array_equal(corners, square.corners())
