"""Measure what 8-bit engines of the DiT's step cost in accuracy, without a GPU, beside the release's sampler.

    python -m benchmarks.bench_eightbit --shards SHARDS --json benchmarks/results/eightbit_mini.json
    python -m benchmarks.bench_eightbit --pictures examples/*.jpg --json FILE

The steps are emulated on the CPU (`export.compare`), all else is FP32. Three things are compared with FP32 at
the same settings, w = 3 and temperature 1: vertices, in millimetres; the last state of the flow; and the
velocities at the states of the FP32 run. Where a model's flow adds little to an estimate (`residual_scale`),
the vertices tell little of the step, and the last two tell more. Beside them stand 50 Euler steps against
1,000, both in FP32. A precision is free where the mean, 99th percentile and maximum of what it moves are all
below that.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing import Pool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.bench_sampler import GUIDANCE, TRUTH_STEPS, heads_parser, held_out_portraits, summary
from benchmarks.report import write_result
from export.compare.eightbit_emulation import eight_bit_form
from export.compare.fp16_emulation import Emulated, emulated_form
from topos_rt import Bundle, HeadPipeline
from topos_rt.bench.work import model_facts
from topos_rt.engines import EngineOptions
from topos_rt.engines.onnxruntime import load
from topos_rt.engines.tensorrt.eightbit import EIGHT_BIT
from topos_rt.faces.portrait import WHOLE, FaceChoice
from topos_rt.flow.sampling import Field, guided, sample
from topos_rt.flow.settings import PRESETS, SamplerSettings
from topos_rt.flow.solvers import Step
from topos_rt.model.networks import Condition, Networks
from topos_rt.model.sources import STEPS
from topos_rt.pictures.image import upright_picture
from topos_rt.support.arrays import Array
from topos_rt.support.progress import Tracker
from topos_rt.texture.stage import TextureChoice

ONE_THREAD = EngineOptions(1)
PRESET = "balanced"
EMULATED = ("fp16", *EIGHT_BIT)
EULER = PRESETS["reference"]

_opened: _Opened | None = None  # one for each worker process


class _Opened(NamedTuple):
    pipe: HeadPipeline
    images: Sequence[np.ndarray]
    fields: dict[str, Networks]  # precision -> networks whose steps are emulated


class Errors(NamedTuple):
    """How far one head is from another."""

    vertices: Array  # [V] mm
    state: float  # relative RMS of the last state
    velocity: float | None  # the same of the velocities at the same states


def main() -> None:
    """Measure, print a table and write the JSON."""
    parser = heads_parser(__doc__)
    parser.add_argument("--pictures", nargs="+", metavar="FILE", help="these pictures in place of renders")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.model)
    images = _images(arguments)
    items = [(image, seed) for seed in range(arguments.seeds) for image in range(len(images))]
    with tempfile.TemporaryDirectory() as folder:
        layers = _write(bundle, Path(folder))
        with Pool(arguments.workers, _open, (arguments.model, Path(folder), images)) as pool:
            measured = pool.map(_measure, items, chunksize=1)
    rows = {name: _row([item[name] for item in measured]) for name in measured[0]}
    own = rows.pop("euler")
    for row in rows.values():
        row["free"] = all(row[key] < own[key] for key in ("mean_mm", "p99_mm", "max_mm"))
    result = {
        "command": "python -m benchmarks.bench_eightbit "
        + (f"--pictures {' '.join(arguments.pictures)}" if arguments.pictures else "--shards SHARDS")
        + f" --images {len(images)} --seeds {arguments.seeds}",
        "model": model_facts(bundle),
        "residual_scale": bundle.manifest.residual_scale,
        "images": len(images),
        "seeds": arguments.seeds,
        "settings": {"preset": PRESET, "guidance": GUIDANCE, "temperature": 1.0},
        "layers": layers,
        "step_in": rows,
        "euler": {"steps": EULER.steps, "against_steps": TRUTH_STEPS, **own},
    }
    write_result(arguments.json, result)
    for name, row in {**rows, f"{EULER.steps} Euler steps, FP32": own}.items():
        print(_line(name, row))


def _images(arguments: argparse.Namespace) -> Sequence[np.ndarray]:
    if arguments.pictures:
        return [np.asarray(upright_picture(picture)) for picture in arguments.pictures]
    return list(held_out_portraits(arguments.model, arguments.images, arguments.shards))


def _write(bundle: Bundle, folder: Path) -> dict[str, int]:
    """Write the emulated steps; return how many layers of each have 8 bits."""
    layers = {}
    for name in EMULATED:
        (folder / name).mkdir()
    for graph in STEPS:
        half = bundle.graph(graph, "fp16")
        emulated_form(half, folder / "fp16" / f"{graph}.onnx")
        for name in EIGHT_BIT:
            layers[graph] = eight_bit_form(half, folder / name / f"{graph}.onnx", name)
    return layers


def _open(model: str, folder: Path, images: Sequence[np.ndarray]) -> None:
    global _opened
    pipe = HeadPipeline.open(model, threads=1)
    own = pipe._networks._engines
    assert own is not None
    fields = {}
    for name in EMULATED:
        steps = {graph: Emulated(load(folder / name / f"{graph}.onnx", ONE_THREAD)) for graph in STEPS}
        fields[name] = Networks(pipe.bundle, own | steps)
    _opened = _Opened(pipe, images, fields)


def _measure(item: tuple[int, int]) -> dict[str, Errors]:
    """Return the errors of each precision, and those of Euler's steps, for an image and a seed."""
    assert _opened is not None
    image, seed = item
    pipe, images, emulated = _opened
    stages, tracker = pipe._stages, Tracker(None)
    evidence = pipe.bundle.manifest.evidence
    choice = FaceChoice(check=False) if evidence else FaceChoice(crop=WHOLE, check=False)
    (sitting,) = stages.sittings(images[image], tracker, choice, TextureChoice("none"))
    condition = stages.condition(sitting, tracker)
    context = stages.networks.context(condition.tokens)
    plain = stages.networks.field(context)

    def run(field: Field, settings: SamplerSettings) -> list[Step]:
        settings = dataclasses.replace(settings, guidance=GUIDANCE, temperature=1.0)
        return list(sample(guided(field, settings), stages.start(seed, settings), settings))

    truth = run(plain, PRESETS[PRESET])
    errors = {}
    for name, networks in emulated.items():
        field = networks.field(context)
        last = run(field, PRESETS[PRESET])[-1].x_next
        errors[name] = _errors(condition, last, truth[-1].x_next, _velocity_error(field, plain, truth))
    few, many = (
        run(plain, dataclasses.replace(EULER, steps=n))[-1].x_next for n in (EULER.steps, TRUTH_STEPS)
    )
    errors["euler"] = _errors(condition, few, many, None)
    return errors


