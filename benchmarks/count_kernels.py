"""Count what a decoder's graph convolutions do on a multiprocessor, by running a block of each launch as PTX.

    python -m benchmarks.count_kernels [--preset official|mini] [--json FILE]

No GPU is needed, and nothing is timed. It counts for how many clocks a block keeps each part of a Hopper
multiprocessor busy, bank conflicts, the sectors asked of the L2 cache, and how many of those differ.
Instructions are those of PTX, some of which ptxas removes. It needs nvcc, a C++ compiler and the extra
`test`.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.bench_ops import decoder_of
from benchmarks.report import report
from export import random
from tests.gpu import host_gpu
from tests.ptx.device import Launch, Machine
from topos_rt.gpu import cuda, ops
from topos_rt.gpu.device_array import Arena
from topos_rt.model.decoder_steps import Step

_FLOP_PER_CLOCK = 4096  # of a Hopper multiprocessor in FP16: 989 TFLOP/s at 1.83 GHz on 132 of them
_SCHEDULERS = 4  # warp instructions that a multiprocessor issues in a clock
_ISSUED = ("arithmetic", "memory", "copy", "shuffle", "control", "tensor")


def main(argv: list[str] | None = None) -> int:
    """Count, print a table, write the JSON. Returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", choices=random.PRESETS, default="official")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    return report(lambda: count(arguments.preset), arguments.json)


def count(preset: str) -> dict[str, Any]:
    """Return the JSON object: for each shape of launch and each kernel, what the middle block does."""
    _, steps = decoder_of(preset)
    shapes = {
        (id(s.neighbours), s.layer.c_in, s.layer.c_out, s.residual is None): s for s in steps.tiled().convs
    }
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        module = host_gpu.load(host_gpu.build(Path(directory)))
        device = host_gpu.HostCuda(module)
        with ExitStack() as held:
            held.enter_context(mock.patch.object(cuda, "runtime", lambda: device))
            held.enter_context(mock.patch.object(ops, "kernels", lambda: device))
            held.callback(module.record, None)
            for step, tiled in product(shapes.values(), (False, True)):
                if tiled and not step.by_tiles:
                    continue
                machine = Machine(device)
                module.record(partial(_middle, machine))
                _launch(step, tiled)
                rows.append(_row(step, tiled, machine.launches[-1]))
    command = f"python -m benchmarks.count_kernels --preset {preset}"
    return {"command": command, "model": None, "blocks": rows}


def _middle(machine: Machine, source: str, type_: str, blocks: int, *rest: Any) -> None:
    machine.only = (blocks // 2,)
    machine(source, type_, blocks, *rest)


def _launch(step: Step, tiled: bool) -> None:
    rng, neighbours, layer = np.random.default_rng(0), step.neighbours, step.layer
    with cuda.Stream() as stream, Arena(stream) as arena:
        put, features = arena.put, _features(rng, neighbours.inputs, layer.c_in)
        rows = neighbours.rows if step.residual_rows is None else int(step.residual_rows.max()) + 1
        residual = None if step.residual is None else put(_features(rng, rows, layer.c_out))
        residual_rows = None if step.residual_rows is None or residual is None else put(step.residual_rows)
        ops.graph_conv(
            put(features),
            neighbours.placed(put),
            layer.placed(put, tiled),
            residual,
            residual_rows,
            step.silu,
            out=arena.empty((neighbours.rows, layer.c_out), np.float16),
        )


def _features(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return rng.standard_normal((rows, columns), np.float32).astype(np.float16)


def _row(step: Step, tiled: bool, launch: Launch) -> dict[str, Any]:
    counts = launch.counts
    row: dict[str, Any] = {
        "name": step.name,
        "rows": step.neighbours.rows,
        "c_in": step.layer.c_in,
        "c_out": step.layer.c_out,
        "kernel": "graph_conv_tiled" if tiled else "graph_conv",
        "blocks": launch.blocks,
        "counts": dict(counts),
        "tensor_clocks": counts["flop"] / _FLOP_PER_CLOCK,
        "shared_clocks": counts["wavefronts"],
        "issue_clocks": sum(counts[kind] for kind in _ISSUED) / _SCHEDULERS,
        "bank_conflicts": counts["wavefronts"] / counts["wavefronts at least"],
        "distinct_sectors": launch.sectors,
    }
    print(
        f"{row['name']:<28} {row['kernel']:<17} {row['blocks']:>4} blocks; clocks: tensor"
        f" {row['tensor_clocks']:>6.0f}, shared {row['shared_clocks']:>6},"
        f" issue {row['issue_clocks']:>6.0f}; conflicts {row['bank_conflicts']:.2f};"
        f" sectors {counts['sectors']}, {launch.sectors} distinct",
        flush=True,
    )
    return row


if __name__ == "__main__":
    raise SystemExit(main())
