"""Record what a bundle's graphs are fed from a portrait to a head, and from that head back to a latent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np

from export.onnx.wrapped_engine import WrappedEngine
from topos_rt import HeadPipeline
from topos_rt.engines import Engine, EngineOptions
from topos_rt.engines.contract import Value
from topos_rt.engines.onnxruntime import load
from topos_rt.faces.bundle import FaceBundle
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.networks import FaceNetworks
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import GRAPHS
from topos_rt.model.networks import Networks
from topos_rt.pictures.sources import ImageSource
from topos_rt.support.arrays import Array

# These are the release's settings in few steps. With reuse = 2 the guided and the plain step take turns.
SETTINGS: dict[str, Any] = {
    "preset": "reference", "steps": 4, "guidance": 3.0, "temperature": 1.0, "reuse": 2
}  # fmt: skip


class _Recorder(WrappedEngine):
    """An `Engine` that keeps the inputs of every run."""

    def __init__(self, inner: Engine) -> None:
        super().__init__(inner)
        self.fed: list[dict[str, Array]] = []

    def run(
        self, feeds: Mapping[str, Value], out: Mapping[str, Array] | None = None, keep: Collection[str] = ()
    ) -> dict[str, Any]:
        """See `Engine.run`."""
        self.fed.append({name: np.array(array) for name, array in feeds.items()})
        return self.inner.run(feeds, out, keep)


def example_feeds(
    bundle: Bundle, image: ImageSource, seed: int = 0, threads: int | None = None
) -> dict[str, list[dict[str, Array]]]:
    """Run all graphs of a bundle in FP32 on onnxruntime; return the inputs of every run of each graph.

    The four steps feed the modulation four times and each form of the DiT's step twice, from noise to nearly
    a latent; everything else runs once. The same arguments give the same arrays.

    A model that takes evidence of a face is fed that of the portrait's.

    Raises ImageError, FaceError, OptionError and BackendError as `HeadPipeline` does.
    """
    options = EngineOptions(threads)
    with ExitStack() as stack:
        engines = {
            graph: stack.enter_context(_Recorder(load(bundle.graph(graph), options))) for graph in GRAPHS
        }
        finder = None
        if bundle.manifest.evidence:  # without a face it would be zero, and hide the errors behind it
            finder = FaceFinder(FaceNetworks("onnxruntime", options, FaceBundle.open()))
        pipe = stack.enter_context(HeadPipeline(bundle, Networks(bundle, engines), finder=finder))
        head = pipe(image, seed=seed, **SETTINGS)
        pipe.retopologize(head.positions, head.normals, passes=1)
    return {graph: engine.fed for graph, engine in engines.items()}
