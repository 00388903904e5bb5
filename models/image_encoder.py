"""The image encoder: DINOv2's vision transformer with register tokens.

Source: DINOv2 (arXiv 2304.07193) with registers (arXiv 2309.16588); key names of Meta's checkpoints are kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dit import merge_heads, split_heads

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageEncoder(nn.Module):
    """Turns pixels into class, register and patch tokens, and norms them without the last layer's parameters.

    Arguments carry DINOv2's names, except two that it does not have. `stem_channels` puts convolutions of
    stride 2 before the patch embedding, which makes training from scratch much shorter (arXiv 2106.14881).
    `stem_blocks` puts so many residual pairs of convolutions after each of them, which say where in a patch
    something is.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        img_size: int = 518,
        patch_size: int = 14,
        num_register_tokens: int = 4,
        mlp_ratio: float = 4,
        stem_channels: Sequence[int] = (),
        stem_blocks: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.patch_size, self.grid = patch_size, img_size // patch_size
        self.cls_token = nn.Parameter(torch.randn(1, 1, embed_dim) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + self.grid**2, embed_dim) * 0.02)
        self.register_tokens = nn.Parameter(torch.randn(1, num_register_tokens, embed_dim) * 0.02)
        self.mask_token = nn.Parameter(
            torch.zeros(1, embed_dim)
        )  # it is in the checkpoint, but unused at inference
        self.patch_embed = _PatchEmbed(embed_dim, patch_size, stem_channels, stem_blocks)
        hidden = int(embed_dim * mlp_ratio)
        self.blocks = nn.ModuleList(TransformerBlock(embed_dim, num_heads, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)  # unused too: the condition is taken before it

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the condition tokens [B,T,C] of pixels [B,3,H,W], RGB in 0..1."""
        mean, std = (pixels.new_tensor(c)[:, None, None] for c in (IMAGENET_MEAN, IMAGENET_STD))
        return self.tokens((pixels - mean) / std)

    def tokens(self, image: Tensor) -> Tensor:
        """Return the condition tokens [B,T,C] of an image [B,3,H,W] that is ImageNet-normalised."""
        x = self.prenorm(image)
        return F.layer_norm(x, x.shape[-1:])

    def prenorm(self, image: Tensor) -> Tensor:
        """Return the `x_prenorm` of the release: class, register and patch tokens."""
        patches = self.patch_embed(image).flatten(2).transpose(1, 2)
        rows, columns = (side // self.patch_size for side in image.shape[2:])
        classes, registers = (t.expand(len(image), -1, -1) for t in (self.cls_token, self.register_tokens))
        x = torch.cat([classes, patches], 1) + self.position(rows, columns)
        x = torch.cat([x[:, :1], registers, x[:, 1:]], 1)
        for block in self.blocks:
            x = block(x)
        return x

    def position(self, rows: int, columns: int) -> Tensor:
        """Return the position table [1,1+rows*columns,C], resized bicubically if the grid is another."""
        if (rows, columns) == (self.grid, self.grid):
            return self.pos_embed
        table = self.pos_embed[:, 1:].unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        table = F.interpolate(table, size=(rows, columns), mode="bicubic", antialias=True)
        return torch.cat([self.pos_embed[:, :1], table.permute(0, 2, 3, 1).flatten(1, 2)], 1)


class _PatchEmbed(nn.Module):
    def __init__(
        self, channels: int, patch: int, stem_channels: Sequence[int], stem_blocks: Sequence[int]
    ) -> None:
        super().__init__()
        widths = [3, *stem_channels]
        self.stem = nn.ModuleList(
            nn.Conv2d(before, after, 3, 2, 1) for before, after in itertools.pairwise(widths)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(*(_ConvPair(width) for _ in range(count)))
            for width, count in zip(stem_channels, stem_blocks or [0] * len(stem_channels), strict=True)
        )
        left = patch // 2 ** len(stem_channels)
        self.proj = nn.Conv2d(widths[-1], channels, left, left)

    def forward(self, image: Tensor) -> Tensor:
        for convolution, blocks in zip(self.stem, self.blocks, strict=True):
            image = blocks(F.gelu(convolution(image)))
        return self.proj(image)


class _ConvPair(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.gelu(self.conv1(x)))


class TransformerBlock(nn.Module):
    def __init__(self, channels: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = _Attention(channels, heads)
        self.ls1 = _LayerScale(channels)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = _Mlp(channels, hidden)
        self.ls2 = _LayerScale(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class _Attention(nn.Module):
    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = split_heads(self.qkv(x), 3, self.heads)
        return self.proj(merge_heads(F.scaled_dot_product_attention(q, k, v)))


class _LayerScale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class _Mlp(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))
