"""TOPOS-VAE: a Perceiver Resampler reads a point cloud, and a hierarchical GNN writes the fixed mesh.

Source: TOPOS (arXiv 2605.14594) and its released `TOPOS-VAE.model.pth`, whose key names and layouts are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dit import merge_heads, split_heads
from models.neighbour_sum import NeighbourSum
from topos_rt.head.hierarchy import Hierarchy, Level

_GROUPS = 4
_GROUP_EPS = 1e-3
_LOGVAR_RANGE = (-30.0, 20.0)
Sums: TypeAlias = tuple[NeighbourSum, NeighbourSum]  # over edges of type 0 and of type 1


class TOPOSVAE(nn.Module):
    """Encodes point clouds as latents [N,D], and decodes them as vertices [V,6], position | normal.

    Points and vertices are in the sphere-normalised frame. Arguments carry the release's configuration names;
    the number of latents is the number of nodes of `hierarchy.levels[len(decoder_blocks)]`. `predict_offset`,
    which is not in the release, adds buffers `output_mean` [V,6] and `output_scale` [6]: the network then
    predicts the scaled difference from a mean head.

    Nor is `linear_rank` = K in the release. It adds `latent_basis` [K,N*D], orthonormal directions of the
    latent, and `linear_vertices` [K,V,3], how far one unit along each moves the vertices; both are fitted.
    A latent is projected on the directions before it is decoded, for the noise that a small flow leaves lies
    mostly outside them and would show as bumps; and the network writes only what the movement leaves.
    """

    output_mean: Tensor
    output_scale: Tensor
    latent_basis: Tensor

    def __init__(
        self,
        hierarchy: Hierarchy,
        *,
        out_channels: int = 6,
        code_channels: int,
        width: int,
        num_encoder_layers: int,
        decoder_blocks: Sequence[int],
        decoder_channel: Sequence[int],
        point_feats: int = 3,
        num_freqs: int = 8,
        include_pi: bool = False,
        num_latents: int | None = None,
        perceiver_heads: int = 8,
        perceiver_dim_head: int = 64,
        predict_offset: bool = False,
        linear_rank: int = 0,
    ) -> None:
        super().__init__()
        stages = len(decoder_blocks)
        if len(decoder_channel) != stages + 1 or len(hierarchy.levels) <= stages:
            raise ValueError(
                f"got {len(decoder_channel)} decoder channels and {len(hierarchy.levels)} levels;"
                f" expected {stages + 1} channels and at least {stages + 1} levels for {stages} stages"
            )
        nodes = len(hierarchy.levels[stages].features)
        if num_latents not in (None, nodes):
            raise ValueError(f"got num_latents={num_latents}; expected {nodes}, the nodes of level {stages}")
        self.fourier = FourierFeatures(num_freqs, include_pi)
        self.data_proj = nn.Linear(3 * (2 * num_freqs + 1) + point_feats, width)
        heads = perceiver_heads, perceiver_dim_head
        self.encoder = PerceiverResampler(nodes, width, num_encoder_layers, *heads)
        self.pre_kl = _Wrapped(nn.Linear(width, 2 * code_channels))
        self.post_kl = _Wrapped(nn.Linear(code_channels, decoder_channel[0]))
        self.decoder = nn.ModuleList(
            DecoderStage(
                hierarchy.levels[stages - 1 - s],
                hierarchy.levels[stages - s].cluster,
                decoder_channel[s],
                decoder_channel[s + 1],
                decoder_blocks[s],
            )
            for s in range(stages)
        )
        last = decoder_channel[-1]
        self.header = nn.ModuleList([_HeaderNorm(last), _Wrapped(nn.Linear(last, out_channels))])
        self.predict_offset = predict_offset
        if predict_offset:
            self.register_buffer("output_mean", torch.zeros(len(hierarchy.levels[0].features), out_channels))
            self.register_buffer("output_scale", torch.ones(out_channels))
        self.linear_rank = linear_rank
        if linear_rank:
            vertices = len(hierarchy.levels[0].features)
            self.register_buffer("latent_basis", torch.zeros(linear_rank, nodes * code_channels))
            moves = torch.zeros(linear_rank, vertices, 3)
            self.linear_vertices = nn.Parameter(moves, requires_grad=False)

    def encode(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return posterior mean and log-variance, each [B,N,D], of points [B,P,6], position | unit normal."""
        tokens = self.data_proj(torch.cat([self.fourier(points[..., :3]), points[..., 3:]], -1))
        mean, logvar = self.pre_kl(self.encoder(tokens)).chunk(2, -1)
        return mean, logvar.clamp(*_LOGVAR_RANGE)

    def decode(self, latent: Tensor) -> Tensor:
        """Return vertices [B,V,6] of a latent [B,N,D]: position | normal, the normal not of unit length."""
        if self.linear_rank:
            coordinates = latent.flatten(1) @ self.latent_basis.T
            latent = (coordinates @ self.latent_basis).view_as(latent)
        # [N,B,C]: nodes come first, so that a neighbour sum is one product
        x = self.post_kl(latent).transpose(0, 1)
        for stage in self.decoder:
            x = stage(x)
        for layer in self.header:
            x = layer(x)
        out = x.transpose(0, 1)
        if self.predict_offset:
            out = out * self.output_scale + self.output_mean
        if self.linear_rank:
            moved = coordinates @ self.linear_vertices.flatten(1)
            out = out + F.pad(moved.unflatten(1, (-1, 3)), (0, out.shape[-1] - 3))
        return out


