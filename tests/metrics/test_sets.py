"""FID, KID and CSIM against torchmetrics and SciPy, their properties, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import needs

needs.module("torchmetrics")

import torch
from torchmetrics.functional import pairwise_cosine_similarity
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from tests.metrics.networks import Random, pictures, tensor
from topos_rt.errors import InputError, OptionError
from topos_rt.metrics import csim, fid, kid


def features(count: int, seed: int) -> np.ndarray:
    with torch.no_grad():
        return Random()(tensor(pictures(count, seed=seed))).numpy()


REAL, MADE = features(120, 1), features(90, 2) * 1.2 + 0.05


def test_fid_is_that_of_torchmetrics_on_a_random_network() -> None:
    judge = FrechetInceptionDistance(feature=Random(), normalize=True, input_img_size=(3, 32, 32)).set_dtype(
        torch.float64
    )
    judge.inception = Random()
    images = [pictures(120, seed=1), pictures(90, seed=2)]
    for real, given_ in zip((True, False), images, strict=True):
        judge.update(tensor(given_), real=real)
    with torch.no_grad():
        rows = [Random()(tensor(images_)).numpy() for images_ in images]
    assert fid(rows[1], rows[0]) == pytest.approx(float(judge.compute()), rel=1e-6)


def test_fid_is_that_of_scipys_root_of_a_matrix() -> None:
    from scipy.linalg import sqrtm

    for a, b in ((REAL, MADE), (REAL[:8], MADE[:7])):  # full rank, and fewer pictures than features
        s, t = (np.cov(rows.astype(np.float64), rowvar=False) for rows in (a, b))
        apart = a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)
        expected = apart @ apart + np.trace(s + t - 2 * sqrtm(s @ t).real)
        assert fid(a, b) == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_fid_of_gaussians_whose_distance_is_known() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(0, 1, (40_000, 3)), draw.normal([1, 0, 0], [2, 1, 1], (40_000, 3))
    assert fid(a, b) == pytest.approx(1 + (2 - 1) ** 2, abs=0.06)


@pytest.mark.parametrize(("subsets", "size"), [(1, 90), (7, 20)])
def test_kid_is_that_of_torchmetrics(subsets: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.Generator(np.random.Philox(3))
    monkeypatch.setattr(torch, "randperm", lambda count: torch.from_numpy(draw.permutation(count)))
    judge = KernelInceptionDistance(feature=Random(), subsets=subsets, subset_size=size, normalize=True)
    images = pictures(90, seed=1), pictures(100, seed=2)
    for real, given_ in zip((True, False), images, strict=True):
        judge.update(tensor(given_), real=real)
    mean, deviation = map(float, judge.compute())
    with torch.no_grad():
        rows = [Random()(tensor(images_)).numpy() for images_ in images]
    found = kid(*rows, subsets=subsets, subset_size=size, seed=3)
    assert found.mean == pytest.approx(mean, rel=1e-3, abs=1e-6)
    if subsets > 1:
        assert found.deviation == pytest.approx(deviation, rel=1e-3, abs=1e-6)


def test_kid_is_unbiased_and_fid_is_not() -> None:
    draw = np.random.default_rng(1)
    parts = [draw.normal(0, 1, (2, 40, 8)) for _ in range(60)]
    kids = [kid(*part, subsets=1, subset_size=40).mean for part in parts]
    assert abs(np.mean(kids)) < 3 * np.std(kids) / np.sqrt(len(kids)) and min(kids) < 0
    assert min(fid(*part) for part in parts) > 0.5


def test_csim_is_that_of_torchmetrics() -> None:
    cosines = pairwise_cosine_similarity(*map(torch.from_numpy, (REAL[:90], MADE))).numpy()
    found = csim(REAL[:90], MADE)
    assert found.each == pytest.approx(np.diagonal(cosines), abs=1e-6)
    assert found.mean == pytest.approx(np.diagonal(cosines).mean(), abs=1e-6)
    others = cosines[~np.eye(90, dtype=bool)]
    assert found.mismatched == pytest.approx(others.mean(), abs=1e-6)
    assert csim(REAL[:1], MADE[:1]).mismatched is None


ROWS = st.integers(2, 12).flatmap(
    lambda count: st.lists(
        st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=4), min_size=count, max_size=count
    )
)


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS)
def test_distances_are_symmetric_and_zero_for_the_same(one: list[Any], other: list[Any]) -> None:
    a, b = np.array(one), np.array(other)
    scale = 1 + (a * a).sum() + (b * b).sum()
    assert fid(a, b) == pytest.approx(fid(b, a), abs=1e-7 * scale) and fid(a, b) >= 0
    assert fid(a, a) <= 1e-6 * scale and fid(a, a[::-1]) <= 1e-6 * scale
    assert fid(a + 3, b + 3) == pytest.approx(fid(a, b), abs=1e-6 * scale)
    turn = np.linalg.qr(np.arange(16).reshape(4, 4) ** 1.3)[0]
    assert fid(a @ turn, b @ turn) == pytest.approx(fid(a, b), abs=1e-6 * scale)
    size = min(len(a), len(b))
    ways = [kid(x, y, subsets=2, subset_size=size, seed=1).mean for x, y in ((a[:size], b[:size]),) * 2]
    assert ways[0] == ways[1]


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_cosines_do_not_depend_on_lengths(rows: list[Any]) -> None:
    a = np.array(rows) + 60
    found = csim(a, a * np.arange(1, len(a) + 1)[:, None])
    assert found.mean == pytest.approx(1, abs=1e-9) and csim(a, -a).mean == pytest.approx(-1, abs=1e-9)


GOOD = np.ones((4, 3)) + np.eye(4, 3)
NAN = np.where(np.eye(4, 3) > 0, np.nan, GOOD)
BAD = [
    (GOOD[:1], "features: got 1 pictures; expected 2 or more; fix: add pictures"),
    (GOOD[0], r"features: got float64 \[3\]; expected numbers \[N,C\]"),
    (np.array([["a"]] * 4), "features: got"),
    (NAN, "features: got NaN or infinity in row 0; expected finite numbers"),
    (np.zeros((4, 0)), r"features: got shape \[4, 0\]"),
    (np.broadcast_to(np.float32(1), (4, 9000)), "C to 8,192; fix: take a network with fewer features"),
    (np.broadcast_to(np.float32(1), (1 << 20, 256)), r"got shape \[1048576, 256\]"),  # never in memory
    (np.ones((4, 4)), r"features: got shapes \[4, 4\] and \[4, 3\]; expected as many columns"),
]


@pytest.mark.parametrize(("rows", "message"), BAD)
def test_bad_features_are_one_line(rows: np.ndarray, message: str) -> None:
    for distance in (fid, lambda a, b: kid(a, b, subset_size=2)):
        with pytest.raises(InputError, match=message):
            distance(rows, GOOD)
    if rows.shape not in ((1, 3), (4, 4)):
        with pytest.raises(InputError):
            csim(rows, GOOD)


def test_csim_refuses_what_is_no_pair_or_direction() -> None:
    with pytest.raises(InputError, match=r"shapes \[4, 3\] and \[3, 3\]; expected as many rows"):
        csim(GOOD, GOOD[:3])
    with pytest.raises(InputError, match="only zeros in row 2"):
        csim(GOOD * [[1], [1], [0], [1]], GOOD)


@pytest.mark.parametrize(
    "options",
    [{"subsets": 0}, {"subsets": 10**9}, {"subset_size": 1}, {"subset_size": 10**6}, {"subsets": True}],
)
def test_kid_refuses_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=r"subset.*expected"):
        kid(GOOD, GOOD, **{"subset_size": 2, **options})


def test_kid_refuses_too_few_pictures() -> None:
    with pytest.raises(InputError, match="KID: got 4 pictures in a set; expected 1000 or more"):
        kid(GOOD, GOOD)
