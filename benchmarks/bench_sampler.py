"""Measure how far cheaper samplers move the heads of `mini`, and pick the presets from that by rule.

    python -m benchmarks.bench_sampler --json benchmarks/results/sampler_mini.json [--workers 2]

The truth is a run of 1,000 Euler steps with full guidance, in FP32. Errors are vertex distances to it in
millimetres, over held-out portraits with two seeds each. All combinations are screened on a few portraits;
those on the front there are measured on all. `balanced` is the cheapest one whose mean, 99th percentile and
maximum are all below those of the release's own 50 Euler steps, `fast` the cheapest one with a mean of at
most 0.5 mm. Drawing the portraits needs the extra `training`.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import itertools
import time
from collections.abc import Sequence
from multiprocessing import Pool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.report import write_result
from benchmarks.time_grids import best_grids
from topos_rt import Bundle, HeadPipeline
from topos_rt.bench.work import model_facts
from topos_rt.faces.portrait import WHOLE, FaceChoice
from topos_rt.flow.counting import network_evaluations
from topos_rt.flow.sampling import clean_estimate, guided, sample
from topos_rt.flow.settings import PRESETS, SamplerSettings
from topos_rt.flow.solvers import SOLVERS, Step
from topos_rt.model.networks import Condition
from topos_rt.support.progress import Tracker
from topos_rt.texture.stage import TextureChoice

TRUTH_STEPS = 1000
GUIDANCE = 3.0  # the release's, at temperature 1, not the model's own: presets are for all models
KNOTS = 100  # how many of the truth's steps are kept for the time grids
FAST_MM = 0.5
STEPS = (4, 5, 6, 8, 9, 10, 12, 14, 16, 20)
SHIFTS = (1.0, 2.0, 3.0)
INTERVALS = ((0.0, 1.0), (0.1, 1.0), (0.2, 1.0), (0.4, 1.0), (0.0, 0.9), (0.1, 0.9))
REUSES = (1, 2, 3)
SCREENED_ITEMS = 8
KEPT_PER_COUNT = 2  # how many of the screened are kept for each number of evaluations
KEPT_FREE = 6  # and how many of the cheapest that are free there

_pipe: HeadPipeline | None = None
_images: np.ndarray | None = None


class Item(NamedTuple):
    """One portrait and seed."""

    image: int
    seed: int


class Truth(NamedTuple):
    """The run that an item is measured against, and from which the time grids are made."""

    vertices: np.ndarray  # [V,3] mm
    states: np.ndarray  # [KNOTS+1,N*D]
    velocities: np.ndarray  # [KNOTS+1,N*D]


def main() -> None:
    """Run the benchmark, and print the front and the presets."""
    parser = heads_parser(__doc__)
    arguments = parser.parse_args()
    start = time.perf_counter()
    images = held_out_portraits(arguments.model, arguments.images, arguments.shards)
    items = [Item(i, seed) for seed in range(arguments.seeds) for i in range(arguments.images)]
    with Pool(arguments.workers, _open, (arguments.model, images)) as pool:
        truths = dict(zip(items, pool.map(_truth, items, chunksize=1), strict=True))
        screened = items[:SCREENED_ITEMS]
        candidates = _candidates(_grids([truths[item] for item in screened]))
        rough = _measure(pool, candidates, screened, truths)
        varied = [s for row in _front(rough, KEPT_PER_COUNT) for s in _variants(_settings(row))]
        rough += _measure(pool, varied, screened, truths)
        own = next(row for row in rough if _settings(row) == PRESETS["reference"])
        # The front is that of means, but a setting may be free for its maximum.
        free = sorted(_free(rough, own), key=lambda row: row["evaluations"])[:KEPT_FREE]
        chosen = [_settings(row) for row in [*_front(rough, KEPT_PER_COUNT), *free]]
        rows = _measure(pool, [*PRESETS.values(), SamplerSettings(25), *chosen], items, truths)
        previews = {name: _previews(pool, settings, items) for name, settings in PRESETS.items()}
    presets = {name: next(row for row in rows if _settings(row) == s) for name, s in PRESETS.items()}
    result = {
        "command": "python -m benchmarks.bench_sampler --shards SHARDS"
        f" --images {arguments.images} --seeds {arguments.seeds}",
        "model": model_facts(Bundle.open(arguments.model)),
        "images": arguments.images,
        "seeds": arguments.seeds,
        "truth": f"{TRUTH_STEPS} Euler steps, full guidance, FP32",
        "guidance": GUIDANCE,
        "temperature": 1.0,
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "presets": presets,
        "by_rule": _presets(rows),
        "previews": previews,
        "measured": rows,
        "screened": rough,
    }
    write_result(arguments.json, result)
    for row in sorted(rows, key=lambda row: row["evaluations"]):
        print(_line(row))
    for title, named in (("", presets), ("by rule: ", result["by_rule"])):
        for name, row in named.items():
            print(f"{title}{name:<10}{_line(row)}")


def heads_parser(about: str | None) -> argparse.ArgumentParser:
    """Return a parser of what says which heads are made; about: the docstring of a benchmark."""
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--model", default="mini")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--shards", type=Path, metavar="DIR", help="held-out pictures of training.render")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    return parser


def held_out_portraits(model: str, count: int, folder: Path | None) -> np.ndarray:
    """Return [count,size,size,3] uint8 pictures of heads that training never saw.

    folder: pictures of `training.render`, one of each person in which a face is found; without one, plain
    renders are drawn, for models that take pixels alone.
    """
    if folder is not None:
        return _rendered(folder, count)
    from training.heads import EVALUATION_SEED, HeadModel
    from training.portraits import draw_some

    with HeadPipeline.open(model, threads=1) as pipe:
        side = pipe.bundle.manifest.image.height
    heads = HeadModel.load()
    return draw_some(heads, heads.sample(count, seed=555_002), side, EVALUATION_SEED)


def _rendered(folder: Path, count: int) -> np.ndarray:
    from PIL import Image

    from topos_rt.faces.finder import FaceFinder
    from training.pictures import shards

    found: list[np.ndarray] = []
    with FaceFinder.open() as finder:
        for path in sorted(folder.glob("shard_*.npz")):
            shard = shards.load(path)
            firsts = np.unique(shard.person, return_index=True)[1]
            for i in firsts:
                picture = Image.open(io.BytesIO(shard.picture(int(i)))).convert("RGB")
                if len(found) < count and any(not face.hidden for face in finder.find_in(picture)):
                    found.append(np.asarray(picture))
    return np.stack(found)


def _open(model: str, images: np.ndarray) -> None:
    global _pipe, _images  # one per worker process
    _pipe, _images = HeadPipeline.open(model, threads=1), images


def _steps(item: Item, settings: SamplerSettings) -> tuple[Condition, list[Step]]:
    assert _pipe is not None and _images is not None
    manifest, stages, tracker = _pipe.bundle.manifest, _pipe._stages, Tracker(None)
    choice = FaceChoice(check=False) if manifest.evidence else FaceChoice(crop=WHOLE, check=False)
    (sitting,) = stages.sittings(_images[item.image], tracker, choice, TextureChoice("none"))
    settings = dataclasses.replace(settings, guidance=GUIDANCE, temperature=1.0)
    condition = stages.condition(sitting, tracker)
    field = stages.networks.field(stages.networks.context(condition.tokens))
    start = stages.start(item.seed, settings)
    return condition, list(sample(guided(field, settings), start, settings))


def _millimetres(state: np.ndarray, condition: Condition) -> np.ndarray:
    assert _pipe is not None
    networks = _pipe._networks
    return networks.decode(networks.latent(state, condition))[:, :3] * (
        1000 * _pipe.bundle.manifest.frame.radius_m
    )


def _truth(item: Item) -> Truth:
    condition, steps = _steps(item, SamplerSettings(TRUTH_STEPS))
    knots = steps[:: TRUTH_STEPS // KNOTS]
    states = [*(step.x for step in knots), steps[-1].x_next]
    velocities = [*(step.velocity for step in knots), steps[-1].velocity]
    kept = (np.stack(values).reshape(KNOTS + 1, -1) for values in (states, velocities))
    return Truth(_millimetres(steps[-1].x_next, condition), *kept)


def _errors(task: tuple[Item, np.ndarray, list[SamplerSettings]]) -> np.ndarray:
    """Return the errors of one item, [settings,V] in mm."""
    item, truth, settings = task
    runs = (_steps(item, s) for s in settings)
    got = (_millimetres(steps[-1].x_next, condition) for condition, steps in runs)
    return np.stack([np.linalg.norm(vertices - truth, axis=1) for vertices in got]).astype(np.float32)


def _preview_errors(task: tuple[Item, SamplerSettings]) -> np.ndarray:
    """Return [steps,V] in mm: each step's estimate against the last state of the same run."""
    assert _pipe is not None
    item, settings = task
    (condition, steps), sigma_min = _steps(item, settings), _pipe.bundle.manifest.flow.sigma_min
    final = _millimetres(steps[-1].x_next, condition)
    shown = [_millimetres(clean_estimate(step, sigma_min), condition) for step in steps[:-1]]
    return np.stack([np.linalg.norm(vertices - final, axis=1) for vertices in shown])


