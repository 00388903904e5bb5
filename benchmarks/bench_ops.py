"""Time the kernels on a GPU, or compute what they must move and multiply.

    python -m benchmarks.bench_ops --floors [--preset official|mini] [--json FILE]
    python -m benchmarks.bench_ops [--op graph_conv] [--ours] [--preset official|mini] [--json FILE]

With --floors nothing runs and no GPU is needed: it computes the bytes, the FLOPs and the shortest time of
every launch of the decoder, for the ceilings given with --tflops and --tbytes (default: one H200 as
measured). Without it, everything runs on the current GPU, beside the forms that other libraries offer,
against ceilings measured in the same run; that needs PyTorch with CUDA. --rehearse does all of it on the CPU,
to find typos. The extra `export` is needed in any case.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks.op_floors import Ceilings, decoder_floors
from benchmarks.report import write_result
from export import random
from export.generated import generate
from export.onnx.decoder_tensors import decoder_tensors
from models import TOPOSVAE
from topos_rt.model.decoder_steps import DecoderSteps, make_steps

H200 = Ceilings(790.0, 4.3)  # a BF16 GEMM and a copy, measured; FP16 multiplies at the same rate
OPS = ("graph_conv", "flow_step", "decoder")


def main(argv: list[str] | None = None) -> None:
    """Compute or measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--floors", action="store_true", help="arithmetic only; needs no GPU")
    parser.add_argument(
        "--rehearse", action="store_true", help="all of it on the CPU; no time means anything"
    )
    parser.add_argument("--op", choices=OPS, action="append", help="measure only this (default: all)")
    parser.add_argument("--ours", action="store_true", help="without the forms of other libraries")
    parser.add_argument(
        "--step",
        action="append",
        metavar="NAME",
        default=[],
        help="of graph_conv only this, as decoder.2.resblks.1.conv_a (default: one of each shape)",
    )
    parser.add_argument("--preset", choices=random.PRESETS, default="official")
    parser.add_argument(
        "--tflops", type=float, default=H200.tflops, help="ceiling of FP16 products, for --floors"
    )
    parser.add_argument(
        "--tbytes", type=float, default=H200.tbytes, help="ceiling of memory in TB/s, for --floors"
    )
    parser.add_argument("--runs", type=int, default=100, help="timed runs of each (default 100)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    if not (arguments.tflops > 0 and arguments.tbytes > 0 and arguments.runs > 0):
        parser.error("--tflops, --tbytes, --runs: expected more than 0")
    vae, steps = decoder_of(arguments.preset)
    if unknown := set(arguments.step) - {step.name for step in steps.convs}:
        parser.error(f"--step: no step {', '.join(sorted(unknown))}; --floors lists them")
    result: dict[str, Any]
    if arguments.floors:
        ceilings = Ceilings(arguments.tflops, arguments.tbytes)
        options = f"--floors --preset {arguments.preset}"
        result = {
            "command": f"python -m benchmarks.bench_ops {options}"
            f" --tflops {ceilings.tflops:g} --tbytes {ceilings.tbytes:g}",
            "model": None,
        }
        result |= decoder_floors(steps, ceilings)
        _print_floors(result)
        return _write(arguments.json, result)
    from benchmarks.op_timings import Bench, failures, measure

    chosen = [f"--op {op}" for op in arguments.op or ()] + [f"--step {name}" for name in arguments.step]
    words = ["--ours"] if arguments.ours else []
    options = " ".join([f"--preset {arguments.preset} --runs {arguments.runs}", *words, *chosen])
    result = {"command": f"python -m benchmarks.bench_ops {options}", "model": None}

    def keep(found: dict[str, Any]) -> None:
        _write(arguments.json, result | found)

    with torch.inference_mode():
        bench = Bench(arguments.rehearse, arguments.runs, not arguments.ours, arguments.step)
        result |= measure(vae, steps, arguments.op or OPS, bench, keep)
    _write(arguments.json, result)
    if failed := failures(result):
        raise SystemExit(f"bench_ops: {len(failed)} failed: {'; '.join(failed)}")


def _write(path: Path | None, result: dict[str, Any]) -> None:
    if path:
        write_result(path, result)


def decoder_of(preset: str) -> tuple[TOPOSVAE, DecoderSteps]:
    """Return a decoder of a preset's sizes. Its weights are random, because times do not depend on them."""
    sizes = random.PRESETS[preset]()
    hierarchy = generate(sizes.recipe).hierarchy
    vae = TOPOSVAE(hierarchy, **sizes.vae).requires_grad_(False).eval()
    return vae, make_steps(decoder_tensors(vae), hierarchy)


def _print_floors(result: dict[str, Any]) -> None:
    print(
        f"{'launch':<32} {'rows':>6} {'K':>5} {'N':>4} {'GFLOP':>7} {'MB':>7} {'MB L2':>7} {'tiled':>7}"
        "  floor, us  bound"
    )
    for row in result["launches"]:
        print(
            f"{row['name']:<32} {row['rows']:>6} {row['k']:>5} {row['n']:>4} {row['gflop']:>7.3f}"
            f" {row['mbytes']:>7.2f} {row['l2_mbytes']:>7.1f}"
            f" {row['l2_mbytes_tiled']:>7.1f}"
            f"  {row['floor_us']:>9.2f}  {row['bound']}"
        )
    total = result["decoder"]
    print(
        f"decoder: {total['launches']} launches, {total['gflop']:.1f} GFLOP, {total['mbytes']:.1f} MB,"
        f" floor {total['floor_us']:.0f} us; {total['l2_mbytes']:.0f} MB through L2,"
        f" tiled {total['l2_mbytes_tiled']:.0f};"
        f" per edge it would be {total['gflop_per_edge']:.1f} GFLOP"
    )


if __name__ == "__main__":
    main()
