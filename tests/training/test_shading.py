"""Lit portraits are in range and repeatable, and show what the buffers hold."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.gbuffers import Material
from training.shading import shade

SIDE, SIZE, BATCH = 42, 28, 24


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def facing(x: int, y: int, z: int) -> Tensor:
    """Return normals [B,S,S,3] that all point one way."""
    return torch.tensor([x, y, z], dtype=torch.int8).expand(BATCH, SIDE, SIDE, 3)


def filled(material: Material) -> Tensor:
    return torch.full((BATCH, SIDE, SIDE), int(material), dtype=torch.uint8)


def lit(material: Material, seed: int = 0, normals: Tensor | None = None) -> Tensor:
    return shade(facing(0, 0, 127) if normals is None else normals, filled(material), SIZE, seeded(seed))


@pytest.mark.parametrize("size", [SIZE, SIDE, 56])
def test_shape_type_and_range(size: int) -> None:
    generator = seeded(1)
    normals = torch.randint(-127, 128, (3, SIDE, SIDE, 3), generator=generator, dtype=torch.int8)
    materials = torch.randint(0, len(Material), (3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    pictures = shade(normals, materials, size, generator)
    assert pictures.shape == (3, 3, size, size)
    assert pictures.dtype == torch.float32
    assert float(pictures.min()) >= 0
    assert float(pictures.max()) <= 1
    assert float(pictures.std()) > 0.01


def test_buffers_are_left_alone() -> None:
    normals, materials = facing(0, 0, 127).clone(), filled(Material.SKIN)
    shade(normals, materials, SIZE, seeded(0))
    assert torch.equal(normals, facing(0, 0, 127))
    assert torch.equal(materials, filled(Material.SKIN))


def test_the_generator_decides_everything() -> None:
    torch.manual_seed(1)
    one = lit(Material.SKIN, seed=3)
    torch.manual_seed(2)
    assert torch.equal(one, lit(Material.SKIN, seed=3))
    assert not torch.equal(one, lit(Material.SKIN, seed=4))


def test_portraits_of_a_batch_differ() -> None:
    pictures = lit(Material.SKIN)
    apart = (pictures[:, None] - pictures[None]).abs().mean((2, 3, 4))
    assert float((apart + torch.eye(BATCH)).min()) > 0.005


def test_white_is_brighter_than_black() -> None:
    """The white of an eye and a pupil get the same light and camera."""
    white, black = (lit(material).mean((1, 2, 3)) for material in (Material.SCLERA, Material.PUPIL))
    assert (white > black).all()
    assert float((white - black).mean()) > 0.15


@pytest.mark.parametrize("material", [m for m in Material if m != Material.SKIN])
def test_every_material_looks_unlike_skin(material: Material) -> None:
    apart = (lit(material) - lit(Material.SKIN)).abs().mean((1, 2, 3))
    # Only a part of the heads has stubble.
    assert int((apart > 1e-3).sum()) >= (1 if material == Material.BEARD else BATCH // 2)


def test_materials_are_where_the_buffer_has_them() -> None:
    materials = filled(Material.SCLERA)
    materials[:, :, : SIDE // 2] = Material.PUPIL
    picture = shade(facing(0, 0, 127), materials, SIZE, seeded(0))
    left, right = picture[..., : SIZE // 2 - 2].mean((1, 2, 3)), picture[..., SIZE // 2 + 2 :].mean((1, 2, 3))
    assert float((right > left).float().mean()) > 0.9


def test_light_falls_on_normals() -> None:
    """Light comes mostly from above and from the camera, so a chin is darker than a brow."""
    up, down = (lit(Material.SCLERA, normals=facing(0, y, 0)).mean((1, 2, 3)) for y in (127, -127))
    front, back = (lit(Material.SCLERA, normals=facing(0, 0, z)).mean((1, 2, 3)) for z in (127, -127))
    assert float((up - down).mean()) > 0.02
    assert float((front - back).mean()) > 0.02


def test_the_backdrop_ignores_normals() -> None:
    one = lit(Material.BACKGROUND, normals=facing(0, 0, 0))
    assert torch.equal(one, lit(Material.BACKGROUND, normals=facing(0, 127, 0)))
