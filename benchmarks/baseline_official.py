"""Time the official algorithm in PyTorch against topos_rt: same weights, inputs and steps, in turns.

    python -m benchmarks.baseline_official --json benchmarks/results/baseline_mini_cpu.json [--preset mini]

The weights are random, since the time does not depend on them. Ours is `HeadPipeline` with every exact saving
and the release's 50 Euler steps; its stages are those of a head, without reading the picture. S is the time
of a mode over ours. This needs the extras `export` and `baselines`.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.official_loop import MODES, Official, in_mode
from benchmarks.report import report
from export import random
from export.generated import generate
from topos_rt.bench.machine import gpu_state, load_average
from topos_rt.bench.stats import MIN_COMPARED, difference, summary
from topos_rt.errors import BackendError, OptionError, choose, one_line
from topos_rt.flow.sampling import noise
from topos_rt.flow.settings import MAX_STEPS, time_grid
from topos_rt.pictures.image import load_image
from topos_rt.pipeline import HeadPipeline

GUIDANCE = 3.0
OURS = "topos_rt"
STAGES = ("image_encoder", "sampling", "vae_decoder", "head")
FORMAT, VERSION = "topos_rt.baseline", 1
_LEAST_ROUNDS = 3


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table and write the JSON. Return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", default="mini", help=f"sizes: one of {', '.join(random.PRESETS)}")
    parser.add_argument("--bundle", type=Path, help="made by 'export random' of that preset, to save time")
    parser.add_argument("--backend", default="auto", help="the backend of topos_rt")
    parser.add_argument("--modes", help=f"some of: {', '.join(MODES)} (default: all that work here)")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=20, help="heads of each mode")
    parser.add_argument("--seconds", type=float, help=f"start no new round then, after {_LEAST_ROUNDS}")
    parser.add_argument(
        "--without-ours", action="store_true", help="leave topos_rt out where only PyTorch can use the GPU"
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    return report(lambda: measure(arguments), arguments.json)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, and return the JSON object. Raises OptionError for arguments out of range."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name, top in (("steps", MAX_STEPS), ("rounds", 10_000)):
        value = getattr(arguments, name)
        if not 1 <= value <= top:
            raise OptionError(f"--{name}", got=value, expected=f"a whole number from 1 to {top}")
    modes = _modes(arguments.modes, device)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    stop = time.perf_counter() + (arguments.seconds or float("inf"))
    preset = choose(arguments.preset, random.PRESETS, "preset")()
    networks = _networks(preset)
    load = load_average()
    picture = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    runners: dict[str, Any] = {name: _official(name, networks, device, arguments.steps) for name in modes}
    about, failed = None, {}
    with ExitStack() as held:
        if not arguments.without_ours:
            folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
            bundle = arguments.bundle or _bundle(arguments.preset, folder / "bundle")
            try:
                pipeline = held.enter_context(HeadPipeline.open(bundle, arguments.backend, arguments.threads))
            except BackendError as error:
                failed[OURS] = _told(OURS, error)
            else:
                runners[OURS] = _Ours(pipeline, picture, arguments.steps)
                about = {
                    "backend": pipeline.backend,
                    "reason": pipeline.backend_reason,
                    "evaluations": 2 * arguments.steps,
                }
        inputs = _inputs(preset, networks["dit"], picture)
        positions, first = _first(runners, inputs, failed)
        samples = _by_turns({name: runners[name] for name in first}, inputs, arguments.rounds, stop)
        found = _rows(samples, positions, first)
    return {
        "format": FORMAT,
        "version": VERSION,
        "command": f"python -m benchmarks.baseline_official --preset {arguments.preset} "
        f"--steps {arguments.steps} --rounds {arguments.rounds}",
        "model": None,
        "preset": arguments.preset,
        "weights": "random",
        "solver": "euler",
        "steps": arguments.steps,
        "guidance": GUIDANCE,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "versions": _versions(),
        "machine": {"load_average_before": load},
        "gpu": gpu_state() if device.type == "cuda" else None,
        "ours": about,
        "modes": found,
        "failed": failed,
    }


def _modes(named: str | None, device: torch.device) -> list[str]:
    works = [name for name, mode in MODES.items() if device.type == "cuda" or not mode.cuda_only]
    wanted = works if named is None else named.split(",")
    for name in wanted:
        if choose(name, MODES, "mode") and name not in works:
            raise OptionError(f"mode {name}", got="no GPU", expected=f"one of: {', '.join(works)}")
    return wanted


def _networks(preset: random.Preset) -> dict[str, Any]:
    from benchmarks.official_pyg import OfficialDecoder

    hierarchy = generate(preset.recipe).hierarchy
    vae, dit, encoder = random.draw(preset, hierarchy, 0)
    return {"encoder": encoder, "dit": dit, "decoder": OfficialDecoder(vae, hierarchy).eval()}


def _bundle(preset: str, out: Path) -> Path:
    """Write what `python -m export random` writes, with the same weights. Return its directory."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # its warnings do not concern the user
    parser = argparse.ArgumentParser()
    random.add_arguments(parser)
    parser.add_argument("--out", type=Path)
    random.run(parser.parse_args(["--preset", preset, "--precision", "fp32", "--out", str(out)]))
    return out


