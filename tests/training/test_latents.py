"""Anchors have unit variance on their own sample, and are linear where they should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.synthetic import egg
from topos_rt.head.hierarchy import Hierarchy
from training.geometry import MeshGeometry
from training.heads import normalise
from training.latents import NodeOffsets


@pytest.fixture(scope="module")
def heads() -> Tensor:
    return torch.from_numpy(normalise(egg().sample(300, seed=1))[0])


@pytest.fixture(scope="module")
def offsets(heads: Tensor) -> NodeOffsets:
    geometry = MeshGeometry(egg().topology, heads.mean(0).numpy())
    return NodeOffsets(egg().hierarchy, geometry, heads)


def test_one_anchor_for_each_node_of_the_top_level(offsets: NodeOffsets, heads: Tensor) -> None:
    assert offsets.num_latents == len(egg().hierarchy.levels[-1].features)
    assert offsets(heads[:3]).shape == (3, offsets.num_latents, 6)


def test_zero_mean_and_unit_variance_on_the_own_sample(offsets: NodeOffsets, heads: Tensor) -> None:
    anchors = offsets(heads)
    assert float(anchors.mean(0).abs().max()) < 1e-4
    assert anchors.square().mean((0, 1)).tolist() == pytest.approx([1.0] * 6, rel=1e-3)


def test_positions_enter_linearly(offsets: NodeOffsets, heads: Tensor) -> None:
    a, b = heads[:20], heads[20:40]
    middle = offsets(0.3 * a + 0.7 * b)
    between = 0.3 * offsets(a) + 0.7 * offsets(b)
    assert torch.allclose(middle[..., :3], between[..., :3], atol=1e-4)
    assert not torch.allclose(middle[..., 3:], between[..., 3:], atol=1e-4)  # normals are made unit


def test_an_anchor_moves_with_its_own_vertices_alone(offsets: NodeOffsets, heads: Tensor) -> None:
    owner = np.arange(egg().topology.num_vertices)
    for level in egg().hierarchy.levels[1:]:
        owner = level.cluster[owner]
    moved = heads[:1].clone()
    moved[:, owner == 7, 1] += 0.1
    changed = (offsets(moved) - offsets(heads[:1]))[0, :, :3].abs().amax(1)
    assert torch.nonzero(changed > 1e-4)[:, 0].tolist() == [7]


def test_it_pools_as_the_hierarchy_does(heads: Tensor) -> None:
    head = heads[0]
    geometry = MeshGeometry(egg().topology, head.numpy())
    normals = geometry.vertex_normals(head[None])[0]
    clusters = [level.cluster for level in egg().hierarchy.levels[1:]]
    hierarchy = Hierarchy.build(head.numpy(), normals.numpy(), egg().topology.edges, clusters)
    offsets = NodeOffsets(egg().hierarchy, geometry, heads[:5])
    raw = offsets(head[None])[0] * offsets.scale + offsets.mean
    assert torch.allclose(raw, torch.from_numpy(hierarchy.levels[-1].features), atol=1e-5)
