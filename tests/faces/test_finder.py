"""Faces in photographs: all are found, nothing else is, and what is found follows the picture."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

import topos_rt
from tests import needs
from topos_rt.errors import ImageError, InputError, OptionError
from topos_rt.faces.expression import NAMES
from topos_rt.faces.face import Face
from topos_rt.faces.finder import FaceFinder
from topos_rt.pictures.image import read_picture

EXAMPLES = Path(__file__).parents[2] / "examples"
ASTRONAUT, HOPPER = EXAMPLES / "astronaut.jpg", EXAMPLES / "hopper.jpg"
OUTER_EYES = 33, 263
GROUPS = {"sample1": 3, "sample2": 3, "sample3": 3, "sample4": 4, "sample5": 5, "sample6": 4}
EMPTY = ("cat", "coffee", "rocket", "horse", "moon", "page")


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    with FaceFinder.open() as opened:
        yield opened


@pytest.fixture(scope="module")
def hopper() -> Image.Image:
    return read_picture(HOPPER)


def outer_eyes(face: Face) -> float:
    a, b = face.landmarks[list(OUTER_EYES), :2]
    return float(np.linalg.norm(a - b))


def test_a_portrait(finder: FaceFinder) -> None:
    (face,) = finder.find(ASTRONAUT)
    x, y, width, height = face.box
    assert 55 < x < 80 and 55 < y < 80 and 80 < width < 105 and 95 < height < 120
    assert face.landmarks.shape == (478, 3) and face.landmarks.dtype == np.float32
    assert face.confidence > 0.9 and not face.warnings and not face.hidden
    assert max(abs(face.yaw), abs(face.roll)) < 8
    assert len(face.expression) == 52 and set(NAMES[1:]) < set(face.expression)
    assert face.expression["tongueOut"] == 0 and all(0 <= score <= 1 for score in face.expression.values())
    assert min(face.expression["mouthSmileLeft"], face.expression["mouthSmileRight"]) > 0.4  # she smiles
    assert face.expression["eyeBlinkLeft"] < 0.4


def test_it_is_public() -> None:
    (face,) = topos_rt.find_faces(ASTRONAUT)
    assert isinstance(face, topos_rt.Face)
    with topos_rt.FaceFinder.open(threads=1) as finder:
        assert len(finder.find(ASTRONAUT)) == 1


@pytest.mark.parametrize("group", GROUPS)
def test_every_person_of_a_group_is_found(group: str, finder: FaceFinder) -> None:
    fetched = needs.packages("npm pack @vladmandic/face-api@1.7.15")
    with tarfile.open(fetched / "vladmandic-face-api-1.7.15.tgz") as archive:
        file = archive.extractfile(f"package/demo/{group}.jpg")
        assert file is not None
        faces = finder.find(file.read())
    assert len(faces) == GROUPS[group]
    assert [face.size for face in faces] == sorted((face.size for face in faces), reverse=True)
    if group == "sample2":  # one woman shows her profile: she is found, but no head can be made of her
        profiles = [face for face in faces if face.hidden]
        assert len(profiles) == 1
        assert abs(profiles[0].yaw) > 60 and not len(profiles[0].landmarks) and not profiles[0].expression


@pytest.mark.parametrize("name", EMPTY)
def test_nothing_is_found_where_nobody_is(name: str, finder: FaceFinder) -> None:
    picture = np.asarray(getattr(needs.module("skimage.data"), name)())
    picture = picture.astype(np.uint8) * (255 if picture.dtype == bool else 1)
    assert finder.find(Image.fromarray(picture).convert("RGB")) == []


def turned(degrees: float) -> Callable[[Image.Image], tuple[Image.Image, np.ndarray]]:
    def turn(picture: Image.Image) -> tuple[Image.Image, np.ndarray]:
        made = picture.rotate(degrees, Image.Resampling.BICUBIC)
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        back = np.array([[cos, -sin], [sin, cos]])
        centre = np.array(picture.size) / 2
        return made, np.column_stack([back, centre - back @ centre])

    return turn


def scaled(factor: float) -> Callable[[Image.Image], tuple[Image.Image, np.ndarray]]:
    def scale(picture: Image.Image) -> tuple[Image.Image, np.ndarray]:
        size = round(picture.width * factor), round(picture.height * factor)
        back = np.diag(np.array(picture.size) / size)
        return picture.resize(size, Image.Resampling.LANCZOS), np.column_stack([back, np.zeros(2)])

    return scale


def shifted(x: int, y: int) -> Callable[[Image.Image], tuple[Image.Image, np.ndarray]]:
    def shift(picture: Image.Image) -> tuple[Image.Image, np.ndarray]:
        made = Image.new("RGB", (picture.width + 80, picture.height + 80), (90, 90, 90))
        made.paste(picture, (x, y))
        return made, np.array([[1, 0, -x], [0, 1, -y]])

    return shift


CHANGES = {
    "shifted": shifted(37, 11),
    "shifted more": shifted(5, 71),
    "half": scaled(0.5),
    "three quarters": scaled(0.75),
    "one and a half": scaled(1.5),
    "double": scaled(2),
    "triple": scaled(3),
    "turned by 3": turned(3),
    "turned by -3": turned(-3),
    "turned by 6": turned(6),
    "turned by -6": turned(-6),
}


# At half its size, the astronaut's face is smaller than the warning allows.
CHANGED = [(HOPPER, change) for change in CHANGES] + [
    (ASTRONAUT, change) for change in CHANGES if change != "half"
]


@pytest.mark.parametrize(("portrait", "change"), CHANGED, ids=lambda value: getattr(value, "stem", value))
def test_landmarks_follow_the_picture(portrait: Path, change: str, finder: FaceFinder) -> None:
    picture = read_picture(portrait)
    (before,) = finder.find(picture)
    made, back = CHANGES[change](picture)
    (after,) = finder.find(made)
    found = after.landmarks[:, :2] @ back[:, :2].T + back[:, 2]
    apart = np.linalg.norm(found - before.landmarks[:, :2], axis=1) / outer_eyes(before)
    assert apart.mean() <= 0.005


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_first(orientation: int, finder: FaceFinder, hopper: Image.Image) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = hopper.transpose(undo[orientation]) if orientation in undo else hopper
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    stored.save(file, "PNG", exif=exif)
    (before,), (after,) = finder.find(hopper), finder.find(file.getvalue())
    assert np.array_equal(before.landmarks, after.landmarks)


@pytest.mark.parametrize("degrees", range(0, 360, 45))
def test_any_roll_is_found(degrees: int, finder: FaceFinder, hopper: Image.Image) -> None:
    (face,) = finder.find(hopper.rotate(degrees, Image.Resampling.BICUBIC, expand=True))
    (upright,) = finder.find(hopper)
    difference = (face.roll - upright.roll - degrees + 180) % 360 - 180
    assert abs(difference) < 4 and abs(face.yaw - upright.yaw) < 5


@pytest.mark.parametrize("pixels", [50, 60])
def test_small_faces_in_large_pictures_are_found(
    pixels: int, finder: FaceFinder, hopper: Image.Image
) -> None:
    share = pixels / finder.find(hopper)[0].size
    small = hopper.resize(
        (round(hopper.width * share), round(hopper.height * share)), Image.Resampling.LANCZOS
    )
    large = Image.new("RGB", (2400, 1800), (120, 130, 140))
    large.paste(small, (1700, 300))
    (face,) = finder.find(large)
    assert abs(face.size - pixels) < 6
    assert any("pixels large" in warning for warning in face.warnings)


def test_a_picture_of_64_megapixels(finder: FaceFinder, hopper: Image.Image) -> None:
    large = Image.new("RGB", (8192, 8192), (120, 130, 140))
    large.paste(hopper.resize((1320, 1320)), (6000, 5000))
    (face,) = finder.find(large)
    assert abs(face.size - 4 * finder.find(hopper)[0].size) < 20


@pytest.mark.parametrize("factor", [0.1, 0.4, 2.0, 3.0])
def test_dark_and_bright_pictures(factor: float, finder: FaceFinder, hopper: Image.Image) -> None:
    assert len(finder.find(ImageEnhance.Brightness(hopper).enhance(factor))) == 1


def test_grey_and_transparent_pictures(finder: FaceFinder, hopper: Image.Image) -> None:
    assert len(finder.find(hopper.convert("L"))) == 1
    opaque = hopper.convert("RGBA")
    assert np.array_equal(finder.find(opaque)[0].landmarks, finder.find(hopper)[0].landmarks)


def test_half_a_face_at_the_border_is_told(finder: FaceFinder, hopper: Image.Image) -> None:
    (whole,) = finder.find(hopper)
    middle = whole.landmarks[[1], 0].mean()
    faces = finder.find(hopper.crop((int(middle - 0.15 * whole.size), 0, *hopper.size)))
    assert all(any("cut off" in warning for warning in face.warnings) for face in faces)


def test_a_mirrored_picture_gives_the_mirrored_face(finder: FaceFinder, hopper: Image.Image) -> None:
    (before,), (after,) = finder.find(hopper), finder.find(hopper.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    mirrored = finder.networks.bundle.canonical.mirrored
    found = after.landmarks[mirrored, :2] * [-1, 1] + [hopper.width, 0]
    apart = np.linalg.norm(found - before.landmarks[:468, :2], axis=1) / outer_eyes(before)
    assert apart.mean() < 0.02
    assert abs(after.yaw + before.yaw) < 3 and abs(after.roll + before.roll) < 3


def test_a_picture_that_is_its_own_mirror_image(finder: FaceFinder, hopper: Image.Image) -> None:
    (face,) = finder.find(hopper)
    middle = int(face.landmarks[1, 0])
    half = hopper.crop((0, 0, middle, hopper.height))
    symmetric = Image.new("RGB", (2 * middle, hopper.height))
    symmetric.paste(half, (0, 0))
    symmetric.paste(half.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (middle, 0))
    (found,) = finder.find(symmetric)
    assert abs(found.yaw) < 4


def test_two_hundred_faces_are_bounded(finder: FaceFinder, hopper: Image.Image) -> None:
    tile = hopper.resize((110, 110), Image.Resampling.LANCZOS)
    crowd = Image.new("RGB", (20 * 110, 10 * 110))
    for row in range(10):
        for column in range(20):
            crowd.paste(tile, (110 * column, 110 * row))
    faces = finder.find(crowd, most=7)
    assert len(faces) == 7


BAD: dict[str, tuple[object, object, type[Exception], str]] = {
    "no picture": (b"", 1, ImageError, "no bytes"),
    "too small": (np.zeros((15, 40, 3), np.uint8), 1, ImageError, "at least 16"),
    "NaN": (np.full((40, 40, 3), np.nan, np.float32), 1, ImageError, "NaN"),
    "a number": (7, 1, ImageError, "type int"),
    "most 0": (HOPPER, 0, OptionError, "1 to 1000"),
    "most 2.5": (HOPPER, 2.5, OptionError, "1 to 1000"),
    "most True": (HOPPER, True, OptionError, "1 to 1000"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case: str, finder: FaceFinder) -> None:
    image, most, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        finder.find(image, most)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(16, 16), (16, 900), (900, 16)])
def test_the_smallest_pictures_show_nobody(size: tuple[int, int], finder: FaceFinder) -> None:
    assert finder.find(np.full((*size, 3), 127, np.uint8)) == []


def test_a_closed_finder_says_so() -> None:
    finder = FaceFinder.open()
    finder.close()
    finder.close()
    with pytest.raises(InputError, match="closed"):
        finder.find(HOPPER)


def test_an_identity_tells_people_apart_and_is_not_kept(finder: FaceFinder, hopper: Image.Image) -> None:
    (face,) = finder.find(hopper)
    own = finder.identity(hopper, face)
    assert own.shape == (128,) and own.dtype == np.float32
    darker = ImageEnhance.Brightness(hopper).enhance(0.7).rotate(4, Image.Resampling.BICUBIC)
    same = finder.identity(darker, finder.find(darker)[0])
    other = finder.identity(ASTRONAUT, finder.find(ASTRONAUT)[0])
    assert np.linalg.norm(own - same) < 0.35 and np.linalg.norm(own - other) > 0.6
    assert not any(np.shape(value) == (128,) for value in vars(face).values())


def test_an_identity_needs_landmarks(finder: FaceFinder, hopper: Image.Image) -> None:
    (face,) = finder.find(hopper)
    profile = Face(face.box, np.zeros((0, 3), np.float32), 80.0, 0.0, 0.0, {}, 0.9, face.placement)
    with pytest.raises(ImageError, match="without landmarks"):
        finder.identity(hopper, profile)
