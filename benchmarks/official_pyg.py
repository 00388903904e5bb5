"""The official decoder as released: PyTorch Geometric's message passing, edge by edge.

It has no savings: un-pooled features are gathered for every edge, the linear map of the edge's type is
applied to each, and the results are scattered to the targets. `models.TOPOSVAE` is the same function with the
neighbours summed first. Source: TOPOS (arXiv 2605.14594). This needs the extra `baselines`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense import HeteroLinear

from models import TOPOSVAE
from topos_rt.head.hierarchy import Hierarchy, Level

_GROUPS, _GROUP_EPS = 4, 1e-3


class OfficialDecoder(nn.Module):
    """A map from a latent [1,N,D] to vertices [1,V,6], which shares the parameters of `vae`."""

    clusters: list[Tensor]

    def __init__(self, vae: TOPOSVAE, hierarchy: Hierarchy) -> None:
        super().__init__()
        self.post_kl, self.header = vae.post_kl, vae.header
        self.offset = vae.predict_offset
        if self.offset:
            self.register_buffer("output_mean", vae.output_mean)
            self.register_buffer("output_scale", vae.output_scale)
        stages = len(vae.decoder)
        blocks: Any = vae.decoder
        self.stages = nn.ModuleList(
            _Stage(blocks[s], hierarchy.levels[stages - 1 - s], hierarchy.levels[stages - s])
            for s in range(stages)
        )

    def forward(self, latent: Tensor) -> Tensor:
        x = self.post_kl(latent[0])
        for stage in self.stages:
            x = stage(x)
        for layer in self.header:
            x = layer(x)
        return (x * self.output_scale + self.output_mean if self.offset else x)[None]


class _Stage(nn.Module):
    """Un-pooling, then residual blocks at the finer level."""

    cluster: Tensor
    edges: Tensor
    types: Tensor

    def __init__(self, stage: Any, level: Level, coarser: Level) -> None:
        super().__init__()
        self.register_buffer("cluster", torch.as_tensor(coarser.cluster))
        self.register_buffer("edges", torch.as_tensor(level.edges.T.copy()))
        self.register_buffer("types", torch.as_tensor(level.types).long())
        self.blocks = nn.ModuleList(_Block(block) for block in stage.resblks)

    def forward(self, x: Tensor) -> Tensor:
        x = x[self.cluster]
        for block in self.blocks:
            x = block(x, self.edges, self.types)
        return x


class _Block(nn.Module):
    def __init__(self, block: Any) -> None:
        super().__init__()
        self.conv_a, self.conv_b = _TypedConv(block.conv_a), _TypedConv(block.conv_b)
        self.norm_a, self.norm_b = _group_norm(block.conv_a.gn), _group_norm(block.conv_b.gn)
        self.skip = block.skip

    def forward(self, x: Tensor, edges: Tensor, types: Tensor) -> Tensor:
        h = F.silu(self.norm_a(self.conv_a(x, edges, types)))
        return F.silu(self.norm_b(self.conv_b(h, edges, types)) + self.skip(x))


class _TypedConv(MessagePassing):
    """y_i = sum over incoming edges of (W_type x_j + b_type), computed edge by edge."""

    def __init__(self, conv: Any) -> None:
        super().__init__(aggr="add")
        parameters = conv.conv["conv"]["lin"]
        _, channels_in, channels_out = parameters.weight.shape
        self.lin = HeteroLinear(channels_in, channels_out, num_types=2)
        self.lin.weight, self.lin.bias = parameters.weight, parameters.bias

    def forward(self, x: Tensor, edges: Tensor, types: Tensor) -> Tensor:
        return self.propagate(edges, x=x, types=types)

    def message(self, x_j: Tensor, types: Tensor) -> Tensor:
        return self.lin(x_j, types)


def _group_norm(norm: Any) -> nn.GroupNorm:
    made = nn.GroupNorm(_GROUPS, len(norm.weight), _GROUP_EPS)
    made.weight, made.bias = norm.weight, norm.bias
    return made
