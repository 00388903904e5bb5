"""The VAE of Qwen-Image for one picture at a time: a plain network of 2D convolutions.

The published VAE (`AutoencoderKLQwenImage`, of the Wan video VAE) convolves over time as well, causally: what
a picture alone sees of a 3D kernel is its last slice, since zeros lie before it. So this network takes the
published weights, of which it keeps those slices, and computes the same with a third of the products. The
layers that join or double frames (`time_conv`) never act on a first frame.

Pictures are RGB in -1..1. Latents are normalised by the published mean and deviation, and packed: 2 x 2
pixels of a latent are one token.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 2  # side of the square of a latent that is one token


@dataclass(frozen=True)
class QwenVaeConfig:
    """What the network takes of the published `vae/config.json`, whose names these are."""

    latents_mean: tuple[float, ...]
    latents_std: tuple[float, ...]
    base_dim: int = 96
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2

    @property
    def shrinks(self) -> int:
        """How many pixels along a side are one of a latent."""
        return int(2 ** (len(self.dim_mult) - 1))


def flat_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the published weights as this network has them: the last slice of 3D kernels, no `time_conv`."""
    flat = {}
    for key, value in state.items():
        if ".time_conv." in key:
            continue
        if key.endswith("gamma"):
            value = value.reshape(-1, 1, 1)
        elif value.dim() == 5:
            value = value[:, :, -1]
        flat[key] = value
    return flat


class _Norm(nn.Module):
    """x over the length of its channels, times the square root of their number and `gamma`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * len(self.gamma) ** 0.5 * self.gamma


class _Residual(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _Norm(channels), nn.Conv2d(channels, out, 3, padding=1)
        self.norm2, self.conv2 = _Norm(out), nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut: nn.Module = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        out: Tensor = self.conv_shortcut(x) + self.conv2(F.silu(self.norm2(hidden)))
        return out


class _Attention(nn.Module):
    """Attention with one head over all pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _Norm(channels)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.to_qkv(self.norm(x)).flatten(2).transpose(1, 2)[:, None].chunk(3, -1)
        seen = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).unflatten(2, x.shape[2:])
        out: Tensor = x + self.proj(seen)
        return out


class _Middle(nn.Module):
    resnets: Any
    attentions: Any

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList([_Residual(channels, channels) for _ in range(2)])
        self.attentions = nn.ModuleList([_Attention(channels)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.resnets[1](self.attentions[0](self.resnets[0](x)))
        return out


class _Halving(nn.Module):
    """Halves the sides; `resample` has the published place of the convolution."""

    resample: Any

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(channels, channels, 3, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.resample(x)
        return out


class _Doubling(nn.Module):
    """Doubles the sides and halves the channels."""

    resample: Any

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(channels, channels // 2, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.resample(x)
        return out


class _Encoder(nn.Module):
    down_blocks: Any

    def __init__(self, config: QwenVaeConfig) -> None:
        super().__init__()
        widths = [config.base_dim * factor for factor in (1, *config.dim_mult)]
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        layers: list[nn.Module] = []
        for level, (channels, out) in enumerate(itertools.pairwise(widths)):
            layers += [_Residual(channels if k == 0 else out, out) for k in range(config.num_res_blocks)]
            if level < len(config.dim_mult) - 1:
                layers.append(_Halving(out))
        self.down_blocks = nn.ModuleList(layers)
        self.mid_block = _Middle(widths[-1])
        self.norm_out = _Norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.z_dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for layer in self.down_blocks:
            x = layer(x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(self.mid_block(x))))
        return out


class _Up(nn.Module):
    resnets: Any
    upsamplers: Any

    def __init__(self, channels: int, out: int, count: int, last: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(_Residual(channels if k == 0 else out, out) for k in range(count))
        self.upsamplers = nn.ModuleList([] if last else [_Doubling(out)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x)
        return x


class _Decoder(nn.Module):
    up_blocks: Any

    def __init__(self, config: QwenVaeConfig) -> None:
        super().__init__()
        factors = config.dim_mult[::-1]
        widths = [config.base_dim * factor for factor in (factors[0], *factors)]
        self.conv_in = nn.Conv2d(config.z_dim, widths[0], 3, padding=1)
        self.mid_block = _Middle(widths[0])
        last, count = len(factors) - 1, config.num_res_blocks + 1
        self.up_blocks = nn.ModuleList(
            _Up(channels // 2 if level else channels, out, count, level == last)
            for level, (channels, out) in enumerate(itertools.pairwise(widths))
        )
        self.norm_out = _Norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        out: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return out


class _Normalised(nn.Module):
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: QwenVaeConfig) -> None:
        super().__init__()
        for name, values in (("mean", config.latents_mean), ("deviation", config.latents_std)):
            with torch.device("cpu"):  # they are known even where the weights are to come later
                table = torch.tensor(values).reshape(1, -1, 1, 1)
            self.register_buffer(name, table, persistent=False)


class QwenVaeEncoder(_Normalised):
    """Turns a picture [1,3,H,W] into the tokens [1,N,4z] of the mean of its posterior."""

    def __init__(self, config: QwenVaeConfig) -> None:
        super().__init__(config)
        self.encoder = _Encoder(config)
        self.quant_conv = nn.Conv2d(2 * config.z_dim, 2 * config.z_dim, 1)

    def forward(self, picture: Tensor) -> Tensor:
        mean = self.quant_conv(self.encoder(picture)).chunk(2, 1)[0]
        return F.pixel_unshuffle((mean - self.mean) / self.deviation, PATCH).flatten(2).transpose(1, 2)


class QwenVaeDecoder(_Normalised):
    """Turns tokens [1,N,4z] into a picture [1,3,side,side] within -1..1."""

    def __init__(self, config: QwenVaeConfig, side: int) -> None:
        super().__init__(config)
        self.tokens = side // config.shrinks // PATCH
        self.decoder = _Decoder(config)
        self.post_quant_conv = nn.Conv2d(config.z_dim, config.z_dim, 1)

    def forward(self, latent: Tensor) -> Tensor:
        packed = latent.transpose(1, 2).unflatten(2, (self.tokens, self.tokens))
        unpacked = F.pixel_shuffle(packed, PATCH) * self.deviation + self.mean
        picture: Tensor = self.decoder(self.post_quant_conv(unpacked))
        return picture.clamp(-1, 1)
