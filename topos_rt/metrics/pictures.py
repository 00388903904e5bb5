"""The pictures that are compared: two files, or two folders whose files have the same names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from topos_rt.errors import FaceError, InputError, did_you_mean, shortened
from topos_rt.faces.face import Face
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.portrait import portrait_square
from topos_rt.faces.warp import Square, cut
from topos_rt.pictures.image import read_picture

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MOST_PICTURES = 200_000
MARGIN = 0.1  # around the landmarks of a face that is cut out, of its larger extent, on each side
_FACE_SIDE = 512  # pixels of a cut, unless the network has a size
_INSIDE = 128  # of 255: brighter pixels of a mask count


def listed(source: str | os.PathLike[str]) -> dict[str, Path]:
    """Return the pictures of a folder by name without suffix, in that order, or the one picture of a file.

    Raises InputError for a folder with no pictures, with too many, or with two of one name.
    """
    path = Path(source)
    if not path.is_dir():
        return {path.stem: path}
    found: dict[str, Path] = {}
    try:
        names = sorted(path.iterdir())
    except OSError as error:
        raise InputError(f"the folder {path}", got=error.strerror, expected="a readable folder") from error
    for file in names:
        if file.suffix.lower() not in SUFFIXES:
            continue
        if file.stem in found:
            got = f"{found[file.stem].name} and {file.name}"
            raise InputError(f"the folder {path}", got=got, expected="one picture of each name")
        found[file.stem] = file
    if not 0 < len(found) <= MOST_PICTURES:
        expected = f"1 to {MOST_PICTURES:,} files that end in {', '.join(SUFFIXES)}"
        raise InputError(f"the folder {path}", got=f"{len(found):,} pictures", expected=expected)
    return found


def paired(pictures: dict[str, Path], others: dict[str, Path]) -> list[tuple[str, Path, Path]]:
    """Return name, picture and partner of each pair: two single pictures, or those of the same name.

    Raises InputError where a picture has no partner.
    """
    if len(pictures) == len(others) == 1:
        ((name, one),), ((_, other),) = pictures.items(), others.items()
        return [(name, one, other)]
    alone = sorted(set(pictures) ^ set(others))
    if alone:
        name = alone[0]
        raise InputError(
            "pairs of pictures",
            got=f"{len(alone):,} without a partner, such as {shortened(repr(name), 60)}",
            expected="the same names in both folders",
            fix=did_you_mean(name, set(others if name in pictures else pictures)) or "rename or remove them",
        )
    return [(name, path, others[name]) for name, path in pictures.items()]


def read_mask(path: Path) -> np.ndarray:
    """Return where a picture is brighter than half, [H,W] bool. Raises ImageError."""
    found: np.ndarray = np.asarray(read_picture(path).convert("L")) >= _INSIDE
    return found


def face_square(face: Face) -> Square:
    """Return the square around the landmarks of a face, in which its eyes are level."""
    low, high = face.landmarks[:, :2].min(0), face.landmarks[:, :2].max(0)
    (x, y), side = (low + high) / 2, float((high - low).max()) * (1 + 2 * MARGIN)
    return Square(float(x), float(y), side, portrait_square(face).angle)


def face_cut(picture: Image.Image, finder: FaceFinder, name: str, side: int | None) -> Image.Image:
    """Return the largest face of an RGB picture, cut out. Raises FaceError where none looks to the front."""
    faces = [face for face in finder.find_in(picture) if len(face.landmarks)]
    if not faces:
        got = "no face that looks to the camera"
        raise FaceError(f"cannot use the image {name}", got=got, expected="one", fix="use another picture")
    return cut(picture, face_square(faces[0]), side or _FACE_SIDE, filtered=True)
