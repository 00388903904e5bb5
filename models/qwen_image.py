"""The transformer of Qwen-Image-Edit, cut where its parts change at different rates.

The names of configuration and state-dict keys are those of the published weights
(`QwenImageTransformer2DModel`); the networks compute the same, but

- what depends on the time alone, the modulation of every block, is a network of its own (`Modulation`), so
  that a third of the weights is not needed while a picture is made;
- positions are rotations by real numbers, which depend on the sizes alone (`rotations`);
- a mask tells which tokens of the text exist, so that two texts of different lengths run in one network.

Source: Wu et al. 2025, Qwen-Image Technical Report (arXiv 2508.02324), and the published configuration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FREQUENCIES = 256  # of the time
_TIME_SCALE, _MAX_PERIOD = 1000.0, 10000.0
_THETA = 10000.0
_EPS = 1e-6
ABSENT = -30000.0  # added to the scores of tokens that do not exist; FP16 holds it, and exp makes it 0

Rotation: TypeAlias = tuple[Tensor, Tensor]  # cosines and sines, each [S,head_dim/2]


@dataclass(frozen=True)
class QwenImageConfig:
    """What the networks take of the published `transformer/config.json`, whose names these are."""

    in_channels: int = 64
    out_channels: int = 16
    num_layers: int = 60
    attention_head_dim: int = 128
    num_attention_heads: int = 24
    joint_attention_dim: int = 3584  # of the text
    axes_dims_rope: tuple[int, ...] = (16, 56, 56)
    zero_cond_t: bool = False  # whether the reference picture is modulated as at time 0
    patch_size: int = 2

    @property
    def width(self) -> int:
        """The channels of both streams."""
        return self.num_attention_heads * self.attention_head_dim


def rotations(
    config: QwenImageConfig, pictures: tuple[tuple[int, int], ...], text_tokens: int
) -> tuple[Rotation, Rotation]:
    """Return the rotations of all picture tokens and of the text's.

    pictures: height and width of each picture in tokens: the one that is made, then the reference. Picture k
    has the position k on the first axis; on the others positions run around the middle. Text follows, along
    all axes at once, behind the largest half of a side.
    """
    places = []
    for number, (high, wide) in enumerate(pictures):
        y, x = (torch.arange(size) - (size - size // 2) for size in (high, wide))
        axes = torch.meshgrid(torch.tensor([number]), y, x, indexing="ij")
        places.append(torch.stack([axis.reshape(-1) for axis in axes], 1))
    begin = max(max(high // 2, wide // 2) for high, wide in pictures)
    text = (begin + torch.arange(text_tokens))[:, None].expand(-1, 3)
    return _rotation(config, torch.cat(places)), _rotation(config, text)


def _rotation(config: QwenImageConfig, places: Tensor) -> Rotation:
    """Return cosines and sines of tokens at places [S,3]."""
    angles = []
    for axis, size in enumerate(config.axes_dims_rope):
        rates = 1.0 / torch.pow(_THETA, torch.arange(0, size, 2, dtype=torch.float32) / size)
        angles.append(torch.outer(places[:, axis].float(), rates))
    angle = torch.cat(angles, 1)
    return angle.cos(), angle.sin()


def _rotated(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate neighbouring pairs of channels of x [1,S,heads,head_dim]."""
    cosine, sine = (part[None, :, None, :] for part in rotation)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cosine - b * sine, a * sine + b * cosine], -1).flatten(-2)


