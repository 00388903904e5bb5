"""The decoder is checked edge by edge: typed weights, biases, coincident vertices, numbers of stages."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import TOPOSVAE
from tests.export.release_files import ball_topology
from topos_rt.head.hierarchy import Hierarchy, Level
from topos_rt.head.normals import vertex_normals
from topos_rt.support.similarity import sphere_frame


def build(stages: int, coincident: bool) -> Hierarchy:
    """A small ball; with `coincident`, two neighbours share position and normal, as eyelids that touch."""
    points, topology = ball_topology(8, 10, (4, 3))
    centre, radius = sphere_frame(points)
    vertices = ((points - centre) / radius).astype(np.float32)
    normals = vertex_normals(vertices, topology.triangles)
    if coincident:
        vertices[13], normals[13] = vertices[12], normals[12]
        vertices[25] = vertices[24]  # the position alone is not enough
    return Hierarchy.build(vertices, normals, topology.edges, depth=max(stages, 3))


def test_coincident_vertices_are_joined_by_the_other_edge_type() -> None:
    level = build(2, coincident=True).levels[0]
    types = {(int(a), int(b)): int(kind) for (a, b), kind in zip(level.edges, level.types, strict=True)}
    assert types[12, 13] == types[13, 12] == types[7, 7] == 1
    assert types[24, 25] == types[25, 24] == types[12, 11] == 0
    assert level.types.sum() == len(level.features) + 2


def conv(module: nn.Module, x: Tensor, level: Level) -> Tensor:
    """Sum the messages of the edges one by one."""
    linear = module.conv["conv"]["lin"]
    out = torch.zeros(len(x), linear.weight.shape[2], dtype=x.dtype)
    for (source, target), kind in zip(level.edges.tolist(), level.types.tolist(), strict=True):
        out[target] += x[source] @ linear.weight[kind].to(x) + linear.bias[kind].to(x)
    return norm(module.gn, out)


def norm(module: nn.Module, x: Tensor) -> Tensor:
    return F.group_norm(x, 4, module.weight.to(x), module.bias.to(x), eps=1e-3)


def decode(vae: TOPOSVAE, latent: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Decode in float64, by the decoder's description in words."""
    x = F.linear(latent, vae.post_kl.linear.weight.to(latent), vae.post_kl.linear.bias.to(latent))
    stages = len(vae.decoder)
    for number, stage in enumerate(vae.decoder):
        level = hierarchy.levels[stages - 1 - number]
        x = x[torch.from_numpy(hierarchy.levels[stages - number].cluster)]
        for block in stage.resblks:
            skip = x
            if not isinstance(block.skip, nn.Identity):
                skip = norm(block.skip[1], F.linear(x, block.skip[0].linear.weight.to(x)))
            x = F.silu(conv(block.conv_b, F.silu(conv(block.conv_a, x, level)), level) + skip)
    head = F.silu(norm(vae.header[0].gn, F.linear(x, vae.header[0].conv.linear.weight.to(x))))
    last = vae.header[1].linear
    return F.linear(head, last.weight.to(x), last.bias.to(x))


@torch.no_grad()
@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("coincident", [False, True])
def test_decoder_edge_by_edge(stages: int, coincident: bool) -> None:
    hierarchy = build(stages, coincident)
    torch.manual_seed(stages)
    vae = TOPOSVAE(
        hierarchy,
        code_channels=3,
        width=8,
        num_encoder_layers=1,
        decoder_blocks=[1] * stages,
        decoder_channel=[48, *[32] * stages],
    ).eval()
    for name, parameter in vae.named_parameters():
        if name.endswith("bias") or parameter.ndim > 1:
            parameter.normal_(0, 0.5)
    latent = torch.randn(len(hierarchy.levels[stages].features), 3)
    want = decode(vae, latent.double(), hierarchy)
    got = vae.decode(latent[None])[0]
    assert float((got - want).norm() / want.norm()) <= 3e-6
    if coincident:  # with one type for all edges but the loops, another mesh comes out
        plain = [
            dataclasses.replace(level, types=(level.edges[:, 0] == level.edges[:, 1]).astype(np.uint8))
            for level in hierarchy.levels
        ]
        other = decode(vae, latent.double(), Hierarchy(tuple(plain)))
        assert float((other - want).norm() / want.norm()) >= 1e-3


@torch.no_grad()
def test_bias_counts_once_per_edge() -> None:
    """A bias counts four times on a vertex of degree 4."""
    hierarchy = build(1, coincident=False)
    level = hierarchy.levels[0]
    vae = TOPOSVAE(
        hierarchy, code_channels=3, width=8, num_encoder_layers=1, decoder_blocks=[1], decoder_channel=[8, 8]
    )
    module = vae.decoder[0].resblks[0].conv_a
    degrees = np.bincount(level.edges[level.types == 0][:, 1])
    assert module.degrees[:, 0, 0].tolist() == degrees.tolist() and len(set(degrees.tolist())) > 1
    assert module.degrees[:, 0, 1].tolist() == [1.0] * len(degrees)
    assert math.isclose(float(module.degrees.sum()), len(level.edges))
