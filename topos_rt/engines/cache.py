"""A cache on disk of built engines, keyed by everything that they were built from.

An entry is three files with one stem in a directory that is private to the user: the plan, a JSON sidecar
that says what it was built from, and TensorRT-RTX's runtime cache of compiled kernels. Plans are code: only a
complete plan that this program wrote for the same key, as this user, is loaded: `topos_rt.engines.trust`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from topos_rt.engines import trust
from topos_rt.errors import BundleError, OutputError
from topos_rt.support.files import check_writable, make_directories, write_atomic
from topos_rt.support.strictjson import parse_object, read_as

if TYPE_CHECKING:
    from filelock import BaseFileLock

ENVIRONMENT = "TOPOS_RT_CACHE"
FORMAT = "topos_rt.engine/2"
LIMIT_BYTES = 16 << 30
REMEDY = f"name another directory with --cache or {ENVIRONMENT}, or make this one writable"

_STEM = re.compile(r"(?P<stem>[\w.-]+-[0-9a-f]{24})(\.[\w-]+)?\.(plan|json|jit|lock)")
_LEFT_OVER = re.compile(r"\.topos-rt-[0-9a-f]{12}\.tmp")
_LEFT_OVER_S = 24 * 3600
_POLL_S = 0.05
_MAX_SIDECAR = 1 << 20


class EngineCacheWarning(UserWarning):
    """Something in the engine cache could not be used; the engine was built anew."""


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on."""

    graph: str  # file name; the only field that `digest` leaves out
    graph_sha256: str
    weights: Mapping[str, str]  # file name -> SHA-256
    backend: str
    backend_version: str
    compute_capability: str  # such as "8.9", or "portable"
    precision: str
    recipe: int  # raised when topos_rt changes how it builds
    halved: str = ""  # inputs and outputs that are FP16 though the graph's are not

    @property
    def digest(self) -> str:
        """The SHA-256 of everything but the file name."""
        facts = dataclasses.asdict(self)
        del facts["graph"]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    @property
    def stem(self) -> str:
        """The name of the entry's files, without suffixes."""
        name = re.sub(r"[^\w.-]", "_", Path(self.graph).stem)
        return f"{name}-{self.digest[:24]}"


@dataclass(frozen=True)
class BuildReport:
    """The facts that are known about a build."""

    seconds: float
    # Layers of the parsed network but for constants and shape arithmetic: precision -> kind -> number.
    layers: Mapping[str, Mapping[str, int]]
    wide_products: Mapping[str, str]  # matrix products and convolutions with FP32 operands: name -> kind
    memory: Mapping[str, int]  # bytes on the device: "weights", "activations", "inputs_outputs"


