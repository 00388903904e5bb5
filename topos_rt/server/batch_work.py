"""What a worker of a batch does: it opens the model once, and turns pictures into files and rows of results.

All that goes between a worker and whoever leads it is here, and can be pickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topos_rt import __version__
from topos_rt.engines import AUTO, backend
from topos_rt.errors import FaceError, InputError, OutputError, ToposError
from topos_rt.faces.portrait import ALL
from topos_rt.formats import ExportOptions, files_of
from topos_rt.head.topology import check_level
from topos_rt.head.visemes import with_morphs
from topos_rt.model.bundle import Bundle
from topos_rt.server.batch_journal import JOURNAL, header_of
from topos_rt.support.closing import Closing
from topos_rt.support.files import write_atomic, write_files

if TYPE_CHECKING:
    from topos_rt.faces.face import Face
    from topos_rt.head.mesh import HeadMesh
    from topos_rt.pipeline import HeadPipeline

Row = dict[str, Any]  # the results of one head, or of one picture that could not be used; JSON values


@dataclass(frozen=True)
class Setup:
    """Everything that a worker has to know before its first picture."""

    out: Path  # absolute; the same directory on every machine
    model: str = "mini"
    engines: Mapping[str, Any] = field(default_factory=dict)  # backend, threads, precision of `open`
    options: Mapping[str, Any] = field(default_factory=dict)  # of a pipeline's call
    format: str = "glb"
    export: ExportOptions = field(default_factory=ExportOptions)
    lod: int = 0
    previews: bool = False

    def settings(self, bundle: Bundle) -> dict[str, Any]:
        """Return what decides about the bytes of a head, beside its picture and seed, as JSON values."""
        export = {name: value for name, value in dataclasses.asdict(self.export).items() if name != "beside"}
        return {
            "topos_rt": __version__,
            "model": bundle.manifest.name,
            "model_sha256": digest_of(bundle),
            "backend": self.engines.get("backend"),
            "precision": self.engines.get("precision"),
            **{name: _plain(value) for name, value in self.options.items()},
            "format": self.format,
            **{name: _plain(value) for name, value in export.items()},
            "lod": self.lod,
            "previews": self.previews,
        }


@dataclass(frozen=True)
class Task:
    """A picture, and the seeds to make heads of it with."""

    input: str  # what results call it: a path, or PARQUET#ROW
    source: str | bytes  # what it is read from
    name: str  # of its files below the output directory, without seed and suffix
    seeds: tuple[int, ...]
    stamp: str = ""  # another one where the picture has changed
    attempt: int = 1


@dataclass(frozen=True)
class About:
    """What a worker says of itself once it has opened the model."""

    backend: str
    backend_reason: str
    weights: str
    place: str  # host:process


class Maker(Closing):
    """A worker: a loaded model that turns tasks into heads."""

    def __init__(self, setup: Setup, header: str) -> None:
        """Take what it needs; `header` is the first line of the journal. Nothing is loaded before `open`."""
        self._setup = setup
        self._header = header
        self._place = f"{socket.gethostname()}:{os.getpid()}"
        self._pipeline: HeadPipeline | None = None

    def open(self) -> About:
        """Load the model. Raises the errors of `HeadPipeline.open`.

        Raises InputError where the output directory, the model or this package are not those of the leader.
        """
        from topos_rt.pipeline import HeadPipeline

        setup = self._setup
        self._check_directory()
        bundle = Bundle.open(setup.model)
        if header_of(setup.settings(bundle)) != self._header:
            raise InputError(
                f"the worker {self._place}",
                got=f"topos_rt {__version__} and model {bundle.manifest.name} {digest_of(bundle)[:12]}",
                expected="the package and the model that the batch was started with",
                fix="install the same version and copy the same bundle to every machine",
            )
        check_wanted(setup, bundle)
        self._pipeline = HeadPipeline.open(bundle, **setup.engines)
        weights = bundle.manifest.weights.note
        return About(self._pipeline.backend, self._pipeline.backend_reason, weights, self._place)

    def _check_directory(self) -> None:
        journal = self._setup.out / JOURNAL
        try:
            with journal.open("rb") as file:
                found = file.readline().decode("utf-8", "replace").rstrip("\n")
        except OSError as error:
            found = error.strerror or str(error)
        if found != self._header:
            raise InputError(
                f"the output directory {self._setup.out}, seen from {self._place}",
                got="another directory" if found.startswith("{") else found,
                expected="the directory of the batch, which every machine has at the same path",
                fix="name a directory of a shared file system with -o",
            )

    def make(self, task: Task) -> list[Row]:
        """Make and write the heads of a picture. Return a row for each, or one for a picture of no use."""
        started = time.perf_counter()
        try:
            rows = self._rows(task)
        except InputError as error:
            rows = [failed(task, error)]
        late = {"seconds": round(time.perf_counter() - started, 4)}  # of what was not made
        return [late | row | {"worker": self._place} for row in rows]

    def close(self) -> None:
        """Unload the model."""
        if self._pipeline is not None:
            self._pipeline.close()

    def _rows(self, task: Task) -> list[Row]:
        assert self._pipeline is not None, "open comes first"
        given = dict(self._setup.options)
        if given.get("face") != ALL:
            return self._heads(task, given, None)
        faces: list[tuple[int, Face]] = list(enumerate(self._pipeline.find_faces(task.source), 1))
        usable = [(number, face) for number, face in faces if not face.hidden]
        if not usable:
            found = "only faces that look sideways" if faces else "no face"
            raise FaceError("no face can be used", got=found, expected="a face that looks to the camera")
        return [row for number, face in usable for row in self._heads(task, given | {"face": face}, number)]

    def _heads(self, task: Task, given: Mapping[str, Any], face: int | None) -> list[Row]:
        """Make and write the heads of a face. face: its number, from 1, where all were asked for."""
        assert self._pipeline is not None
        rows: list[Row] = []
        left = list(task.seeds)
        while left:
            try:
                for head in self._pipeline.each(task.source, seed=list(left), **given):
                    rows.append(self._written(task, head, left.pop(0), face))
            except InputError as error:  # the picture's; every other seed would fail in the same way
                return [*rows, failed(task, error, None, face)]
            except ToposError as error:  # an engine's; the next seed may do better
                rows.append(failed(task, error, left.pop(0), face))
        return rows

    def _written(self, task: Task, head: HeadMesh, seed: int, face: int | None) -> Row:
        """Write a head, whole or not at all, and return its row."""
        setup, started = self._setup, time.perf_counter()
        path = setup.out / f"{head_name(task.name, seed, face)}.{setup.format}"
        preview = path.with_suffix(".png") if setup.previews else None
        row = _row(task, seed, face) | _facts(head, setup.options)
        head = head.lod(setup.lod)
        if not setup.export.parts:
            head = dataclasses.replace(head, parts=None)
        try:
            files = files_of(head, setup.format, setup.export, path)
            if preview is not None:
                write_atomic(preview, head.preview(), parents=True)
            write_files(files, parents=True)
        except OutputError as error:
            return row | _fault(error)
        timings = row["timings"] | {"writing": round(time.perf_counter() - started, 4)}
        return row | {
            "output": _below(path, setup.out),
            "files": [_below(file, setup.out) for file in files],
            "preview": None if preview is None else _below(preview, setup.out),
            "bytes": sum(map(len, files.values())),
            "vertices": len(head.positions),
            "seconds": round(sum(timings.values()), 4),
            "timings": timings,
        }


def head_name(name: str, seed: int, face: int | None = None) -> str:
    """Return the path of a head below the output directory, without suffix."""
    return f"{name}{'' if face is None else f'_face{face}'}_seed{seed}"


def wants_gpu(name: str | None) -> bool:
    """Whether a backend runs on a GPU, or would take one that is there. Raises OptionError."""
    return name is None or name == AUTO or backend(name).on_device


def digest_of(bundle: Bundle) -> str:
    """Return the SHA-256 of a bundle's manifest, which has that of every file."""
    return hashlib.sha256(bundle.manifest.to_json().encode()).hexdigest()


