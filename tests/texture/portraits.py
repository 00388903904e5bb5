"""Portraits of the mean head with known skin, on which tests paint what hides a face."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.texture_truth import LAMPS, TONES, Sample, draw, mean_head, skin
from topos_rt.faces.portrait import Portrait
from topos_rt.head.atlas import Atlas
from topos_rt.head.mesh import HeadMesh
from topos_rt.model.bundle import Bundle
from topos_rt.pictures.colour import LINEAR
from topos_rt.texture.plan import Plan, plan_of
from topos_rt.texture.stage import TextureChoice, with_texture

SIZE = 512
Painter = Callable[[ImageDraw.ImageDraw, np.ndarray], None]


@lru_cache(maxsize=1)
def bundle() -> Bundle:
    return Bundle.open("mini", verify=False)


def atlas() -> Atlas:
    found = bundle().atlas
    assert found is not None
    return found


def plan(size: int = SIZE) -> Plan:
    return plan_of(bundle().topology, atlas(), size)


@lru_cache(maxsize=8)
def sample(tone: str = "light", lamp: str = "flat", yaw: float = 0.0, size: int = 512) -> Sample:
    return draw(bundle(), mean_head(bundle()), skin(plan(), TONES[tone], 7), LAMPS[lamp], yaw, size)


def painted(found: Sample, paint: Painter) -> Sample:
    """Return a sample with something painted on its picture; the painter gets the landmarks [478,2]."""
    picture = found.portrait.picture.copy()
    assert found.portrait.face is not None
    paint(ImageDraw.Draw(picture), found.portrait.face.landmarks[:, :2])
    return with_picture(found, picture)


def with_picture(found: Sample, picture: Image.Image) -> Sample:
    return dataclasses.replace(found, portrait=Portrait(picture, found.portrait.face, "auto"))


def textured(found: Sample, size: int = SIZE) -> HeadMesh:
    return with_texture(found.head, found.portrait, bundle(), TextureChoice("projected", size))


def linear(head: HeadMesh) -> np.ndarray:
    assert head.texture is not None
    return LINEAR[head.texture.albedo]


def around(landmarks: Sequence[int], radius: float = 0.012, size: int = SIZE) -> np.ndarray:
    """Return which texels [size,size] are near landmarks in the atlas."""
    v, u = (np.mgrid[0:size, 0:size] + 0.5) / size
    near = np.zeros((size, size), bool)
    for x, y in atlas().landmark_uvs[list(landmarks)]:
        near |= (u - x) ** 2 + (v - (1 - y)) ** 2 < radius**2
    return near


def area(name: str, size: int = SIZE) -> np.ndarray:
    """Return which texels [size,size] lie well inside an area of the atlas."""
    step = size // 256
    return np.kron(atlas().mask(name), np.ones((step, step))) > 0.8


def mean(head: HeadMesh, where: np.ndarray) -> np.ndarray:
    """Return the mean linear colour [3] of a part of the texture."""
    found: np.ndarray = linear(head)[where].mean(0)
    return found


def hue(colour: np.ndarray) -> np.ndarray:
    """Return the logarithms of red over green and green over blue."""
    return np.array([np.log(colour[0] / colour[1]), np.log(colour[1] / colour[2])])
