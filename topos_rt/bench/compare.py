"""Whether one result is slower than another, beyond noise.

Two files are compared by the samples they hold. That needs no model and no GPU, and works across two versions
of the program. Any change of the machine between the two is then part of the difference, so a change counts
only if it is also larger than the change of the ceiling measured beside each. `rerun` avoids this: both
settings run in turns in one process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.bench.result import HEADS, is_time
from topos_rt.bench.session import HEAD, Request, Samples, Session, Tell, opened
from topos_rt.bench.stats import difference
from topos_rt.bench.work import model_digest
from topos_rt.errors import InputError
from topos_rt.model.bundle import Bundle

# Dotted keys that must be the same -> what to call them.
_SAME = {
    "protocol.mode": "what was timed, heads or graphs",
    "settings.model.sha256": "the model",
    "settings.sampling.steps": "the number of steps",
    "settings.evaluations": "the evaluations of the network",
    "settings.input": "the picture",
}
# Keys that may differ, but whose differences are reported.
_NOTED = ("settings.backend", "settings.precision", "settings.threads", "settings.sampling.solver",
          "settings.guidance_policy", "machine.cpu", "machine.cores", "machine.topos_rt",
          "device.after.name")  # fmt: skip
# If these are the same, the ceilings of two results should be the same too.
_ONE_MACHINE = ("settings.backend", "settings.precision", "settings.threads", "machine.cpu",
                "device.after.name", "ceilings.gemm.side")  # fmt: skip
_WARM_UP = 10


def compare_results(a: Mapping[str, Any], b: Mapping[str, Any], limit: float | None = None) -> dict[str, Any]:
    """Compare two results as they are; see `report`. Raises InputError if they timed different work."""
    check(a, b)
    return report(a, b, a["samples_ms"], b["samples_ms"], limit, interleaved=False)


def rerun(
    a: Mapping[str, Any], b: Mapping[str, Any], base: Request, limit: float | None, tell: Tell
) -> dict[str, Any]:
    """Run the settings of both results here, in turns, and compare the new times.

    base: the model, picture and cache, which the results do not contain.
    Raises InputError if the results are of another model, and BackendError if a backend does not work here.
    """
    check(a, b)
    if a["protocol"]["mode"] != HEADS:
        raise InputError(
            "results to run anew",
            got="single graphs",
            expected="whole heads",
            fix="compare the files as they are, without --rerun",
        )
    digest, theirs = model_digest(Bundle.open(base.model)), a["settings"]["model"]["sha256"]
    if digest != theirs:
        raise InputError(
            f"model {base.model}",
            got=digest[:12],
            expected=theirs[:12],
            fix="name the model of the results with --model",
        )
    runs = min(len(result["samples_ms"][HEAD]) for result in (a, b))
    with opened(_request(a, base)) as first, opened(_request(b, base)) as second:
        sessions = (first, second)
        for session in sessions:
            session.warm_up(_WARM_UP, tell)
        samples = _by_turns(sessions, runs, tell)
    return report(a, b, *samples, limit, interleaved=True)


def check(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Raise InputError unless both results timed the same work."""
    for key, meaning in _SAME.items():
        first, second = _at(a, key), _at(b, key)
        if first != second:
            raise InputError(
                f"two results that differ in {meaning}",
                got=f"{first!r} and {second!r}",
                expected="the same in both",
                fix="measure both alike",
            )
    first, second = list(a["samples_ms"]), list(b["samples_ms"])
    if first != second:
        raise InputError(
            "two results of different stages",
            got=f"{', '.join(first)} and {', '.join(second)}",
            expected="the same in both",
            fix="measure both alike",
        )


def report(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    first: Samples,
    second: Samples,
    limit: float | None,
    *,
    interleaved: bool,
) -> dict[str, Any]:
    """Return the JSON of a comparison: `rows`, `slower` (names slower than allowed), `differs` (settings).

    A name is slower if it is significantly slower by more than the share `limit`. The end-to-end time decides
    where there is one, otherwise every graph.
    """
    rows, drift = {}, 0.0 if interleaved else _drift(a, b)
    for name in first:
        if min(np.median(first[name]), np.median(second[name])) > 0:
            found = difference(first[name], second[name], interleaved=interleaved)
            medians = {"a_p50": float(np.median(first[name])), "b_p50": float(np.median(second[name]))}
            significant = found.significant and abs(found.change) > drift
            rows[name] = medians | dataclasses.asdict(found) | {"significant": significant}
    judged = [HEAD] if HEAD in rows else list(rows)
    slower = (
        []
        if limit is None
        else [name for name in judged if rows[name]["significant"] and rows[name]["change"] > limit]
    )
    differs = {key: [_at(a, key), _at(b, key)] for key in _NOTED if _at(a, key) != _at(b, key)}
    return {
        "interleaved": interleaved,
        "drift": drift,
        "limit": limit,
        "rows": rows,
        "slower": slower,
        "differs": differs,
    }


def _drift(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    """Return by what share the machine itself was faster or slower at a large product; 0 if not known."""
    same = all(_at(a, key) == _at(b, key) for key in _ONE_MACHINE)
    first, second = (_at(result, "ceilings.gemm.ms.p50") for result in (a, b))
    known = same and is_time(first) and is_time(second) and min(first, second) > 0
    return abs(float(second) / float(first) - 1) if known else 0.0


def _by_turns(sessions: tuple[Session, Session], runs: int, tell: Tell) -> tuple[Samples, Samples]:
    """Time `runs` heads of each in the order A B B A A B …, so that neither always comes first."""
    samples: tuple[Samples, Samples] = ({}, {})
    for run in range(runs):
        tell(run / runs, f"heads {run + 1} of {runs}")
        for which in (0, 1) if run % 2 == 0 else (1, 0):
            for name, value in sessions[which].head().items():
                samples[which].setdefault(name, []).append(value)
    return samples


def _request(result: Mapping[str, Any], base: Request) -> Request:
    settings = result["settings"]
    sampling = {name: value for name, value in settings["sampling"].items() if value is not None}
    if "times" in sampling:
        del sampling["shift"]
    return dataclasses.replace(
        base,
        backend=settings["backend"],
        precision=settings["precision"],
        threads=settings["threads"],
        sampling=sampling,
    )


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def read_pair(paths: tuple[Path, Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read both results. Raises what `topos_rt.bench.result.load` raises."""
    from topos_rt.bench.result import load

    return load(paths[0]), load(paths[1])
