"""What a bundle's graphs are fed from a portrait to a head, and from that head back to a latent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np

from topos_rt import HeadPipeline
from topos_rt.engines import Engine, EngineOptions
from topos_rt.engines.contract import Value
from topos_rt.engines.onnxruntime import load
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import GRAPHS
from topos_rt.model.networks import Networks
from topos_rt.pictures.image import ImageSource
from topos_rt.support.arrays import Array

# As the release samples, in few steps. With reuse = 2 the guided and the plain step take turns.
SETTINGS: dict[str, Any] = {
    "preset": "reference", "steps": 4, "guidance": 3.0, "temperature": 1.0, "reuse": 2
}  # fmt: skip


class _Recorder:
    """An `Engine` that keeps what it was fed."""

    def __init__(self, inner: Engine) -> None:
        self._inner = inner
        self.inputs, self.outputs = inner.inputs, inner.outputs
        self.fed: list[dict[str, Array]] = []

    def run(
        self, feeds: Mapping[str, Value], out: Mapping[str, Array] | None = None, keep: Collection[str] = ()
    ) -> dict[str, Any]:
        """See `Engine.run`."""
        self.fed.append({name: np.array(array) for name, array in feeds.items()})
        return self._inner.run(feeds, out, keep)

    def close(self) -> None:
        """Close the engine; what was recorded stays."""
        self._inner.close()

    def __enter__(self) -> _Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def example_feeds(
    bundle: Bundle, image: ImageSource, seed: int = 0, threads: int | None = None
) -> dict[str, list[dict[str, Array]]]:
    """Graph -> inputs by name of each of its runs; all graphs of the bundle, in FP32 on onnxruntime.

    The four steps feed the modulation four times and each form of the DiT's step twice, from noise to nearly
    a latent; everything else runs once. The same arguments give the same arrays.

    Raises ImageError, OptionError, BackendError: as `HeadPipeline`.
    """
    options = EngineOptions(threads)
    with ExitStack() as stack:
        engines = {
            graph: stack.enter_context(_Recorder(load(bundle.graph(graph), options))) for graph in GRAPHS
        }
        pipe = stack.enter_context(HeadPipeline(bundle, Networks(bundle, engines)))
        head = pipe(image, seed=seed, **SETTINGS)
        pipe.retopologize(head.positions, head.normals, passes=1)
    return {graph: engine.fed for graph, engine in engines.items()}
