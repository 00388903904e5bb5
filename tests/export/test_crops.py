"""Crops of a portrait are the picture itself, moved by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models import Crop, CroppedEncoder, ImageEncoder

SIDE = 28
PIXEL = 2 / SIDE


class Looking(ImageEncoder):
    """An encoder whose tokens are what it sees."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(2).transpose(1, 2)


@pytest.fixture
def picture() -> Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def seen(picture: Tensor, *crops: Crop) -> Tensor:
    """[B,crops,3,SIDE,SIDE]"""
    encoder = CroppedEncoder(Looking(embed_dim=8, depth=1, num_heads=2, img_size=SIDE), crops)
    tokens = encoder(picture).unflatten(1, (len(crops), SIDE * SIDE))
    return tokens.transpose(2, 3).unflatten(3, (SIDE, SIDE))


def test_the_plain_crop_is_the_picture(picture: Tensor) -> None:
    assert torch.allclose(seen(picture, Crop())[:, 0], picture, atol=1e-5)


@pytest.mark.parametrize(
    ("crop", "move"),
    [
        (Crop(right=3 * PIXEL), lambda p: p[..., 3:]),
        (Crop(right=-3 * PIXEL), lambda p: p[..., :-3]),
        (Crop(down=2 * PIXEL), lambda p: p[..., 2:, :]),
    ],
)
def test_a_crop_lies_where_it_says(crop: Crop, move: object, picture: Tensor) -> None:
    assert callable(move)
    got, kept = seen(picture, crop)[:, 0], move(picture)
    across, down = int(crop.right < 0) * 3, 0
    there = got[..., down : down + kept.shape[-2], across : across + kept.shape[-1]]
    assert torch.allclose(there, kept, atol=1e-5)


def test_a_quarter_turn_and_half_the_side(picture: Tensor) -> None:
    turned, half = seen(picture, Crop(turn=90), Crop(scale=0.5)).unbind(1)
    assert torch.allclose(turned, picture.rot90(1, (2, 3)), atol=1e-4)
    assert torch.allclose(half.mean((2, 3)), picture[..., 7:21, 7:21].mean((2, 3)), atol=0.01)


def test_beyond_the_picture_is_its_reflection(picture: Tensor) -> None:
    got = seen(picture, Crop(right=4 * PIXEL))[:, 0]
    assert torch.allclose(got[..., -4:], picture[..., -4:].flip(-1), atol=1e-5)


def test_tokens_are_those_of_every_crop_and_picture_alone(picture: Tensor) -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder(embed_dim=8, depth=1, num_heads=2, img_size=SIDE).eval()
    crops = (Crop(), Crop(turn=5, scale=0.9), Crop(down=0.1))
    with torch.no_grad():
        got = CroppedEncoder(encoder, crops)(picture)
        each = [CroppedEncoder(encoder, [crop])(one[None]) for one in picture for crop in crops]
    count = each[0].shape[1]
    assert got.shape == (2, 3 * count, 8)
    assert torch.allclose(got.reshape(6, count, 8), torch.cat(each), atol=1e-5)
