from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests import tiny_bundle as tiny
from tests.fakes import in_metres
from topos_rt.errors import MeshInputError, OptionError
from topos_rt.flow.sampling import noise
from topos_rt.pipeline import HeadPipeline

DRAW = np.random.default_rng(12)
CLOUD = DRAW.standard_normal((500, 3))
CLOUD_NORMALS = DRAW.standard_normal((500, 3))
FEW = 180  # so few points that nobody asks whether they are a head


@pytest.mark.parametrize("seed", [None, 7])
def test_retopologize_against_float64(tiny_pipe: HeadPipeline, seed: int | None) -> None:
    points, normals = CLOUD[: tiny.POINTS], CLOUD_NORMALS[: tiny.POINTS]
    head = tiny_pipe.retopologize(points, normals, seed=seed, passes=1)
    centre, radius = frame_of(points)
    unit = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    rows = np.hstack([(points - centre) / radius, unit])  # head axes; the tiny network's are x, -z, y
    rows = np.stack([rows[:, 0], -rows[:, 2], rows[:, 1], rows[:, 3], -rows[:, 5], rows[:, 4]], 1)
    model = tiny.TinyModel()
    encoded = model.vae_encoder(rows[None])
    latent = encoded["mean"]
    if seed is not None:
        latent = latent + np.exp(0.5 * encoded["logvar"]) * noise(seed, latent.shape)
    expected = in_metres(model.vae_decoder(latent)["vertices"][0])
    assert np.abs(head.positions - (expected[:, :3] / 0.125 * radius + centre)).max() < 1e-5
    assert np.abs(head.normals - expected[:, 3:]).max() < 1e-5
    assert head.metadata["seed"] == seed and "steps" not in head.metadata
    assert list(head.timings) == ["vae_encoder", "vae_decoder", "rig", "total"]


def frame_of(points: np.ndarray) -> tuple[np.ndarray, float]:
    centre = (points.min(0) + points.max(0)) / 2
    return centre, float(np.linalg.norm(points - centre, axis=1).max())


def test_a_retopologized_head_and_its_rig_follow_the_points(tiny_pipe: HeadPipeline) -> None:
    nominal = tiny_pipe.bundle.rig
    assert nominal is not None
    small = tiny_pipe.retopologize(CLOUD, CLOUD_NORMALS, passes=1)
    large = tiny_pipe.retopologize(CLOUD * 2 + [1, 2, 3], CLOUD_NORMALS, passes=1)
    assert np.allclose(large.positions, small.positions * 2 + [1, 2, 3], atol=1e-4)
    for head, points in ((small, CLOUD), (large, CLOUD * 2 + [1, 2, 3])):
        centre, radius = frame_of(points)
        assert head.rig is not None and head.rig.shape_names == nominal.shape_names
        joints = nominal.joint_positions / 0.125 * radius + centre
        assert np.allclose(head.rig.joint_positions, joints, atol=1e-5)
        assert np.allclose(head.rig.shape_delta, nominal.shape_delta / 0.125 * radius, atol=1e-5)


def test_retopologize_takes_any_number_of_points_and_is_repeatable(tiny_pipe: HeadPipeline) -> None:
    for count in (16, tiny.POINTS, FEW):
        heads = [tiny_pipe.retopologize(CLOUD[:count], CLOUD_NORMALS[:count] * scale) for scale in (1, 1, 5)]
        assert np.array_equal(heads[0].positions, heads[1].positions)
        assert np.allclose(heads[0].positions, heads[2].positions, atol=1e-6)


def test_retopologize_with_a_seed_samples_the_posterior(tiny_pipe: HeadPipeline) -> None:
    mean, one, again, other = (
        tiny_pipe.retopologize(CLOUD[:FEW], CLOUD_NORMALS[:FEW], seed=k) for k in (None, 1, 1, 2)
    )
    assert np.array_equal(one.positions, again.positions)
    assert not np.array_equal(one.positions, mean.positions)
    assert not np.array_equal(one.positions, other.positions)


@pytest.mark.parametrize(
    "points, normals, message",
    [
        (CLOUD[:15], CLOUD_NORMALS[:15], "P >= 16"),
        (CLOUD[:, :2], CLOUD_NORMALS, r"numbers \[P,3\]"),
        (CLOUD[:20], CLOUD_NORMALS[:21], "21 rows; expected 20"),
        (np.where(CLOUD > 2, np.nan, CLOUD), CLOUD_NORMALS, "NaN or infinite"),
        (CLOUD, np.where(CLOUD > 2, np.inf, CLOUD), "NaN or infinite"),
        (np.ones((20, 3)), CLOUD_NORMALS[:20], "the same point each time"),
        (CLOUD * 1e200, CLOUD_NORMALS, "some beyond 100000"),
        (CLOUD, CLOUD_NORMALS * (np.arange(500) != 7)[:, None], "length zero"),
        (CLOUD.astype(str), CLOUD_NORMALS, "points"),
        ([[1, 2, 3], [1, 2]], CLOUD_NORMALS, "different lengths"),
    ],
)
def test_bad_points(tiny_pipe: HeadPipeline, points: Any, normals: Any, message: str) -> None:
    with pytest.raises(MeshInputError, match=message):
        tiny_pipe.retopologize(points, normals)


def test_retopologize_refuses_a_bad_seed(tiny_pipe: HeadPipeline) -> None:
    with pytest.raises(OptionError, match="seed"):
        tiny_pipe.retopologize(CLOUD, CLOUD_NORMALS, seed=-1)
