"""Points of the surface: spread evenly in pairs, where a camera and a cut show them, and what they tell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.face_trunk import SIDE
from tests.training.synthetic import egg
from tests.training.test_train_flow import PEOPLE, linear, small_networks
from tests.training.test_train_flow import data as flow_data
from tests.training.test_tune_encoder import data
from training import place_limits, surface_points
from training.evidence import codes_of, fit_directions
from training.judge import Judge
from training.linear_decoder import LinearDecoder
from training.pictures.camera import Camera
from training.surface_points import SurfacePoints
from training.tune_encoder import Data, TunedEncoder

__all__ = ["data", "flow_data", "linear", "small_networks"]  # fixtures


@pytest.fixture(scope="module")
def points() -> SurfacePoints:
    return SurfacePoints.of(egg())


def test_points_are_pairs_that_are_spread_evenly(points: SurfacePoints) -> None:
    template = egg().template
    at = template[points.vertices]
    assert surface_points.COUNT - 1 <= len(points.vertices) <= surface_points.COUNT
    assert len(set(points.vertices)) == len(points.vertices)
    assert np.linalg.norm(at[:, None] - at * [-1, 1, 1], axis=2).min(1).max() < 1e-6
    # Every vertex that may be chosen has a point near it.
    allowed = template[(template[:, 2] > 0) & (template[:, 1] > -0.1)]
    away = np.linalg.norm(allowed[:, None] - at[None], axis=2).min(1)
    assert away.max() < 0.02


class Picture:
    """The parts of a shard that places depend on."""

    person = np.array([1])
    weights = np.full((1, len(egg().action_names)), 0.5, np.float16)
    camera = Camera(np.eye(3), np.zeros(3), 1.0, 300.0, np.array([128.0, 120.0]))

    def camera_of(self, i: int) -> Camera:
        return self.camera


def test_places_are_the_camera_s_in_the_cut(points: SurfacePoints) -> None:
    """All actions of the egg move every vertex by a millimetre, along all axes."""
    heads = np.stack([egg().template * 2, egg().template])
    zoom = np.array([[1.5, 0, 10], [0, 1.5, -20]])
    got = points.places(Picture(), heads, 0, zoom)  # type: ignore[arg-type]
    posed = heads[1, points.vertices] + 0.5e-3 * len(egg().action_names)
    seen = Picture.camera.project(posed)
    assert got[:, :2] == pytest.approx(seen[:, :2] * 1.5 + [10, -20], abs=1e-3)
    assert abs(got[:, 2].mean()) < 1e-4
    nearest, farthest = seen[:, 2].argmin(), seen[:, 2].argmax()
    assert got[nearest, 2] == got[:, 2].max() and got[farthest, 2] == got[:, 2].min()
    # Depth has the scale of what lies across: a step of a centimetre is as long in both.
    across = 0.01 * 300 * 1.5 / seen[:, 2].mean()
    assert (got[nearest, 2] - got[farthest, 2]) / (seen[farthest, 2] - seen[nearest, 2]) == pytest.approx(
        across / 0.01, rel=1e-4
    )


def test_places_that_tell_heads_tell_less_with_noise(
    data: Data, linear: LinearDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place_limits, "COORDINATES", 6)
    encoder = TunedEncoder().encoder
    fit_directions(encoder, data.anchors, linear.basis)
    codes = codes_of(data.anchors, encoder.evidence_latents)
    map_ = torch.randn(codes.shape[1], 30, generator=torch.Generator().manual_seed(0))
    places = (codes @ map_).view(PEOPLE, 10, 3)
    judge = Judge(linear, torch.arange(10))

    def shaken(noise: float, seed: int) -> Tensor:
        return places + noise * torch.randn(places.shape, generator=torch.Generator().manual_seed(seed))

    def error(noise: float) -> float:
        ends = (shaken(noise, 1), data), (shaken(noise, 2), data)
        return place_limits.measure(*ends, codes, encoder.evidence_latents, judge)["whole_mm"]

    assert error(0) < 0.5 * error(5.0)  # pose and expression tell of heads in this world, too


def test_errors_that_are_alike_are_as_large(points: SurfacePoints) -> None:
    """Each point is as far off as with independent errors, and neighbours are off together."""
    at = torch.from_numpy(egg().template[points.vertices]).float()
    drawn = {}
    for reach in place_limits.REACHES_M:
        mixing, generator = place_limits.alike(at, reach), torch.Generator().manual_seed(0)
        noise = place_limits.shaken(torch.zeros(2000, len(at), 3), 1.5, mixing, generator) * SIDE / 2
        assert float(noise.square().mean()) == pytest.approx(1.5**2, rel=0.05)
        drawn[reach] = noise
    far = torch.cdist(at, at) + 9 * torch.eye(len(at))
    pairs = torch.arange(len(at)), far.argmin(1)
    for reach, noise in drawn.items():
        own, neighbours = noise[:, pairs[0]], noise[:, pairs[1]]
        found = (own * neighbours).mean((0, 2)) / 1.5**2
        want = torch.exp(-0.5 * (far[pairs] / reach).square()) if reach else torch.zeros(len(at))
        assert torch.allclose(found, want, atol=0.1)
