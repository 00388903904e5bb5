"""A model bundle: a directory with `manifest.json` and the files it lists, verified when it is opened.

The bundle is the one interface between `export/`, which writes it, and the runtime, which reads it.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from topos_rt.errors import BundleError, MeshInputError, choose
from topos_rt.flow.variation import Variation
from topos_rt.head.atlas import Atlas
from topos_rt.head.hierarchy import Hierarchy
from topos_rt.head.landmark_map import LandmarkMap
from topos_rt.head.part_kit import PartKit
from topos_rt.head.rig import Rig
from topos_rt.head.topology import Topology
from topos_rt.model.bundle_files import (
    check_files,
    check_references,
    listed_files,
    read_manifest,
    weight_files_of,
)
from topos_rt.model.landmark_response import LandmarkResponse
from topos_rt.model.manifest import MANIFEST_NAME, Manifest
from topos_rt.support.directories import recover
from topos_rt.support.files import refuse_url, write_atomic
from topos_rt.support.strictjson import AGAIN

_PACKAGED = Path(__file__).parents[1] / "bundles"


def known_bundles() -> dict[str, Path]:
    """Return name -> directory of the bundles that come with the package."""
    return {path.parent.name: path.parent for path in sorted(_PACKAGED.glob(f"*/{MANIFEST_NAME}"))}


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified model bundle."""

    path: Path
    manifest: Manifest
    topology: Topology
    rig: Rig | None
    variation: Variation | None = None

    def __repr__(self) -> str:
        return f"<Bundle: {self.manifest.name} in {self.path}>"

    @classmethod
    def open(cls, model: str | os.PathLike[str] = "mini", verify: bool = True) -> Bundle:
        """Open and verify a bundle.

        Args:
            model: the name of a packaged bundle ("mini"), or a directory.
            verify: False skips only the SHA-256 of each file, for a bundle that was verified before. Where
                its graphs keep their weights is checked in any case.

        Raises:
            BundleError: there is no such bundle (one that a killed process had moved aside is put back
                first); the manifest is malformed; a file is missing, altered, unlisted or outside the
                directory; topology and rig do not fit; the variation is none of such latents.
        """
        path = _locate(model)
        manifest = Manifest.from_json(read_manifest(path))
        check_files(path, manifest, verify)
        try:
            topology = Topology.load(path / manifest.topology)
            rig = None if manifest.rig is None else Rig.load(path / manifest.rig)
        except MeshInputError as error:
            raise BundleError(
                "bundle data", got=error.brief, expected="sound topology and rig files", fix=AGAIN
            ) from error
        if rig is not None and rig.num_vertices != topology.num_vertices:
            raise BundleError(
                "rig and topology of a bundle do not fit",
                got=f"a rig of {rig.num_vertices} vertices",
                expected=f"{topology.num_vertices}",
                fix=AGAIN,
            )
        variation = None
        if manifest.variation is not None:
            size = manifest.latent.tokens * manifest.latent.channels
            variation = Variation.load(path / manifest.variation, size)
        return cls(path, manifest, topology, rig, variation)

    def graph(self, name: str, precision: str = "fp32") -> Path:
        """Return the ONNX file of a graph in "fp32" or, with FP16 operands, in "fp16".

        Inputs and outputs are FP32 in both. Raises BundleError where the bundle has no FP16 form.
        """
        forms = {"fp32": self.manifest.graphs, "fp16": self.manifest.graphs_fp16}
        files = choose(precision, forms, "precision")
        if files is None:
            raise BundleError("FP16 graphs of the bundle", got="none", fix=f"{AGAIN}, or use fp32")
        return self.path / str(getattr(files, name))

    def graph_at_once(self, name: str, precision: str | None) -> Path | None:
        """Return the ONNX file of a graph that takes several heads at once, None where there is none."""
        files = (self.manifest.graphs_at_once or {}).get(precision or "")
        return None if files is None else self.path / str(getattr(files, name))

    def weights(self, graph: Path) -> Path | None:
        """Return the file with the weights of an ONNX file of the bundle, or None if they are inside it."""
        name = self.manifest.weight_files.get(graph.relative_to(self.path).as_posix())
        return None if name is None else self.path / name

    @cached_property
    def hierarchy(self) -> Hierarchy:
        """The decoder's pyramid of mesh graphs. Networks run without it, so it is read at first use."""
        return Hierarchy.load(self.path / self.manifest.hierarchy)

    @cached_property
    def landmarks(self) -> LandmarkMap | None:
        """Where the landmarks of a face lie on the model's heads, read at first use; None without such a map.

        Raises BundleError for a file that is not a landmark map, or that of another topology.
        """
        if self.manifest.landmarks is None:
            return None
        found = LandmarkMap.load(self.path / self.manifest.landmarks)
        if found.num_vertices != self.topology.num_vertices:
            raise BundleError(
                "landmark map and topology of a bundle do not fit",
                got=f"a map of {found.num_vertices} vertices",
                expected=f"{self.topology.num_vertices}",
                fix=AGAIN,
            )
        return found

    @cached_property
    def landmark_response(self) -> LandmarkResponse | None:
        """How the model's latents move landmarks, read at first use; None for a bundle without it.

        Raises BundleError for a file that is no such thing, or that of other latents.
        """
        if self.manifest.landmark_response is None:
            return None
        latent = self.manifest.latent
        size = latent.tokens * latent.channels
        return LandmarkResponse.load(self.path / self.manifest.landmark_response, size)

    @cached_property
    def atlas(self) -> Atlas | None:
        """How textures lie on the model's heads, read at first use; None for a bundle without one.

        Raises BundleError for a file that is no atlas, or that of another topology.
        """
        if self.manifest.atlas is None:
            return None
        found = Atlas.load(self.path / self.manifest.atlas)
        last = int(found.warp_vertices.max(initial=0))
        if len(found.uvs) != len(self.topology.uvs) or last >= self.topology.num_vertices:
            raise BundleError(
                "atlas and topology of a bundle do not fit",
                got=f"an atlas of {len(found.uvs)} UVs and {last + 1} vertices or more",
                expected=f"{len(self.topology.uvs)} and {self.topology.num_vertices}",
                fix=AGAIN,
            )
        return found

    @cached_property
    def parts(self) -> PartKit | None:
        """The teeth and lashes of the model's heads, read at first use; None for a bundle without them.

        Raises BundleError for a file that is no such thing, or that of another topology.
        """
        if self.manifest.parts is None:
            return None
        found = PartKit.load(self.path / self.manifest.parts)
        vertices, uvs = self.topology.num_vertices, len(self.topology.uvs)
        if found.last_vertex >= vertices or (len(found.head_shade), len(found.surfaces)) != (vertices, uvs):
            raise BundleError(
                "parts and topology of a bundle do not fit",
                got=f"parts of {max(found.last_vertex + 1, len(found.head_shade))} vertices and"
                f" {len(found.surfaces)} UVs",
                expected=f"{vertices} and {uvs}",
                fix=AGAIN,
            )
        return found


