"""Graphs as onnxruntime has optimised them, kept on disk beside the engine cache.

To optimise a graph takes most of the time of opening it, and gives the same each time. What is kept holds for
one version of onnxruntime and one kind of processor: both are in the key, with the SHA-256 of the graph and
of its weights. An entry is a directory of three files: the graph, its weights, which onnxruntime maps into
memory, and a JSON file, written last, that says what the graph takes and gives. It is signed, as plans are
(`topos_rt.engines.trust`), and has the hash of the graph, but of the weights only the size: to hash them
would take longer than to open the graph.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from topos_rt.engines import trust
from topos_rt.engines.cache import default_root, warn
from topos_rt.errors import BundleError, OutputError
from topos_rt.support.arrays import TensorSpec
from topos_rt.support.files import flush_directory, make_directories, write_atomic
from topos_rt.support.machine import sha256_of
from topos_rt.support.strictjson import parse_object, read_as

T = TypeVar("T")
Specs = Mapping[str, TensorSpec]
GRAPH, WEIGHTS, ABOUT = "graph.onnx", "weights.bin", "about.json"
LIMIT_BYTES = 1 << 30
_FORMAT = "topos_rt.session/1"
_PART = ".part"
_LEFT_OVER_S = 24 * 3600
_MAX_ABOUT = 1 << 20
_told: set[Path] = set()  # directories that this process has been warned of


@dataclass(frozen=True)
class SessionKey:
    """Everything that an optimised graph depends on."""

    graph: str  # file name, for people
    graph_sha256: str
    weights: tuple[str, ...]  # SHA-256 of each file
    onnxruntime: str  # version and build
    processor: str

    @property
    def name(self) -> str:
        """The name of the entry's directory."""
        facts = json.dumps([_FORMAT, dataclasses.astuple(self)])
        return f"{Path(self.graph).stem}-{hashlib.sha256(facts.encode()).hexdigest()[:24]}"