def _official(name: str, networks: Mapping[str, Any], device: torch.device, steps: int) -> Official:
    mode = MODES[name]
    encoder, dit = (in_mode(networks[part], mode, device) for part in ("encoder", "dit"))
    return Official(mode, encoder, dit, networks["decoder"].to(device), device, GUIDANCE, time_grid(steps))


class _Ours:
    """`HeadPipeline` with the interface of `Official`."""

    def __init__(self, pipeline: HeadPipeline, picture: np.ndarray, steps: int) -> None:
        self.ms: dict[str, float] = {}
        self._pipeline, self._picture, self._steps = pipeline, picture, steps

    def head(self, pixels: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        head = self._pipeline(
            self._picture,
            seed=0,
            crop="none",
            face_check=False,
            preset="reference",
            steps=self._steps,
            guidance=GUIDANCE,
            temperature=1.0,
        )
        ms = {name: 1e3 * seconds for name, seconds in head.timings.items()}
        self.ms = {
            "image_encoder": ms["image_encoder"],
            "sampling": ms["dit_context"] + ms["dit_step"],
            "vae_decoder": ms["vae_decoder"],
        }
        self.ms["head"] = sum(self.ms.values())
        return torch.from_numpy(head.positions / self._pipeline.bundle.manifest.frame.radius_m)[None]


def _inputs(preset: random.Preset, dit: Any, picture: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = load_image(picture, preset.image_size, preset.image_size)
    start = noise(0, (1, dit.pos_emb.shape[-2], preset.vae["code_channels"]))
    return torch.from_numpy(pixels), torch.from_numpy(start)


def _first(
    runners: Mapping[str, Any], inputs: tuple[torch.Tensor, torch.Tensor], failed: dict[str, str]
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Make two heads with each, and return positions and seconds of the first. Failures go to `failed`."""
    positions, first = {}, {}
    for name, runner in runners.items():
        begin = time.perf_counter()
        try:
            made = runner.head(*inputs)[..., :3].double()
            seconds = time.perf_counter() - begin
            runner.head(*inputs)
        except Exception as error:  # noqa: BLE001 - PyTorch, its compiler or a capture failed: others go on
            failed[name] = _told(name, error)
            continue
        positions[name], first[name] = made, seconds
        print(f"{name:<20} first head after {seconds:.1f} s", flush=True)
    if not first:
        raise BackendError("no mode makes a head here", got="; ".join(failed.values()))
    return positions, first


def _told(name: str, error: Exception) -> str:
    text = f"{type(error).__name__}: {one_line(str(error))[:400]}"
    print(f"{name:<20} FAILED: {text}", flush=True)
    return text


def _by_turns(
    runners: Mapping[str, Any], inputs: tuple[torch.Tensor, torch.Tensor], rounds: int, stop: float
) -> dict[str, dict[str, list[float]]]:
    """Run every runner once a round, rotating the order. Return the milliseconds of each stage."""
    samples: dict[str, dict[str, list[float]]] = {name: {s: [] for s in STAGES} for name in runners}
    names = list(runners)
    for turn in range(rounds):
        if turn >= _LEAST_ROUNDS and time.perf_counter() > stop:
            print(f"no time for more than {turn} of {rounds} rounds", flush=True)
            break
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            runners[name].head(*inputs)
            for stage in STAGES:
                samples[name][stage].append(runners[name].ms[stage])
    return samples


def _rows(
    samples: Mapping[str, Mapping[str, list[float]]],
    positions: Mapping[str, torch.Tensor],
    first: Mapping[str, float],
) -> dict[str, Any]:
    """Return a row for each runner. S is its time over ours, or over the first mode's without ours."""
    base = OURS if OURS in samples else next(iter(samples))
    truth, ours, result = positions[base], samples[base]["head"], {}
    for name, stages in samples.items():
        heads = stages["head"]
        compared = difference(ours, heads, interleaved=True) if len(heads) >= MIN_COMPARED else None
        row: dict[str, Any] = {
            "meaning": "all exact savings" if name == OURS else MODES[name].meaning,
            "ms": {stage: summary(values) for stage, values in stages.items()},
            "s": float(np.median(heads) / np.median(ours)),
            "s_interval": None if compared is None else [1 + compared.low, 1 + compared.high],
            "first_head_s": first[name],
            "relative_rms": float((positions[name] - truth).norm() / truth.norm()),
        }
        result[name] = row
        told = "  ".join(f"{stage} {row['ms'][stage]['p50']:9.2f}" for stage in STAGES)
        print(f"{name:<20} {told}  ms p50  S {row['s']:6.2f}  off by {row['relative_rms']:.1e}", flush=True)
    return result


def _versions() -> dict[str, str]:
    import torch_geometric

    return {"torch": torch.__version__, "torch_geometric": torch_geometric.__version__}


if __name__ == "__main__":
    raise SystemExit(main())
