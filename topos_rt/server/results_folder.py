"""The heads that a service keeps, in a directory: they outlive the process, and processes can share them.

Each head is three files, of which the last makes it known: ID.head, which needs a HASH.base that all heads of
a model share; ID.glb, whose bytes are those that the head gave when it was made; and ID.json. Only names of
this form are ever read or removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from topos_rt.errors import InputError, OutputError
from topos_rt.formats import EXPORTERS, ExportOptions
from topos_rt.head.mesh import HeadMesh
from topos_rt.server.problems import Problem
from topos_rt.server.results import ID, Kept, Remembered, gone, new_id
from topos_rt.support.files import write_atomic

_SUFFIXES = (".json", ".glb", ".head")  # the first goes first, so that nobody finds a head that lacks a part


class InFolder:
    """Keeps heads in a directory, which is made if need be. Raises OutputError where that cannot be."""

    def __init__(self, folder: Path, keep_s: float, most_bytes: int) -> None:
        self._folder = folder
        self._keep_s = keep_s
        self._most = most_bytes
        self._lock = threading.RLock()
        self._sizes: dict[str, tuple[float, int]] = {}  # id -> Unix time of its end, bytes
        self._gone = Remembered()
        try:
            # Heads are pictures of people: nobody else gets to see them.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(None, "a directory that cannot be written to")
            self.sweep()
        except OSError as error:
            raise OutputError(
                f"--results {folder}", got=error.strerror, expected="a directory for kept heads"
            ) from error

    @property
    def count(self) -> int:
        return len(self._sizes)

    @property
    def size(self) -> int:
        with self._lock:
            return sum(size for _, size in self._sizes.values())

    def put(self, head: HeadMesh, about: dict[str, Any]) -> tuple[str, float]:
        name, expires = new_id(), time.time() + self._keep_s
        glb = EXPORTERS["glb"](head, ExportOptions())
        try:
            head.save(self._path(name, ".head"))
            write_atomic(self._path(name, ".glb"), glb)
            data = json.dumps({"expires": expires, "about": about}, allow_nan=False)
            write_atomic(self._path(name, ".json"), data.encode())
        except OutputError:
            self._remove(name)
            raise
        with self._lock:
            self._sizes[name] = expires, self._measured(name)
            self._make_room(name)
        return name, expires

    def get(self, name: str) -> Kept:
        try:
            tree = json.loads(self._path(name, ".json").read_bytes())
            about, expires = tree["about"], float(tree["expires"])
        except (OSError, ValueError, KeyError, TypeError):
            raise self._gone.problem(name) from None
        if expires <= time.time():
            self._forget(name)
            raise gone()
        return Kept(about, expires, lambda: self._head(name), lambda: self._read(name, ".glb"))

    def drop(self, name: str) -> None:
        self.get(name)
        self._forget(name)

    def sweep(self) -> None:
        """Remove every head whose time has come, and what processes that were killed have left behind."""
        now, found = time.time(), {}
        for path in self._folder.iterdir():
            if path.suffix not in _SUFFIXES or not ID.fullmatch(path.stem):
                continue
            if path.suffix == ".json":
                found[path.stem] = self._sizes.get(path.stem) or self._known(path.stem)
            elif path.stem not in found and not self._path(path.stem, ".json").exists():
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime + self._keep_s < now:
                        path.unlink()
        with self._lock:
            self._sizes = {**{name: it for name, it in found.items() if it}, **self._new(found)}
        for name in [name for name, (expires, _) in list(self._sizes.items()) if expires <= now]:
            self._forget(name)

    def _new(self, found: dict[str, Any]) -> dict[str, tuple[float, int]]:
        """Return the heads that came while the directory was read."""
        return {
            name: it
            for name, it in self._sizes.items()
            if name not in found and self._path(name, ".json").exists()
        }

    def _known(self, name: str) -> tuple[float, int] | None:
        try:
            expires = float(json.loads(self._path(name, ".json").read_bytes())["expires"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return expires, self._measured(name)

    def _make_room(self, newest: str) -> None:
        while self.size > self._most:
            oldest = min((name for name in self._sizes if name != newest), key=self._sizes.get, default=None)  # type: ignore[arg-type]
            if oldest is None:
                return
            self._forget(oldest)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._sizes.pop(name, None)
            self._gone.add(name)
        self._remove(name)

    def _remove(self, name: str) -> None:
        for suffix in _SUFFIXES:
            with contextlib.suppress(OSError):
                self._path(name, suffix).unlink()

    def _head(self, name: str) -> HeadMesh:
        try:
            return HeadMesh.load(self._path(name, ".head"))
        except InputError as error:
            if not self._path(name, ".json").exists():
                raise gone() from error
            raise Problem("failure", "a kept head cannot be read", fix="make it again") from error

    def _read(self, name: str, suffix: str) -> bytes:
        try:
            return self._path(name, suffix).read_bytes()
        except OSError as error:
            raise gone() from error

    def _measured(self, name: str) -> int:
        total = 0
        for suffix in _SUFFIXES:
            with contextlib.suppress(OSError):
                total += self._path(name, suffix).stat().st_size
        return total

    def _path(self, name: str, suffix: str) -> Path:
        """Return the file of a head. The id is checked here too, so that no other name gets into a path."""
        if not ID.fullmatch(name):
            raise self._gone.problem("")
        return self._folder / f"{name}{suffix}"
