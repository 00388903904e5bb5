"""A model bundle: a directory with `manifest.json` and the files it lists, verified when it is opened.

The bundle is the one interface between `export/`, which writes it, and the runtime, which reads it.
"""

from __future__ import annotations

import dataclasses
import os
import posixpath
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from topos_rt.engines.locations import locations
from topos_rt.errors import BundleError, MeshInputError, choose
from topos_rt.flow.variation import Variation
from topos_rt.head.atlas import Atlas
from topos_rt.head.hierarchy import Hierarchy
from topos_rt.head.landmark_map import LandmarkMap
from topos_rt.head.part_kit import PartKit
from topos_rt.head.rig import Rig
from topos_rt.head.topology import Topology
from topos_rt.model.landmark_response import LandmarkResponse
from topos_rt.model.manifest import MANIFEST_NAME, FileInfo, Manifest
from topos_rt.support.directories import recover
from topos_rt.support.files import refuse_url, write_atomic
from topos_rt.support.machine import sha256_of, usable_cores
from topos_rt.support.strictjson import AGAIN

MAX_MANIFEST_BYTES = 1 << 20
_HASHERS = 4  # threads; a disk is the limit soon
_PACKAGED = Path(__file__).parents[1] / "bundles"


def known_bundles() -> dict[str, Path]:
    """Return name -> directory of the bundles that come with the package."""
    return {path.parent.name: path.parent for path in sorted(_PACKAGED.glob(f"*/{MANIFEST_NAME}"))}


class Listing(Protocol):
    """What is needed of a manifest to check a bundle's files."""

    @property
    def files(self) -> Mapping[str, FileInfo]: ...

    @property
    def weight_files(self) -> Mapping[str, str]: ...

    def graph_files(self) -> tuple[str, ...]: ...

    def references(self) -> Iterator[str]: ...


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
    _check_references(manifest)
    manifest = dataclasses.replace(manifest, weight_files=weight_files_of(root, manifest))
    _check_references(manifest)
    text = manifest.to_json()
    Manifest.from_json(text)  # what this writes must be readable
    write_atomic(root / MANIFEST_NAME, text.encode())
    return manifest


def listed_files(root: Path, manifest_name: str = MANIFEST_NAME) -> dict[str, FileInfo]:
    """Return the size and SHA-256 of every file in a directory but the manifest.

    Raises BundleError where one is not plain, leads outside or cannot be read.
    """
    paths = {name: _inside(root, name) for name in sorted(_walk(root, manifest_name))}
    return {name: FileInfo(path.stat().st_size, _sha256(path)) for name, path in paths.items()}


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


def read_manifest(path: Path, manifest_name: str = MANIFEST_NAME) -> bytes:
    """Return the bytes of a bundle's manifest. Raises BundleError where it is missing or too large."""
    file = _inside(path, manifest_name)
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise _unreadable(manifest_name, error) from error
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(manifest_name, got="more than 1 MiB", expected="a few kilobytes", fix=AGAIN)
    return data


def check_files(path: Path, manifest: Listing, hashes: bool, manifest_name: str = MANIFEST_NAME) -> None:
    """Check a bundle's files against its manifest; hashes: whether to check every SHA-256, too.

    Raises BundleError for a file that is missing, altered, unlisted or outside the directory.
    """
    _check_references(manifest)
    unlisted = sorted(set(_walk(path, manifest_name)) - set(manifest.files))
    if unlisted:
        raise BundleError(
            "file in a bundle that its manifest does not list",
            got=repr(unlisted[0]),
            expected="only listed files",
            fix="remove it, or export the bundle again",
        )
    files = {name: _inside(path, name) for name in manifest.files}
    for name, info in manifest.files.items():
        size = files[name].stat().st_size
        if size != info.bytes:
            raise BundleError(
                f"size of bundle file {name}", got=f"{size} bytes", expected=info.bytes, fix=AGAIN
            )
    # Other threads hash, while this one looks for references, which no other may do at the same time.
    with ThreadPoolExecutor(min(_HASHERS, usable_cores())) as pool:
        digests = pool.map(_sha256, files.values() if hashes else ())
        held = _held(path, manifest)
        for name, digest in zip(files, digests, strict=False):
            if digest != manifest.files[name].sha256:
                expected = manifest.files[name].sha256
                raise BundleError(f"sha256 of bundle file {name}", got=digest, expected=expected, fix=AGAIN)
    if isinstance(held, BundleError):
        raise held
    # This does not depend on `hashes`: no weights may be loaded that no hash covers.
    if held != manifest.weight_files:
        name = min(name for name, _ in held.items() ^ manifest.weight_files.items())
        raise BundleError(
            f"file of the weights of graph {name}",
            got=held.get(name, "none"),
            expected=manifest.weight_files.get(name, "none"),
            fix=AGAIN,
        )


