"""A head drawn again in its photograph's pose: known skin comes out like it, another camera is noticed."""

from __future__ import annotations

import dataclasses

import pytest

from tests import needs

needs.module("skimage")

from benchmarks.texture_again import against_photograph
from tests.texture.portraits import bundle, sample


@pytest.mark.parametrize("yaw", [0.0, 20.0])
def test_the_head_of_a_known_portrait_comes_out_like_it(yaw: float) -> None:
    found = sample("tan", "key", yaw)
    face = found.portrait.face
    assert face is not None
    told = against_photograph(bundle(), found.head, found.portrait.picture, face, None)
    assert told["psnr"] > told["flat_psnr"] + 1 and told["ssim"] > told["flat_ssim"] + 0.01
    assert told["psnr"] > 26 and told["pixels"] > 10_000 and "lpips" not in told


def test_another_camera_makes_it_worse() -> None:
    found = sample("tan", "key", 0.0)
    face, camera = found.portrait.face, found.head.pose
    assert face is not None and camera is not None
    x, y = camera.centre
    moved = dataclasses.replace(found.head, pose=dataclasses.replace(camera, centre=(x + 8, y)))
    told = [
        against_photograph(bundle(), head, found.portrait.picture, face, None) for head in (found.head, moved)
    ]
    assert told[0]["ssim"] > told[1]["ssim"]
