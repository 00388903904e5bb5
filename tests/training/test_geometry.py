"""Differentiable geometry agrees with the runtime's, and losses ignore what they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.meshes import ball
from topos_rt.head.normals import vertex_normals
from topos_rt.head.topology import Topology
from training.geometry import MeshGeometry, surface_losses

HEAD = ball(10, 14, radius=0.9)


@pytest.fixture(scope="module")
def geometry() -> MeshGeometry:
    return MeshGeometry(HEAD.topology, HEAD.positions.copy())


def crumpled(count: int = 3, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 0.03, (count, *HEAD.positions.shape))
    return torch.from_numpy((HEAD.positions + noise).astype(np.float32))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_vertex_normals_are_the_runtime_s(geometry: MeshGeometry) -> None:
    positions = crumpled()
    got = geometry.vertex_normals(positions).numpy()
    for mine, head in zip(got, positions.numpy(), strict=True):
        assert np.abs(mine - vertex_normals(head, HEAD.topology.triangles)).max() < 1e-5


def test_face_normals_and_areas(geometry: MeshGeometry) -> None:
    positions = crumpled(1)
    normals, areas = geometry.face_normals(positions)
    a, b, c = positions[0].numpy().astype(np.float64)[HEAD.topology.triangles].transpose(1, 0, 2)
    cross = np.cross(b - a, c - a)
    lengths = np.linalg.norm(cross, axis=1, keepdims=True)
    assert normals[0].numpy() == pytest.approx(cross / lengths, abs=1e-5)
    assert areas[0].numpy() == pytest.approx(lengths[:, 0] / 2, rel=1e-4)


def test_edge_triangles_meet_at_every_inner_edge(geometry: MeshGeometry) -> None:
    triangles = HEAD.topology.triangles
    pairs = geometry.edge_triangles.numpy()
    assert len(pairs) == 3 * len(triangles) // 2  # a closed surface
    for left, right in pairs:
        assert len(set(triangles[left]) & set(triangles[right])) == 2


def test_samples_lie_on_the_surface_of_their_own_head(geometry: MeshGeometry) -> None:
    """On a convex head no point is outside of any face's plane, and one on the surface touches its own."""
    heads = torch.stack([s * torch.from_numpy(HEAD.positions) for s in (1.0, 0.5)])
    samples = geometry.sample_surface(heads, 200, seeded())
    assert samples.shape == (2, 200, 6)
    normals, _ = geometry.face_normals(heads)
    corners = heads[:, geometry.triangles[:, 0]]
    for head in range(2):
        points, directions = samples[head].split(3, 1)
        heights = ((points[:, None] - corners[head]) * normals[head]).sum(-1)
        assert heights.max(1).values.abs().max() < 1e-5
        touched = heights > -1e-5
        agree = (directions @ normals[head].T) > 1 - 1e-5
        assert (touched & agree).any(1).all()


def test_samples_follow_area_and_fill_their_triangle() -> None:
    topology = Topology.from_polygons(6, [[0, 1, 2], [3, 4, 5]])
    positions = np.float32([[0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 5], [1, 0, 5], [0, 2, 5]])
    geometry = MeshGeometry(topology, positions)
    points = geometry.sample_surface(torch.from_numpy(positions)[None], 20_000, seeded())[0, :, :3]
    large = points[:, 2] == 0
    assert float(large.float().mean()) == pytest.approx(0.75, abs=0.015)
    assert points[large].mean(0).tolist() == pytest.approx([1, 2 / 3, 0], abs=0.03)
    x, y = points[large, 0] / 3, points[large, 1] / 2
    assert float((x + y).max()) <= 1 + 1e-5
    # Points are uniform: the corner triangle beyond each half line has a quarter of the area.
    for part in (x, y, 1 - x - y):
        assert float((part > 0.5).float().mean()) == pytest.approx(0.25, abs=0.015)


def test_samples_repeat_with_their_generator(geometry: MeshGeometry) -> None:
    heads = crumpled()
    one, again = (geometry.sample_surface(heads, 50, seeded(1)) for _ in range(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, geometry.sample_surface(heads, 50, seeded(2)))


def test_losses_of_equal_meshes_are_zero(geometry: MeshGeometry) -> None:
    losses = surface_losses(geometry, crumpled(), crumpled())
    assert set(losses) == {"face_normal", "face_angle", "edge_curvature"}
    assert all(abs(float(loss)) < 1e-6 for loss in losses.values())


def test_losses_of_other_meshes_are_not(geometry: MeshGeometry) -> None:
    losses = surface_losses(geometry, crumpled(seed=1), crumpled(seed=2))
    assert all(float(loss) > 1e-3 for loss in losses.values())


def values(losses: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(loss) for name, loss in losses.items()}


def test_losses_ignore_size_and_place(geometry: MeshGeometry) -> None:
    got, want = crumpled(seed=1), crumpled(seed=2)
    plain = values(surface_losses(geometry, got, want))
    assert values(surface_losses(geometry, 2 * got + 1, want)) == pytest.approx(plain, rel=1e-3)
    assert values(surface_losses(geometry, got, want / 4 - 2)) == pytest.approx(plain, rel=1e-3)


def test_only_the_normals_see_a_turn(geometry: MeshGeometry) -> None:
    turned = values(surface_losses(geometry, crumpled()[..., [2, 0, 1]], crumpled()))
    assert turned["face_normal"] > 0.1
    assert turned["face_angle"] == pytest.approx(0, abs=1e-6)
    assert turned["edge_curvature"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("collapsed", [False, True])
def test_gradients_are_finite(geometry: MeshGeometry, collapsed: bool) -> None:
    got = crumpled(seed=1)
    if collapsed:
        got[0, HEAD.topology.triangles[0]] = got[0, 0].clone()
    got.requires_grad_(True)
    losses = surface_losses(geometry, got, crumpled(seed=2))
    (sum(losses.values(), torch.zeros(())) + geometry.vertex_normals(got).square().sum()).backward()
    assert got.grad is not None
    assert torch.isfinite(got.grad).all()
    assert float(got.grad.abs().max()) > 0