def _held(path: Path, manifest: Listing) -> dict[str, str] | BundleError:
    """Return what `weight_files_of` returns or raises: a file that was altered is to be called that first."""
    try:
        return weight_files_of(path, manifest)
    except BundleError as error:
        return error


def weight_files_of(root: Path, manifest: Listing) -> dict[str, str]:
    """Return ONNX file -> the file of its weights, for the graphs whose weights are in another file."""
    found = {name: _weight_file(root, name) for name in manifest.graph_files()}
    return {name: file for name, file in found.items() if file is not None}


def _weight_file(root: Path, name: str) -> str | None:
    """Return the file in which a graph keeps its weights, or None where they are inside the graph."""
    try:
        found = locations(_inside(root, name).read_bytes())
    except OSError as error:
        raise _unreadable(name, error) from error
    except ValueError as error:
        raise _strange_weights(name, error) from error
    if len(found) > 1:
        raise _strange_weights(name, f"several files: {', '.join(sorted(found))[:200]}")
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), found.pop())) if found else None


def _strange_weights(name: str, got: object) -> BundleError:
    return BundleError(
        f"weights of graph {name}",
        got=got,
        expected="weights inside the graph, or all in one file",
        fix=AGAIN,
    )


def _check_references(manifest: Listing) -> None:
    for name in manifest.references():
        if name not in manifest.files:
            raise BundleError(
                "manifest key 'files'", got=f"no entry for {name!r}", expected="every file", fix=AGAIN
            )


def _walk(root: Path, manifest_name: str) -> Iterator[str]:
    """Yield the names of all but the manifest and plain directories; links are not followed."""

    def fail(error: OSError) -> None:
        raise _unreadable(error.filename, error) from error

    for directory, subdirectories, files in os.walk(root, onerror=fail):
        links = [name for name in subdirectories if os.path.islink(os.path.join(directory, name))]
        for name in files + links:
            relative = Path(directory, name).relative_to(root).as_posix()
            if relative != manifest_name:
                yield relative


def _inside(root: Path, name: str) -> Path:
    """Return the plain file `name` of the bundle. It may be a link, but only one that stays in the bundle."""
    try:
        if name == os.path.basename(name) and stat.S_ISREG((root / name).lstat().st_mode):
            return root / name  # nearly every file: there is no link to follow, which takes a process longer
        real = Path(os.path.realpath(root / name, strict=True))
        mode = real.stat().st_mode
    except FileNotFoundError as error:
        raise BundleError(
            f"bundle file {name}", got="no such file", expected=f"it in {root}", fix=AGAIN
        ) from error
    except OSError as error:
        raise _unreadable(name, error) from error
    if not real.is_relative_to(os.path.realpath(root)):
        raise BundleError(
            f"bundle file {name}", got=f"a link to {real}", expected="a file in the bundle", fix=AGAIN
        )
    if not stat.S_ISREG(mode):
        raise BundleError(
            f"bundle file {name}", got="a directory or device", expected="a plain file", fix=AGAIN
        )
    return real


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise _unreadable(path.name, error) from error


def _unreadable(name: str, error: OSError) -> BundleError:
    return BundleError(
        f"bundle file {name}", got=error.strerror or error, expected="a readable file", fix=AGAIN
    )
