"""Write benchmarks/README.md from the results: `python -m benchmarks.make_readme`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from topos_rt.bench.result import FORMAT
from topos_rt.bench.session import STAGES, TO_GLB
from topos_rt.flow.settings import PRESETS
from topos_rt.support.files import write_atomic

HERE = Path(__file__).parent
RESULTS = HERE / "results"

HEAD = """# Benchmarks

`python -m benchmarks.make_readme` writes this page from the JSON files in `results/`, and a test checks that.
[docs/bench.md](../docs/bench.md) says what is measured and how, and documents the JSON of `topos-rt bench`.
Measure on a machine that does nothing else. Every result records the load average before it began.
"""
SCRIPTS = {
    "topos-rt bench": "the pipeline, cold and warm: its stages, roofline and memory; compares two results",
    "python -m benchmarks.baseline_official": "the official algorithm in PyTorch, in turns with ours",
    "python -m benchmarks.bench_startup": "how long Python, the command line and `generate` take to start",
    "python -m benchmarks.bench_sdk": "the C library: loading, memory, a head, steps, polling, cancelling",
    "python -m benchmarks.gpu_run": "everything that needs a GPU, with time limits; `--rehearse` on a CPU",
    "python -m benchmarks.stage_errors": "a backend's engines against onnxruntime in FP32, stage by stage",
    "python -m benchmarks.bench_dit_step": "a step without what never changes, against the plain one",
    "python -m benchmarks.bench_sampler": "solvers and time grids against 1,000 steps; it picks the presets",
    "python -m benchmarks.bench_precision": "FP16 engines, emulated on a CPU",
    "python -m benchmarks.bench_eightbit": "INT8 and FP8 steps, emulated on a CPU, beside Euler's own error",
    "python -m benchmarks.step_traffic": "what a step's kernels read and write, without a GPU",
    "python -m benchmarks.bench_graph": "heads made by one CUDA graph against heads made step by step",
    "python -m benchmarks.bench_ops": "kernels against floors and other libraries; `--floors` only counts",
    "python -m benchmarks.profile_ops": "where a kernel's time goes, sampled by Nsight Compute",
    "python -m benchmarks.count_kernels": "instructions and memory traffic of a kernel, without a GPU",
    "python -m benchmarks.bench_rig": "rigs fitted to other heads against plain addition",
    "python -m benchmarks.bench_texture": "textures: colours against known truth, likeness, time and files",
    "python -m benchmarks.bench_tracker": "the face tracker on synthetic videos, and its frame times",
    "python -m benchmarks.bench_retopologize": "retopologized heads against known ones, by kind of scan",
    "python -m benchmarks.same_weights": "a bundle exported again against the one before it",
    "python -m benchmarks.bench_lods": "levels of detail against the full head",
    "python -m benchmarks.bench_outputs": "the files of one head: their sizes, and by how much they are off",
    "python -m benchmarks.bench_files": "what becomes of the files of bug reports, before and now",
    "python -m benchmarks.soak": "thousands of heads: what memory, descriptors and bytes do (`make soak`)",
    "python -m benchmarks.bench_batch": "batches of pictures with one and with two workers",
    "python -m benchmarks.bench_serve": "the service under load: latencies, errors and memory",
    "python -m benchmarks.bench_write": "what it costs that a file survives a power loss",
}
_STAGES = ("image_encoder", "sampling", "vae_decoder", "head")


def main() -> None:
    """Rewrite the page."""
    write_atomic(HERE / "README.md", page(RESULTS).encode())


def page(results: Path) -> str:
    """Return the page made from the results."""
    scripts = table(["command", "measures"], [[f"`{name}`", what] for name, what in SCRIPTS.items()])
    sections = (f"## {title}\n\n{make(results)}" for title, make in SECTIONS.items())
    return "\n".join([HEAD, scripts, *sections])


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def _absent(command: str) -> str:
    return f"Not measured yet: `{command}`.\n"


def _where(machine: Mapping[str, Any]) -> str:
    load = machine["load_average_before"]
    told = "unknown" if load is None else f"{load:.1f}"
    return f"{machine['cpu']}, {machine['cores']} cores, load average {told} at the start."


def _pipeline(results: Path) -> str:
    command = "topos-rt bench examples/astronaut.jpg --preset fast -o benchmarks/results/cpu_mini_fast.json"
    found = {name: _read(results / f"cpu_mini_{name}.json") for name in PRESETS}
    rows = {name: result for name, result in found.items() if result and result.get("format") == FORMAT}
    if set(rows) != set(PRESETS):
        return _absent(command)
    first = next(iter(rows.values()))
    warm = table(
        ["warm, p50 / p99 in ms", *(f"`{name}`" for name in rows)],
        [
            [stage, *(_pair(result["stages"][stage]) for result in rows.values())]
            for stage in (*STAGES, TO_GLB)
            if all(stage in result["stages"] for result in rows.values())  # none of a model without textures
        ],
    )
    laps = ("interpreter", "import", "load", "first", "to_first_head")
    cold = table(
        ["fresh process, p50 in ms", *(f"`{name}`" for name in rows)],
        [
            [lap.replace("_", " "), *(f"{_cold(result)['ms'][lap]['p50']:.0f}" for result in rows.values())]
            for lap in laps
        ]
        + [
            [
                "peak memory, MB",
                *(f"{_cold(result)['peak_host_bytes'] / 1e6:.0f}" for result in rows.values()),
            ]
        ],
    )
    heads = [result["roofline"]["head"] for result in rows.values()]
    rates = [result["ceilings"]["gemm"]["flops_per_s"] for result in rows.values()]
    roof = table(
        ["roofline", *(f"`{name}`" for name in rows)],
        [
            ["GFLOP of a head", *(f"{head['flops'] / 1e9:.1f}" for head in heads)],
            ["ceiling, GFLOP/s", *(f"{rate / 1e9:.0f}" for rate in rates)],
            ["rho", *(f"{head['rho']:.2f}" for head in heads)],
        ],
    )
    notes = sorted({line["kind"] for result in rows.values() for line in result["diagnosis"]})
    said = f"Diagnosis: {', '.join(notes)}.\n" if notes else ""
    settings = first["settings"]
    about = f"`mini`, {settings['backend']} {settings['precision']}, {settings['threads']} threads"
    return f"{about}; `{command}` and so on. {_where(first['machine'])} {said}\n{warm}\n{cold}\n{roof}"


def _cold(result: Mapping[str, Any]) -> Any:
    fresh = (state for state in result["cold"] if state["state"] == "fresh process")
    return next(state for state in fresh if not state["warmed_up"])


def _pair(row: Mapping[str, float]) -> str:
    return f"{row['p50']:.1f} / {row['p99']:.1f}"


def _baseline(results: Path) -> str:
    result = _read(results / "baseline_mini_cpu.json")
    if result is None:
        return _absent(
            "python -m benchmarks.baseline_official --json benchmarks/results/baseline_mini_cpu.json"
        )
    return f"`{result['command']}`. {_where(result['machine'])}\n\n{baseline_table(result)}"


def baseline_table(result: Mapping[str, Any]) -> str:
    """Return the table of PyTorch's modes and ours, with a line about it."""
    rows = []
    for name, row in result["modes"].items():
        interval = row["s_interval"]
        s = f"{row['s']:.2f}" + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")
        rows.append(
            [
                f"`{name}`",
                row["meaning"],
                *(f"{row['ms'][stage]['p50']:.1f}" for stage in _STAGES),
                s,
                f"{row['relative_rms']:.0e}",
            ]
        )
    head = ["", "what", *(f"{stage}, ms" for stage in _STAGES), "S", "differs by"]
    base = "topos_rt" if "topos_rt" in result["modes"] else next(iter(result["modes"]))
    over = "ours" if base == "topos_rt" else f"that of `{base}`, since ours does not run there"
    passes, heads = 2 * result["steps"], result["modes"][base]["ms"]["head"]["n"]
    return (
        f"{result['preset']} sizes, {result['steps']} Euler steps, {passes} evaluations, w = "
        f"{result['guidance']:g}, {heads} heads each, p50. S is each time divided by {over}.\n\n"
        f"{table(head, rows)}"
    )


