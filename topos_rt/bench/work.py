"""How much work a head takes: runs of each graph, evaluations, bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from topos_rt.engines import Engine
from topos_rt.flow.counting import network_runs
from topos_rt.flow.settings import SamplerSettings
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import GRAPHS

_DATA = (".onnx", ".safetensors")


def runs_per_head(settings: SamplerSettings) -> dict[str, int]:
    """Return graph -> its runs in one head of a warm pipeline, which keeps its modulations between calls.

    `settings.guidance` must be a number.
    """
    runs = network_runs(settings)
    once = dict.fromkeys(("image_encoder", "dit_context", "vae_decoder"), 1)
    if settings.landmark_pull:  # every evaluation decodes its estimate
        once["vae_decoder"] += runs.unguided + runs.guided_runs
    dit = {"dit_step": runs.unguided, "dit_step_guided": runs.guided_runs}
    return dict.fromkeys(GRAPHS, 0) | once | dit


def evaluations(settings: SamplerSettings) -> dict[str, int]:
    """Count the velocity's evaluations in one head: `guided`, `unguided`; a guided one is two `passes`."""
    runs = network_runs(settings)
    return {"guided": runs.guided_runs, "unguided": runs.unguided, "passes": runs.passes}


def io_bytes(engine: Engine) -> int:
    """Return the fewest bytes that a run can move: inputs read once, outputs written once, no weights."""
    return sum(spec.nbytes for side in (engine.inputs, engine.outputs) for spec in side.values())


def model_digest(bundle: Bundle) -> str:
    """Return the SHA-256 of the SHA-256s of a bundle's graphs, weights and geometry, to identify the work.

    The landmark map and response, the atlas and the parts are left out: they take no part in making a head,
    unless landmarks pull at it.
    """
    manifest = bundle.manifest
    apart = (manifest.landmarks, manifest.landmark_response, manifest.atlas, manifest.parts)
    files = {
        name: info.sha256
        for name, info in bundle.manifest.files.items()
        if PurePath(name).suffix in _DATA and name not in apart
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
    """Return the settings recorded in a head's metadata."""
    names = SamplerSettings.__dataclass_fields__
    return SamplerSettings(**{name: metadata[name] for name in names if name in metadata})
