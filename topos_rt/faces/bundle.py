"""The face bundle: the networks of the face stage on disk, which come with the package.

`python -m export face` makes it. It is a directory with `face.json` and the files that it lists, which are
verified as those of a model bundle are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.errors import BundleError
from topos_rt.model.bundle_files import check_files, listed_files, read_manifest
from topos_rt.model.manifest import FileInfo
from topos_rt.support.files import write_atomic
from topos_rt.support.strictjson import AGAIN, describe, parse_object, read_as, refuse
from topos_rt.support.tensorfile import read_tensors

FORMAT = "topos_rt.face"
VERSION = 2  # since 2, face_identity has the output `features`
MANIFEST_NAME = "face.json"
NETWORKS = ("face_detector", "face_landmarks", "face_expression", "face_identity")
_PACKAGED = Path(__file__).parents[1] / "bundles" / "face"


@dataclass(frozen=True)
class FaceManifest:
    """The whole of `face.json`. Raises BundleError for invalid values."""

    name: str
    description: str
    licence: str
    graphs: Mapping[str, str]  # one ONNX file for each of NETWORKS
    canonical: str  # the file of the canonical face
    files: Mapping[str, FileInfo] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if set(self.graphs) != set(NETWORKS):
            refuse("graphs", ", ".join(self.graphs) or "nothing", f"one for each of: {', '.join(NETWORKS)}")

    @property
    def weight_files(self) -> Mapping[str, str]:
        """No graph keeps its weights in another file."""
        return {}

    def graph_files(self) -> tuple[str, ...]:
        """Return the names of the ONNX files."""
        return tuple(self.graphs.values())

    def references(self) -> Iterator[str]:
        """Yield the names of the files that the manifest assigns a role to."""
        yield from self.graph_files()
        yield self.canonical

    @classmethod
    def from_json(cls, data: bytes) -> FaceManifest:
        """Read JSON text. Raises BundleError naming the key that is wrong."""
        tree = parse_object(data)
        for key, wanted in (("format", FORMAT), ("version", VERSION)):
            if (found := tree.pop(key, None)) != wanted:
                refuse(key, describe(found), repr(wanted))
        manifest = read_as(cls, tree)
        assert isinstance(manifest, FaceManifest)
        return manifest

    def to_json(self) -> str:
        """Return JSON text that `from_json` reads back."""
        tree: dict[str, Any] = {"format": FORMAT, "version": VERSION} | asdict(self)
        return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@dataclass(frozen=True, eq=False)
class CanonicalFace:
    """A face of average shape: where each landmark lies on it.

    The first 468 of the 478 landmarks; the others are the irises, which move.
    """

    positions: np.ndarray  # [468,3] float32, centimetres, +Y up, facing +Z
    weights: np.ndarray  # [468] float32; how much each counts for the pose, 0 for what expressions move
    triangles: np.ndarray  # [898,3] int32
    mirrored: np.ndarray  # [468] int32; the landmark on the other side of the face

    def __post_init__(self) -> None:
        shapes = {"positions": (468, 3), "weights": (468,), "triangles": (898, 3), "mirrored": (468,)}
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or not np.isfinite(array).all():
                raise BundleError(f"canonical face, {name}", got=array.shape, expected=shape, fix=AGAIN)
        for name in ("triangles", "mirrored"):
            array = getattr(self, name)
            if array.min() < 0 or array.max() >= 468:
                raise BundleError(
                    f"canonical face, {name}", got="ids out of range", expected="0 to 467", fix=AGAIN
                )

    @classmethod
    def load(cls, path: Path) -> CanonicalFace:
        """Read a safetensors file. Raises BundleError."""
        tensors, _ = read_tensors(path)
        names = ("positions", "weights", "triangles", "mirrored")
        if set(tensors) != set(names):
            raise BundleError(
                f"file {path.name}", got=", ".join(tensors), expected=", ".join(names), fix=AGAIN
            )
        return cls(**tensors)


@dataclass(frozen=True, eq=False)
class FaceBundle:
    """A verified face bundle."""

    path: Path
    manifest: FaceManifest
    canonical: CanonicalFace

    @classmethod
    def open(cls, path: Path | None = None, verify: bool = True) -> FaceBundle:
        """Open a face bundle; None is the one that comes with the package.

        verify: False skips only the SHA-256 of each file.
        Raises BundleError where it is missing, malformed or altered.
        """
        path = path or _PACKAGED
        manifest = FaceManifest.from_json(read_manifest(path, MANIFEST_NAME))
        check_files(path, manifest, verify, MANIFEST_NAME)
        return cls(path, manifest, CanonicalFace.load(path / manifest.canonical))

    def graph(self, name: str) -> Path:
        """Return the ONNX file of one of NETWORKS."""
        return self.path / self.manifest.graphs[name]


def write_face_manifest(directory: Path, manifest: FaceManifest) -> FaceManifest:
    """Finish a face bundle: list every file with its size and SHA-256, and write `face.json`.

    Raises BundleError for a file that is missing or has an invalid name, OutputError.
    """
    files = dict(asdict(manifest), files=listed_files(directory, MANIFEST_NAME))
    manifest = FaceManifest(**files)
    write_atomic(directory / MANIFEST_NAME, manifest.to_json().encode())
    check_files(directory, manifest, False, MANIFEST_NAME)
    return manifest
