"""What the machine can do at best: a large matrix product and a large copy, on random data.

The product runs through the backend that is measured, with its options, so that the ceiling has the same
library, threads and precision. A copy's bytes are those read plus those written.
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
from topos_rt.engines.contract import BackendModule

# Side of the product, bytes of the copy: many times the caches, some milliseconds each.
CPU_SIZES = (1024, 64 << 20)
DEVICE_SIZES = (8192, 1 << 30)
_SECONDS = 0.5
_AT_LEAST, _AT_MOST = 5, 50
_ONNX_TYPES = {"fp32": (1, np.float32), "fp16": (10, np.float16)}


def measure(name: str, options: EngineOptions, sizes: tuple[int, int] | None = None) -> dict[str, Any]:
    """Rates of a backend, for the JSON: `gemm` in FLOP/s, `copy` in bytes/s, each by its median time.

    Args:
        name: of the backend.
        options: as the measured engines have them; `precision` must be settled.
        sizes: side of the product and bytes of the copy; None: those for the kind of device.
    """
    module = backend(name)
    with tempfile.TemporaryDirectory(prefix="topos-rt-") as folder:
        graph = Path(folder) / "gemm.onnx"
        options = dataclasses.replace(options, cache=Path(folder) / "cache", known={}, progress=None)
        on_device = sizes is None and name != "onnxruntime"
        side, size = sizes or (DEVICE_SIZES if on_device else CPU_SIZES)
        return {"gemm": _gemm(module, graph, options, side), "copy": _copy(name, size)}


def _gemm(module: BackendModule, path: Path, options: EngineOptions, side: int) -> dict[str, Any]:
    precision = options.precision or "fp32"
    number, dtype = _ONNX_TYPES[precision]
    path.write_bytes(matmul_model(side, number))
    rng = np.random.default_rng(0)
    feeds = {key: rng.standard_normal((side, side), np.float32).astype(dtype) for key in "ab"}
    for array in feeds.values():
        array.setflags(write=False)  # uploaded once
    with Watched(module.load(path, options)) as engine:
        engine.run(feeds)
        with engine.record():
            _repeat(lambda: engine.run(feeds))
        row = summary(engine.samples["computeMs"])
    flops = 2 * side**3
    return {"side": side, "precision": precision, "ms": row, "flops_per_s": _rate(flops, row)}


def _copy(name: str, size: int) -> dict[str, Any]:
    samples = _copy_host(size) if name == "onnxruntime" else _copy_device(size)
    row = summary(samples)
    return {"bytes": size, "ms": row, "bytes_per_s": _rate(2 * size, row)}


def _copy_host(size: int) -> list[float]:
    source = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    target = np.empty_like(source)
    np.copyto(target, source)  # the first touches the pages
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
    """Milliseconds of some runs: what `work` returns where that is a float, else by the host's clock."""
    samples: list[float] = []
    stop = time.perf_counter() + _SECONDS
    while len(samples) < _AT_LEAST or (time.perf_counter() < stop and len(samples) < _AT_MOST):
        start = time.perf_counter()
        told = work()
        samples.append(told if isinstance(told, float) else 1e3 * (time.perf_counter() - start))
    return samples


def _rate(amount: int, row: Any) -> float:
    return amount / (1e-3 * float(row["p50"]))


def matmul_model(side: int, element: int) -> bytes:
    """An ONNX model y = a b of square matrices, written out in protobuf: the runtime has no onnx package.

    element: number of the ONNX type, 1 for float32, 10 for float16. Field numbers are those of onnx.proto3.
    """

    def value(name: str) -> bytes:
        dimensions = b"".join(_message(1, _number(1, side)) for _ in range(2))
        tensor = _number(1, element) + _message(2, dimensions)
        return _text(1, name) + _message(2, _message(1, tensor))

    node = _text(1, "a") + _text(1, "b") + _text(2, "y") + _text(4, "MatMul")
    graph = _message(1, node) + _text(2, "gemm")
    graph += _message(11, value("a")) + _message(11, value("b")) + _message(12, value("y"))
    return _number(1, 8) + _message(7, graph) + _message(8, _number(2, 17))


def _varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def _number(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())