def _startup(results: Path) -> str:
    result = _read(results / "startup_cpu.json")
    if result is None:
        return _absent(
            "python -m benchmarks.bench_startup --against CHECKOUT --json benchmarks/results/startup_cpu.json"
        )
    both = "against" in result["commits"]
    rows = []
    for name, row in result["ms"].items():
        kinds = ("against", "this") if both else ("this",)
        rows.append([f"`{name}`", *(f"{row[kind]['p50']:.0f}" for kind in kinds), *_change(row, both)])
    imports = ", ".join(f"{name} {ms:.0f}" for name, ms in list(result["imports_ms"]["this"].items())[:6])
    head = ["start of a process, p50 in ms", *(["before", "now", "change"] if both else ["now"])]
    return (
        f"{_where(result['machine'])}\n\n{table(head, rows)}\n"
        f"Imports of `generate` by package, in ms under `-X importtime`: {imports}.\n"
    )


def _change(row: Mapping[str, Any], both: bool) -> list[str]:
    if not both:
        return []
    change = row.get("change")
    return ["" if change is None else f"{change['p50']:+.1%}" if change["significant"] else "none"]


def _gpu(results: Path) -> str:
    found = [result for path in sorted(results.glob("gpu_run*.json")) if (result := _read(path))]
    found = [result for result in found if not result["rehearsed"]]
    if not found:
        return _absent("python -m benchmarks.gpu_run all --out DIR") + "\nNothing here has run on a GPU.\n"
    kernels = "[docs/kernels.md](../docs/kernels.md#what-it-costs) has kernels and decoders on an H100.\n"
    return "\n".join([kernels, *map(gpu_section, found), *_off_the_list(results)])


