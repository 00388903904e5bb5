"""How much work a head is: runs of each graph, floating-point operations, bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from topos_rt.engines import Engine
from topos_rt.flow.counting import network_evaluations
from topos_rt.flow.sampling import guided, sample
from topos_rt.flow.settings import SamplerSettings
from topos_rt.flow.solvers import Array
from topos_rt.model.bundle import GRAPHS, Bundle

_DATA = (".onnx", ".safetensors")


class _Runs:
    """A `topos_rt.flow.sampling.Field` that counts which graph would run."""

    def __init__(self) -> None:
        self.count = dict.fromkeys(GRAPHS, 0)

    def conditional(self, x: Array, t: float) -> Array:
        self.count["dit_step"] += 1
        return x

    def guided(self, x: Array, t: float, w: float) -> tuple[Array, Array]:
        self.count["dit_step_guided"] += 1
        return x, x


def runs_per_head(settings: SamplerSettings) -> dict[str, int]:
    """Graph -> runs of it for one head of a warm pipeline, which keeps its modulations between calls.

    `settings.guidance` must be a number. Counted in a run on nothing, so it holds for every solver.
    """
    field = _Runs()
    for _ in sample(guided(field, settings), np.zeros(0, np.float32), settings):
        pass
    return field.count | dict.fromkeys(("image_encoder", "dit_context", "vae_decoder"), 1)


def evaluations(settings: SamplerSettings) -> dict[str, int]:
    """Evaluations of the velocity in one head: `guided`, `unguided`; `passes` counts a guided one twice."""
    runs = runs_per_head(settings)
    return {
        "guided": runs["dit_step_guided"],
        "unguided": runs["dit_step"],
        "passes": network_evaluations(settings),
    }


def head_flops(flops: Mapping[str, int], runs: Mapping[str, int]) -> int:
    """Floating-point operations of one head of a warm pipeline."""
    return sum(count * flops[graph] for graph, count in runs.items())


def io_bytes(engine: Engine) -> int:
    """The fewest bytes one run moves: every input read once, every output written once. No weights."""
    return sum(
        int(np.prod(spec.shape, dtype=np.int64)) * spec.dtype.itemsize
        for side in (engine.inputs, engine.outputs)
        for spec in side.values()
    )


def model_digest(bundle: Bundle) -> str:
    """SHA-256 over the digests of a bundle's graphs, weights and geometry: the same work, the same digest."""
    files = {
        name: info.sha256 for name, info in bundle.manifest.files.items() if PurePath(name).suffix in _DATA
    }
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def model_facts(bundle: Bundle) -> dict[str, str | None]:
    """Return what a result says of the model that it was measured with."""
    weights = bundle.manifest.weights
    return {
        "name": bundle.manifest.name,
        "sha256": model_digest(bundle),
        "weights": weights.note,
        "kind": weights.kind,
    }


def settings_of(metadata: Mapping[str, Any]) -> SamplerSettings:
    """The settings that a head's metadata tells of."""
    return SamplerSettings(**{name: metadata[name] for name in SamplerSettings.__dataclass_fields__})
