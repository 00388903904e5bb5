"""Metrics against their definitions, written out naively, and against shapes whose distances are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.meshes import ball
from topos_rt.errors import MeshInputError, OptionError
from topos_rt.scan.metrics import compare, vertex_errors
from topos_rt.scan.read import read_scan
from topos_rt.scan.surface import Surface

NO_TRIANGLES = np.zeros((0, 3), np.int64)


def square(z: float, flip: bool = False) -> Surface:
    corners = np.float64([[0, 0, z], [1, 0, z], [1, 1, z], [0, 1, z]])
    triangles = np.array([[0, 1, 2], [0, 2, 3]])
    return Surface(corners, triangles[:, ::-1] if flip else triangles)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(2, 40))
def test_clouds_against_the_definitions(seed: int, n: int, m: int) -> None:
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=(n, 3)) / 500, draw.normal(size=(m, 3)) / 500  # some millimetres
    drawn = draw.normal(size=a.shape), draw.normal(size=b.shape)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in drawn]
    clouds = (Surface(a, NO_TRIANGLES, unit[0]), Surface(b, NO_TRIANGLES, unit[1]))
    found = compare(*clouds, thresholds_mm=(1, 3))
    table = 1000 * np.linalg.norm(a[:, None] - b[None], axis=2)
    there, home = table.min(1), table.min(0)
    assert found.accuracy_mm == pytest.approx(there.mean())
    assert found.completeness_mm == pytest.approx(home.mean())
    assert found.chamfer_l1_mm == pytest.approx((there.mean() + home.mean()) / 2)
    assert found.chamfer_l2_mm2 == pytest.approx((there**2).mean() + (home**2).mean())
    assert found.max_mm == pytest.approx(max(there.max(), home.max()))
    cosines = np.abs(unit[0] @ unit[1].T)
    forward = cosines[np.arange(n), table.argmin(1)].mean()
    backward = cosines[table.argmin(0), np.arange(m)].mean()
    assert found.normal_consistency == pytest.approx((forward + backward) / 2)
    for limit in (1, 3):
        p, r = (there <= limit).mean(), (home <= limit).mean()
        assert found.precision[str(limit)] == pytest.approx(p)
        assert found.recall[str(limit)] == pytest.approx(r)
        assert found.f_score[str(limit)] == pytest.approx(2 * p * r / (p + r) if p + r else 0)


@pytest.mark.parametrize("flip", [False, True])
def test_parallel_squares_are_as_far_as_they_are(flip: bool) -> None:
    found = compare(square(0), square(0.0015, flip), samples=2000)
    assert found.accuracy_mm == pytest.approx(1.5)
    assert found.completeness_mm == pytest.approx(1.5)
    assert found.chamfer_l2_mm2 == pytest.approx(2 * 1.5**2)
    assert found.normal_consistency == pytest.approx(1)  # the sign of the cosine does not count
    assert found.f_score == {"1": 0.0, "2": 1.0, "5": 1.0}


def test_meshes_of_one_surface_are_no_distance_apart_however_they_are_cut() -> None:
    fine = np.float64([[0, 0, 0], [0.3, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.4, 0.6, 0]])
    triangles = np.array([[0, 1, 5], [1, 2, 5], [2, 3, 5], [3, 4, 5], [4, 0, 5]])
    found = compare(square(0), Surface(fine, triangles), samples=3000)
    assert found.max_mm < 1e-9 and found.normal_consistency == pytest.approx(1)


def test_concentric_balls() -> None:
    inner, outer = (ball(rings=60, segments=80, radius=r) for r in (0.1, 0.102))
    found = compare(*(Surface(b.positions, b.triangles) for b in (inner, outer)), samples=3000)
    assert found.chamfer_l1_mm == pytest.approx(2, abs=0.02)
    assert found.normal_consistency is not None and found.normal_consistency > 0.99


def test_half_of_a_surface_is_accurate_and_incomplete_and_judged_restricts_the_prediction() -> None:
    whole = square(0)
    half = Surface(whole.points, whole.triangles[:1])
    found = compare(half, whole, samples=20_000)
    assert found.accuracy_mm == pytest.approx(0, abs=1e-9)
    assert found.precision["5"] == 1 and found.recall["5"] == pytest.approx(0.507, abs=0.02)
    # With that half as the part that is judged, distances from the truth are still to the whole.
    assert compare(whole, half, samples=2000, judged=half).max_mm < 1e-9
    assert compare(whole, half, samples=2000).max_mm > 100


def test_clouds_without_normals_have_no_normal_consistency_and_json_is_plain() -> None:
    points = np.random.default_rng(0).normal(size=(30, 3))
    found = compare(Surface(points, NO_TRIANGLES), Surface(points, NO_TRIANGLES))
    assert found.normal_consistency is None
    told = found.to_json()
    assert told["chamfer_l1_mm"] == 0 and told["samples"] == [30, 30]
    assert told["f_score"] == {"1": 1, "2": 1, "5": 1}


@pytest.mark.parametrize(
    "options",
    [
        {"samples": 0},
        {"thresholds_mm": ()},
        {"thresholds_mm": (1, -1)},
        {"thresholds_mm": (float("nan"),)},
        {"thresholds_mm": (float("inf"),)},
    ],
)
def test_bad_options(options: dict) -> None:
    with pytest.raises(OptionError, match="positive numbers"):
        compare(square(0), square(1), **options)


def test_vertex_errors() -> None:
    truth = np.zeros((100, 3))
    moved = truth.copy()
    moved[7, 1] = 0.003
    found = vertex_errors(moved, truth)
    assert (found.mean_mm, found.max_mm) == (pytest.approx(0.03), pytest.approx(3))
    with pytest.raises(MeshInputError, match="two heads of one topology"):
        vertex_errors(truth, truth[1:])


def test_heads_and_scans_are_compared_as_their_surfaces(tmp_path: Path) -> None:
    head = ball()
    head.save(tmp_path / "head.obj")
    scan, surface = read_scan(tmp_path / "head.obj"), Surface(head.positions, head.triangles)
    assert compare(head, scan, samples=500) == compare(surface, scan.surface, samples=500)
    assert compare(head, scan, samples=500).max_mm < 1e-3
    with pytest.raises(MeshInputError, match="shape to compare: got ndarray; expected a head or a scan"):
        compare(head.positions, scan)  # type: ignore[arg-type]
