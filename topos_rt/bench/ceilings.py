"""The ceilings of a machine: the rates of a large matrix product and of a large copy, on random data.

The product runs in the measured backend with its options, so that the ceiling is that of the same library,
threads and precision. The bytes of a copy are those read plus those written.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.bench.stats import summary
from topos_rt.bench.watch import Watched
from topos_rt.engines import EngineOptions, backend
from topos_rt.engines.contract import PRECISIONS, Backend

# Side of the product and bytes of the copy: much larger than the caches, taking a few milliseconds each.
CPU_SIZES = (1024, 64 << 20)
DEVICE_SIZES = (8192, 1 << 30)
_SECONDS = 0.5
_AT_LEAST, _AT_MOST = 5, 50
_DTYPES = {"fp32": np.float32, "fp16": np.float16}
# ONNX models y = a b of square matrices, PRECISION_SIDE.onnx; the runtime has no onnx package to make them.
MODELS = Path(__file__).with_name("gemm")


def measure(name: str, options: EngineOptions, sizes: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return the rates of a backend as JSON: `gemm` in FLOP/s, `copy` in bytes/s, each from the median time.

    Args:
        name: the backend.
        options: the options of the measured engines; `precision` must be settled.
        sizes: side of the product and bytes of the copy; None selects the sizes for the kind of device.
    """
    chosen = backend(name)
    side, size = sizes or (DEVICE_SIZES if chosen.on_device else CPU_SIZES)
    copy = _copy_device(size) if chosen.on_device else _copy_host(size)
    return {"gemm": _gemm(chosen, options, side), "copy": _copied(size, copy)}


def _gemm(chosen: Backend, options: EngineOptions, side: int) -> dict[str, Any]:
    precision = PRECISIONS[options.precision or "fp32"].form  # of 8 bits, the one of all that is not
    rng = np.random.default_rng(0)
    feeds = {key: rng.standard_normal((side, side), np.float32).astype(_DTYPES[precision]) for key in "ab"}
    for array in feeds.values():
        array.setflags(write=False)  # uploaded once
    with tempfile.TemporaryDirectory(prefix="topos-rt-") as cache:
        options = dataclasses.replace(
            options, precision=precision, cache=Path(cache), weights=(), hashes={}, progress=None
        )
        with Watched(chosen.load(MODELS / f"{precision}_{side}.onnx", options)) as engine:
            engine.run(feeds)
            with engine.record():
                _repeat(lambda: engine.run(feeds))
            row = summary(engine.samples["computeMs"])
    return {"side": side, "precision": precision, "ms": row, "flops_per_s": _rate(2 * side**3, row)}


def _copied(size: int, samples: list[float]) -> dict[str, Any]:
    """Return the JSON of a copy of `size` bytes, given its times in milliseconds."""
    row = summary(samples)
    return {"bytes": size, "ms": row, "bytes_per_s": _rate(2 * size, row)}


def _copy_host(size: int) -> list[float]:
    source = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    target = np.empty_like(source)
    np.copyto(target, source)  # the first copy also maps the pages
    return _repeat(lambda: np.copyto(target, source))


def _copy_device(size: int) -> list[float]:
    from topos_rt.gpu import cuda

    with cuda.Stream() as stream, cuda.Memory(size) as source, cuda.Memory(size) as target:
        block = np.random.default_rng(0).integers(0, 256, min(size, 64 << 20), np.uint8)
        for offset in range(0, size - len(block) + 1, len(block)):
            stream.to_device(source.address + offset, block)
        with cuda.Event() as begin, cuda.Event() as end:

            def copy() -> float:
                stream.record(begin)
                stream.copy(target.address, source.address, size)
                stream.record(end)
                stream.synchronize()
                return end.since(begin)

            copy()
            return _repeat(copy)


def _repeat(work: Callable[[], Any]) -> list[float]:
    """Return the milliseconds of some runs: what `work` returns if that is a float, else the host's clock."""
    samples: list[float] = []
    stop = time.perf_counter() + _SECONDS
    while len(samples) < _AT_LEAST or (time.perf_counter() < stop and len(samples) < _AT_MOST):
        start = time.perf_counter()
        told = work()
        samples.append(told if isinstance(told, float) else 1e3 * (time.perf_counter() - start))
    return samples


def _rate(amount: int, row: Any) -> float:
    return amount / (1e-3 * float(row["p50"]))