class RmsNorm(nn.Module):
    """x over its root mean square, times a weight."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        # Not `rsqrt`, which PyTorch's exporter turns into an operator that older runtimes lack.
        return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + _EPS) * self.weight


class _FeedForward(nn.Module):
    """Linear, GELU (tanh), linear. `net` has the published places of both layers."""

    net: Any

    def __init__(self, width: int) -> None:
        super().__init__()
        first = nn.Module()
        first.proj = nn.Linear(width, 4 * width)
        self.net = nn.ModuleList([first, nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.net[0].proj(x)
        out: Tensor = self.net[2](F.gelu(hidden, approximate="tanh"))
        return out


class JointAttention(nn.Module):
    """Attention over both streams at once, each with projections of its own."""

    to_out: Any
    to_add_out: Any

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"):
            setattr(self, name, nn.Linear(width, width))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            setattr(self, name, RmsNorm(width // heads))

    def forward(
        self, image: Tensor, text: Tensor, mask: Tensor, places: tuple[Rotation, Rotation]
    ) -> tuple[Tensor, Tensor]:
        """Return what both streams receive. image [1,I,D], text [1,T,D], mask [1,1,1,T+I]."""
        tokens = text.shape[1]
        queries, keys, values = [], [], []
        for stream, names, norms, place in (
            (text, ("add_q_proj", "add_k_proj", "add_v_proj"), ("norm_added_q", "norm_added_k"), places[1]),
            (image, ("to_q", "to_k", "to_v"), ("norm_q", "norm_k"), places[0]),
        ):
            q, k, v = (getattr(self, name)(stream).unflatten(-1, (self.heads, -1)) for name in names)
            queries.append(_rotated(getattr(self, norms[0])(q), place))
            keys.append(_rotated(getattr(self, norms[1])(k), place))
            values.append(v)
        q, k, v = (torch.cat(parts, 1).transpose(1, 2) for parts in (queries, keys, values))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        to_text: Tensor = self.to_add_out(out[:, :tokens])
        to_image: Tensor = self.to_out[0](out[:, tokens:])
        return to_image, to_text


class JointBlock(nn.Module):
    """One block of the transformer, without the layers that make its modulation."""

    def __init__(self, config: QwenImageConfig) -> None:
        super().__init__()
        self.attn = JointAttention(config.width, config.num_attention_heads)
        self.img_mlp = _FeedForward(config.width)
        self.txt_mlp = _FeedForward(config.width)

    def forward(
        self,
        image: Tensor,
        text: Tensor,
        mask: Tensor,
        modulation: Tensor,
        places: tuple[Rotation, Rotation],
        made: int,
    ) -> tuple[Tensor, Tensor]:
        """Return both streams after the block.

        modulation: [3,6D], for the picture that is made, the reference and the text; shift, scale and gate of
        the attention, then of the MLP. made: how many of the picture tokens are of the picture that is made.
        """
        rows = modulation.unflatten(-1, (6, -1))
        own, reference = (rows[k][:, None, None] for k in (0, 1))
        of_image = torch.cat(
            [own.expand(-1, 1, made, -1), reference.expand(-1, 1, image.shape[1] - made, -1)], 2
        )
        of_text = rows[2][:, None, None]
        to_image, to_text = self.attn(
            _modulated(image, *of_image[:2]), _modulated(text, *of_text[:2]), mask, places
        )
        image, text = image + of_image[2] * to_image, text + of_text[2] * to_text
        image = image + of_image[5] * self.img_mlp(_modulated(image, *of_image[3:5]))
        text = text + of_text[5] * self.txt_mlp(_modulated(text, *of_text[3:5]))
        return image, text


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, (x.shape[-1],), eps=_EPS) * (1 + scale) + shift


class Section(nn.Module):
    """Some blocks in a row. `transformer_blocks` has their published numbers."""

    transformer_blocks: Any
    image_cosine: Tensor
    image_sine: Tensor
    text_cosine: Tensor
    text_sine: Tensor

    def __init__(
        self, config: QwenImageConfig, blocks: range, pictures: tuple[tuple[int, int], ...], text_tokens: int
    ) -> None:
        super().__init__()
        self.made = math.prod(pictures[0])
        self.transformer_blocks = nn.ModuleDict({str(k): JointBlock(config) for k in blocks})
        with torch.device("cpu"):  # tables are made even where the weights are to come later
            both = rotations(config, pictures, text_tokens)
        for stream, rotation in zip(("image", "text"), both, strict=True):
            for part, values in zip(("cosine", "sine"), rotation, strict=True):
                self.register_buffer(f"{stream}_{part}", values, persistent=False)

    def forward(self, image: Tensor, text: Tensor, mask: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
        """Return both streams after the blocks: image [1,I,D], text [1,T,D].

        mask: [1,T], 0 for tokens that exist and ABSENT for others. modulation: [L,3,6D] of these blocks.
        """
        places = (self.image_cosine, self.image_sine), (self.text_cosine, self.text_sine)
        whole = torch.cat([mask, mask.new_zeros(1, image.shape[1])], 1)[:, None, None]
        for row, block in enumerate(self.transformer_blocks.values()):
            image, text = block(image, text, whole, modulation[row], places, self.made)
        return image, text


class TimeEmbedding(nn.Module):
    """Turns times [B] in 0..1 into embeddings [B,D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.timestep_embedder = nn.Module()
        self.timestep_embedder.linear_1 = nn.Linear(_FREQUENCIES, width)
        self.timestep_embedder.linear_2 = nn.Linear(width, width)

    def forward(self, time: Tensor) -> Tensor:
        half = _FREQUENCIES // 2
        rates = torch.exp(-math.log(_MAX_PERIOD) * torch.arange(half, device=time.device) / half)
        angle = _TIME_SCALE * (time[:, None] * rates[None])
        waves = torch.cat([angle.cos(), angle.sin()], -1)
        layers: Any = self.timestep_embedder
        out: Tensor = layers.linear_2(F.silu(layers.linear_1(waves)))
        return out


class Modulation(nn.Module):
    """Turns time [1] into the modulation [L,3,6D] of some blocks."""

    transformer_blocks: Any

    def __init__(self, config: QwenImageConfig, blocks: range) -> None:
        super().__init__()
        self.zero_cond_t = config.zero_cond_t
        self.time_text_embed = TimeEmbedding(config.width)
        self.transformer_blocks = nn.ModuleDict()
        for k in blocks:
            layers = nn.Module()
            for name in ("img_mod", "txt_mod"):
                linear = nn.Linear(config.width, 6 * config.width)
                setattr(layers, name, nn.ModuleList([nn.Identity(), linear]))
            self.transformer_blocks[str(k)] = layers

    def forward(self, time: Tensor) -> Tensor:
        times = torch.cat([time, time * (0.0 if self.zero_cond_t else 1.0)])
        embedding = F.silu(self.time_text_embed(times))
        rows = [
            torch.cat([block.img_mod[1](embedding), block.txt_mod[1](embedding[:1])])
            for block in self.transformer_blocks.values()
        ]
        return torch.stack(rows)


class TextIn(nn.Module):
    """Turns the embeddings of a prompt [1,T,J] into the text stream [1,T,D]."""

    def __init__(self, config: QwenImageConfig) -> None:
        super().__init__()
        self.txt_norm = RmsNorm(config.joint_attention_dim)
        self.txt_in = nn.Linear(config.joint_attention_dim, config.width)

    def forward(self, prompt: Tensor) -> Tensor:
        out: Tensor = self.txt_in(self.txt_norm(prompt))
        return out


class Entry(nn.Module):
    """Turns a latent [1,N,C] and the reference [1,R,C] into the image stream [1,N+R,D]."""

    def __init__(self, config: QwenImageConfig) -> None:
        super().__init__()
        self.img_in = nn.Linear(config.in_channels, config.width)

    def forward(self, latent: Tensor, reference: Tensor) -> Tensor:
        out: Tensor = self.img_in(torch.cat([latent, reference], 1))
        return out


class Exit(nn.Module):
    """Turns the image stream [1,N+R,D] and the time [1] into the velocity [1,N,C] of the picture made."""

    def __init__(self, config: QwenImageConfig, made: int) -> None:
        super().__init__()
        self.made = made
        self.time_text_embed = TimeEmbedding(config.width)
        self.norm_out = nn.Module()
        self.norm_out.linear = nn.Linear(config.width, 2 * config.width)
        self.proj_out = nn.Linear(config.width, config.patch_size**2 * config.out_channels)

    def forward(self, image: Tensor, time: Tensor) -> Tensor:
        layers: Any = self.norm_out
        scale, shift = layers.linear(F.silu(self.time_text_embed(time))).chunk(2, -1)
        out: Tensor = self.proj_out(_modulated(image[:, : self.made], shift, scale))
        return out
