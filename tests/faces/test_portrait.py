"""Which face becomes a head, what the model sees of it, and what is said about it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.sample_pictures import smooth
from topos_rt.errors import FaceError, OptionError
from topos_rt.faces.bundle import FaceBundle
from topos_rt.faces.face import Face, warnings_of
from topos_rt.faces.portrait import FaceChoice, Portrait, portrait_square, portraits
from topos_rt.faces.pose import Placement, rotation
from topos_rt.pictures.image import load_image

CANONICAL = FaceBundle.open().canonical
PICTURE = Image.fromarray(smooth(300, 400))


def face(x: float = 200, y: float = 150, scale: float = 8, yaw: float = 0, roll: float = 0) -> Face:
    """Return a made-up face whose canonical origin is at (x, y)."""
    placement = Placement(rotation(yaw, 0, roll), scale, np.array([x, y]))
    landmarks = np.zeros((478, 3), np.float32)
    landmarks[:468, :2] = placement.at(CANONICAL.positions)
    low, high = landmarks[:468, :2].min(0), landmarks[:468, :2].max(0)
    box = (float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))
    return Face(box, landmarks, yaw, 0.0, roll, {}, 0.99, placement, warnings_of(box, yaw, PICTURE.size))


class Finder:
    """Finds what it is told to, and remembers how often it was asked."""

    def __init__(self, *faces: Face) -> None:
        self.faces, self.asked = list(faces), 0

    def find_in(self, picture: Image.Image, most: int = 50) -> list[Face]:
        assert picture.mode == "RGB"
        self.asked += 1
        return self.faces


def see(finder: Any, **choice: Any) -> list[Portrait]:
    return portraits(PICTURE, "p.jpg", finder, FaceChoice(**choice))


LARGE, SMALL = face(), face(90, 100, 4)
PROFILE = dataclasses.replace(face(yaw=75), landmarks=np.zeros((0, 3), np.float32))


def test_the_largest_is_taken_and_the_others_are_told() -> None:
    (one,) = see(Finder(LARGE))
    assert one.face is LARGE and one.warnings == ()
    (one,) = see(Finder(LARGE, SMALL))
    assert one.face is LARGE and one.warnings == ("2 faces were found, and the largest was taken",)


def test_a_face_by_its_number_or_itself() -> None:
    (one,) = see(Finder(LARGE, SMALL), face=1)
    assert one.face is SMALL and not any("faces were found" in told for told in one.warnings)
    finder = Finder(LARGE)
    (one,) = see(finder, face=SMALL)
    assert one.face is SMALL and finder.asked == 0


def test_all_faces_but_those_that_are_hidden() -> None:
    assert [one.face for one in see(Finder(LARGE, PROFILE, SMALL), face="all")] == [LARGE, SMALL]
    with pytest.raises(FaceError, match="turned by 75 degrees"):
        see(Finder(PROFILE), face="all")


REFUSED: dict[str, tuple[list[Face], dict[str, Any], type[Exception], str]] = {
    "no face": ([], {}, FaceError, "no face was found"),
    "no face in the box": ([], {"crop": (0, 0, 40, 40)}, FaceError, "no face was found"),
    "no face in the whole": ([], {"crop": "none"}, FaceError, "no face was found"),
    "number 7 of 2": (
        [LARGE, SMALL],
        {"face": 6},
        FaceError,
        "face number 7 .* 2 faces were found; expected 1 to 2",
    ),
    "a profile": ([PROFILE], {}, FaceError, "turned by 75 degrees; expected at most 60"),
    "yaw 61": ([face(yaw=-61)], {}, FaceError, "turned by 61 degrees"),
    "a box beyond": (
        [LARGE],
        {"crop": (300, 0, 101, 40)},
        OptionError,
        "inside the upright picture of 400 x 300",
    ),
    "a box below": ([LARGE], {"crop": (0, 290, 100, 40)}, OptionError, "y 290 to 330"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_pictures_that_are_refused(case: str) -> None:
    faces, choice, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message) as caught:
        see(Finder(*faces), **choice)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


CHOICES: dict[str, dict[str, Any]] = {
    "face": {"face": "first"},
    "face -1": {"face": -1},
    "face 1.5": {"face": 1.5},
    "face True": {"face": True},
    "face None": {"face": None},
    "crop": {"crop": "left"},
    "three numbers": {"crop": (1, 2, 3)},
    "negative": {"crop": (-1, 0, 50, 50)},
    "thin": {"crop": (0, 0, 15, 50)},
    "floats": {"crop": (0.5, 0, 50, 50)},
    "crop None": {"crop": None},
    "five numbers": {"crop": (0, 0, 50, 50, 1)},
}


@pytest.mark.parametrize("case", CHOICES)
def test_bad_choices_are_refused(case: str) -> None:
    with pytest.raises(OptionError, match=case.split()[0] if case.startswith(("face", "crop")) else "crop"):
        FaceChoice(**CHOICES[case])


def test_without_the_check() -> None:
    (one,) = see(Finder(), check=False)
    assert one.face is None and one.crop == "none"
    assert one.warnings == ("no face was found; the whole picture was taken",)
    (one,) = see(Finder(PROFILE), check=False)
    assert one.face is PROFILE and any("turned by 75" in told for told in one.warnings)
    for crop in ("none", (10, 20, 100, 100)):
        finder = Finder(LARGE)
        (one,) = see(finder, check=False, crop=crop)
        assert one.face is None and one.crop == crop and finder.asked == 0 and one.warnings == ()


def test_without_a_finder_pictures_are_taken_whole() -> None:
    (one,) = see(None)
    assert one.face is None and one.crop == "none"


def test_the_whole_picture_is_the_release_s_own_framing() -> None:
    for picture in (PICTURE, PICTURE.convert("RGBA")):
        (one,) = portraits(picture, "p", Finder(LARGE), FaceChoice(crop="none"))  # type: ignore[arg-type]
        assert np.array_equal(one.pixels(32, 32), load_image(picture, 32, 32))
        assert one.square.side == 300 and (one.square.x, one.square.y) == (200, 150)


def test_a_box_is_that_part_of_the_picture() -> None:
    box = (50, 60, 120, 100)
    (one,) = see(Finder(face(60, 50)), crop=box)
    assert np.array_equal(one.pixels(32, 32), load_image(PICTURE.crop((50, 60, 170, 160)), 32, 32))
    assert one.face is not None
    assert np.allclose(one.face.placement.shift, (110, 110))  # the face was seen in the box
    assert np.allclose(one.face.landmarks[:468], face(110, 110).landmarks[:468], atol=1e-3)
    assert one.square.side == 100 and (one.square.x, one.square.y) == (110, 110)


@given(roll=st.floats(-180, 180), scale=st.floats(2, 30), x=st.floats(0, 400), y=st.floats(0, 300))
def test_the_square_is_upright_for_the_face(roll: float, scale: float, x: float, y: float) -> None:
    square = portrait_square(face(x, y, scale, roll=roll))
    matrix = square.matrix(1)
    seen = (face(x, y, scale, roll=roll).landmarks[:468, :2] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    right_eye, left_eye = seen[[33, 133]].mean(0), seen[[362, 263]].mean(0)
    assert abs(right_eye[1] - left_eye[1]) < 1e-3 and right_eye[0] < 0.5 < left_eye[0]
    assert 0.25 < left_eye[1] < 0.5  # in the upper half, with room for the cranium
    level = face(0, 0, 10)
    upright = portrait_square(level)
    assert np.isclose(square.side / scale, upright.side / 10)


def test_pixels_of_a_face() -> None:
    (one,) = see(Finder(LARGE))
    pixels = one.pixels(48, 48)
    assert pixels.shape == (1, 3, 48, 48) and pixels.dtype == np.float32
    assert pixels.min() >= 0 and pixels.max() <= 1
    shown = np.asarray(one.shown(48), np.float32).transpose(2, 0, 1) / np.float32(255)
    assert np.array_equal(pixels[0], shown)
    assert np.array_equal(one.pixels(24, 48)[0], shown[:, 12:36])


def test_facts_are_json_and_hold_no_landmarks() -> None:
    (one,) = see(Finder(LARGE, SMALL))
    facts = json.loads(json.dumps(one.facts()))
    assert facts["face"]["size_px"] == pytest.approx(LARGE.size, abs=0.1)
    assert facts["warnings"] == list(one.warnings) and set(facts["crop"]) == {
        "centre",
        "side",
        "angle_degrees",
    }
    assert len(json.dumps(facts)) < 600


WARNINGS = {
    "fine": ((100, 100, 80, 90), 10, ""),
    "small": ((100, 100, 50, 60), 0, "only 60 pixels large"),
    "left": ((-20, 100, 80, 90), 0, "cut off"),
    "bottom": ((100, 250, 80, 90), 0, "cut off"),
    "touching": ((-1, 100, 80, 90), 0, ""),
    "turned": ((100, 100, 80, 90), -46, "turned by 46 degrees"),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_warnings(case: str) -> None:
    box, yaw, wanted = WARNINGS[case]
    told = warnings_of(box, yaw, PICTURE.size)
    assert (len(told) == 1 and wanted in told[0]) if wanted else told == ()