def _measure(
    pool: Any, settings: Sequence[SamplerSettings], items: Sequence[Item], truths: dict[Item, Truth]
) -> list[dict[str, Any]]:
    unique = list(dict.fromkeys(settings))
    tasks = [(item, truths[item].vertices, unique) for item in items]
    errors = np.stack(pool.map(_errors, tasks, chunksize=1), 1)  # [settings,items,V]
    return [_row(s, e) for s, e in zip(unique, errors, strict=True)]


def _row(settings: SamplerSettings, errors: np.ndarray) -> dict[str, Any]:
    about = {k: v for k, v in dataclasses.asdict(settings).items() if k not in ("guidance", "temperature")}
    return {"evaluations": _cost(settings), **summary(errors), "heads": errors.shape[0], "settings": about}


def summary(errors: np.ndarray, decimals: int = 4) -> dict[str, float]:
    """Return mean, p99 and max of errors in mm, of any shape."""
    numbers = {"mean": errors.mean(), "p99": np.percentile(errors, 99), "max": errors.max()}
    return {f"{name}_mm": round(float(value), decimals) for name, value in numbers.items()}


def _settings(row: dict[str, Any]) -> SamplerSettings:
    about = row["settings"]
    times = about["times"]
    return SamplerSettings(**about | {"interval": tuple(about["interval"]), "times": times and tuple(times)})


