"""What spoils a photograph, each with a picture and what becomes of it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.texture_truth import errors
from tests.texture.portraits import (
    area,
    around,
    atlas,
    bundle,
    hue,
    linear,
    mean,
    painted,
    plan,
    sample,
    textured,
    with_picture,
)
from topos_rt.errors import FaceError
from topos_rt.texture.stage import TextureChoice, with_texture
from topos_rt.texture.white import GREEN_BLUE, RED_GREEN

CHEEK_R, CHEEK_L = [50, 205], [280, 425]  # of the person's right, which is on the picture's left


def box(draw: ImageDraw.ImageDraw, low: np.ndarray, high: np.ndarray, fill: tuple[int, int, int]) -> None:
    draw.rectangle([*map(float, low), *map(float, high)], fill=fill)


def test_a_plain_portrait_is_taken_as_it_is() -> None:
    found = sample()
    head = textured(found)
    told = errors(plan(), atlas().mask("detail"), head.texture.albedo, found.albedo)
    assert told["delta_e"] < 1.5 and told["log_luminance_sd"] < 0.025
    assert head.metadata["texture"]["seen"] > 0.6 and not head.metadata.get("warnings")


def test_spectacles_are_taken_off() -> None:
    def rims(draw: ImageDraw.ImageDraw, at: np.ndarray) -> None:
        for outer, inner in ((33, 133), (263, 362)):
            centre, half = (at[outer] + at[inner]) / 2, np.linalg.norm(at[outer] - at[inner])
            size = half * np.array([0.95, 0.80])
            draw.ellipse(
                [*(centre - size + [0, 4]), *(centre + size + [0, 4])], outline=(25, 20, 20), width=4
            )
            draw.line(
                [*(at[outer] + (at[outer] - at[inner]) * 0.45), *at[127 if outer == 33 else 356]],
                (25, 20, 20),
                4,
            )
        draw.line([*at[133], *at[362]], (25, 20, 20), 4)

    head = textured(painted(sample(), rims))
    assert head.metadata["texture"]["spectacles"]
    assert any("spectacles" in warning for warning in head.metadata["warnings"])
    rim = around([230, 450, 119, 348, 6], 0.03)
    assert head.texture.albedo[rim].mean(1).min() > 0.6 * head.texture.albedo[rim].mean()


def test_without_spectacles_nothing_is_taken_off() -> None:
    for tone in ("light", "dark"):
        assert not textured(sample(tone, "key")).metadata["texture"]["spectacles"]


def test_a_fringe_over_one_brow_is_replaced_by_the_other_brow() -> None:
    def fringe(draw: ImageDraw.ImageDraw, at: np.ndarray) -> None:
        draw.polygon(
            [tuple(at[i]) for i in (10, 338, 297, 332, 284, 251, 389, 300, 293, 334, 296, 9)], (35, 24, 18)
        )

    plain, head = textured(sample()), textured(painted(sample(), fringe))
    forehead = around([297, 299, 333], 0.02)
    assert (mean(head, forehead) > 0.7 * mean(plain, forehead)).all()
    brow = np.asarray(head.texture.albedo[around([296, 334, 293], 0.02)], float)
    other = np.asarray(head.texture.albedo[:, ::-1][around([296, 334, 293], 0.02)], float)
    assert np.abs(brow - other).mean() < 12


def test_a_hat_leaves_no_colour_on_the_forehead_and_makes_no_blue_hair() -> None:
    def hat(draw: ImageDraw.ImageDraw, at: np.ndarray) -> None:
        box(draw, np.array([0, 0]), np.array([512, at[9, 1] - 25]), (20, 40, 190))

    head = textured(painted(sample(), hat))
    for where in (around([10, 151, 109, 338], 0.02), area("scalp")):
        red, green, blue = mean(head, where)
        assert red > green > blue


def test_a_beard_stays() -> None:
    def beard(draw: ImageDraw.ImageDraw, at: np.ndarray) -> None:
        chain = (
            132,
            58,
            172,
            136,
            150,
            149,
            176,
            148,
            152,
            377,
            400,
            378,
            379,
            365,
            397,
            288,
            361,
            436,
            426,
            2,
            206,
            216,
        )
        draw.polygon([tuple(at[i]) for i in chain], (52, 36, 28))

    head, plain = textured(painted(sample(), beard)), textured(sample())
    chin = around([152, 175, 199], 0.02)
    assert (mean(head, chin) < 0.4 * mean(plain, chin)).all()
    assert np.allclose(mean(head, around(CHEEK_R)), mean(plain, around(CHEEK_R)), rtol=0.15)


def test_teeth_do_not_get_on_the_lips() -> None:
    def smile(draw: ImageDraw.ImageDraw, at: np.ndarray) -> None:
        inner = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
        draw.polygon([tuple(at[i]) for i in inner], (240, 238, 230))

    found = sample()
    face = found.portrait.face
    opened = face.landmarks.copy()
    lower = [95, 88, 178, 87, 14, 317, 402, 318, 324]
    opened[lower, 1] += 16
    import dataclasses

    shown = dataclasses.replace(
        found, portrait=dataclasses.replace(found.portrait, face=dataclasses.replace(face, landmarks=opened))
    )
    head = textured(painted(shown, smile))
    assert head.metadata["texture"]["mouth_open"] > 0.1
    lips = head.texture.albedo[area("lips")].astype(float)
    assert np.percentile(lips[:, 2] / lips[:, 0], 98) < 0.85  # white would be about 1


def test_what_is_behind_a_turned_head_does_not_get_on_its_cheek() -> None:
    turned = sample("light", "flat", 38.0)
    pixels = np.asarray(turned.portrait.picture).copy()
    flat = np.abs(pixels.astype(int) - 118).max(2) < 16  # the backdrop
    pixels[flat] = (10, 200, 20)
    head = textured(with_picture(turned, Image.fromarray(pixels)))
    face = area("face")
    assert head.texture.albedo[face][:, 1].astype(int).max() - 5 <= head.texture.albedo[face][:, 0].max()
    greener = head.texture.albedo[face][:, 1] > head.texture.albedo[face][:, 0]
    assert greener.mean() < 0.001
    assert head.metadata["texture"]["mirrored"] > 0.15


def test_a_face_turned_too_far_gets_the_base_material() -> None:
    import dataclasses

    from topos_rt.faces.portrait import Portrait

    found = sample()
    face = dataclasses.replace(found.portrait.face, yaw=70.0)
    head = with_texture(found.head, Portrait(found.portrait.picture, face, "auto"), bundle(), TextureChoice())
    assert head.metadata["texture"]["kind"] == "base"
    assert "turned by 70 degrees" in head.metadata["warnings"][-1]
    with pytest.raises(
        FaceError, match="texture 'projected': got a face turned by 70 degrees; expected a face"
    ):
        with_texture(
            found.head, Portrait(found.portrait.picture, face, "auto"), bundle(), TextureChoice("projected")
        )


@pytest.mark.parametrize(("lamp", "most", "delta"), [("key", 0.05, 2.0), ("side", 0.09, 3.0)])
@pytest.mark.parametrize("tone", ["light", "dark"])
def test_hard_light_is_taken_away(lamp: str, tone: str, most: float, delta: float) -> None:
    found = sample(tone, lamp)
    told = errors(plan(), atlas().mask("detail"), textured(found).texture.albedo, found.albedo)
    assert told["log_luminance_sd"] < most and told["delta_e"] < delta


def test_coloured_light_does_not_colour_the_skin() -> None:
    pixels = np.asarray(sample().portrait.picture).astype(float) * [1.0, 0.62, 0.25]
    head = textured(with_picture(sample(), Image.fromarray(pixels.astype(np.uint8))))
    red_green, green_blue = hue(mean(head, area("detail")))
    assert RED_GREEN[0] - 0.1 < red_green < RED_GREEN[1] + 0.1
    assert GREEN_BLUE[0] - 0.1 < green_blue < GREEN_BLUE[1] + 0.1


def test_a_grey_photograph_gives_a_coloured_skin() -> None:
    grey = sample().portrait.picture.convert("L").convert("RGB")
    red, green, blue = mean(textured(with_picture(sample(), grey)), around(CHEEK_R + CHEEK_L))
    assert red > 1.2 * green > 1.2 * 1.1 * blue


def test_blocks_of_jpeg_become_no_relief() -> None:
    file = io.BytesIO()
    sample().portrait.picture.save(file, "JPEG", quality=8)
    assert sample().portrait.face.size < 300
    head = textured(with_picture(sample(), Image.open(file).convert("RGB")))
    assert (head.texture.normal == [128, 128, 255]).all()


def test_a_large_face_has_relief() -> None:
    head = textured(sample("light", "flat", 0.0, 1024))
    assert head.texture.normal[..., :2].std() > 0.3 and len(head.texture.normal) == 512


def test_of_a_tiny_face_only_the_tone_is_taken() -> None:
    tiny = sample("brown", "flat", 0.0, 110)
    assert tiny.portrait.face.size < 64
    head = textured(tiny)
    assert "the face is too small" in head.metadata["warnings"][-1]
    assert head.metadata["texture"]["seen"] == 0 and not head.texture.confidence.any()
    plain = textured(sample("brown"))
    assert np.allclose(mean(head, area("detail")), mean(plain, area("detail")), rtol=0.25)


def test_a_blurred_photograph_is_no_error() -> None:
    soft = sample().portrait.picture.filter(ImageFilter.GaussianBlur(6))
    assert textured(with_picture(sample(), soft)).metadata["texture"]["seen"] > 0.4


COVERS = {"a cup": (30, 60, 210), "a hand in the shade, of another person": (92, 52, 38)}


@pytest.mark.parametrize("what", COVERS)
def test_what_covers_a_cheek_is_replaced_by_the_other_cheek(what: str) -> None:
    def cover(draw: ImageDraw.ImageDraw, at: np.ndarray) -> None:
        box(draw, at[280] - [18, 40], at[280] + [90, 60], COVERS[what])

    head, plain = textured(painted(sample(), cover)), textured(sample())
    cheek = around([280, 425, 352], 0.015)
    assert np.allclose(mean(head, cheek), mean(plain, cheek), rtol=0.12)
    confidence = np.kron(head.texture.confidence, np.ones((2, 2)))
    assert confidence[cheek].mean() < confidence[around([50, 205, 123], 0.015)].mean()


@pytest.mark.parametrize("tone", ["light", "brown", "dark"])
def test_freckles_stay_on_every_skin(tone: str) -> None:
    found = sample(tone)
    made, true = np.log(mean_of(textured(found))), np.log(found.albedo.mean(2) + 1e-4)
    skin = area("detail")
    fine = [values - box_mean(values) for values in (made, true)]
    assert np.corrcoef(fine[0][skin], fine[1][skin])[0, 1] > 0.5


def mean_of(head: object) -> np.ndarray:
    found: np.ndarray = linear(head).mean(2) + 1e-4  # type: ignore[arg-type]
    return found


def box_mean(values: np.ndarray) -> np.ndarray:
    from topos_rt.texture.grids import blurred

    return blurred(values, 6.0)


def test_hair_of_two_colours_gives_the_scalp_one_that_hair_has() -> None:
    def hair(draw: ImageDraw.ImageDraw, at: np.ndarray) -> None:
        box(draw, np.array([0, 0]), np.array([256, at[10, 1] - 4]), (40, 28, 22))
        box(draw, np.array([256, 0]), np.array([512, at[10, 1] - 4]), (120, 90, 50))

    red, green, blue = mean(textured(painted(sample(), hair)), area("scalp"))
    assert red > green > blue and 0.01 < green < 0.2


def test_make_up_stays() -> None:
    def lipstick(draw: ImageDraw.ImageDraw, at: np.ndarray) -> None:
        lips = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
        draw.polygon([tuple(at[i]) for i in lips], (170, 20, 60))

    head, plain = textured(painted(sample(), lipstick)), textured(sample())
    lips = area("lips")
    assert hue(mean(head, lips))[0] > hue(mean(plain, lips))[0] + 0.5


@pytest.mark.parametrize("shade", [0, 255])
def test_a_face_without_any_detail_is_no_error(shade: int) -> None:
    """White or black through and through: the photograph tells nothing but that."""
    flat = Image.new("RGB", sample().portrait.picture.size, (shade,) * 3)
    head = textured(with_picture(sample(), flat))
    red, green, blue = mean(head, area("detail"))
    assert 0.02 < green < 0.75 and red > green > blue  # the base material's hue
    assert np.isfinite(linear(head)).all()


def test_under_extreme_light_the_skin_keeps_within_bounds() -> None:
    for factor in (0.04, 8.0):
        pixels = np.clip(np.asarray(sample().portrait.picture).astype(float) * factor, 0, 255).astype(
            np.uint8
        )
        colour = mean(textured(with_picture(sample(), Image.fromarray(pixels))), area("detail"))
        assert 0.02 < colour.mean() < 0.75
