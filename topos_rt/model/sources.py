"""Which ONNX file of a bundle a backend loads for a graph, and in which precision."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from topos_rt.engines import EngineOptions
from topos_rt.engines.contract import PRECISIONS, Backend
from topos_rt.errors import OptionError
from topos_rt.model.bundle import Bundle
from topos_rt.model.contracts import HALVED

STEPS = ("dit_step", "dit_step_guided")  # the graphs that run at each step, nearly all of the work


def engine_source(
    bundle: Bundle, graph: str, chosen: Backend, options: EngineOptions
) -> tuple[Path, EngineOptions]:
    """Return the ONNX file that a backend loads, and the options with precision, weights and hashes settled.

    In 8 bits only the DiT's step is made; the other graphs are those of FP16, plans included.

    Raises BundleError where FP16 is asked for and the bundle has none, OptionError for a precision that the
    backend does not have.
    """
    precision = options.precision
    if precision is not None and precision not in chosen.precisions:
        raise OptionError(
            "precision",
            got=repr(precision),
            expected=f"{' or '.join(chosen.precisions)}: the backend has no other",
            fix="leave it out, or choose another backend",
        )
    if precision is None:
        has = {"fp16": bundle.manifest.graphs_fp16 is not None, "fp32": True}
        precision = next(name for name in chosen.precisions if has[PRECISIONS[name].form])
    form = PRECISIONS[precision].form
    path = bundle.graph(graph, form)
    weights = bundle.weights(path)
    return path, dataclasses.replace(
        options,
        precision=precision if graph in STEPS else form,
        halved=HALVED if form == "fp16" else frozenset(),
        weights=() if weights is None else (weights,),
        hashes={bundle.path / file: info.sha256 for file, info in bundle.manifest.files.items()},
    )


def device_precision(bundle: Bundle, chosen: Backend, options: EngineOptions) -> str | None:
    """Return the precision of the decoder's engine on a GPU; None on a CPU."""
    return engine_source(bundle, "vae_decoder", chosen, options)[1].precision if chosen.on_device else None
