"""Find the faces of pictures: detection, landmarks, pose and expression."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from topos_rt.engines import AUTO, EngineOptions, choose_backend
from topos_rt.errors import ImageError, OptionError
from topos_rt.faces.bundle import FaceBundle
from topos_rt.faces.detection import Detection, Sides, detections, overlaps, searches
from topos_rt.faces.expression import POINTS, named
from topos_rt.faces.face import HIDDEN_DEGREES, Face, warnings_of
from topos_rt.faces.frames import Frame
from topos_rt.faces.networks import CUT, IDENTITY_CUT, FaceNetworks
from topos_rt.faces.pose import angles, place, place_points
from topos_rt.faces.warp import Square, cut, to_floats
from topos_rt.model.evidence import BIOMETRIC
from topos_rt.pictures.image import read_picture
from topos_rt.pictures.sources import ImageSource
from topos_rt.support.closing import Closing

MOST_FACES = 50
_PRESENT = 0.5
_SURE_PROFILE = 0.6
_LARGE = 0.1
_MARGIN = 1.5  # of the cut around a face, as the landmark network was trained
_PASSES = 2  # the second sees the face where the first found it
_RIGHT_EYE, _LEFT_EYE = 33, 263  # the outer corners
# The eyes' corners and the root of the septum, in the order of dlib's five landmarks, and where they are in
# dlib's aligned picture, 1 wide (dlib/image_transforms/interpolation.h); dlib pads it by a quarter.
_FIVE = (263, 362, 33, 133, 2)
_FIVE_AT = ((0.8595674595992, 0.2134981538014), (0.6460604764104, 0.2289674387677),
            (0.1205750620789, 0.2137274526848), (0.3340850613712, 0.2290642403242),
            (0.4901123135679, 0.6277975316475))  # fmt: skip
_PADDING = 0.25


class FaceFinder(Closing):
    """Finds faces; its networks are loaded once, when they are first needed.

    It is safe to use from several threads.
    """

    def __init__(self, networks: FaceNetworks) -> None:
        """Take over networks."""
        self.networks = networks

    @classmethod
    def open(
        cls,
        backend: str = AUTO,
        threads: int | None = None,
        *,
        cache: str | os.PathLike[str] | None = None,
        bundle: FaceBundle | None = None,
    ) -> FaceFinder:
        """Open a finder. Arguments and errors are those of `HeadPipeline.open`.

        bundle: a face bundle; None is the one that comes with the package.
        """
        options = EngineOptions(threads, cache=None if cache is None else Path(cache))
        return cls(FaceNetworks(choose_backend(backend)[0], options, bundle or FaceBundle.open()))

    def find(self, image: ImageSource, most: int = MOST_FACES) -> list[Face]:
        """Return the faces of a picture, the largest first; at most `most`, of which there may be none.

        Raises ImageError for a picture that cannot be used, OptionError for `most` out of range.
        """
        if type(most) is not int or not 1 <= most <= 1000:
            raise OptionError("most", got=repr(most), expected="a whole number from 1 to 1000")
        return self.find_in(read_picture(image), most)

    def find_in(self, picture: Image.Image, most: int = MOST_FACES) -> list[Face]:
        """Return the faces of an upright RGB picture, as `find` does."""
        faces: list[Face] = []
        for squares in searches(picture.size):
            for detection in detections(picture, squares, self.networks.detect):
                if len(faces) < most and not overlaps(detection.box, [_sides(face.box) for face in faces]):
                    face = self.refine(picture, detection.square(_MARGIN)) or self._profile(
                        picture, detection
                    )
                    faces += [face] if face else []
            # Whoever fills so much of the picture is its subject, and no smaller face is looked for.
            if any(face.size >= _LARGE * max(picture.size) for face in faces):
                break
        return sorted(faces, key=lambda face: -face.size)

    def refine(self, picture: Image.Image, square: Square, passes: int = _PASSES) -> Face | None:
        """Return the face in a square of an RGB picture, or None where the landmark network sees none."""
        for _ in range(passes):
            landmarks, confidence = self.landmarks(picture, square)
            if confidence < _PRESENT:
                return None
            square = square_around(landmarks)
        return self.face(picture, landmarks, confidence)

    def _profile(self, picture: Image.Image, detection: Detection) -> Face | None:
        """Return the face of a sure detection in which no landmarks are found because it looks sideways."""
        placement = place_points(detection.points, self.networks.bundle.canonical)
        yaw, pitch, roll = angles(placement.turn)
        if detection.score < _SURE_PROFILE or abs(yaw) < HIDDEN_DEGREES:
            return None
        left, top, right, bottom = detection.box
        box = (left, top, right - left, bottom - top)
        return Face(
            box=box,
            landmarks=np.zeros((0, 3), np.float32),
            yaw=yaw,
            pitch=pitch,
            roll=roll,
            expression={},
            confidence=detection.score,
            placement=placement,
            warnings=warnings_of(box, yaw, picture.size),
        )

    def landmarks(self, picture: Image.Image, square: Square) -> tuple[np.ndarray, float]:
        """Return the landmarks [478,3] that the network sees in a square, and its confidence."""
        found, confidence = self.networks.landmarks(to_floats(cut(picture, square, CUT)))
        matrix = square.matrix(CUT)
        points = np.empty_like(found)
        points[:, :2] = found[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        points[:, 2] = found[:, 2] * (square.side / CUT)
        return points, confidence

    def face(self, picture: Image.Image | Frame, landmarks: np.ndarray, confidence: float) -> Face:
        """Return the face with given landmarks: its pose and expression are worked out.

        picture: only its size is needed.
        """
        scores = self.networks.expression(landmarks[POINTS, :2][None].astype(np.float32))
        placement = place(landmarks, self.networks.bundle.canonical)
        yaw, pitch, roll = angles(placement.turn)
        low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
        box = (float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))
        return Face(
            box=box,
            landmarks=landmarks.astype(np.float32),
            yaw=yaw,
            pitch=pitch,
            roll=roll,
            expression=named(scores),
            confidence=confidence,
            placement=placement,
            warnings=warnings_of(box, yaw, picture.size),
        )

    def identity(self, image: ImageSource, face: Face) -> np.ndarray:
        """Return the embedding [128] float32 of a face by which people can be told apart.

        It is biometric data. Apart from this method, `topos_rt.faces.evidence` computes it, for models that
        take it as an input: it goes to the image encoder, and is let go once the head is made. Nothing in
        this package keeps it with a head, writes it or logs it. Embeddings of one person are closer to each
        other than those of two, as a rule below 0.6 (dlib's own threshold).
        Raises ImageError for a picture that cannot be used, or a face without landmarks.
        """
        embedding, _ = self.identity_of(read_picture(image), face)
        return embedding[0]

    def identity_of(self, picture: Image.Image, face: Face) -> tuple[np.ndarray, np.ndarray]:
        """Return the embedding [1,128] of a face and the features [1,128,8,8] on the way to it.

        picture: upright, RGB. What `identity` says of privacy holds for both. Raises ImageError.
        """
        return self.networks.identity(aligned_cut(picture, face))

    def warm_up(self, evidence: Sequence[str] | None = None) -> None:
        """Load the networks and run each once; the identity network only where a model's evidence needs it.

        Raises BundleError, BackendError.
        """
        grey = Image.new("RGB", (CUT, CUT), (128, 128, 128))
        whole = Square(CUT / 2, CUT / 2, CUT)
        detections(grey, [whole], self.networks.detect)
        landmarks, confidence = self.landmarks(grey, whole)
        self.face(grey, landmarks, confidence)
        if not BIOMETRIC.isdisjoint(evidence or ()):
            self.networks.identity(np.full((1, IDENTITY_CUT, IDENTITY_CUT, 3), 0.5, np.float32))

    def close(self) -> None:
        """Free the networks. Later calls raise InputError."""
        self.networks.close()


def find_faces(image: ImageSource, most: int = MOST_FACES) -> list[Face]:
    """Return the faces of a picture, the largest first; where there is none, an empty list.

    This opens the networks anew at each call; a `FaceFinder` opens them once for many.

    Args:
        image: as in `HeadPipeline`'s call. Its EXIF orientation is applied; faces of any roll are found.
        most: the largest number of faces to return, 1 to 1000.

    Raises:
        ImageError: the picture cannot be used.
        OptionError: `most` is out of range.
    """
    with FaceFinder.open() as finder:
        return finder.find(image, most)


def square_around(landmarks: np.ndarray) -> Square:
    """Return the square to cut for landmarks [478,3]: the eyes are level, the face fills two thirds of it."""
    across = landmarks[_LEFT_EYE, :2] - landmarks[_RIGHT_EYE, :2]
    # In float64 and with C's functions, so that the C library cuts the same pixels.
    angle = math.atan2(float(across[1]), float(across[0]))
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    turned = landmarks[:468, :2] @ turn
    low, high = turned.min(0), turned.max(0)
    x, y = turn @ ((low + high) / 2)
    return Square(float(x), float(y), float((high - low).max()) * _MARGIN, angle)


def _sides(box: tuple[float, float, float, float]) -> Sides:
    """Return left, top, right and bottom of a box of x, y, width and height."""
    x, y, width, height = box
    return x, y, x + width, y + height


def aligned_cut(picture: Image.Image, face: Face) -> np.ndarray:
    """Return the face of an upright RGB picture as dlib aligns it: [1,150,150,3] float32 in 0..1.

    Raises ImageError for a face without landmarks.
    """
    return to_floats(cut(picture, aligned_square(face), IDENTITY_CUT, filtered=True))


def aligned_square(face: Face) -> Square:
    """Return the square of a face's picture that `aligned_cut` shows. Raises as it does."""
    if not len(face.landmarks):
        raise ImageError("identity", got="a face without landmarks", expected="one that faces the camera")
    target = (np.array(_FIVE_AT) + _PADDING) / (1 + 2 * _PADDING) * IDENTITY_CUT
    return _aligned(target, face.landmarks[list(_FIVE), :2].astype(np.float64), IDENTITY_CUT)


def _aligned(target: np.ndarray, points: np.ndarray, size: int) -> Square:
    """Return the square whose cut of `size` pixels shows points [n,2] nearest to target [n,2]."""
    middle, centre = target.mean(0), points.mean(0)
    a, b = (target - middle) @ [1, 1j], (points - centre) @ [1, 1j]
    turn = (b @ a.conj()) / (a @ a.conj()).real  # the similarity from the cut to the picture, as a number
    place = centre @ [1, 1j] + turn * (complex(size / 2, size / 2) - middle @ [1, 1j])
    return Square(float(place.real), float(place.imag), float(abs(turn)) * size, float(np.angle(turn)))
