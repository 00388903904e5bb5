"""Light and colour batches of G-buffers, and add a camera's faults: domain randomisation in torch."""

from __future__ import annotations

import io

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.gbuffers import Material

_SKIN_TONES = torch.tensor([
    [0.98, 0.84, 0.76], [0.93, 0.74, 0.62], [0.82, 0.60, 0.46],
    [0.62, 0.42, 0.30], [0.45, 0.29, 0.20], [0.28, 0.18, 0.13],
])  # fmt: skip
_HAIR_TONES = torch.tensor([
    [0.05, 0.04, 0.04], [0.16, 0.10, 0.07], [0.32, 0.20, 0.12],
    [0.62, 0.48, 0.30], [0.45, 0.20, 0.10], [0.65, 0.64, 0.62],
])  # fmt: skip
_IRIS_TONES = torch.tensor([[0.20, 0.12, 0.07], [0.30, 0.22, 0.12], [0.30, 0.42, 0.52], [0.30, 0.40, 0.28]])
_JPEG_SHARE = 0.3


def shade(normals: Tensor, materials: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return portraits [B,3,size,size] float32 in 0..1 of normals [B,S,S,3] int8, materials [B,S,S] uint8."""
    batch, side = materials.shape[:2]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    def chance(p: float) -> Tensor:
        return (torch.rand(batch, generator=generator) < p).float()[:, None, None, None]

    material = materials.long()
    albedo = torch.gather(_palette(batch, generator), 1, material.view(batch, -1, 1).expand(-1, -1, 3))
    layers = torch.cat(
        [
            albedo.view(batch, side, side, 3),
            normals / 127,
            (material > 0)[..., None],
            (material != Material.CLOTHES)[..., None],
        ],
        -1,
    )
    layers = layers.permute(0, 3, 1, 2)
    layers = F.interpolate(layers, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    albedo, normal, mask, glossy = layers.split([3, 3, 1, 1], 1)
    coarse, fine = _noise(batch, 3, size, 10, generator) - 0.5, _noise(batch, 1, size, size, generator) - 0.5
    light = _light(F.normalize(normal, dim=1), glossy, batch, generator)
    subject = ((albedo + 0.10 * coarse + 0.06 * fine).clamp(0, 1) * light).clamp(0, 1.5)
    image = torch.lerp(_backdrop(batch, size, generator), subject, mask)
    image = _occlude(image, generator)
    soft = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
    image = torch.lerp(image, soft, uniform(0, 1, 1, 1, 1) * chance(0.5))
    image = image.clamp_min(1e-4) ** uniform(0.6, 1.3, 1, 1, 1)
    image = image * uniform(0.75, 1.2, 1, 1, 1) * uniform(0.92, 1.08, 3, 1, 1)
    grey = image.mean(1, keepdim=True)
    image = torch.lerp(image, grey.expand_as(image), torch.maximum(uniform(0, 0.3, 1, 1, 1), chance(0.08)))
    image = image + uniform(0, 0.04, 1, 1, 1) * torch.randn(image.shape, generator=generator)
    return _jpeg(image.clamp(0, 1), generator)


def to_bytes(image: Tensor) -> np.ndarray:
    """Return values in 0..1, of any shape, as uint8."""
    return (image * 255).round().to(torch.uint8).cpu().numpy()


def _palette(batch: int, generator: torch.Generator) -> Tensor:
    """Draw colours [B,materials,3] for each subject."""

    def tone(table: Tensor) -> Tensor:
        weights = torch.rand(batch, len(table), generator=generator) ** 6
        mixed = (weights / weights.sum(1, keepdim=True)) @ table
        return (mixed * (0.85 + 0.3 * torch.rand(batch, 3, generator=generator))).clamp(0, 1)

    skin, hair, anything = tone(_SKIN_TONES), tone(_HAIR_TONES), torch.rand(batch, 3, generator=generator)
    red = torch.tensor([1.0, 0.65, 0.62]) + 0.25 * (torch.rand(batch, 3, generator=generator) - 0.5)
    blend = torch.rand(batch, 2, 1, generator=generator)
    bearded = (torch.rand(batch, 1, generator=generator) < 0.25).float() * blend[:, 1]
    sclera = 0.7 + 0.25 * torch.rand(batch, 1, generator=generator).expand(-1, 3)
    colours = {
        Material.BACKGROUND: anything,
        Material.SKIN: skin,
        Material.LIPS: skin * red,
        Material.BROWS: torch.lerp(skin, hair, 0.3 + 0.6 * blend[:, 0]),
        Material.SCLERA: sclera,
        Material.IRIS: tone(_IRIS_TONES),
        Material.PUPIL: torch.full((batch, 3), 0.03),
        Material.HAIR: hair,
        Material.MOUTH: skin * red * 0.4,
        Material.CLOTHES: anything,
        Material.BEARD: torch.lerp(skin, hair, bearded),
    }
    return torch.stack([colours[m] for m in Material], 1)


def _light(normal: Tensor, glossy: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """Draw light [B,3,S,S]: ambient light, and three coloured directional lights with highlights.

    glossy: [B,1,S,S], the share of the highlights that is seen.
    """
    ambient = 0.15 + 0.5 * torch.rand(batch, 1, 1, 1, generator=generator)
    sky = 1 + 0.35 * normal[:, 1:2] * torch.rand(batch, 1, 1, 1, generator=generator)
    light = ambient * sky.expand(-1, 3, -1, -1)
    shine = torch.zeros_like(light[:, :1])
    gloss = torch.rand(batch, 1, 1, 1, generator=generator) * 0.35
    for strength in (0.9, 0.5, 0.4):
        spread = torch.randn(batch, 3, generator=generator) * torch.tensor([1.0, 0.7, 0.5])
        direction = F.normalize(spread + torch.tensor([0.0, 0.3, 0.6]), dim=1)[:, :, None, None]
        colour = 1 + 0.25 * (torch.rand(batch, 3, 1, 1, generator=generator) - 0.5)
        power = strength * torch.rand(batch, 1, 1, 1, generator=generator)
        wrap = 0.3 * torch.rand(batch, 1, 1, 1, generator=generator)
        facing = (normal * direction).sum(1, keepdim=True)
        light = light + power * colour * ((facing + wrap) / (1 + wrap)).clamp_min(0)
        half = F.normalize(direction + torch.tensor([0.0, 0.0, 1.0])[:, None, None], dim=1)
        shine = shine + power * (normal * half).sum(1, keepdim=True).clamp_min(0) ** 20
    return light + gloss * shine * glossy


def _backdrop(batch: int, side: int, generator: torch.Generator) -> Tensor:
    """Draw a backdrop that is plain, graded or cluttered."""
    base = torch.rand(batch, 3, 1, 1, generator=generator)
    clutter = torch.rand(batch, 1, 1, 1, generator=generator) ** 2
    coarse, fine = (_noise(batch, 3, side, cells, generator) - 0.5 for cells in (4, 16))
    blocks = torch.rand(batch, 3, 7, 7, generator=generator) - 0.5
    blocks = F.interpolate(blocks, size=(side, side), mode="nearest")
    hard = (torch.rand(batch, 1, 1, 1, generator=generator) < 0.3).float()
    return (base + clutter * (coarse + 0.6 * fine + hard * blocks)).clamp(0, 1)


def _occlude(image: Tensor, generator: torch.Generator) -> Tensor:
    """Hide a part of one picture in five by an ellipse, as a hand or a microphone would."""
    batch, _, side, _ = image.shape
    axis = torch.linspace(-1, 1, side)
    centre, radius = torch.rand(2, batch, 2, 1, 1, generator=generator)
    centre, radius = centre * 2.4 - 1.2, radius * 0.35 + 0.05
    down = (axis[:, None] - centre[:, 0]) / radius[:, 0]
    across = (axis[None] - centre[:, 1]) / radius[:, 1]
    shown = (torch.rand(batch, 1, 1, generator=generator) < 0.2) & (down**2 + across**2 < 1)
    colour = torch.rand(batch, 3, 1, 1, generator=generator)
    return torch.where(shown[:, None], colour, image)


def _noise(batch: int, channels: int, side: int, cells: int, generator: torch.Generator) -> Tensor:
    values = torch.rand(batch, channels, cells, cells, generator=generator)
    return F.interpolate(values, size=(side, side), mode="bilinear", align_corners=False)


def _jpeg(image: Tensor, generator: torch.Generator) -> Tensor:
    """Compress some of the batch as JPEG, in place."""
    from PIL import Image

    chosen = torch.nonzero(torch.rand(len(image), generator=generator) < _JPEG_SHARE)[:, 0].tolist()
    qualities = torch.randint(25, 95, (len(image),), generator=generator).tolist()
    for i in chosen:
        buffer = io.BytesIO()
        Image.fromarray(to_bytes(image[i].permute(1, 2, 0))).save(buffer, "JPEG", quality=qualities[i])
        image[i] = torch.from_numpy(np.asarray(Image.open(buffer), np.float32)).permute(2, 0, 1) / 255
    return image
