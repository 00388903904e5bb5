"""A measurement as a JSON object: made here, and read back strictly. `docs/bench.md` documents the keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from topos_rt.bench import ceilings, cold, machine
from topos_rt.bench.diagnose import diagnose
from topos_rt.bench.roofline import roofline
from topos_rt.bench.session import Request, Samples, Session, Tell, opened
from topos_rt.bench.stats import Row, summary
from topos_rt.bench.watch import FIELDS, Watched
from topos_rt.bench.work import evaluations, io_bytes, model_facts, runs_per_head, settings_of
from topos_rt.engines import backend as find_backend
from topos_rt.engines import choose_backend
from topos_rt.engines.contract import BuildCallback
from topos_rt.errors import InputError, OptionError
from topos_rt.flow.settings import SamplerSettings
from topos_rt.support.files import read_json
from topos_rt.support.machine import usable_cores

FORMAT = "topos_rt.bench"
VERSION = 1
HEADS, GRAPHS_ALONE = "heads", "graphs"
_MAX_BYTES = 64 << 20
_DECIMALS = 5  # of kept samples: 10 ns
_SHORTEST_MS, _LONGEST_MS = 1e-6, 1e9


def measure(
    request: Request, runs: int, warm_up: int, repeats: int, tell: Tell, progress: BuildCallback | None = None
) -> dict[str, Any]:
    """Measure, and return the JSON object.

    Args:
        request: what to measure.
        runs: the number of heads, or of runs of each graph.
        warm_up: the least number of heads to make before that.
        repeats: the number of fresh processes for each cold state; 0 for none.
        tell: a callback that receives the share done and what is being done.
        progress: a callback for engine builds, as in `HeadPipeline.open`.
    """
    about = machine.facts() | {"load_average_before": machine.load_average()}
    # Fresh processes come first, so that a failure there comes before the long part.
    fresh = cold.measure(request, choose_backend(request.backend)[0], repeats, tell) if repeats else []
    has_device = find_backend(choose_backend(request.backend)[0]).on_device
    free = machine.device_memory() if has_device else None
    with opened(request, progress) as session:
        backend = session.pipeline.backend
        about["backend"] = session.pipeline.backend_reason
        warmed = session.warm_up(warm_up, tell)
        peak = machine.peak_bytes()  # before the ceilings, which need more memory than a small model
        tell(0.0, "measuring the ceilings")
        best = ceilings.measure(backend, session.options)
        before = machine.gpu_state() if has_device else None
        stages, graphs = _run(session, runs, tell)
        after = machine.gpu_state() if has_device else None
        left = machine.device_memory() if has_device else None
        settings = settings_of(session.metadata)
        needed = runs_per_head(settings)
        rows = {
            graph: {"runs_per_head": needed[graph], **_fields(session.engines[graph])} for graph in graphs
        }
        summaries = {name: summary(values) for name, values in stages.items()}
        flops, sizes = session.pipeline.bundle.manifest.flops, _sizes(session)
        result: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "created": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "settings": _settings(session, settings),
            "protocol": {
                "mode": GRAPHS_ALONE if request.graphs else HEADS,
                "runs": runs,
                "warm_up": warmed,
                "cold_repeats": repeats,
                "seed": request.seed,
                "percentiles": "linear interpolation",
                "start_state": "warm process",
                "cuda_graphs": False,
                "transfers": "each run, but for what has not changed since the last",
            },
            "machine": about,
            "device": {"before": before, "after": after},
            "stages": summaries,
            "graphs": rows,
            "ceilings": best,
            "roofline": roofline(best, flops, sizes, needed, rows, summaries),
            "memory": {"peak_host_bytes": peak, "device": _taken(free, left)},
            "samples_ms": _kept(
                stages or {graph: session.engines[graph].samples["computeMs"] for graph in graphs}
            ),
        }
    about["load_average_after"] = machine.load_average()
    result["cold"] = fresh
    result["diagnosis"] = diagnose(result)
    return result


def _run(session: Session, runs: int, tell: Tell) -> tuple[Samples, Sequence[str]]:
    """Return the times of the stages of whole heads (empty if graphs run alone) and the graphs that ran."""
    if session.request.graphs:
        if not session.metadata:
            session.head()
        session.alone(runs, tell)
        return {}, session.request.graphs
    stages = session.heads(runs, tell)
    return stages, [graph for graph, engine in session.engines.items() if engine.samples["hostMs"]]


def _fields(engine: Watched) -> dict[str, Row | None]:
    return {name: summary(engine.samples[name]) if engine.samples[name] else None for name in FIELDS}


def _sizes(session: Session) -> dict[str, int]:
    return {graph: io_bytes(engine) for graph, engine in session.engines.items()}


def _settings(session: Session, settings: SamplerSettings) -> dict[str, Any]:
    metadata = session.metadata
    names = ("preset", *SamplerSettings.__dataclass_fields__)
    sampling = {name: metadata[name] for name in names if name in metadata}  # no landmark pull that is off
    return {
        "model": model_facts(session.pipeline.bundle),
        "backend": session.pipeline.backend,
        "precision": session.options.precision,
        "threads": session.options.threads or usable_cores(),
        "sampling": sampling,
        "evaluations": evaluations(settings),
        "guidance_policy": guidance_policy(settings),
        "input": "a picture file" if session.request.image else "random pixels in memory",
    }


def guidance_policy(settings: SamplerSettings) -> str:
    """Return in words when guidance acts."""
    if not settings.guidance:
        return "off"
    low, high = settings.interval
    where = "throughout" if (low, high) == (0, 1) else f"for t in {low:g}..{high:g}"
    how_often = "" if settings.reuse == 1 else f", anew at every {settings.reuse}th evaluation"
    return f"w = {settings.guidance:g} {where}{how_often}"


def _taken(before: Mapping[str, int] | None, after: Mapping[str, int] | None) -> dict[str, int] | None:
    """Return the bytes that loading took on the device. Nothing is allocated later, so they are the peak."""
    if before is None or after is None:
        return None
    return {"peak_bytes": before["free_bytes"] - after["free_bytes"], **after}


def _kept(samples: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {name: [round(value, _DECIMALS) for value in values] for name, values in samples.items()}


def load(path: Path) -> dict[str, Any]:
    """Read a result that this program wrote.

    Raises InputError for any other file, another version of the schema, or a damaged file.
    """
    what = f"result {path}"
    tree = read_json(path, "result", _MAX_BYTES)
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        got = tree.get("format") if isinstance(tree, dict) else "no object"
        raise InputError(what, got=f"format {got!r}", expected=f"{FORMAT!r}", fix="see docs/bench.md")
    if tree.get("version") != VERSION:
        raise InputError(
            f"{what}: version of the schema",
            got=repr(tree.get("version"))[:40],
            expected=VERSION,
            fix="measure both with the same topos-rt",
        )
    _check(tree, what)
    return tree


# What `compare` reads: dotted key -> type.
_READ: dict[str, type | tuple[type, ...]] = {
    "settings.model.sha256": str, "settings.model.name": str, "settings.backend": str,
    "settings.precision": str, "settings.threads": int, "settings.sampling": dict, "settings.input": str,
    "settings.evaluations": dict, "protocol.mode": str, "machine.cpu": str, "samples_ms": dict,
}  # fmt: skip
_SAMPLING = {"preset", *SamplerSettings.__dataclass_fields__}


def _check(tree: Mapping[str, Any], what: str) -> None:
    for key, kind in _READ.items():
        value: Any = tree
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            raise OptionError(
                f"{what}: key {key!r}",
                got=repr(value)[:40],
                expected="as docs/bench.md says",
                fix="measure again",
            )
    for key in tree["settings"]["sampling"]:
        if key not in _SAMPLING:
            raise OptionError(
                f"{what}: key of settings.sampling",
                got=repr(key),
                expected=f"one of: {', '.join(sorted(_SAMPLING))}",
                fix="measure again",
            )
    for name, values in tree["samples_ms"].items():
        good = isinstance(values, list) and values and all(map(is_time, values))
        if not good:
            raise OptionError(
                f"{what}: samples of {name!r}",
                got="something else",
                expected="milliseconds",
                fix="measure again",
            )


def is_time(value: object) -> bool:
    """Whether a value is a time in ms that a measurement can give: from a nanosecond to days, or 0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and (value == 0 or _SHORTEST_MS <= value <= _LONGEST_MS)  # type: ignore[operator]