@dataclass(frozen=True)
class PlanFile:
    """The size and SHA-256 of a plan."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Sidecar(trust.Signed):
    """The JSON file beside a plan."""

    format: str
    key: EngineKey
    plan: PlanFile
    build: BuildReport
    created: str  # UTC
    digest: str = ""  # of all the other fields, and of the entry's name: see `topos_rt.engines.trust`

    @classmethod
    def load(cls, path: Path) -> Sidecar:
        """Read a sidecar. Raises ValueError saying what is wrong with it, OSError where it cannot be read."""
        data = trust.read_private(path, _MAX_SIDECAR + 1)
        try:
            sidecar: Sidecar = read_as(cls, parse_object(data))
        except BundleError as error:
            raise ValueError(f"its sidecar is not one of ours ({error.what}: got {error.got})") from error
        if sidecar.format != FORMAT:
            raise ValueError(f"its sidecar has the format {sidecar.format!r}, not {FORMAT!r}")
        trust.verify(path.stem, sidecar.signed_part(), sidecar.digest)
        return sidecar


@dataclass(frozen=True)
class Found:
    """A complete plan that was built for the key."""

    plan: bytes
    build: BuildReport


@dataclass(frozen=True)
class Entry:
    """An entry as `doctor` lists it."""

    name: str
    bytes: int  # of all its files
    last_used: float  # seconds since the epoch
    key: EngineKey | None  # None where the sidecar is not valid
    fault: str | None


def default_root() -> Path:
    """Return the directory of all caches: TOPOS_RT_CACHE, else the user's cache directory.

    Raises OutputError where neither is known.
    """
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    from platformdirs import user_cache_path

    path = user_cache_path("topos-rt", appauthor=False)
    if not path.is_absolute():  # platformdirs leaves "~" where nothing says what it is
        raise OutputError(
            "the engine cache", got="no home directory", fix=f"set {ENVIRONMENT} to a directory"
        )
    return path


class EngineCache:
    """The engines under one cache directory, which is created at the first `lock` or `store`."""

    def __init__(self, root: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self.directory = (root or default_root()) / "engines"
        self._limit = limit_bytes

    def find(self, key: EngineKey) -> Found | str:
        """Return the entry of a key, or the reason why there is none.

        An entry that is damaged is removed, with an EngineCacheWarning. One that cannot be read, or that
        somebody else may have written, stays, with a warning as well: another time, or to another user, it
        may be of use.
        """
        sidecar, plan = self._file(key, "json"), self._file(key, "plan")
        try:
            self._require_trust()
            return self._read(key, sidecar, plan)
        except (FileNotFoundError, NotADirectoryError):
            return self._explain(key)
        except OutputError as error:
            plan, fault = self.directory, str(error.got)
        except OSError as error:
            fault = error.strerror or str(error)
        except trust.Untrusted as error:  # it may be of use to somebody else
            fault = str(error)
        except ValueError as error:
            fault = str(error)
            self.discard(key)
        warn(f"the engine {plan} is not used: {fault}; it is built anew")
        return fault

    def _read(self, key: EngineKey, sidecar: Path, plan: Path) -> Found:
        said = Sidecar.load(sidecar)
        if said.key.digest != key.digest:
            raise ValueError("its sidecar is that of another engine")
        try:
            data = trust.read_private(plan)
        except FileNotFoundError as error:
            raise ValueError("its plan is missing") from error
        if len(data) != said.plan.bytes:
            raise ValueError(f"its plan has {len(data)} bytes, not {said.plan.bytes}")
        if hashlib.sha256(data).hexdigest() != said.plan.sha256:
            raise ValueError("its plan is damaged: the SHA-256 is not that of its sidecar")
        with contextlib.suppress(OSError):  # a cache that is shared and read-only is still usable
            os.utime(sidecar)
        return Found(data, said.build)

    def store(self, key: EngineKey, plan: bytes, build: BuildReport) -> None:
        """Store a plan, and remove the least recently used ones while the cache exceeds its limit.

        Raises:
            OutputError: the cache cannot be written to.
        """
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        file = PlanFile(len(plan), hashlib.sha256(plan).hexdigest())
        # What will be read back is signed: there, a whole number of seconds is a float.
        said: Sidecar = read_as(Sidecar, dataclasses.asdict(Sidecar(FORMAT, key, file, build, created)))
        said = dataclasses.replace(said, digest=trust.digest(key.stem, said.signed_part()))
        text = json.dumps(dataclasses.asdict(said), indent=2) + "\n"
        self._prepare()
        # The plan comes first, so that no sidecar describes a missing plan.
        write_atomic(self._file(key, "plan"), plan, mode=trust.PRIVATE)
        write_atomic(self._file(key, "json"), text.encode(), mode=trust.PRIVATE)
        self._trim(keep=key.stem)

    def check_writable(self) -> None:
        """Raise OutputError, with the remedy, where `store` could not write."""
        self._require_trust()
        trust.key_path()
        try:
            check_writable(self.directory / "engine.plan", parents=True)
        except OutputError as error:
            raise _unwritable(self.directory, error) from error

    @contextmanager
    def lock(self, key: EngineKey, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Hold a lock that keeps other processes and threads from building the same engine.

        `waiting` is called repeatedly while another holds the lock; what it raises ends the wait. Where the
        cache cannot be written to there is no lock, and each process builds for itself.
        """
        from filelock import FileLock

        lock = FileLock(self._file(key, "lock"))
        while not self._acquired(lock):
            waiting()
            time.sleep(_POLL_S)
        try:
            yield
        finally:
            lock.release()

    def _acquired(self, lock: BaseFileLock) -> bool:
        try:
            self._prepare()
            lock.acquire(timeout=0)
        except TimeoutError:
            return False
        except (OSError, OutputError):  # no lock can be taken here
            return True
        return True

    def runtime_cache(self, key: EngineKey, device: str) -> Path:
        """Return the file, beside the plan, that keeps the kernels compiled for a device."""
        return self.directory / f"{key.stem}.{device}.jit"

    def discard(self, key: EngineKey) -> None:
        """Remove an entry, as far as possible."""
        _remove(path for stem, path in self._files() if stem == key.stem and path.suffix != ".lock")

    def entries(self) -> list[Entry]:
        """Return all entries, the most recently used first."""
        return sorted((self._entry(*group) for group in self._groups().items()), key=lambda e: -e.last_used)

    def clear(self) -> int:
        """Remove all entries; return the number of bytes freed."""
        size = sum(entry.bytes for entry in self.entries())
        _remove(path for _, path in self._files())
        return size - sum(entry.bytes for entry in self.entries())

    def _file(self, key: EngineKey, suffix: str) -> Path:
        return self.directory / f"{key.stem}.{suffix}"

    def _prepare(self) -> None:
        try:
            # Private to the user: whoever can write here can have us run their code.
            make_directories(self.directory, 0o700)
        except OSError as error:
            raise _unwritable(self.directory, OutputError("", got=error.strerror)) from error
        self._require_trust()

    def _require_trust(self) -> None:
        """Raise OutputError where the directory is there, and others may have put something into it."""
        try:
            fault = trust.fault(self.directory.stat())
        except OSError:  # it is missing, or what comes next says why it cannot be used
            return
        if fault is not None:
            raise OutputError(
                f"the engine cache {self.directory} is not safe to use",
                got=fault,
                expected="a directory that only you may write to",
                fix=f"name another one with --cache or {ENVIRONMENT}, or make it your own (chmod go-w)",
            )

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Yield the stem and path of each of our files in the directory; no other file is ever touched."""
        for name in self._names():
            if match := _STEM.fullmatch(name):
                yield match["stem"], self.directory / name

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.directory))
        except OSError:
            return []

    def _groups(self) -> dict[str, list[Path]]:
        groups: dict[str, list[Path]] = {}
        for stem, path in self._files():
            if path.suffix != ".lock":
                groups.setdefault(stem, []).append(path)
        return groups

    def _entry(self, stem: str, paths: list[Path]) -> Entry:
        key, fault, size, used = None, None, 0, 0.0
        for path in paths:
            with contextlib.suppress(OSError):
                status = path.stat()
                size, used = size + status.st_size, max(used, status.st_mtime)
        try:
            said = Sidecar.load(self.directory / f"{stem}.json")
            key = said.key
            found = (self.directory / f"{stem}.plan").stat().st_size
            if found != said.plan.bytes:
                fault = f"its plan has {found} bytes, not {said.plan.bytes}"
        except OSError as error:
            # An error of read() has no file name, and only the sidecar is read.
            fault = f"{Path(error.filename or '.json').name.rpartition('.')[2]}: {error.strerror}"
        except ValueError as error:
            fault = str(error)
        return Entry(stem, size, used, key, fault)

    def _trim(self, keep: str) -> None:
        entries = self.entries()
        size = sum(entry.bytes for entry in entries)
        groups = self._groups()
        for entry in reversed(entries):
            if size <= self._limit:
                break
            if entry.name != keep:
                _remove(iter(groups.get(entry.name, ())))  # nothing, if another process removed it first
                size -= entry.bytes
        for name in filter(_LEFT_OVER.fullmatch, self._names()):
            path = self.directory / name
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - _LEFT_OVER_S:
                    path.unlink()

    def _explain(self, key: EngineKey) -> str:
        """Return why no entry fits: how the most similar one for a graph of this name differs."""
        others = [e.key for e in self.entries() if e.key is not None and e.key.graph == key.graph]
        told = [_differences(other, key) for other in others if other.digest != key.digest]
        nearest = min(told, key=lambda differences: len(differences), default=[])
        return f"built before, but {', '.join(nearest)}" if nearest else "not built before"


def warn(message: str) -> None:
    """Warn the user of a fault that does not stop the work."""
    warnings.warn(message, EngineCacheWarning, stacklevel=3)


def _differences(other: EngineKey, key: EngineKey) -> list[str]:
    told = {
        "graph_sha256": "from another graph",
        "weights": "with other weights",
        "backend": f"by {other.backend}",
        "backend_version": f"by version {other.backend_version} and this is {key.backend_version}",
        "compute_capability": f"for compute capability {other.compute_capability}, "
        f"not {key.compute_capability}",
        "precision": f"in {other.precision}",
        "recipe": "by another version of topos-rt",
        "halved": f"with {other.halved or 'nothing'} in FP16 at its ends",
    }
    return [text for name, text in told.items() if getattr(other, name) != getattr(key, name)]


def _unwritable(directory: Path, error: OutputError) -> OutputError:
    return OutputError(f"cannot write to the engine cache {directory}", got=error.got, fix=REMEDY)


def _remove(paths: Iterator[Path]) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