@dataclass(frozen=True)
class Tensor:
    """One input or output of a graph."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class About(trust.Signed):
    """The JSON file of an entry."""

    format: str
    graph_sha256: str  # of the optimised graph
    weights_bytes: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    digest: str = ""  # of all the other fields and of the entry's name


@dataclass(frozen=True)
class Kept:
    """An optimised graph that is there, and what it takes and gives."""

    path: Path
    inputs: Specs
    outputs: Specs


class SessionCache:
    """The optimised graphs under one cache directory, which is created at the first `keep`."""

    def __init__(self, root: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        """Prepare the cache. Raises OutputError where nothing says where it is to be."""
        self.directory = (root or default_root()) / "sessions"
        self._limit = limit_bytes

    def find(self, key: SessionKey) -> Kept | None:
        """Return the entry of a key, or None. One that is damaged is removed, with an EngineCacheWarning."""
        folder = self.directory / key.name
        try:
            for place in (self.directory, folder):
                if told := trust.fault(place.stat()):
                    raise trust.Untrusted(told)
            about = _read(folder)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, trust.Untrusted) as error:  # another time, or to another user, it may be of use
            if self.directory not in _told:  # it holds for all entries, as a rule
                _told.add(self.directory)
                warn(f"optimised graphs in {self.directory} are not used: {error}")
            return None
        except ValueError as error:
            warn(f"the optimised graph {folder} is not used: {error}; it is made anew")
            self.discard(key)
            return None
        with contextlib.suppress(OSError):  # a cache that is read-only is still usable
            os.utime(folder / ABOUT)
        return Kept(folder / GRAPH, _specs(about.inputs), _specs(about.outputs))

    def keep(
        self, key: SessionKey, make: Callable[[Path], T], about: Callable[[T], tuple[Specs, Specs]]
    ) -> T:
        """Return what `make` returns, which writes GRAPH and WEIGHTS into a directory, and keep these.

        about: returns the inputs and outputs. Raises OutputError where nothing can be kept, after `make` or
        before it, and what `make` raises.
        """
        part = self.directory / f"{key.name}.{secrets.token_hex(6)}{_PART}"
        try:
            make_directories(self.directory, 0o700)  # private: who can write here can change heads
            if told := trust.fault(self.directory.stat()):
                raise OutputError(f"the cache {self.directory}", got=told, expected="a directory of your own")
            part.mkdir(0o700)
        except OSError as error:
            raise OutputError(f"the cache {self.directory}", got=error.strerror) from error
        try:
            made = make(part)
            self._finish(key, part, *about(made))
        except OSError as error:
            raise OutputError(f"the cache {self.directory}", got=error.strerror) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self._trim(key.name)
        return made

    def discard(self, key: SessionKey) -> None:
        """Remove the entry of a key."""
        shutil.rmtree(self.directory / key.name, ignore_errors=True)

    def clear(self) -> None:
        """Remove all entries."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _finish(self, key: SessionKey, part: Path, inputs: Specs, outputs: Specs) -> None:
        weights = part / WEIGHTS
        weights.touch()  # a graph may have none
        for file in (part / GRAPH, weights):
            _flush(file)
        # What will be read back is signed: tuples of JSON are lists there.
        about = About(
            _FORMAT, sha256_of(part / GRAPH), weights.stat().st_size, _tensors(inputs), _tensors(outputs)
        )
        about = dataclasses.replace(about, digest=trust.digest(key.name, about.signed_part()))
        text = json.dumps(dataclasses.asdict(about), indent=1) + "\n"
        write_atomic(part / ABOUT, text.encode(), mode=trust.PRIVATE)
        self.discard(key)  # what could not be used
        with contextlib.suppress(OSError):  # another process has been quicker: its entry is the same
            os.rename(part, self.directory / key.name)
        flush_directory(self.directory)

    def _trim(self, keep: str) -> None:
        """Remove the least recently used entries while all take more than the limit, and left-overs."""
        now, found = time.time(), []
        with contextlib.suppress(OSError):
            for folder in self.directory.iterdir():
                with contextlib.suppress(OSError):
                    if folder.suffix == _PART:
                        if folder.stat().st_mtime < now - _LEFT_OVER_S:
                            shutil.rmtree(folder, ignore_errors=True)
                        continue
                    size = sum(file.stat().st_size for file in folder.iterdir())
                    found.append(((folder / ABOUT).stat().st_mtime, size, folder))
        total = sum(size for _, size, _ in found)
        for _, size, folder in sorted(found):
            if total <= self._limit:
                break
            if folder.name != keep:
                shutil.rmtree(folder, ignore_errors=True)
                total -= size


def _read(folder: Path) -> About:
    """Return what an entry says. Raises ValueError for one that is damaged, trust.Untrusted and OSError."""
    data = trust.read_private(folder / ABOUT, _MAX_ABOUT)
    try:
        about: About = read_as(About, parse_object(data))
    except BundleError as error:
        raise ValueError(f"its {ABOUT} is not one of ours (got {error.got})") from error
    if about.format != _FORMAT:
        raise ValueError(f"its {ABOUT} has the format {about.format!r}")
    trust.verify(folder.name, about.signed_part(), about.digest)
    for name in (GRAPH, WEIGHTS):
        if not (folder / name).is_file() or (folder / name).is_symlink():
            raise ValueError(f"its {name} is missing")
    if hashlib.sha256(trust.read_private(folder / GRAPH)).hexdigest() != about.graph_sha256:
        raise ValueError(f"its {GRAPH} is damaged")
    status = (folder / WEIGHTS).stat()
    if told := trust.fault(status):
        raise trust.Untrusted(f"{WEIGHTS}: {told}")
    if status.st_size != about.weights_bytes:
        raise ValueError(f"its {WEIGHTS} has {status.st_size} bytes, not {about.weights_bytes}")
    return about


def _flush(path: Path) -> None:
    os.chmod(path, trust.PRIVATE)
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _tensors(specs: Specs) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, spec.shape, spec.dtype.name) for name, spec in specs.items())


def _specs(tensors: tuple[Tensor, ...]) -> dict[str, TensorSpec]:
    found: dict[str, Any] = {each.name: TensorSpec(each.shape, np.dtype(each.dtype)) for each in tensors}
    return found
