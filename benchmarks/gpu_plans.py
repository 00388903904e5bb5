"""Find which plans of TensorRT-RTX run on a GPU that it does not list: portable ones or those for one GPU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from topos_rt.engines.tensorrt.build import Messages
from topos_rt.engines.tensorrt.plan import RuntimeCache, specs
from topos_rt.gpu import cuda

Named = tuple[str, dict[str, Any]]
_SIDE = 64  # of an FP16 matrix product, whose kernels are compiled on first use


def tried() -> Iterator[Named]:
    """Yield, for a plan of each compute capability, what TensorRT-RTX says about it and whether it works."""
    try:
        import tensorrt_rtx as trt
    except (ImportError, OSError) as error:
        yield "plans", {"skipped": str(error)}
        return
    members = trt.ComputeCapability.__members__
    for name in ["portable", *(name for name in members if name != "NONE")]:
        yield f"plan_{name}", _one(trt, name)


def _one(trt: Any, name: str) -> dict[str, Any]:
    messages = Messages(trt)
    told: dict[str, Any] = {"works": False, "stage": "build"}
    try:
        plan = _plan(trt, messages, name)
        told["stage"] = "load"
        runtime = trt.Runtime(messages.logger)
        verdict, bits = runtime.get_engine_validity(plan)
        told |= {"validity": verdict.name, "bits": int(bits)}
        engine = runtime.deserialize_cuda_engine(plan)  # whatever the verdict is
        if engine is None:
            raise RuntimeError("it is not loaded")
        told["stage"] = "run"
        error = _run(trt, engine)
        told |= {"works": True, "detail": f"{verdict.name}, relative RMS {error:.1e}", "relative_rms": error}
    except (RuntimeError, TypeError) as error:
        told["error"] = f"{told['stage']}: {error} | {messages.errors() or 'no reason given'}"
    return told


def _plan(trt: Any, messages: Messages, name: str) -> bytes:
    builder = trt.Builder(messages.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    x, w = (network.add_input(key, trt.float16, (_SIDE, _SIDE)) for key in "xw")
    plain = trt.MatrixOperation.NONE
    result = network.add_matrix_multiply(x, plain, w, plain).get_output(0)
    result.name = "y"
    network.mark_output(result)
    config = builder.create_builder_config()
    if name != "portable":
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(trt.ComputeCapability.__members__[name], 0):
            raise RuntimeError("this capability cannot be asked for")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("it is not built")
    return bytes(plan)


def _run(trt: Any, engine: Any) -> float:
    """Return the relative RMS error of x w, against FP64."""
    jit = RuntimeCache(trt, engine, None)
    context = jit.create_context()
    if context is None:
        raise RuntimeError("there is no context for it")
    rng = np.random.default_rng(0)
    arrays = {key: rng.standard_normal((_SIDE, _SIDE)).astype(np.float16) for key in "xw"}
    arrays["y"] = np.full((_SIDE, _SIDE), np.nan, np.float16)
    assert set(arrays) == {key for side in specs(trt, engine) for key in side}
    scratch = int(engine.device_memory_size_v2)
    with (
        cuda.Stream() as stream,
        cuda.Memory(scratch) as arena,
        cuda.Memory(arrays["y"].nbytes) as x,
        cuda.Memory(arrays["y"].nbytes) as w,
        cuda.Memory(arrays["y"].nbytes) as y,
    ):
        context.set_device_memory(arena.address, scratch)
        for key, memory in {"x": x, "w": w, "y": y}.items():
            context.set_tensor_address(key, memory.address)
            stream.to_device(memory.address, arrays[key])
        done = context.execute_async_v3(stream.handle)
        stream.to_host(arrays["y"], y.address)
        stream.synchronize()
        del context
        if not done:
            raise RuntimeError("it does not run")
    truth = arrays["x"].astype(np.float64) @ arrays["w"].astype(np.float64)
    return float(np.linalg.norm(arrays["y"] - truth) / np.linalg.norm(truth))