class FourierFeatures(nn.Module):
    """Turns xyz into [xyz, sin, cos] with frequencies 2^0, 2^1 …; those of x come first, then y, then z."""

    frequencies: Tensor

    def __init__(self, num_freqs: int, include_pi: bool) -> None:
        super().__init__()
        frequencies = 2.0 ** torch.arange(num_freqs, dtype=torch.float32)
        factor = torch.pi if include_pi else 1.0
        self.register_buffer("frequencies", factor * frequencies, persistent=False)

    def forward(self, xyz: Tensor) -> Tensor:
        angle = (xyz[..., None] * self.frequencies).flatten(-2)
        return torch.cat([xyz, angle.sin(), angle.cos()], -1)


class PerceiverResampler(nn.Module):
    """Learned queries that attend to [points ; queries]."""

    layers: Any  # nn.ModuleList of pairs of an attention and a feed-forward layer

    def __init__(self, queries: int, width: int, layers: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.learns = nn.Parameter(torch.randn(queries, width))
        self.layers = nn.ModuleList(
            nn.ModuleList([PerceiverAttention(width, heads, dim_head), FeedForward(width)])
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.learns.expand(len(tokens), -1, -1)
        for attention, feed_forward in self.layers:
            x = x + attention(tokens, x)
            x = x + feed_forward(x)
        return self.norm(x)


class PerceiverAttention(nn.Module):
    """Cross-attention with a norm on both sides and no biases."""

    def __init__(self, width: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_media = nn.LayerNorm(width)
        self.norm_learns = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, heads * dim_head, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(heads * dim_head, width, bias=False)

    def forward(self, media: Tensor, learns: Tensor) -> Tensor:
        learns = self.norm_learns(learns)
        (q,) = split_heads(self.to_q(learns), 1, self.heads)
        k, v = split_heads(self.to_kv(torch.cat([self.norm_media(media), learns], 1)), 2, self.heads)
        return self.to_out(merge_heads(F.scaled_dot_product_attention(q, k, v)))


class FeedForward(nn.Module):
    """LayerNorm, a linear layer to four times the width, GELU (erf), and a linear layer back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first, second = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.net = nn.Sequential(nn.LayerNorm(width), first, nn.GELU(), second)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class DecoderStage(nn.Module):
    """Unpooling to a finer level, then residual blocks on it."""

    cluster: Tensor  # [n] -> node of the coarser level

    def __init__(
        self, level: Level, cluster: np.ndarray, channels_in: int, channels_out: int, blocks: int
    ) -> None:
        super().__init__()
        self.register_buffer("cluster", torch.as_tensor(cluster), persistent=False)
        sums = NeighbourSum(level, 0), NeighbourSum(level, 1)
        self.resblks = nn.ModuleList(
            ResidualBlock(sums, channels_in if i == 0 else channels_out, channels_out) for i in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x[self.cluster]
        for block in self.resblks:
            x = block(x)
        return x


class ResidualBlock(nn.Module):
    """Convolution, norm, SiLU, convolution, norm; then SiLU of the sum with the input."""

    def __init__(self, sums: Sums, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv_a = GraphConv(sums, channels_in, channels_out)
        self.conv_b = GraphConv(sums, channels_out, channels_out)
        self.skip: nn.Module = nn.Identity()
        if channels_in != channels_out:
            linear = _Wrapped(nn.Linear(channels_in, channels_out, bias=False))
            self.skip = nn.Sequential(linear, VertexGroupNorm(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv_b(F.silu(self.conv_a(x))) + self.skip(x))


class GraphConv(nn.Module):
    """Convolution on the mesh graph: y_i = sum over incoming edges of (W_type x_j + b_type), then group norm.

    Summing the neighbours of each type first makes it one matrix product, [sum_0 | sum_1] [W_0 ; W_1],
    plus degree_0 b_0 + degree_1 b_1, so that no tensor has the size of the edges.
    """

    conv: Any  # nested nn.ModuleDict, as the release's keys have it
    degrees: Tensor  # [n,1,2]

    def __init__(self, sums: Sums, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.ModuleDict({"conv": nn.ModuleDict({"lin": HeteroLinear(channels_in, channels_out)})})
        self.gn = VertexGroupNorm(channels_out)
        self._sums = sums  # a tuple hides the shared modules from this one's children
        # A buffer here follows .to(), which the shared sums, children of no module, do not.
        degrees = torch.stack([s.degree for s in sums], -1)[:, None]
        self.register_buffer("degrees", degrees, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        linear: HeteroLinear = self.conv["conv"]["lin"]
        # Biases are two more rows: added apart they would be folded into a constant as large as the output.
        degrees = self.degrees.to(x.dtype).expand(-1, x.shape[1], -1)
        summed = torch.cat([*(s(x, self.training) for s in self._sums), degrees], -1)
        return self.gn(summed @ torch.cat([linear.weight.flatten(0, 1), linear.bias]))


class HeteroLinear(nn.Module):
    """The parameters of two linear maps in PyTorch Geometric's layout: weight [2,in,out], bias [2,out]."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        bound = (channels_in * 4) ** -0.5
        self.weight = nn.Parameter(torch.empty(2, channels_in, channels_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(2, channels_out))


class VertexGroupNorm(nn.Module):
    """Group norm of each vertex on its own, with 4 groups of channels and eps 1e-3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        groups = x.unflatten(-1, (_GROUPS, -1))
        return F.layer_norm(groups, groups.shape[-1:], eps=_GROUP_EPS).flatten(-2) * self.weight + self.bias


class _HeaderNorm(nn.Module):
    """A linear layer without bias, group norm and SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _Wrapped(nn.Linear(channels, channels, bias=False))
        self.gn = VertexGroupNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.gn(self.conv(x)))


class _Wrapped(nn.Module):
    """A linear layer one name deeper, as the release's keys have it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)
