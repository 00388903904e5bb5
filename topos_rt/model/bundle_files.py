"""The files of a bundle: listed when it is written, and checked against its manifest when it is opened.

All kinds of bundles have such a list: models, the face stage and the release's texture stage.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from topos_rt.engines.locations import locations
from topos_rt.errors import BundleError
from topos_rt.model.manifest import MANIFEST_NAME, FileInfo
from topos_rt.support.machine import sha256_of, usable_cores
from topos_rt.support.strictjson import AGAIN

MAX_MANIFEST_BYTES = 1 << 20
_HASHERS = 4  # threads; a disk is the limit soon


class Listing(Protocol):
    """A manifest, as far as `check_files` reads it."""

    @property
    def files(self) -> Mapping[str, FileInfo]: ...

    @property
    def weight_files(self) -> Mapping[str, str]: ...

    def graph_files(self) -> tuple[str, ...]: ...

    def references(self) -> Iterator[str]: ...


def listed_files(root: Path, manifest_name: str = MANIFEST_NAME) -> dict[str, FileInfo]:
    """Return the size and SHA-256 of every file in a directory but the manifest.

    Raises BundleError where one is not plain, leads outside or cannot be read.
    """
    paths = {name: _inside(root, name) for name in sorted(_walk(root, manifest_name))}
    return {name: FileInfo(path.stat().st_size, _sha256(path)) for name, path in paths.items()}


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
    check_references(manifest)
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


def check_references(manifest: Listing) -> None:
    """Raise BundleError where a manifest refers to a file that it does not list."""
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
