"""Compare two engines of one graph with Polygraphy, NVIDIA's tool for it, which measures and judges.

Polygraphy's own runners drive engines their own way, and match names and types of inputs by likeness. Here it
runs the engines of `topos_rt`, which users run, and only those whose specs agree exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata
from polygraphy.comparator import Comparator, L2CompareFunc, RunResults, SimpleCompareFunc
from polygraphy.logger import G_LOGGER

from topos_rt.engines import Engine
from topos_rt.errors import BackendError
from topos_rt.support.arrays import Array, TensorSpec

Specs: TypeAlias = tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]

FACTOR = 2.0  # an engine's error may be this many times that of its yardstick
FLOOR = 1e-5  # or this share of the reference's values, as `export/onnx/files.py` asks of an FP32 graph


@dataclass(frozen=True)
class Errors:
    """Errors of one output in one run, against the reference."""

    max_abs: float
    mean_abs: float
    l2: float  # Euclidean norm of the difference


@dataclass(frozen=True)
class Verdict:
    """The judgement of one output of one run."""

    name: str
    errors: Errors
    limits: Errors  # infinite for mean_abs, which is not judged
    reference_l2: float
    passed: bool
    reference: Array
    found: Array

    @property
    def relative_rms(self) -> float:
        """Norm of the difference over norm of the reference; for a reference of zeros, infinite or 0."""
        return _ratio(self.errors.l2, self.reference_l2)

    @property
    def relative_rms_limit(self) -> float:
        """The limit on `relative_rms`."""
        return _ratio(self.limits.l2, self.reference_l2)

    @property
    def of_limit(self) -> float:
        """The larger of the judged errors as a share of its limit; more than 1 fails."""
        parts = [_ratio(self.errors.l2, self.limits.l2), _ratio(self.errors.max_abs, self.limits.max_abs)]
        return math.nan if any(math.isnan(part) for part in parts) else max(parts)


class EngineRunner(BaseRunner):
    """An engine as Polygraphy sees it, open while it is active; its specs must be those of `like`."""

    def __init__(self, name: str, load: Callable[[], Engine], like: EngineRunner | None = None) -> None:
        super().__init__(name=name)
        self._load, self._like = load, like
        self._held = ExitStack()
        self._engine: Engine | None = None
        self.specs: Specs = ({}, {})  # inputs and outputs, known once it was active

    def activate_impl(self) -> None:
        """Load the engine. Raises BackendError where its inputs or outputs are not those of `like`."""
        with ExitStack() as stack:
            engine = stack.enter_context(self._load())
            self.specs = dict(engine.inputs), dict(engine.outputs)
            if self._like is not None:
                _check_specs(self.name, self.specs, self._like.specs)
            self._engine, self._held = engine, stack.pop_all()

    def get_input_metadata_impl(self) -> Any:
        """Return names, types and shapes of the inputs."""
        metadata = TensorMetadata()
        for name, spec in self.specs[0].items():
            metadata.add(name, spec.dtype, spec.shape)
        return metadata

    def infer_impl(self, feed_dict: Mapping[str, Array]) -> dict[str, Array]:
        """Run the engine once."""
        assert self._engine is not None
        start = time.perf_counter()
        results = self._engine.run(feed_dict)
        self.inference_time = time.perf_counter() - start
        return results

    def deactivate_impl(self) -> None:
        """Close the engine."""
        self._engine = None
        self._held.close()


def judge(
    reference: Callable[[], Engine],
    candidate: Callable[[], Engine],
    yardstick: Callable[[], Engine] | None,
    feeds: Sequence[Mapping[str, Array]],
) -> list[dict[str, Verdict]]:
    """Run all engines on the same inputs, one open at a time, and compare the candidate with the reference.

    An output passes where its largest error and its RMS error are both at most FACTOR times the yardstick's
    in the same run, or at most FLOOR times the reference's own largest value and RMS. NaN never passes.

    Args:
        yardstick: loads the engine whose error is expected; None where only that of FP32 is.
        feeds: inputs by name, for each run.

    Returns:
        For each run, the verdicts by the name of the output.

    Raises:
        BackendError: the engines' inputs or outputs differ, one fails, or the reference is not finite.
    """
    first = EngineRunner("reference", reference)
    runners = [first, EngineRunner("candidate", candidate, first)]
    if yardstick is not None:
        runners.append(EngineRunner("yardstick", yardstick, first))
    # Polygraphy prints on stdout, and NumPy warns of infinities, which Polygraphy then calls a mismatch.
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL), np.errstate(all="ignore"):
        results = Comparator.run(runners, data_loader=[dict(feed) for feed in feeds])
        return [_judge_one(run) for run in results.split()]


def _judge_one(run: RunResults) -> dict[str, Verdict]:
    reference, candidate = run["reference"][0], run["candidate"][0]
    sizes = {name: (float(np.abs(value).max()), _norm(value)) for name, value in reference.items()}
    expected = dict.fromkeys(sizes, Errors(0.0, 0.0, 0.0))
    if "yardstick" in run:
        expected = {name: errors for name, (errors, _) in _compare(run, "yardstick", {}).items()}
    limits = {}
    for name, (largest, norm) in sizes.items():
        if not math.isfinite(norm + expected[name].l2):
            raise BackendError(
                f"output {name!r} of the reference or its yardstick",
                got="values not finite",
                fix="take another portrait or seed",
            )
        limits[name] = Errors(
            max(FACTOR * expected[name].max_abs, FLOOR * largest),
            math.inf,
            max(FACTOR * expected[name].l2, FLOOR * norm),
        )
    found = _compare(run, "candidate", limits)
    return {
        name: Verdict(name, errors, limits[name], sizes[name][1], passed, reference[name], candidate[name])
        for name, (errors, passed) in found.items()
    }


def _compare(run: RunResults, name: str, limits: Mapping[str, Errors]) -> dict[str, tuple[Errors, bool]]:
    """Return Polygraphy's measures of a runner against the reference, and whether they are in the limits."""
    most = {key: limit.max_abs for key, limit in limits.items()} | {"": math.inf}
    l2 = {key: limit.l2 for key, limit in limits.items()} | {"": math.inf}
    functions = [SimpleCompareFunc(atol=most, rtol=-1.0, check_error_stat="max"), L2CompareFunc(l2)]
    pair = list(run.keys()).index("reference"), list(run.keys()).index(name)
    by_element, by_norm = (
        next(iter(result.values()))[0]
        for result in Comparator.compare_accuracy(run, comparisons=[pair], compare_func=functions)
    )
    return {
        key: (
            Errors(float(simple.max_absdiff), float(simple.mean_absdiff), float(by_norm[key].l2_norm)),
            bool(simple) and bool(by_norm[key]),
        )
        for key, simple in by_element.items()
    }


def _check_specs(name: str, found: Specs, expected: Specs) -> None:
    for side, got, wanted in zip(("inputs", "outputs"), found, expected, strict=True):
        if dict(got) != dict(wanted):
            raise BackendError(f"{side} of the {name}", got=_listed(got), expected=_listed(wanted))


def _listed(specs: Mapping[str, TensorSpec]) -> str:
    return ", ".join(f"{name} {spec}" for name, spec in specs.items())


def _norm(value: Array) -> float:
    return float(np.linalg.norm(value.astype(np.float64)))


def _ratio(part: float, whole: float) -> float:
    if whole == 0 and not math.isnan(part):
        return math.inf if part else 0.0
    return part / whole