def check_wanted(setup: Setup, bundle: Bundle) -> None:
    """Check what only the model knows: levels of detail and blendshapes. Raises OptionError."""
    check_level(bundle.topology, setup.lod)
    if bundle.rig is not None and setup.export.rig:
        with_morphs(bundle.rig, setup.export.morphs)


def failed(task: Task, error: ToposError, seed: int | None = None, face: int | None = None) -> Row:
    """Return the row of a head that was not made or, without a seed, of a picture that made none."""
    return _row(task, seed, face) | _fault(error)


def _row(task: Task, seed: int | None, face: int | None) -> Row:
    finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    own = {"input": task.input, "seed": seed, "face": face, "attempts": task.attempt, "finished": finished}
    return own | {"exit_code": 0, "warnings": [], "timings": {}}


def _fault(error: ToposError) -> Row:
    return {"error": str(error), "error_type": type(error).__name__, "exit_code": error.exit_code}


def _facts(head: HeadMesh, options: Mapping[str, Any]) -> Row:
    """Return what a head says of itself and of the face that it was made from."""
    seen, number = head.metadata.get("face"), options.get("face")
    facts: Row = {
        "backend": head.metadata.get("backend"),
        "warnings": list(head.metadata.get("warnings", ())),
        "timings": {stage: round(seconds, 4) for stage, seconds in head.timings.items() if stage != "total"},
    }
    if seen is None:
        return facts
    if number != ALL:  # of all faces, each has its number already
        facts["face"] = number + 1 if isinstance(number, int) else 1
    return facts | {
        "score": seen["confidence"],
        "box": seen["box"],
        **{angle: seen[angle] for angle in ("yaw", "pitch", "roll")},
    }


def _below(path: Path, directory: Path) -> str:
    return path.relative_to(directory).as_posix()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
