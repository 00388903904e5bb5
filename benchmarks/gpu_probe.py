"""Facts about a GPU machine: what it is, whether TensorRT runs on it, and its ceilings of the day."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from typing import Any

import numpy as np
import torch

from benchmarks import gpu_plans
from topos_rt.bench.machine import facts, gpu_state
from topos_rt.bench.stats import summary
from topos_rt.engines import builder
from topos_rt.gpu import cuda

Named = tuple[str, dict[str, Any]]
_FLAVOURS = ("tensorrt-rtx", "tensorrt")
_GEMMS: dict[str, torch.dtype] = {
    "fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16,
    "fp8": torch.float8_e4m3fn,
}  # fmt: skip
_ON_CPU = ("fp32", "bf16")
_SIDE, _COPY = {"cuda": 8192, "cpu": 512}, {"cuda": 4 << 30, "cpu": 16 << 20}
_RUNS = 20


def probe() -> Iterator[Named]:
    """Yield the results for the machine, each ceiling and each TensorRT."""
    yield "machine", facts() | {"torch": torch.__version__, "torch_cuda": torch.version.cuda}
    yield "gpu", {"state": gpu_state(), **_cuda()}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name, dtype in _GEMMS.items():
        if device == "cuda" or name in _ON_CPU:
            yield f"gemm_{name}", _told(partial(_gemm, name, dtype, device))
    yield "copy", _told(partial(_copy, device))
    yield "gpu_after", {"state": gpu_state()}
    # TensorRT comes last: on a GPU it is not made for, it may crash the process.
    for name in _FLAVOURS:
        yield name, _tensorrt(name)
    yield from gpu_plans.tried()


def _tensorrt(name: str) -> dict[str, Any]:
    """Return versions, whether TensorRT runs here and, if it refuses, its own message."""
    versions = {
        found.metadata["Name"]: found.version
        for found in metadata.distributions()
        if (found.metadata["Name"] or "").lower().replace("_", "-").startswith(name)
    }
    found = builder(name).probe()
    return {
        "works": found.error is None,
        "detail": found.detail,
        "versions": versions,
        "error": None if found.error is None else str(found.error),
    }


def _cuda() -> dict[str, Any]:
    try:
        if not cuda.driver_version() > (0, 0) or not cuda.device_count():
            return {"device": None}
        device = cuda.current_device()
    except (ImportError, cuda.CudaError) as error:
        return {"device": None, "error": str(error)}
    return {
        "device": device.name,
        "compute_capability": device.compute_capability,
        "bytes": device.bytes,
        "driver_cuda": list(cuda.driver_version()),
        "bindings_cuda": list(cuda.runtime_version()),
    }


def _gemm(name: str, dtype: torch.dtype, device: str) -> dict[str, Any]:
    side = _SIDE[device]
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    one = torch.ones((), device=device)

    def product() -> torch.Tensor:
        if name == "fp8":  # the second operand must be column-major
            return torch._scaled_mm(a, b.t(), one, one, out_dtype=torch.bfloat16)
        return a @ b

    row = _timed(product, device)
    return {"side": side, "ms": row, "flops_per_s": 2 * side**3 / (1e-3 * float(row["p50"]))}


def _copy(device: str) -> dict[str, Any]:
    size = _COPY[device]
    source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    row = _timed(lambda: target.copy_(source), device)
    return {"bytes": size, "ms": row, "bytes_per_s": 2 * size / (1e-3 * float(row["p50"]))}


def _timed(work: Callable[[], Any], device: str) -> Any:
    samples = []
    for run in range(_RUNS + 3):
        if device == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            torch.cuda.synchronize()
            ms = begin.elapsed_time(end)
        else:
            start = time.perf_counter()
            work()
            ms = 1e3 * (time.perf_counter() - start)
        samples += [ms] if run >= 3 else []
    assert np.isfinite(samples).all()
    return summary(samples)


def _told(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of `work`, or its error, so that one missing operation does not lose the others."""
    try:
        return work()
    except (RuntimeError, NotImplementedError, ValueError) as error:
        return {"error": str(error).splitlines()[0]}
