"""Measure one block of Qwen-Image's transformer at full width: its export, its plan, and a run on this CPU.

    python -m benchmarks.bench_official_texture --json FILE

The weights are random, the sizes those of the release: a map and a portrait of 1024 x 1024, 704 tokens of
text. The plan is built by TensorRT-RTX, which needs no GPU; nothing here runs on one. What 60 blocks take is
60 times what one takes where that is exact (weights, operations, files), and a guess where it is a time,
since sections are exported and built one after another, each with its own overhead.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import report
from export.onnx.files import compare, form_file, write_graphs
from export.onnx.flops import count
from export.onnx.graphs import OnnxGraph
from export.texture.graphs import assigned, blank
from models.qwen_image import ABSENT, QwenImageConfig, Section
from topos_rt.bench.machine import load_average

CONFIG = QwenImageConfig(num_layers=1, zero_cond_t=True)
BLOCKS = 60
SIDE, TEXT = 64, 704  # tokens of a side at 1024 pixels, tokens of the prompts
SMALL = 16  # tokens of a side at 256 pixels, for the run on this CPU
FORM = "bf16"


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table and write the JSON. Return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--side", type=int, default=SIDE, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    return report(lambda: measure(arguments.side), arguments.json)


def measure(side: int = SIDE, config: QwenImageConfig = CONFIG) -> dict[str, Any]:
    """Measure, and return the JSON object."""
    load = load_average()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        module = random_section(config, side)
        parameters = sum(value.numel() for value in module.parameters())
        export, files = timed(
            lambda: write_graphs(
                {"section": graph_of(module, config, side)}, directory, FORM, forms=(FORM,), compared=()
            )
        )
        export["file_bytes"] = sum(path.stat().st_size for path in directory.iterdir())
        flops = count(directory / files["section"])
        found |= {"parameters": parameters, "flops": flops, "export": export}
        found["plan"] = plan(directory / form_file("section", FORM))
        small = random_section(config, min(SMALL, side), like=module)
        (directory / "small").mkdir()
        graph = graph_of(small, config, min(SMALL, side))
        write_graphs({"small": graph}, directory / "small", FORM, forms=(), compared=())
        run, error = timed(lambda: compare(graph, directory / "small" / "small.onnx"))
        found["small"] = {"side": min(SMALL, side), "run_both": run, "relative_rms": error}
    return {
        "model": "random, one block of full width",
        "tokens": {"map": side**2, "reference": side**2, "text": TEXT},
        "blocks": BLOCKS,
        **found,
        "of_all_blocks": {
            "parameters": BLOCKS * parameters,
            "flops": BLOCKS * flops,
            "bf16_bytes": 2 * BLOCKS * parameters,
            "export_seconds": BLOCKS * export["seconds"],
            "build_seconds": BLOCKS * found["plan"]["seconds"],
        },
        "load": [load, load_average()],
    }


def random_section(config: QwenImageConfig, side: int, like: Section | None = None) -> Section:
    """Return a section of one block with weights that BF16 holds, or with those of another."""
    section = blank(lambda: Section(config, range(1), ((side, side), (side, side)), TEXT))
    generator = torch.Generator().manual_seed(0)
    state = {} if like is None else like.state_dict()
    for key, value in section.state_dict().items():
        if key not in state:
            scale = value.shape[-1] ** -0.5 if value.dim() > 1 else 0.1
            made = torch.randn(value.shape, generator=generator).mul_(scale)
            state[key] = (made if "norm" not in key else 1 + made).bfloat16().float()
    return assigned(section, state)


def graph_of(section: Section, config: QwenImageConfig, side: int) -> OnnxGraph:
    """Return the section with example inputs."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(1, TEXT)
    mask[:, -4:] = ABSENT
    inputs = {
        "image": torch.randn(1, 2 * side**2, config.width, generator=generator),
        "text": torch.randn(1, TEXT, config.width, generator=generator),
        "mask": mask,
        "modulation": 0.2 * torch.randn(1, 3, 6 * config.width, generator=generator),
    }
    return OnnxGraph(section, inputs, ("image_out", "text_out"))


def plan(path: Path) -> dict[str, Any]:
    """Build the plan of a graph, and return what its builder says of it."""
    import tensorrt_rtx

    from topos_rt.engines.tensorrt.build import build

    made, (data, told) = timed(lambda: build(tensorrt_rtx, path))
    layers = {name: sum(kinds.values()) for name, kinds in told.layers.items()}
    return {
        **made,
        "version": tensorrt_rtx.__version__,
        "plan_bytes": len(data),
        "device_bytes": dict(told.memory),
        "layers": layers,
        "fp32_products": len(told.wide_products),
    }


def timed(work: Callable[[], Any]) -> tuple[dict[str, Any], Any]:
    """Do some work; return its time, the most memory that the process ever had by then, and its result."""
    wall, processor = time.perf_counter(), time.process_time()
    made = work()
    return {
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }, made


if __name__ == "__main__":
    raise SystemExit(main())
