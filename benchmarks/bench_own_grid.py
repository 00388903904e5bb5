"""Measure whether time grids that were made on some heads hold on others.

    python -m benchmarks.bench_own_grid --json benchmarks/results/own_grid_mini.json [--seeds 1]

`bench_sampler` makes its time grids from the heads that it screens on. Here the cheapest settings of its
result that are free there (every error below that of the release's 50 Euler steps) are measured on the
pictures of examples/people with seeds from 1000 on, which it never used; persons may be the same, as both are
held-out renders. The truth, guidance and errors are as there. A setting is free here where its mean, 99th
percentile and maximum are below those of the release's 50 steps on these heads.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import bench_sampler
from benchmarks.bench_sampler import Item, Truth
from benchmarks.report import write_result
from topos_rt.bench.work import model_facts
from topos_rt.flow.settings import PRESETS, SamplerSettings
from topos_rt.model.bundle import Bundle

ROOT = Path(__file__).parents[1]
PEOPLE = ROOT / "examples/people"
FIRST_SEED = 1000
MEASURES = ("mean_mm", "p99_mm", "max_mm")
MOST = 6  # settings taken from the screening


def main() -> None:
    """Measure, print a line for each setting and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--screened", type=Path, default=ROOT / "benchmarks/results/sampler_mini.json")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    arguments = parser.parse_args()
    start = time.perf_counter()
    pictures = _pictures(arguments.pictures)
    items = [Item(i, FIRST_SEED + k) for k in range(arguments.seeds) for i in range(len(pictures))]
    settings = [*PRESETS.values(), *_free_on_the_screen(json.loads(arguments.screened.read_bytes()))]
    with Pool(arguments.workers, bench_sampler._open, ("mini", pictures)) as pool:
        truths: dict[Item, Truth] = dict(zip(items, pool.map(bench_sampler._truth, items, 1), strict=True))
        rows = bench_sampler._measure(pool, settings, items, truths)
    limits = rows[0]
    for row in rows:
        row["free"] = all(row[name] < limits[name] for name in MEASURES)
        print(bench_sampler._line(row), "free" if row["free"] else "")
    write_result(
        arguments.json,
        {
            "command": f"python -m benchmarks.bench_own_grid --pictures {arguments.pictures}"
            f" --seeds {arguments.seeds}",
            "model": model_facts(Bundle.open("mini")),
            "pictures": len(pictures),
            "seeds": arguments.seeds,
            "first_seed": FIRST_SEED,
            "guidance": bench_sampler.GUIDANCE,
            "temperature": 1.0,
            "minutes": round((time.perf_counter() - start) / 60, 1),
            "measured": rows,
        },
    )


def _pictures(count: int) -> np.ndarray:
    """Return [count,size,size,3] uint8 of examples/people."""
    paths = sorted(PEOPLE.glob("*.jpg"))[:count]
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


def _free_on_the_screen(result: dict[str, Any]) -> list[SamplerSettings]:
    """Return the cheapest settings that were screened and are free there."""
    limits = result["presets"]["reference"]
    free = [r for r in result["screened"] if all(r[name] < limits[name] for name in MEASURES)]
    rows = sorted(free, key=lambda row: (row["evaluations"], row["mean_mm"]))[:MOST]
    plain = [dataclasses.replace(bench_sampler._settings(row), guidance=None) for row in rows]
    return list(dict.fromkeys(plain))


if __name__ == "__main__":
    main()
