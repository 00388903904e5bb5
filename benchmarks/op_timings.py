"""Time the kernels on a GPU beside the forms of other libraries, or rehearse all of it on the CPU."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.op_floors import Ceilings, decoder_floors
from benchmarks.op_forms import torch_convs
from models import TOPOSVAE
from topos_rt import __version__
from topos_rt.errors import one_line
from topos_rt.gpu import cuda, ops
from topos_rt.gpu.layers import Layer
from topos_rt.model.decoder import KernelDecoder, NumpyDecoder
from topos_rt.model.decoder_steps import DecoderSteps, Step

_GEMM, _COPY_BYTES = 8192, 1 << 30
# Steps of the two finest levels that are timed beside other libraries' forms.
_STEPS = ("resblks.1.conv_a", "resblks.1.conv_b")
_WARM = 20
_BATCH = 25  # runs that wait behind one delay; a stream's queue has room for about a thousand launches
_SLEEP_HZ, _LONGEST_SLEEP_S = 2e9, 1.0  # torch.cuda._sleep counts clocks; no multiprocessor has more a second
_ROW = 20  # launches in a row, so that the gaps around a single one are not timed
_SETS = 5  # sets of arrays that a row goes through, more than any cache holds
Work = Callable[[], Any]
Turned = Callable[[int], Any]  # which set of arrays
Inputs = tuple[np.ndarray, np.ndarray | None]  # x, residual
Keep = Callable[[dict[str, Any]], None]


class Bench:
    """Runs work and times it, by CUDA events on a GPU and by the host's clock in a rehearsal."""

    def __init__(self, rehearse: bool, runs: int, others: bool = True, steps: Sequence[str] = ()) -> None:
        """Time on the current GPU.

        others: time other libraries' forms too. steps: names of graph convolutions; none: each shape.
        """
        self.device = torch.device("cpu" if rehearse else "cuda")
        self.others, self.steps = others, steps
        self.runs = runs
        self.gpu = not rehearse

    @property
    def stream(self) -> int:
        return int(torch.cuda.current_stream().cuda_stream) if self.gpu else 0

    def put(self, array: np.ndarray) -> Any:
        """Return an array on the device, for our ops."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device) if self.gpu else array

    def tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def time(self, work: Work, clock: bool = False) -> dict[str, float]:
        """Return microseconds (min, p50, p90, p99) and n. clock: time by the host, for work that waits."""
        for _ in range(min(_WARM, self.runs)):
            work()
        times = self._events(work) if self.gpu and not clock else self._clock(work)
        return self.summary(times)

    @staticmethod
    def summary(times: Sequence[float]) -> dict[str, float]:
        p50, p90, p99 = np.percentile(times, [50, 90, 99])
        return {"min": min(times), "p50": float(p50), "p90": float(p90), "p99": float(p99), "n": len(times)}

    def _events(self, work: Work) -> list[float]:
        marks = [
            (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            for _ in range(self.runs)
        ]
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        enqueue = time.perf_counter() - start
        for first in range(0, self.runs, _BATCH):
            # Our launches take the host longer than the GPU. Behind a delay the events time the GPU alone.
            seconds = min(2 * _BATCH * enqueue, _LONGEST_SLEEP_S)
            torch.cuda._sleep(int(_SLEEP_HZ * seconds))
            for begin, end in marks[first : first + _BATCH]:
                begin.record()
                work()
                end.record()
            torch.cuda.synchronize()
        return [1e3 * float(begin.elapsed_time(end)) for begin, end in marks]

    def in_a_row(self, work: Turned) -> dict[str, float]:
        """Return microseconds of one launch among many in a CUDA graph, as in a decoder."""
        if not self.gpu:
            return self.time(lambda: work(0))
        cuda_graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(cuda_graph, capture_error_mode="relaxed"):
            for turn in range(_ROW):
                work(turn)
        times = self.time(cuda_graph.replay)
        return {key: value if key == "n" else value / _ROW for key, value in times.items()}

    def _clock(self, work: Work) -> list[float]:
        times = []
        for _ in range(self.runs):
            begin = time.perf_counter()
            work()
            times.append(1e6 * (time.perf_counter() - begin))
        return times


def measure(
    vae: TOPOSVAE, steps: DecoderSteps, names: Sequence[str], bench: Bench, keep: Keep
) -> dict[str, Any]:
    """Measure all that was asked for, and the ceilings. keep: called with the result as it grows."""
    if bench.gpu and not torch.cuda.is_available():
        raise SystemExit(
            "bench_ops: got no GPU that PyTorch can use; expected one; fix: --floors or --rehearse"
        )
    ceilings = _ceilings(bench)
    result: dict[str, Any] = {"machine": _machine(bench), "ceilings": ceilings}
    print(f"ceilings: {ceilings['tflops']:.3g} TFLOP/s, {ceilings['tbytes']:.3g} TB/s")
    for name in names:
        found: dict[str, Any] = {}
        result[name] = found

        def grown(more: dict[str, Any], found: dict[str, Any] = found) -> None:
            found.update(more)
            keep(result)

        _OPS[name](bench, vae, steps, Ceilings(**ceilings), grown)
    return result


def failures(result: Any, path: str = "") -> list[str]:
    """List the errors in a result, each with its place."""
    if not isinstance(result, dict):
        return []
    if "error" in result:
        return [f"{path}: {result['error']}"]
    return [told for key, value in result.items() for told in failures(value, f"{path} {key}".strip())]


def _told(name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do the work; turn an exception into a result, so that one form that fails does not lose the others."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - of any library
        print(f"{name}: FAILED: {type(error).__name__}: {one_line(str(error))[:200]}", flush=True)
        return {"error": f"{type(error).__name__}: {one_line(str(error))[:400]}"}


def _graph_conv(bench: Bench, vae: TOPOSVAE, steps: DecoderSteps, ceilings: Ceilings, keep: Keep) -> None:
    floors = {row["name"]: row for row in decoder_floors(steps, ceilings)["launches"]}
    stages = max(int(step.name.split(".")[1]) for step in steps.convs if step.name.startswith("decoder."))
    wanted = {f"decoder.{stage}.{name}" for stage in (stages - 1, stages) for name in _STEPS}
    shapes = set()
    for step in steps.tiled().convs:
        shape = id(step.neighbours), step.layer.c_in, step.layer.c_out
        if step.name in bench.steps or (not bench.steps and (step.name in wanted or shape not in shapes)):
            others = step.name in bench.steps or step.name in wanted
            _one_conv(bench, step, floors[step.name], keep, bench.others and others)
        shapes.add(shape)


def inputs_of(step: Step, turn: int) -> Inputs:
    """Draw x, and the residual if the step has one."""
    rng = np.random.default_rng(turn)
    x = rng.standard_normal((step.neighbours.inputs, step.layer.c_in)).astype(np.float16)
    if step.residual is None:
        return x, None
    rows = step.neighbours.rows if step.residual_rows is None else int(step.residual_rows.max()) + 1
    return x, rng.standard_normal((rows, step.layer.c_out)).astype(np.float16)


def our_convs(bench: Bench, step: Step, inputs: Sequence[Inputs]) -> dict[str, Turned]:
    """Return graph_conv, and graph_conv_tiled where it can run."""
    there = [tuple(None if array is None else bench.put(array) for array in pair) for pair in inputs]
    outs = [bench.put(np.full((step.neighbours.rows, step.layer.c_out), np.nan, np.float16)) for _ in inputs]
    rows = None if step.residual_rows is None else bench.put(step.residual_rows)
    forms: dict[str, Turned] = {}
    neighbours = step.neighbours.placed(bench.put) if bench.gpu else step.neighbours
    here = step.by_tiles and (not bench.gpu or ops.tiles_here())
    for name, tiled in {"ours": False, "ours, tiled": True}.items():
        if tiled and not here:
            continue
        layer = step.layer.placed(bench.put, tiled) if bench.gpu else step.layer

        def ours(turn: int, layer: Layer = layer) -> Any:
            (x, residual), out = there[turn % len(there)], outs[turn % len(there)]
            ops.graph_conv(x, neighbours, layer, residual, rows, step.silu, out=out, stream=bench.stream)
            return out  # the op returns a DeviceArray, which NumPy cannot read

        forms[name] = ours
    return forms


def _one_conv(bench: Bench, step: Step, floor: dict[str, Any], keep: Keep, others: bool) -> None:
    inputs = [inputs_of(step, turn) for turn in range(_SETS if bench.gpu else 1)]
    x, residual = (None if array is None else array.astype(np.float64) for array in inputs[0])
    assert x is not None
    truth = ops.graph_conv(x, step.neighbours, step.layer, residual, step.residual_rows, step.silu)
    row: dict[str, Any] = {"floor_us": floor["floor_us"], "bound": floor["bound"], "us": {}}

    def one(name: str, work: Turned) -> dict[str, Any]:
        got = work(0)
        numbers = np.asarray(got.float().cpu() if isinstance(got, Tensor) else got, np.float64)
        error = float(np.linalg.norm(numbers - truth) / np.linalg.norm(truth))
        if not error < 0.05:
            raise RuntimeError(f"a relative RMS of {error:.2g}")
        alone = bench.time(lambda: work(0))
        warm, cold = bench.in_a_row(lambda turn: work(0)), bench.in_a_row(work)
        us = cold["p50"]
        share = floor["floor_us"] / us
        rate = floor["gflop"] / us * 1e3, floor["mbytes"] / us
        print(
            f"{step.name:<28} {name:<12} p50 {us:7.2f} us,"
            f" warm {warm['p50']:7.2f}, alone {alone['p50']:7.2f}  {share:6.1%} of the ceiling"
            f"  {rate[0]:5.1f} TFLOP/s {rate[1]:6.3f} TB/s  rms {error:.1e}",
            flush=True,
        )
        return {
            "in_a_row": cold,
            "in_a_row_warm": warm,
            "alone": alone,
            "p50": us,
            "relative_rms": error,
            "share_of_ceiling": share,
            "tflops": rate[0],
            "tbytes": rate[1],
        }

    forms = our_convs(bench, step, inputs) | (torch_convs(bench, step, inputs) if others else {})
    for name, work in forms.items():
        row["us"][name] = _told(f"{step.name} {name}", partial(one, name, work))
        keep({step.name: row})


def _flow_step(bench: Bench, vae: TOPOSVAE, steps: DecoderSteps, ceilings: Ceilings, keep: Keep) -> None:
    size, rng = steps.latent[0] * steps.latent[1], np.random.default_rng(0)
    terms = [bench.put(rng.standard_normal(size).astype(np.float32)) for _ in range(4)]
    # The table has a row for every run, because past its end there is nothing to do. Weights are small,
    # because each sum is a term of the next.
    table = bench.put(rng.uniform(-0.25, 0.25, (2 * bench.runs + _WARM, 4)).astype(np.float32))
    step, moved = bench.put(np.zeros(1, np.int32)), size * (4 + 1) * 4 / 1e6

    def work() -> None:
        ops.flow_step(terms, table, step, out=terms[0], stream=bench.stream)

    keep(_told("flow_step", lambda: _moved("flow_step", bench.time(work), moved, ceilings)))


def _decoder(bench: Bench, vae: TOPOSVAE, steps: DecoderSteps, ceilings: Ceilings, keep: Keep) -> None:
    floor = decoder_floors(steps, ceilings)["decoder"]
    latent = np.random.default_rng(0).standard_normal((1, *steps.latent)).astype(np.float32)
    found: dict[str, Any] = {}

    def tell(name: str, measured: Callable[[], dict[str, float]]) -> None:
        def one() -> dict[str, Any]:
            times = measured()
            share = floor["floor_us"] / times["p50"]
            print(f"decoder  {name:<22} p50 {times['p50']:10.1f} us  {share:6.1%} of the floor", flush=True)
            return times | {"share_of_floor": share}

        found[name] = _told(f"decoder {name}", one)
        keep({"floor_us": floor["floor_us"], "us": found})

    if bench.gpu:
        tell("ours, from and to the host", lambda: _ours(bench, steps, latent, "run"))
        tell("ours, waited for", lambda: _ours(bench, steps, latent, "launch"))
        tell("ours, by events", lambda: _ours(bench, steps, latent, "events"))
        tell("not tiled, by events", lambda: _ours(bench, steps, latent, "events", tiled=False))
    else:
        twin = NumpyDecoder(steps)
        tell("twin", lambda: bench.time(lambda: twin.run({"latent": latent})))
    if not bench.others:
        return
    given = torch.from_numpy(latent).to(bench.device)
    with torch.inference_mode():
        module = vae.to(bench.device)
        # `to` leaves the shared tables on the host, and every call would copy them.
        for part in vae.modules():
            for sums in getattr(part, "_sums", ()):
                sums.table = sums.table.to(bench.device)
        tell("PyTorch, FP32", lambda: bench.time(lambda: module.decode(given)))
        if bench.gpu:
            halved, small = vae.half(), given.half()
            tell("PyTorch, FP16", lambda: bench.time(lambda: halved.decode(small)))
            compiled = torch.compile(halved.decode, mode="reduce-overhead", dynamic=False)
            tell("PyTorch, compiled", lambda: bench.time(lambda: compiled(small)))


def _ours(
    bench: Bench, steps: DecoderSteps, latent: np.ndarray, how: str, tiled: bool | None = None
) -> dict[str, float]:
    """Time the decoder on the kernels: `run`, or `launch` with a wait, or `launch` by its stream's events."""
    with KernelDecoder(steps, tiled=tiled) as decoder, cuda.Event() as begin, cuda.Event() as end:
        decoder.run({"latent": latent})

        def launch() -> float:
            decoder.stream.record(begin)
            decoder.launch()
            decoder.stream.record(end)
            decoder.stream.synchronize()
            return 1e3 * end.since(begin)

        if how == "run":
            return bench.time(lambda: decoder.run({"latent": latent}), clock=True)
        if how == "launch":
            return bench.time(launch, clock=True)
        return bench.summary([launch() for _ in range(bench.runs)])


