"""TOPOS-DiT: an image-conditioned rectified-flow transformer on mesh latents.

Source: TOPOS (arXiv 2605.14594) and its released `TOPOS-DiT.model.pth`, whose key names and layouts are kept.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TIME_SCALE = 1000.0  # the network's time runs from 0 to 1000, ours from 0 to 1
_TIME_FREQUENCIES = 256
_MAX_PERIOD = 10000.0


class TOPOSDiT(nn.Module):
    """The velocity network v(x, t, cond).

    Arguments carry the release's configuration names. Only the options that the release uses exist: absolute
    position embedding (`pe_mode="ape"`) and modulation per block (`share_mod=False`). Others are ValueErrors.
    """

    pos_emb: Tensor  # [N,C]
    blocks: Any  # nn.ModuleList of Block, which torch's own annotations cannot express

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        model_channels: int,
        num_latents: int,
        cond_channels: int,
        num_blocks: int,
        num_heads: int,
        mlp_ratio: float = 4,
        pe_mode: str = "ape",
        qk_rms_norm: bool = True,
        qk_rms_norm_cross: bool = False,
        share_mod: bool = False,
    ) -> None:
        super().__init__()
        if pe_mode != "ape" or share_mod:
            got = f"pe_mode={pe_mode!r}, share_mod={share_mod}"
            raise ValueError(f"got {got}; expected 'ape' and False, as released")
        if model_channels % num_heads:
            raise ValueError(f"got {model_channels=}, {num_heads=}; expected a multiple")
        self.num_heads, self.model_channels = num_heads, model_channels
        self.t_embedder = TimestepEmbedder(model_channels)
        self.input_layer = nn.Linear(in_channels, model_channels)
        self.register_buffer("pos_emb", position_table(num_latents, model_channels))
        self.blocks = nn.ModuleList(
            Block(model_channels, cond_channels, num_heads, mlp_ratio, qk_rms_norm, qk_rms_norm_cross)
            for _ in range(num_blocks)
        )
        self.out_layer = nn.Linear(model_channels, out_channels)

    @property
    def latent_shape(self) -> tuple[int, int]:
        """Tokens and channels of a latent, [N, D]."""
        return len(self.pos_emb), self.input_layer.in_features

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Return the velocity [B,N,D] at x [B,N,D], t [B] in 0..1000 and cond [B,T,C]."""
        return self.step(x, t, *self.context(cond))

    def context(self, cond: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values [L,B,heads,T,head_dim] of every block's cross-attention to cond [B,T,C]."""
        pairs = [block.cross_attn.keys_values(cond) for block in self.blocks]
        return torch.stack([k for k, _ in pairs]), torch.stack([v for _, v in pairs])

    def step(self, x: Tensor, t: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Evaluate the network once, with the keys and values of `context`."""
        emb = self.t_embedder(t)
        h = self.input_layer(x) + self.pos_emb
        for i, block in enumerate(self.blocks):
            h = block(h, emb, keys[i], values[i])
        return self.out_layer(F.layer_norm(wide(h), h.shape[-1:]))


class TimestepEmbedder(nn.Module):
    """Embeds t [B] as [B,C]: 256 sinusoids, cosines first, then Linear, SiLU and Linear."""

    frequencies: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = nn.Linear(_TIME_FREQUENCIES, channels), nn.Linear(channels, channels)
        self.mlp = nn.Sequential(first, nn.SiLU(), second)
        half = _TIME_FREQUENCIES // 2
        frequencies = torch.exp(-math.log(_MAX_PERIOD) * torch.arange(half, dtype=torch.float32) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angle = t[:, None].to(self.frequencies.dtype) * self.frequencies
        return self.mlp(torch.cat([angle.cos(), angle.sin()], -1))


class Block(nn.Module):
    """Self-attention with adaLN, cross-attention without, and an MLP with adaLN."""

    def __init__(
        self,
        channels: int,
        cond_channels: int,
        heads: int,
        mlp_ratio: float,
        qk_norm: bool,
        qk_norm_cross: bool,
    ) -> None:
        super().__init__()
        self.cross_norm = nn.LayerNorm(channels, eps=1e-6)
        self.self_attn = SelfAttention(channels, heads, qk_norm)
        self.cross_attn = CrossAttention(channels, cond_channels, heads, qk_norm_cross)
        self.mlp = Mlp(channels, int(channels * mlp_ratio))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(channels, 6 * channels))

    def forward(self, x: Tensor, emb: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.adaLN_modulation(emb)[:, None].chunk(6, -1)
        x = x + gate_a * self.self_attn(norm(x) * (1 + scale_a) + shift_a)
        x = x + self.cross_attn(self.cross_norm(wide(x)), keys, values)
        return x + gate_m * self.mlp(norm(x) * (1 + scale_m) + shift_m)


class SelfAttention(nn.Module):
    """Multi-head self-attention; channels of `to_qkv` run (qkv, head, head_dim)."""

    def __init__(self, channels: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.q_rms_norm = HeadRMSNorm(heads, channels // heads) if qk_norm else nn.Identity()
        self.k_rms_norm = HeadRMSNorm(heads, channels // heads) if qk_norm else nn.Identity()
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = split_heads(self.to_qkv(x), 3, self.heads)
        q, k = self.q_rms_norm(q), self.k_rms_norm(k)
        return self.to_out(merge_heads(F.scaled_dot_product_attention(q, k, v)))


class CrossAttention(nn.Module):
    """Attention from latents to image tokens; channels of `to_kv` run (kv, head, head_dim)."""

    def __init__(self, channels: int, cond_channels: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(channels, channels)
        self.to_kv = nn.Linear(cond_channels, 2 * channels)
        self.q_rms_norm = HeadRMSNorm(heads, channels // heads) if qk_norm else nn.Identity()
        self.k_rms_norm = HeadRMSNorm(heads, channels // heads) if qk_norm else nn.Identity()
        self.to_out = nn.Linear(channels, channels)

    def keys_values(self, cond: Tensor) -> tuple[Tensor, Tensor]:
        k, v = split_heads(self.to_kv(cond), 2, self.heads)
        return self.k_rms_norm(k), v

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        (q,) = split_heads(self.to_q(x), 1, self.heads)
        return self.to_out(merge_heads(F.scaled_dot_product_attention(self.q_rms_norm(q), keys, values)))


class HeadRMSNorm(nn.Module):
    """Scales x [B,heads,N,head_dim] to x / |x| * sqrt(head_dim) * gamma for each head, in FP32 or wider."""

    def __init__(self, heads: int, dim: int) -> None:
        super().__init__()
        self.scale = dim**0.5
        self.gamma = nn.Parameter(torch.ones(heads, dim))

    def forward(self, x: Tensor) -> Tensor:
        return (F.normalize(wide(x), dim=-1) * self.gamma[:, None] * self.scale).to(x.dtype)


class Mlp(nn.Module):
    """Two linear layers with a tanh-GELU between them."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.GELU("tanh"), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


def position_table(tokens: int, channels: int) -> Tensor:
    """Return sinusoids [tokens,channels] of the token index: sines, then cosines, with base 10000."""
    half = channels // 2
    frequencies = 1.0 / _MAX_PERIOD ** (torch.arange(half, dtype=torch.float32) / half)
    angle = torch.outer(torch.arange(tokens, dtype=torch.float32), frequencies)
    return torch.cat([angle.sin(), angle.cos()], -1)


def split_heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Split x [B,N,parts*C] into `parts` tensors [B,heads,N,C/heads]."""
    return x.unflatten(-1, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def merge_heads(x: Tensor) -> Tensor:
    """Merge x [B,heads,N,head_dim] to [B,N,C]."""
    return x.transpose(1, 2).flatten(2)


def wide(x: Tensor) -> Tensor:
    """Return x in at least FP32, in which norms are taken."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def norm(x: Tensor) -> Tensor:
    """Return the layer norm of x without parameters, taken in at least FP32."""
    return F.layer_norm(wide(x), x.shape[-1:], eps=1e-6)
