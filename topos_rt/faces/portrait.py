"""Choose the face of a picture, check it, and cut the portrait that a model gets to see."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from topos_rt.errors import FaceError, OptionError
from topos_rt.faces.face import HIDDEN_DEGREES, Face
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.warp import Square, cut
from topos_rt.pictures.image import fitted_pixels, on_black, pixels_of, upright_picture

LARGEST, ALL = "largest", "all"
AUTO, WHOLE = "auto", "none"
_LOWEST_PX = 16  # a box of fewer pixels holds no face
# The portrait shows a square of so many centimetres around a point of the canonical face: the head's middle.
# These are the place and the mean size of heads in the pictures that `mini` was trained on.
SIDE_CM, MIDDLE_CM = 33.0, np.array([0.0, 1.3, -4.5])

Box: TypeAlias = tuple[int, int, int, int]  # x, y, width and height, pixels


@dataclass(frozen=True)
class FaceChoice:
    """Which face of a picture becomes a head, and how the picture is cut. Raises OptionError.

    face: "largest", "all", or a `Face` that `find_faces` returned for the same picture, or the number of one
    in its list, from 0. crop: "auto" is the square around the head in which the eyes are level; "none" is the
    whole picture, as the TOPOS release has it; or the box (x, y, width, height) in pixels of the upright
    picture. check: False also takes pictures in which no face is found, or only one that looks sideways;
    with a crop other than "auto", none is looked for.
    """

    face: str | int | Face = LARGEST
    crop: str | Box = AUTO
    check: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.face, str) and self.face not in (LARGEST, ALL):
            raise OptionError(
                "face", got=repr(self.face), expected=f"{LARGEST!r}, {ALL!r}, a number or a Face"
            )
        if not isinstance(self.face, str | Face):
            object.__setattr__(self, "face", _whole(self.face))
        if isinstance(self.crop, str):
            if self.crop not in (AUTO, WHOLE):
                raise OptionError(
                    "crop", got=repr(self.crop), expected=f"{AUTO!r}, {WHOLE!r} or four numbers"
                )
        else:
            object.__setattr__(self, "crop", _box(self.crop))

    @property
    def looks(self) -> bool:
        """Whether faces are looked for at all."""
        return not isinstance(self.face, Face) and (self.check or self.crop == AUTO)

    @property
    def without_face(self) -> str | Box:
        """The crop of a picture in which there is no face to cut out."""
        return WHOLE if self.crop == AUTO else self.crop


@dataclass(frozen=True, eq=False)
class Portrait:
    """What a model gets to see of a picture."""

    picture: Image.Image  # upright, RGB or RGBA
    face: Face | None
    crop: str | Box | Square
    warnings: tuple[str, ...] = ()

    def pixels(self, height: int, width: int) -> np.ndarray:
        """Return what the image encoder takes: [1,3,height,width] float32, RGB in 0..1."""
        if isinstance(self.crop, Square):
            return fitted_pixels(self.shown(max(height, width)), height, width)
        if isinstance(self.crop, tuple):
            x, y, wide, high = self.crop
            return pixels_of(self.picture.crop((x, y, x + wide, y + high)), height, width)
        return pixels_of(self.picture, height, width)

    def shown(self, size: int) -> Image.Image:
        """Return the square that the model sees, as an RGB picture of size x size."""
        return cut(on_black(self.picture), self.square, size, filtered=True)

    @property
    def square(self) -> Square:
        """The square of the picture that the model sees."""
        if isinstance(self.crop, Square):
            return self.crop
        x, y, wide, high = self.crop if isinstance(self.crop, tuple) else (0, 0, *self.picture.size)
        return Square(x + wide / 2, y + high / 2, min(wide, high))

    def facts(self) -> dict[str, Any]:
        """Return what was found, as JSON values for a head's metadata."""
        square = self.square
        cut_out = {
            "centre": [round(square.x, 1), round(square.y, 1)],
            "side": round(square.side, 1),
            "angle_degrees": round(float(np.degrees(square.angle)), 2),
        }
        face = None if self.face is None else self.face.facts()
        return {"face": face, "crop": cut_out, "warnings": list(self.warnings)}