def write_manifest(directory: str | os.PathLike[str], manifest: Manifest) -> Manifest:
    """Finish a bundle: list every file in `directory` with its size and SHA-256, and write `manifest.json`.

    Returns the manifest as written; `files` and `weight_files` of the given one are ignored.

    Raises:
        BundleError: a file that the manifest names is missing, or a file is not plain or has an invalid name.
        OutputError: the manifest cannot be written.
    """
    root = Path(directory)
    manifest = dataclasses.replace(manifest, files=listed_files(root), weight_files={})
    check_references(manifest)
    manifest = dataclasses.replace(manifest, weight_files=weight_files_of(root, manifest))
    check_references(manifest)
    text = manifest.to_json()
    Manifest.from_json(text)  # what this writes must be readable
    write_atomic(root / MANIFEST_NAME, text.encode())
    return manifest


def _locate(model: str | os.PathLike[str]) -> Path:
    known = known_bundles()
    if isinstance(model, str) and model in known:
        return known[model]
    path = Path(model)
    if isinstance(model, str):
        refuse_url(model, f"model {model}")
    try:
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            if not recover(path):
                raise
            mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL byte inside the name
        expected = f"a packaged model ({', '.join(known) or 'there is none'}) or the directory of a bundle"
        raise BundleError("no such model", got=repr(str(model)), expected=expected) from error
    if not stat.S_ISDIR(mode):
        raise BundleError(
            f"model {path}", got="a file", expected="the directory of a bundle", fix="name its directory"
        )
    return path