_OPS: dict[str, Callable[[Bench, TOPOSVAE, DecoderSteps, Ceilings, Keep], None]] = {
    "graph_conv": _graph_conv, "flow_step": _flow_step, "decoder": _decoder,
}  # fmt: skip


def _moved(name: str, times: dict[str, float], mbytes: float, ceilings: Ceilings) -> dict[str, Any]:
    floor = mbytes / ceilings.tbytes
    print(f"{name:<32} p50 {times['p50']:9.1f} us  {mbytes / times['p50']:6.3f} TB/s  floor {floor:.2f} us")
    return {"mbytes": mbytes, "floor_us": floor, "us": times}


def _ceilings(bench: Bench) -> dict[str, float]:
    """Measure a large product of random FP16 matrices, and a copy."""
    n, size = (_GEMM, _COPY_BYTES) if bench.gpu else (512, 1 << 24)
    dtype = torch.float16 if bench.gpu else torch.float32
    a, b = (torch.randn(n, n, device=bench.device, dtype=dtype) for _ in range(2))
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    gemm, copy = bench.time(lambda: a @ b), bench.time(lambda: target.copy_(source))
    return {"tflops": 2e-6 * n**3 / gemm["p50"], "tbytes": 2e-6 * size / copy["p50"]}


def _machine(bench: Bench) -> dict[str, Any]:
    about = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "topos_rt": __version__,
        "device": "cpu, a rehearsal: no time means anything",
    }
    if bench.gpu:
        facts = torch.cuda.get_device_properties(0)
        about |= {
            "device": facts.name,
            "cuda": str(torch.version.cuda),
            "kernels": ops.kernels().ARCHITECTURES,
        }
    return about
