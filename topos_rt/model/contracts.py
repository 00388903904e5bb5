"""The inputs and outputs that each ONNX graph of a bundle must have, given its manifest and topology."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from topos_rt.engines import Engine
from topos_rt.errors import BundleError
from topos_rt.model.bundle import Bundle
from topos_rt.model.evidence import EVIDENCE
from topos_rt.model.manifest import GRAPHS, GRAPHS_AT_ONCE
from topos_rt.support.arrays import TensorSpec

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
# What steps take from `dit_context`. Attention reads it as FP16, so engines of FP16 graphs may have it so.
HALVED = frozenset({"keys", "values"})
ANY = -1  # a size that the manifest does not fix


def check_contracts(bundle: Bundle, engines: Mapping[str, Engine]) -> None:
    """Raise BundleError unless the engines have the inputs and outputs that the manifest promises."""
    if set(engines) != set(GRAPHS):
        raise _mismatch("engines", ", ".join(sorted(engines)), ", ".join(GRAPHS))
    for graph, (inputs, outputs) in contracts(bundle).items():
        _check_side(f"graph {graph}: input", engines[graph].inputs, inputs)
        _check_side(f"graph {graph}: output", engines[graph].outputs, outputs)
    for source in ("dit_context", "dit_modulation"):
        for step in ("dit_step", "dit_step_guided"):
            for name, spec in engines[source].outputs.items():
                found = engines[step].inputs[name]
                if found != spec:
                    raise _mismatch(f"graph {step}: input {name!r}", found, f"{spec}, as {source} gives it")


def check_at_once(bundle: Bundle, engines: Mapping[str, Engine], number: int) -> None:
    """Raise BundleError unless the engines take `number` heads at once, as the manifest promises."""
    if set(engines) != set(GRAPHS_AT_ONCE):
        raise _mismatch("engines of several heads", ", ".join(sorted(engines)), ", ".join(GRAPHS_AT_ONCE))
    m = bundle.manifest
    per_head = (number, ANY, ANY, m.image.tokens, ANY)
    own: dict[str, tuple[int, ...]] = {"keys": per_head, "values": per_head}
    own["tokens"] = (number, m.image.tokens, m.image.channels)
    own |= dict.fromkeys(("latent", "velocity", "difference"), (number, m.latent.tokens, m.latent.channels))
    for graph, sides in contracts(bundle).items():
        if graph in engines:
            inputs, outputs = ({name: own.get(name, shape) for name, shape in s.items()} for s in sides)
            where = f"graph {graph} of {number} heads"
            _check_side(f"{where}: input", engines[graph].inputs, inputs)
            _check_side(f"{where}: output", engines[graph].outputs, outputs)
    for step in ("dit_step", "dit_step_guided"):
        for name, spec in engines["dit_context"].outputs.items():
            found = engines[step].inputs[name]
            if found != spec:
                raise _mismatch(f"graph {step}: input {name!r}", found, f"{spec}, as dit_context gives it")


def contracts(bundle: Bundle) -> dict[str, tuple[Shapes, Shapes]]:
    """Return graph -> (shapes of its inputs, shapes of its outputs).

    Every tensor is float32, but those of HALVED may be float16.
    """
    m = bundle.manifest
    pixels, tokens = (1, 3, m.image.height, m.image.width), (1, m.image.tokens, m.image.channels)
    latent, vertices = (1, m.latent.tokens, m.latent.channels), (1, bundle.topology.num_vertices, 6)
    per_block = (ANY, ANY, m.image.tokens, ANY)
    context: Shapes = {"keys": per_block, "values": per_block}
    modulation: Shapes = {"modulation": (ANY, 6, ANY)}
    seen: Shapes = {"pixels": pixels, **{name: EVIDENCE[name] for name in m.evidence or ()}}
    encoded: Shapes = {"tokens": tokens}
    if m.residual_scale is not None:
        encoded = {**encoded, "estimate": latent}
    step: Shapes = {"latent": latent, **modulation, **context}
    return {
        "image_encoder": (seen, encoded),
        "dit_context": ({"tokens": tokens}, context),
        "dit_modulation": ({"time": (1,)}, modulation),
        "dit_step": (step, {"velocity": latent}),
        "dit_step_guided": ({**step, "guidance": (1,)}, {"velocity": latent, "difference": latent}),
        "vae_decoder": ({"latent": latent}, {"vertices": vertices}),
        "vae_encoder": ({"points": (1, m.points.count, 6)}, {"mean": latent, "logvar": latent}),
    }


def _check_side(where: str, found: Mapping[str, TensorSpec], expected: Shapes) -> None:
    if set(found) != set(expected):
        raise _mismatch(f"{where}s", ", ".join(sorted(found)), ", ".join(sorted(expected)))
    for name, shape in expected.items():
        spec = found[name]
        fits = len(spec.shape) == len(shape) and all(
            wanted in (ANY, size) for size, wanted in zip(spec.shape, shape, strict=True)
        )
        allowed = (np.float32, np.float16) if name in HALVED else (np.float32,)
        if not fits or spec.dtype not in allowed:
            wanted = ", ".join("any" if size == ANY else str(size) for size in shape)
            raise _mismatch(f"{where} {name!r}", spec, f"float32 [{wanted}], from the manifest and topology")


def _mismatch(what: str, got: object, expected: object) -> BundleError:
    return BundleError(what, got=got, expected=expected, fix="export the bundle again")
