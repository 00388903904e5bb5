"""The tiny model as a pipeline of fake engines, some of which count their runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests import tiny_bundle as tiny
from topos_rt.engines.fake import FakeEngine
from topos_rt.head.mesh import HeadMesh
from topos_rt.model.bundle import Bundle
from topos_rt.model.networks import Networks
from topos_rt.pipeline import HeadPipeline
from topos_rt.support.arrays import Array

IMAGE, OTHER = np.random.default_rng(11).integers(0, 256, (2, 48, 40, 3), dtype=np.uint8)


def fake_pipeline(path: Path, **replaced: FakeEngine) -> HeadPipeline:
    bundle = Bundle.open(path)
    engines = tiny.engines(bundle.manifest.evidence or ())
    return HeadPipeline(bundle, Networks(bundle, engines | replaced), "fake")


class Counting:
    """A graph of the tiny model that counts its runs and notices when two overlap."""

    def __init__(self, graph: str) -> None:
        inner = tiny.TinyModel().engine(graph)
        self.runs = 0
        self._busy = threading.Lock()

        def handler(feeds: Mapping[str, Array]) -> dict[str, Array]:
            assert self._busy.acquire(blocking=False), "two runs of one engine overlap"
            try:
                self.runs += 1
                time.sleep(0.0005)  # gives other threads a chance to interfere
                return inner.run(feeds)
            finally:
                self._busy.release()

        self.engine = FakeEngine(handler, inner.inputs, inner.outputs)


def in_metres(vertices: np.ndarray) -> np.ndarray:
    """Return vertices of the tiny network (+Z up, -Y forward) in metres and in our axes: x, z, -y."""
    turned = np.stack([vertices[:, i] * s for i, s in ((0, 1), (2, 1), (1, -1), (3, 1), (5, 1), (4, -1))], 1)
    turned[:, :3] *= 0.125
    turned[:, 3:] /= np.linalg.norm(turned[:, 3:], axis=1, keepdims=True)
    return turned


def same(one: HeadMesh, other: HeadMesh) -> bool:
    """Whether two heads are bit-identical, apart from their timings."""
    return (
        np.array_equal(one.positions, other.positions)
        and np.array_equal(one.normals, other.normals)
        and one.metadata == other.metadata
    )