def _off_the_list(results: Path) -> list[str]:
    """Return paragraphs on TensorRT-RTX with a GPU that is not on its list."""
    plans, errors = _read(results / "plans_h100.json"), _read(results / "errors_h100_mini.json")
    if plans is None:
        return []
    plans = plans["plans"]
    right = [name for name, row in plans.items() if row["works"]]
    verdicts = sorted({row["validity"] for row in plans.values()})
    listed = [
        "An H100 is not on TensorRT-RTX's list of GPUs, so this is a use that NVIDIA does not support. The"
        f" library calls plans for {', '.join(plans)} {' and '.join(verdicts)}, but loads them, and"
        f" {len(right)} of {len(plans)} compute the right product (`plans_h100.json`).\n"
    ]
    return listed if errors is None else [*listed, _far_off(errors)]


def _far_off(errors: Mapping[str, Any]) -> str:
    heads = errors["heads"]
    rms, tensor = max(
        (row["relative_rms"], f"{graph}: {name}")
        for graph, outputs in errors["graphs"].items()
        for name, row in outputs.items()
    )
    return (
        f"There, {errors['seeds']} heads of `{errors['model']['name']}` in {errors['precision']}, of"
        f" {errors['settings']['steps']} steps, differ from {errors['against']} by {heads['mean_mm']:.2f} mm"
        f" on average and {heads['p99_mm']:.2f} mm at the 99th percentile. The tensor furthest off is"
        f" {tensor}, by {rms:.1e} (`errors_h100_mini.json`).\n"
    )


_STATES = {0: "done", None: "cut off"}  # None: the session ended while it ran


def gpu_section(result: Mapping[str, Any]) -> str:
    """Return the section of one session on a GPU: a line for each result, and the baselines in full."""
    from benchmarks.gpu_parts import line

    rows, tables = [], []
    for name, part in result["parts"].items():
        state = "out of time" if part["timed_out"] else _STATES.get(part["rc"], "failed")
        rows.append(
            [
                name,
                state,
                f"{part['seconds']:.0f}",
                "<br>".join(line(key, value).replace("|", "/") for key, value in part["results"].items()),
            ]
        )
        if name == "baselines":
            tables += [
                baseline_table(value["result"]) for value in part["results"].values() if "result" in value
            ]
    parts = table(["part", "", "s", "results"], rows)
    return "\n".join([f"Session of {result['started']}.\n", parts, *tables])


SECTIONS: dict[str, Callable[[Path], str]] = {
    "Pipeline on a CPU": _pipeline,
    "Against the official algorithm": _baseline,
    "Starting": _startup,
    "On a GPU": _gpu,
}

if __name__ == "__main__":
    main()