def _errors(condition: Condition, state: Array, truth: Array, velocity: float | None) -> Errors:
    vertices = np.linalg.norm(_millimetres(state, condition) - _millimetres(truth, condition), axis=1)
    return Errors(vertices.astype(np.float32), _relative(state, truth), velocity)


def _velocity_error(field: Field, plain: Field, steps: Sequence[Step]) -> float:
    def velocities(of: Field) -> Iterator[Array]:
        return (of.guided(step.x, step.t, GUIDANCE)[0] for step in steps)

    return _relative(np.stack(list(velocities(field))), np.stack(list(velocities(plain))))


def _relative(values: Array, truth: Array) -> float:
    return float(np.linalg.norm(values - truth) / np.linalg.norm(truth))


def _millimetres(state: Array, condition: Condition) -> Array:
    assert _opened is not None
    networks, frame = _opened.pipe._networks, _opened.pipe.bundle.manifest.frame
    vertices: Array = networks.decode(networks.latent(state, condition))[:, :3] * (1000 * frame.radius_m)
    return vertices


def _row(errors: Sequence[Errors]) -> dict[str, Any]:
    row: dict[str, Any] = summary(np.stack([error.vertices for error in errors]), decimals=5)
    row |= {"heads": len(errors), "state_relative_rms": _mean([error.state for error in errors])}
    velocities = [error.velocity for error in errors if error.velocity is not None]
    return row | ({"velocity_relative_rms": _mean(velocities)} if velocities else {})


def _mean(values: Sequence[float]) -> float:
    return float(f"{np.mean(values):.4g}")


def _line(name: str, row: dict[str, Any]) -> str:
    told = f"{name:<22} mean {row['mean_mm']:.4f}  p99 {row['p99_mm']:.4f}  max {row['max_mm']:.4f} mm"
    told += f"  state {row['state_relative_rms']:.2%}"
    if "velocity_relative_rms" in row:
        told += f"  velocity {row['velocity_relative_rms']:.2%}"
    return f"{told}  {'free' if row['free'] else 'not free'}" if "free" in row else told


if __name__ == "__main__":
    main()
