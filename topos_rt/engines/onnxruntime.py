"""ONNX Runtime on the CPU of any machine: the default where there is no GPU."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.engines.cache import warn
from topos_rt.engines.contract import BATCH, EngineOptions, Probe, Value, check_feeds, check_out
from topos_rt.engines.locations import require_inside
from topos_rt.engines.sessions import GRAPH, WEIGHTS, Kept, SessionCache, SessionKey
from topos_rt.errors import BackendError, BundleError, InputError, MissingExtraError, OutputError
from topos_rt.support.arrays import Array, TensorSpec
from topos_rt.support.closing import Closing
from topos_rt.support.forks import in_forked_child, leak
from topos_rt.support.machine import cpu_kind, usable_cores

_DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(bool)": np.dtype(np.bool_),
}
_ERRORS_ONLY = 3
_EXTERNAL = "session.optimized_model_external_initializers"
_SMALLEST_KEPT_APART = 512  # bytes of a tensor, from which on it is kept beside the graph and mapped
TELEMETRY = "ORT_DISABLE_TELEMETRY"  # the variable that onnxruntime reads when it is imported
# What errors say that are the system's fault, not the graph's.
_SYSTEM_SIGNS = ("bad_alloc", "pthread", "Resource temporarily", "Failed to allocate", "std::system_error")
on_device = False
builds = False
gains_at_once = False  # docs/backends.md has the times: a core is as busy with one head as with eight
precisions = ("fp32",)  # a CPU is fast in FP32


def library() -> Any:
    """Import and return onnxruntime, without its telemetry where this is the first import.

    onnxruntime 1.32 keeps a database in the user's cache, to send it away, and has a thread of its own for
    that, for which a forked process waits for ever when it exits. Whoever wants that sets
    ORT_DISABLE_TELEMETRY=0.
    """
    given = os.environ.get(TELEMETRY)
    if "onnxruntime" not in sys.modules and given is None:
        os.environ[TELEMETRY] = "1"
    try:
        import onnxruntime

        return onnxruntime
    finally:
        if given is None:
            os.environ.pop(TELEMETRY, None)


def probe() -> Probe:
    """Return the version of ONNX Runtime and where it runs."""
    try:
        onnxruntime = library()
    except (ImportError, OSError) as error:
        fault = MissingExtraError("the onnxruntime backend", got=error, fix="pip install onnxruntime")
        return Probe(str(error), fault)
    return Probe(f"onnxruntime {onnxruntime.__version__} on the CPU, {usable_cores()} cores")


def requirements(path: Path, options: EngineOptions) -> dict[str, int]:
    """Return nothing, since there is no device."""
    return {}


def workspace() -> AbstractContextManager[None]:
    """Return an empty context: sessions share nothing."""
    return nullcontext()


def load(path: Path, options: EngineOptions) -> OnnxRuntimeEngine:
    """Load an ONNX file. Raises BundleError for one that ONNX Runtime cannot load."""
    require_inside(path, options.hashes)
    return OnnxRuntimeEngine(path, options)


def load_at_once(path: Path, options: EngineOptions, numbers: Sequence[int]) -> dict[int, OnnxRuntimeEngine]:
    """Load an ONNX file for each number of heads. Raises BundleError as `load` does."""
    require_inside(path, options.hashes)
    return {number: OnnxRuntimeEngine(path, options, number) for number in numbers}


def open_session(
    path: Path,
    threads: int,
    optimised: bool = False,
    save_to: Path | None = None,
    batch: int | None = None,
    name: str | None = None,
    busy: bool = False,
) -> Any:
    """Return onnxruntime's session of an ONNX file, which computes the same every time.

    optimised: the file is what an earlier session wrote. save_to: the directory to write such a file to.
    batch: the size that the graph calls BATCH, where it leaves one open. name: what errors call the file.
    busy: as in `EngineOptions`.

    Raises BundleError for a file that it cannot load, BackendError where the system lacks threads or memory.
    """
    onnxruntime = library()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if optimised else levels.ORT_ENABLE_ALL
    options.log_severity_level = _ERRORS_ONLY
    options.use_deterministic_compute = True
    if batch is not None:
        options.add_free_dimension_override_by_name(BATCH, batch)
    # Graphs as small as ours wake their threads dozens of times in a few milliseconds, so these spin during a
    # run of the busy ones. Between runs they sleep: each session has its own threads, which would take the
    # cores from the next session. They also spin for a while when a session is made, so not all of them do.
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(busy)))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if save_to is not None:
        options.optimized_model_filepath = str(save_to / GRAPH)
        options.add_session_config_entry(f"{_EXTERNAL}_file_name", WEIGHTS)
        options.add_session_config_entry(f"{_EXTERNAL}_min_size_in_bytes", str(_SMALLEST_KEPT_APART))
    require_threads(threads - 1)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except errors() as error:
        if any(sign in str(error) for sign in _SYSTEM_SIGNS):
            raise BackendError(
                f"onnxruntime cannot load {name or path.name} here",
                got=error,
                fix="use fewer threads, or raise the limits of this process (ulimit -v, -u)",
            ) from error
        raise BundleError(
            f"graph {name or path.name}",
            got=error,
            expected="an ONNX file that onnxruntime can load",
            fix="export the bundle again, or upgrade onnxruntime",
        ) from error


class OnnxRuntimeEngine(Closing):
    """An `Engine` over one inference session.

    In a process that is forked later, the session, whose threads are gone there, is left alone, and the first
    run loads the graph again.
    """

    def __init__(self, path: Path, options: EngineOptions, batch: int | None = None) -> None:
        self._path, self._threads = path, options.threads or usable_cores()
        self._files, self._batch, self._busy = (path, *options.weights), batch, options.busy
        self._errors = errors()
        self._state = _state(self._files)
        self._forked = self._closed = False
        self._session: Any = None
        # A graph of several heads is for backends that gain from it: its optimised form is not kept.
        self._cache, self._key = _cache_of(path, options) if batch is None else (None, None)
        kept = self._find()
        if kept is None or not options.defer:
            self._session = self._open(kept)
        if kept is None:
            self.inputs, self.outputs = _sides(path.name, self._session)
        else:
            self.inputs, self.outputs = dict(kept.inputs), dict(kept.outputs)
        _living.add(self)

    def _find(self) -> Kept | None:
        return None if self._cache is None or self._key is None else self._cache.find(self._key)

    def _open(self, kept: Kept | None) -> Any:
        """Return a session: of the optimised graph that is kept, or of the bundle's. Raises BundleError."""
        if self._cache is None or self._key is None:
            return open_session(self._path, self._threads, batch=self._batch, busy=self._busy)
        if kept is not None:
            try:
                return open_session(
                    kept.path, self._threads, optimised=True, name=self._path.name, busy=self._busy
                )
            except BundleError as error:
                warn(f"the optimised graph {kept.path.parent} is not used: {error.got}; it is made anew")
                self._cache.discard(self._key)
        try:
            return self._cache.keep(
                self._key,
                lambda folder: open_session(self._path, self._threads, save_to=folder, busy=self._busy),
                lambda session: _sides(self._path.name, session),
            )
        except (OutputError, BundleError):  # a full disk costs time, but is no reason to do without a model
            return open_session(self._path, self._threads, busy=self._busy)

    def forget(self) -> None:
        """Leave the session alone for ever, in a process that was forked: nothing can end it there."""
        if self._session is not None:
            leak(self._session)
            self._session, self._forked = None, True

    def _again(self) -> Any:
        """Open the graph at its first run, or anew after a fork.

        Raises BundleError where its files have changed since, InputError after `close`.
        """
        if self._closed:
            raise InputError(
                f"engine {self._path.name}", got="a call after close()", expected="an open engine"
            )
        kept = self._find()
        # What is kept was made of verified files; but the child of a fork says in any case what has changed.
        if (self._forked or kept is None) and _state(self._files) != self._state:
            raise BundleError(
                f"graph {self._path.name}",
                got="files that have changed since the model was opened"
                + (", before this process was forked" if self._forked else ""),
                expected="the same files",
                fix="open the model in this process" if self._forked else "open the model again",
            )
        self._session, self._forked = self._open(kept), False
        return self._session

    def run(
        self, feeds: Mapping[str, Value], out: Mapping[str, Array] | None = None, keep: Collection[str] = ()
    ) -> dict[str, Any]:
        """See `Engine.run`."""
        session = self._again() if self._session is None else self._session
        check_feeds(self.inputs, feeds)
        check_out(self.outputs, out or {}, keep)
        try:
            arrays = session.run(list(self.outputs), {k: np.ascontiguousarray(v) for k, v in feeds.items()})
        except self._errors as error:
            raise BackendError(f"onnxruntime failed in {self._path.name}", got=error) from error
        results = dict(zip(self.outputs, arrays, strict=True))
        for name, array in (out or {}).items():
            np.copyto(array, results[name])
            results[name] = array
        return results

    def close(self) -> None:
        """Drop the session."""
        self._session, self._closed = None, True