def _grids(truths: Sequence[Truth]) -> dict[int, tuple[float, ...]]:
    states, velocities = (np.stack([t[i] for t in truths]) for i in (1, 2))
    return best_grids(np.linspace(1, 0, KNOTS + 1), states, velocities, STEPS)


def _candidates(grids: dict[int, tuple[float, ...]]) -> list[SamplerSettings]:
    plain = [
        SamplerSettings(steps, solver, shift=shift)
        for solver, steps, shift in itertools.product(SOLVERS, STEPS, SHIFTS)
    ]
    made = [SamplerSettings(steps, solver, times=grids[steps]) for solver in SOLVERS for steps in STEPS]
    return [PRESETS["reference"], *plain, *made]


def _variants(settings: SamplerSettings) -> list[SamplerSettings]:
    """Return the same settings with less guidance; an interval that leaves nothing out is no variant."""
    every = [
        dataclasses.replace(settings, interval=interval, reuse=reuse)
        for interval, reuse in itertools.product(INTERVALS, REUSES)
    ]
    return [variant for variant in every if _cost(variant) < _cost(settings)]


def _cost(settings: SamplerSettings) -> int:
    return network_evaluations(dataclasses.replace(settings, guidance=1.0))


def _front(rows: Sequence[dict[str, Any]], kept: int) -> list[dict[str, Any]]:
    """Return the best rows of each number of evaluations that beat all cheaper rows."""
    front: list[dict[str, Any]] = []
    best = float("inf")
    by_cost = sorted(rows, key=lambda row: (row["evaluations"], row["mean_mm"]))
    for _, group in itertools.groupby(by_cost, key=lambda row: row["evaluations"]):
        better = [row for row in itertools.islice(group, kept) if row["mean_mm"] < best]
        front += better
        best = min([best, *(row["mean_mm"] for row in better)])
    return front


def _presets(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Pick the presets by the rules above; a preset for which no row qualifies is left out."""
    own = rows[0]
    free = _free(rows, own)
    near = [row for row in rows if row["mean_mm"] <= FAST_MM]
    presets = {"reference": own}
    for name, some in (("balanced", free), ("fast", near)):
        if some:
            presets[name] = min(some, key=lambda row: (row["evaluations"], row["mean_mm"]))
    return presets


def _free(rows: Sequence[dict[str, Any]], own: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows whose errors are all below those of the release's own steps."""
    return [row for row in rows if all(row[m] < own[m] for m in ("mean_mm", "p99_mm", "max_mm"))]


def _previews(pool: Any, settings: SamplerSettings, items: Sequence[Item]) -> list[dict[str, float]]:
    errors = np.stack(pool.map(_preview_errors, [(item, settings) for item in items], chunksize=1), 1)
    return [{"step": k + 1, **summary(e)} for k, e in enumerate(errors)]


def _line(row: dict[str, Any]) -> str:
    s = row["settings"]
    grid = "own grid" if s["times"] else f"shift {s['shift']:g}"
    return (
        f"{row['evaluations']:4d} evaluations  mean {row['mean_mm']:7.3f}  p99 {row['p99_mm']:7.3f}"
        f"  max {row['max_mm']:8.3f} mm  {s['solver']} {s['steps']}, {grid}, interval {s['interval']},"
        f" reuse {s['reuse']}"
    )


if __name__ == "__main__":
    main()
