"""benchmarks/README.md is the page made from the results, and absent results get a page too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import make_readme
from benchmarks.gpu_run import FORMAT, VERSION
from tests.bench.results import made
from topos_rt.bench.session import STAGES, TO_GLB
from topos_rt.bench.stats import summary
from topos_rt.flow.settings import PRESETS


def test_the_page_is_that_of_the_results() -> None:
    found = (make_readme.HERE / "README.md").read_text()
    assert found == make_readme.page(make_readme.RESULTS), "run python -m benchmarks.make_readme"


def test_every_script_exists() -> None:
    for command in make_readme.SCRIPTS:
        module = command.removeprefix("python -m benchmarks.")
        assert command == "topos-rt bench" or (make_readme.HERE / f"{module}.py").is_file()


def test_nothing_measured_is_said(tmp_path: Path) -> None:
    page = make_readme.page(tmp_path)
    assert page.count("Not measured yet: `") == len(make_readme.SECTIONS)
    assert "Nothing here has run on a GPU." in page


def put(folder: Path, name: str, result: dict[str, Any]) -> None:
    (folder / f"{name}.json").write_text(json.dumps(result))


def test_a_pipeline(tmp_path: Path) -> None:
    result = made()
    result["stages"] = {name: summary([41.04, 41.04]) for name in (*STAGES, TO_GLB)}
    cold = {lap: summary([7.0]) for lap in ("interpreter", "import", "load", "first", "to_first_head")}
    result |= {
        "cold": [{"state": "fresh process", "warmed_up": False, "ms": cold, "peak_host_bytes": 123e6}],
        "diagnosis": [{"kind": "busy"}],
        "roofline": {"head": {"flops": 12.34e9, "rho": 0.567}},
    }
    result["ceilings"]["gemm"]["flops_per_s"] = 89e9
    for name in PRESETS:
        put(tmp_path, f"cpu_mini_{name}", result)
    page = make_readme.page(tmp_path)
    assert "| head | 41.0 / 41.0 | 41.0 / 41.0 | 41.0 / 41.0 |" in page
    assert "| rho | 0.57 | 0.57 | 0.57 |" in page and "| GFLOP of a head | 12.3 |" in page
    assert "| peak memory, MB | 123 |" in page and "Diagnosis: busy." in page


def baseline() -> dict[str, Any]:
    rows = {stage: summary([10.0]) for stage in ("image_encoder", "sampling", "vae_decoder", "head")}
    modes = {"eager_fp32": (2.5, [2.4, 2.6]), "topos_rt": (1.0, None)}
    return {
        "command": "c",
        "preset": "mini",
        "steps": 50,
        "guidance": 3.0,
        "ours": {"evaluations": 100},
        "machine": {"cpu": "a CPU", "cores": 2, "load_average_before": None},
        "modes": {
            name: {"meaning": name, "ms": rows, "s": s, "s_interval": interval, "relative_rms": 2e-6}
            for name, (s, interval) in modes.items()
        },
    }


def test_a_baseline(tmp_path: Path) -> None:
    put(tmp_path, "baseline_mini_cpu", baseline())
    page = make_readme.page(tmp_path)
    assert "| 10.0 | 10.0 | 10.0 | 10.0 | 2.50 (2.40 to 2.60) | 2e-06 |" in page
    assert "50 Euler steps, 100 evaluations, w = 3" in page and "load average unknown" in page


def test_a_session_on_a_gpu_but_no_rehearsal(tmp_path: Path) -> None:
    parts = {
        "probe": {
            "rc": 0,
            "timed_out": False,
            "seconds": 9.6,
            "results": {
                "tensorrt-rtx": {"works": False, "error": "refused", "detail": "d"},
                "gemm_bf16": {"flops_per_s": 788e12},
            },
        },
        "baselines": {
            "rc": -9,
            "timed_out": True,
            "seconds": 540.0,
            "results": {"official": {"rc": 0, "result": baseline()}, "mini": {"rc": 1, "tail": ["a", "b|c"]}},
        },
    }
    result = {"format": FORMAT, "version": VERSION, "rehearsed": True, "started": "now", "parts": parts}
    put(tmp_path, "gpu_run_h200", result)
    assert "Nothing here has run on a GPU." in make_readme.page(tmp_path)
    put(tmp_path, "gpu_run_h200", result | {"rehearsed": False})
    page = make_readme.page(tmp_path)
    assert "| done | 10 | tensorrt-rtx: does not run here: refused<br>gemm_bf16: 788.00 TFLOP/s |" in page
    assert "| baselines | out of time | 540 | official: S eager_fp32 2.50, topos_rt 1.00<br>" in page
    assert "<br>mini: FAILED: a / b/c |" in page
    assert "2.50 (2.40 to 2.60)" in page


def test_a_start(tmp_path: Path) -> None:
    change = {"p50": -0.123, "significant": True}
    rows = {"this": summary([100.0]), "against": summary([114.0])}
    put(
        tmp_path,
        "startup_cpu",
        {
            "commits": {"this": "a", "against": "b"},
            "imports_ms": {"this": {"numpy": 99.6}},
            "machine": {"cpu": "a CPU", "cores": 2, "load_average_before": 0.25},
            "ms": {
                "topos-rt generate": rows | {"change": change},
                "python": rows | {"change": change | {"significant": False}},
            },
        },
    )
    page = make_readme.page(tmp_path)
    assert "| `topos-rt generate` | 114 | 100 | -12.3% |" in page
    assert "| `python` | 114 | 100 | none |" in page and "numpy 100" in page
