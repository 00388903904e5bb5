"""The graphs that take several heads at once: for which numbers of heads, and their files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from topos_rt.engines.contract import AT_ONCE, Backend, Engine, EngineOptions
from topos_rt.errors import OptionError
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import GRAPHS_AT_ONCE

SIZES = tuple(sorted((1, *AT_ONCE)))  # of a batch


def numbers_for(bundle: Bundle, chosen: Backend, precision: str | None, batch: int) -> tuple[int, ...]:
    """Return the numbers of heads, at most `batch`, that engines are loaded for besides 1, the largest first.

    There are none where the backend gains nothing from several heads at once, or where the bundle has no
    graphs for them in this precision. Raises OptionError unless `batch` is one of SIZES.
    """
    if type(batch) is not int or batch not in SIZES:
        raise OptionError("batch", got=repr(batch)[:40], expected=f"one of: {', '.join(map(str, SIZES))}")
    if not chosen.gains_at_once or bundle.graph_at_once("dit_step", precision) is None:
        return ()
    return tuple(number for number in AT_ONCE if number <= batch)


def sources(bundle: Bundle, options: EngineOptions) -> dict[str, tuple[Path, EngineOptions]]:
    """Return graph -> ONNX file and options, of a bundle that has such graphs.

    options: those of a graph of one head, whose precision and hashes are settled. Nothing is halved: what an
    FP16 form has in FP16 at its ends is so in the file, since TensorRT halves only what has a static shape.
    """
    found = {}
    for graph in GRAPHS_AT_ONCE:
        path = bundle.graph_at_once(graph, options.precision)
        assert path is not None, "`numbers_for` comes first"
        weights = bundle.weights(path)
        found[graph] = (
            path,
            dataclasses.replace(options, halved=frozenset(), weights=() if weights is None else (weights,)),
        )
    return found


def load(
    bundle: Bundle, chosen: Backend, options: EngineOptions, numbers: tuple[int, ...], stack: ExitStack
) -> Mapping[int, Mapping[str, Engine]]:
    """Return number of heads -> graph -> engine, all closed with the stack. Options: as for `sources`."""
    engines: dict[int, dict[str, Engine]] = {number: {} for number in numbers}
    for graph, source in sources(bundle, options).items() if numbers else ():
        for number, engine in chosen.load_at_once(*source, numbers).items():
            engines[number][graph] = stack.enter_context(engine)
    return engines
