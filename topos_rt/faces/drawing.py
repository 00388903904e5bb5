"""Draw what was seen of a picture: the part that the model got, with the landmarks on it."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from topos_rt.faces.bundle import CanonicalFace
from topos_rt.faces.face import Face
from topos_rt.faces.warp import Square, cut

_MESH = (120, 255, 190)
_BOX = (255, 214, 90)
_FEATURES = (
    # The outlines of the face, the eyes, the brows and the lips, as chains of landmarks.
    (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176,
     149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109, 10),
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246, 33),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466, 263),
    (70, 63, 105, 66, 107), (336, 296, 334, 293, 300),
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185, 61),
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191, 78),
    (168, 6, 197, 195, 5, 4),
)  # fmt: skip
_IRISES = ((468, 469), (473, 474))  # centre, and a point of the rim


def draw_portrait(
    picture: Image.Image, face: Face | None, square: Square, size: int, canonical: CanonicalFace | None = None
) -> np.ndarray:
    """Return a square of an RGB picture with the landmarks of a face drawn on it: [size,size,3] uint8.

    canonical: draw the whole mesh of landmarks, too.
    """
    shown = cut(picture, square, size, filtered=True)
    if face is not None:
        matrix = square.matrix(size)
        turn = np.linalg.inv(matrix[:, :2])
        _draw(shown, (face.landmarks[:, :2] - matrix[:, 2]) @ turn.T, canonical)
    return np.asarray(shown)


def draw_faces(
    picture: Image.Image, faces: list[Face], canonical: CanonicalFace | None = None
) -> Image.Image:
    """Return an RGB picture with boxes and landmarks of its faces drawn on a copy, numbered from 1."""
    drawn = picture.copy()
    for number, face in enumerate(faces, 1):
        x, y, width, height = face.box
        _draw(drawn, face.landmarks[:, :2], canonical)
        line = max(1, round(max(picture.size) / 500))
        brush = ImageDraw.Draw(drawn)
        brush.rectangle((x, y, x + width, y + height), outline=_BOX, width=line)
        brush.text((x + 2 * line, y + line), str(number), fill=_BOX, font_size=max(10, 8 * line))
    return drawn


def _draw(picture: Image.Image, points: np.ndarray, canonical: CanonicalFace | None) -> None:
    """Draw landmarks [478,2], or none, on a picture."""
    if not len(points):
        return
    brush = ImageDraw.Draw(picture, "RGBA")
    line = max(1, round(float(np.ptp(points, axis=0).max()) / 150))
    if canonical is not None:
        for triangle in canonical.triangles:
            brush.polygon([tuple(points[corner]) for corner in triangle], outline=(*_MESH, 70))
    for chain in _FEATURES:
        brush.line([tuple(points[i]) for i in chain], fill=(*_MESH, 230), width=line, joint="curve")
    for centre, rim in _IRISES:
        x, y = points[centre]
        radius = float(np.linalg.norm(points[rim] - points[centre]))
        brush.ellipse((x - radius, y - radius, x + radius, y + radius), outline=(*_MESH, 230), width=line)