def _cache_of(path: Path, options: EngineOptions) -> tuple[SessionCache | None, SessionKey | None]:
    """Return where the optimised form of a graph is kept, and its key; None where it cannot be kept.

    Only graphs are kept whose files have been verified, and where the kind of processor can be told.
    """
    files, processor = (path, *options.weights), cpu_kind()
    if not processor or not all(file in options.hashes for file in files):
        return None, None
    onnxruntime = library()
    hashes = tuple(options.hashes[file] for file in options.weights)
    build = f"{onnxruntime.__version__} {onnxruntime.get_build_info()}"
    try:
        return SessionCache(options.cache), SessionKey(
            path.name, options.hashes[path], hashes, build, processor
        )
    except OutputError:  # there is no home directory
        return None, None


def require_threads(count: int) -> None:
    """Raise BackendError where the system does not let this process start `count` more threads at once.

    onnxruntime would wait for ever for a thread that cannot start, or blame the graph.
    """
    done, started = threading.Event(), list[threading.Thread]()
    try:
        for _ in range(count):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError) as error:
        raise BackendError(
            "onnxruntime needs more threads than this process may start",
            got=f"a limit that allows {len(started)} more (ulimit -u, ulimit -v, or of the container)",
            expected=f"{count} more",
            fix="use fewer, with --threads or threads=",
        ) from error
    finally:
        done.set()
        for thread in started:
            thread.join()


_living = in_forked_child(OnnxRuntimeEngine.forget)


def _state(files: tuple[Path, ...]) -> list[tuple[int, ...]]:
    """Return what tells whether files have been replaced or changed."""
    found: list[tuple[int, ...]] = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            found.append((0,))
        else:
            found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return found


def errors() -> tuple[type[Exception], ...]:
    """Return all that ONNX Runtime raises; its own classes have no common base but Exception."""
    library()
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
    return (*own, RuntimeError, ValueError)


def _sides(graph: str, session: Any) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    return _specs(graph, session.get_inputs()), _specs(graph, session.get_outputs())


def _specs(graph: str, values: list[Any]) -> dict[str, TensorSpec]:
    specs = {}
    for value in values:
        static = all(isinstance(size, int) and size > 0 for size in value.shape)
        if not static or value.type not in _DTYPES:
            raise BundleError(
                f"graph {graph}, tensor {value.name!r}",
                got=f"{value.type} {value.shape}",
                expected="a tensor of static shape",
                fix="export the bundle again",
            )
        specs[value.name] = TensorSpec(tuple(value.shape), _DTYPES[value.type])
    return specs
