"""Noise that is scaled otherwise along some directions, and what is refused as such directions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topos_rt.errors import BundleError
from topos_rt.flow.sampling import noise
from topos_rt.flow.variation import Variation
from topos_rt.support.tensorfile import write_tensors

N, D = 5, 3


def directions(count: int, size: int = N * D, seed: int = 0) -> np.ndarray:
    rows = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, count)))[0].T
    return np.ascontiguousarray(rows, np.float32)


@given(count=st.integers(1, N * D), seed=st.integers(0, 2**32), own=st.floats(0, 2), along=st.floats(0, 2))
def test_noise_is_split_on_the_span(count: int, seed: int, own: float, along: float) -> None:
    rows, start = directions(count, seed=seed), noise(seed, (1, N, D))
    got = Variation(rows, along).scaled(start, own)
    assert got.shape == start.shape and got.dtype == np.float32
    # The projection by least squares, which does not need orthonormal rows.
    flat = start.reshape(-1).astype(np.float64)
    inside = rows.T @ np.linalg.lstsq(rows.T.astype(np.float64), flat, rcond=None)[0]
    expected = own * (flat - inside) + along * inside
    assert got.reshape(-1) == pytest.approx(expected, abs=1e-5)


def test_equal_temperatures_are_one() -> None:
    start = noise(3, (1, N, D))
    assert Variation(directions(4), 0.5).scaled(start, 0.5) == pytest.approx(0.5 * start, abs=1e-6)


def test_seeds_differ_only_along_the_directions_where_the_rest_is_cold() -> None:
    variation = Variation(directions(2), 1.0)
    apart = variation.scaled(noise(1, (1, N, D)), 0.0) - variation.scaled(noise(2, (1, N, D)), 0.0)
    within = (apart.reshape(-1) @ variation.directions.T) @ variation.directions
    assert np.linalg.norm(apart) > 0.1
    assert apart.reshape(-1) == pytest.approx(within, abs=1e-6)


def test_it_goes_to_a_file_and_back(tmp_path: Path) -> None:
    saved = Variation(directions(3), 0.75)
    saved.save(tmp_path / "v.safetensors")
    read = Variation.load(tmp_path / "v.safetensors", N * D)
    assert np.array_equal(read.directions, saved.directions) and read.open_temperature == 0.75


def spoiled(**changes: object) -> Callable[[dict[str, np.ndarray]], None]:
    def change(tensors: dict[str, np.ndarray]) -> None:
        for name, value in changes.items():
            if value is None:
                del tensors[name]
            else:
                tensors[name] = np.asarray(value)

    return change


def nan(tensors: dict[str, np.ndarray]) -> None:
    tensors["directions"][1, 2] = np.nan


BAD: dict[str, tuple[Callable[[dict[str, np.ndarray]], None], str]] = {
    "no directions": (spoiled(directions=None), "got open_temperature; expected the tensors directions and"),
    "no temperature": (spoiled(open_temperature=None), "got directions; expected the tensors"),
    "a tensor too many": (spoiled(more=np.zeros(1, np.float32)), "expected the tensors"),
    "latents of another size": (spoiled(directions=directions(3, 12)), r"got shape \[3, 12\]; .*\[k,15\]"),
    "one direction alone": (spoiled(directions=directions(1)[0]), r"directions: got shape \[15\]"),
    "none at all": (spoiled(directions=np.zeros((0, N * D), np.float32)), r"shape \[0, 15\].*1 <= k <= N"),
    "too many": (spoiled(directions=np.vstack([directions(15), directions(1)])), r"shape \[16, 15\]"),
    "float64": (spoiled(directions=directions(3).astype(float)), "got float64 of shape"),
    "NaN": (nan, "not finite"),
    "too long": (spoiled(directions=1.001 * directions(3)), "off by 0.002; expected orthonormal rows"),
    "not square to each other": (spoiled(directions=directions(1).repeat(2, 0)), "off by 1; expected"),
    "huge": (spoiled(directions=1e38 * directions(3)), "expected orthonormal rows"),
    "temperature above 2": (spoiled(open_temperature=np.float32([2.5])), "got 2.5; expected 0 to 2"),
    "temperature below 0": (spoiled(open_temperature=np.float32([-0.5])), "got -0.5; expected 0 to 2"),
    "no temperature at all": (spoiled(open_temperature=np.float32([np.nan])), "got nan; expected 0 to 2"),
    "two temperatures": (
        spoiled(open_temperature=np.float32([1, 1])),
        r"shape \[2\]; expected float32 \[1\]",
    ),
    "a whole temperature": (spoiled(open_temperature=np.int32([1])), "got int32 of shape"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_variation_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    change, message = BAD[case]
    tensors = {"directions": directions(3), "open_temperature": np.float32([0.5])}
    change(tensors)
    write_tensors(tmp_path / "v.safetensors", tensors, {})
    with pytest.raises(BundleError, match=message) as caught:
        Variation.load(tmp_path / "v.safetensors", N * D)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    Variation(directions(3), 0.75).save(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BundleError, match="expected a complete safetensors file"):
        Variation.load(path, N * D)