def portraits(source: Any, name: str, finder: FaceFinder | None, choice: FaceChoice) -> list[Portrait]:
    """Return the portraits of a picture: one, or with face "all" one for each face.

    source: what `load_image` takes; name: what messages call it. finder: None where a pipeline has none, and
    pictures are taken as they are.

    Raises ImageError; FaceError where there is no face, it looks too far sideways, or its number is too high;
    OptionError for a crop beyond the picture.
    """
    picture = upright_picture(source)
    if isinstance(choice.crop, tuple):
        _check_inside(choice.crop, picture.size)
    if isinstance(choice.face, Face):
        faces, found = [choice.face], 1
    elif finder is None or not choice.looks:
        return [Portrait(picture, None, choice.without_face)]
    else:
        faces = _look(picture, finder, choice)
        found = len(faces)
    if not faces and choice.check:
        raise FaceError(
            f"cannot use the image {name}",
            got="a picture in which no face was found",
            expected="a portrait of a person",
            fix="use another picture, or crop it to the face; for drawings and renders, skip the face check"
            " (--no-face-check, face_check=False)",
        )
    if not faces:
        return [
            Portrait(picture, None, choice.without_face, ("no face was found; the whole picture was taken",))
        ]
    return [_portrait(picture, face, name, choice, found) for face in _chosen(faces, name, choice)]


def portrait_square(face: Face, canonical_middle: np.ndarray = MIDDLE_CM, side_cm: float = SIDE_CM) -> Square:
    """Return the square around the head of a face, in which its eyes are level."""
    right = face.placement.turn[:, 0]
    angle = math.atan2(-float(right[1]), float(right[0]))
    x, y = face.placement.at(canonical_middle)
    return Square(float(x), float(y), side_cm * face.placement.scale, angle)


def _look(picture: Image.Image, finder: FaceFinder, choice: FaceChoice) -> list[Face]:
    if not isinstance(choice.crop, tuple):
        return finder.find_in(on_black(picture))
    x, y, wide, high = choice.crop
    inside = finder.find_in(on_black(picture.crop((x, y, x + wide, y + high))))
    return [face.moved(x, y) for face in inside]


def _chosen(faces: list[Face], name: str, choice: FaceChoice) -> list[Face]:
    if choice.face == ALL:
        return [face for face in faces if not face.hidden] or faces
    if not isinstance(choice.face, int):
        return faces[:1]
    if choice.face >= len(faces):
        count = f"{len(faces)} face{'s' if len(faces) > 1 else ''}"
        raise FaceError(
            f"face number {choice.face + 1} of the image {name}",
            got=f"a picture in which {count} {'were' if len(faces) > 1 else 'was'} found",
            expected=f"1 to {len(faces)}, counted from the largest",
        )
    return [faces[choice.face]]


def _portrait(picture: Image.Image, face: Face, name: str, choice: FaceChoice, found: int) -> Portrait:
    if face.hidden and choice.check:
        raise FaceError(
            f"cannot use the image {name}",
            got=f"a face turned by {abs(face.yaw):.0f} degrees",
            expected=f"at most {HIDDEN_DEGREES:.0f}",
            fix="use a picture in which the person looks towards the camera",
        )
    told = list(face.warnings)
    if found > 1 and choice.face == LARGEST:
        told.insert(0, f"{found} faces were found, and the largest was taken")
    crop = portrait_square(face) if choice.crop == AUTO else choice.crop
    return Portrait(picture, face, crop, tuple(told))


def _check_inside(box: Box, size: tuple[int, int]) -> None:
    x, y, wide, high = box
    if x + wide > size[0] or y + high > size[1]:
        raise OptionError(
            "crop",
            got=f"x {x} to {x + wide}, y {y} to {y + high}",
            expected=f"a box inside the upright picture of {size[0]} x {size[1]} pixels",
        )


def _whole(value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if number < 0 or isinstance(value, bool):
        raise OptionError("face", got=repr(value)[:60], expected=f"{LARGEST!r}, {ALL!r}, a number or a Face")
    return number


def _box(value: Sequence[Any]) -> Box:
    try:
        x, y, wide, high = map(operator.index, value)
    except (TypeError, ValueError):
        x = y = wide = high = -1
    if min(x, y) < 0 or min(wide, high) < _LOWEST_PX:
        raise OptionError(
            "crop",
            got=repr(value)[:60],
            expected=f"x, y >= 0 and width, height >= {_LOWEST_PX}: four whole numbers of pixels",
        )
    return x, y, wide, high
