"""Options of the official texture, which `texture` and `generate` share, and what they open."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topos_rt.cli import options
from topos_rt.cli.console import Console
from topos_rt.errors import OptionError
from topos_rt.flow.solvers import SOLVERS
from topos_rt.support.files import refuse_url
from topos_rt.texture.official.manifest import PRECISIONS

if TYPE_CHECKING:
    from topos_rt.texture.official.opening import PaintEngines, PaintSource
    from topos_rt.texture.official.painter import Painter
    from topos_rt.texture.official.settings import PaintOptions

OFFICIAL = "--official"
# Options that only mean something beside --official -> their values when they are not given.
_OWN: dict[str, Any] = {
    "lora": None,
    "prompts": None,
    "embeddings": None,
    "texture_steps": None,
    "texture_solver": "euler",
    "texture_guidance": None,
    "texture_interval": (0.0, 1.0),
    "texture_reuse": 1,
    "texture_precision": None,
    "texture_offload": False,
    "texture_device": "cuda",
    "requirements": False,
}


def add_painting_options(parser: argparse.ArgumentParser) -> None:
    """Add --official and what belongs to it; costs are in evaluations of the transformer, 100 as released."""
    group = parser.add_argument_group("official texture")
    group.add_argument(
        OFFICIAL,
        metavar="DIR",
        help="paint the texture with TOPOS-Texture: a texture bundle (python -m export texture), or the base"
        " model's directory, which runs in PyTorch",
    )
    group.add_argument("--lora", metavar="DIR", type=Path, help="the LoRA, beside the base model")
    group.add_argument(
        "--prompts",
        metavar="FILE",
        type=Path,
        help="beside the base model: the release's TOPOS-Texture.py, which is read and not run, or JSON",
    )
    group.add_argument(
        "--embeddings",
        metavar="FILE",
        type=Path,
        help="beside the base model: stored prompts, so that the text encoder is not loaded",
    )
    group.add_argument(
        "--texture-steps", metavar="N", type=options.whole, help="cost: 2 evaluations a step (default: 50)"
    )
    group.add_argument(
        "--texture-solver",
        metavar="|".join(SOLVERS),
        default="euler",
        help="cost: heun doubles the evaluations, the others keep them (default: euler, as released)",
    )
    group.add_argument(
        "--texture-guidance",
        metavar="S",
        type=options.number,
        help="true CFG scale; cost: 1 halves the evaluations (default: 1.2)",
    )
    group.add_argument(
        "--texture-guidance-interval",
        dest="texture_interval",
        metavar=("LO", "HI"),
        nargs=2,
        type=options.number,
        default=(0.0, 1.0),
        help="guide only at times LO <= t <= HI; cost: 1 evaluation a step elsewhere (default: 0 1)",
    )
    group.add_argument(
        "--texture-guidance-reuse",
        dest="texture_reuse",
        metavar="K",
        type=options.whole,
        default=1,
        help="compute guidance at every K-th step; cost: 1 evaluation at the others (default: 1)",
    )
    group.add_argument(
        "--texture-precision",
        metavar="|".join(PRECISIONS),
        help="; ".join(f"{name}: {about}" for name, about in PRECISIONS.items()),
    )
    group.add_argument(
        "--texture-offload",
        action="store_true",
        help="load each section of the transformer for every evaluation: less memory, much slower",
    )
    group.add_argument(
        "--texture-device", metavar="cuda|cpu", default="cuda", help="where PyTorch computes (default: cuda)"
    )
    group.add_argument(
        "--requirements", action="store_true", help="say what a map takes in memory and work, and stop"
    )


def painting(arguments: argparse.Namespace) -> tuple[PaintSource, PaintOptions, PaintEngines] | None:
    """Return what paints, checked before anything heavy is loaded; None without --official.

    Raises OptionError for options without --official, InputError for a directory of something else.
    """
    if arguments.official is None:
        for name, value in _OWN.items():
            found = getattr(arguments, name)
            if (tuple(found) if isinstance(found, list) else found) != value:
                flag = f"--{name.replace('_', '-')}"
                raise OptionError(flag, got=f"no {OFFICIAL}", expected=f"{OFFICIAL} DIR beside it")
        return None
    from topos_rt.texture.official.opening import PaintEngines, PaintSource
    from topos_rt.texture.official.settings import PaintOptions

    refuse_url(arguments.official, f"cannot use {arguments.official}")
    source = PaintSource(Path(arguments.official), arguments.lora, arguments.prompts, arguments.embeddings)
    chosen = PaintOptions(
        arguments.texture_steps,
        arguments.texture_solver,
        arguments.texture_guidance,
        tuple(arguments.texture_interval),
        arguments.texture_reuse,
    )
    engines = PaintEngines(
        arguments.backend,
        arguments.texture_precision,
        not arguments.texture_offload,
        arguments.threads,
        device=arguments.texture_device,
    )
    return source, chosen, engines


def told(found: tuple[PaintSource, PaintOptions, PaintEngines], console: Console) -> None:
    """Say what a map takes, before anything is loaded."""
    from topos_rt.texture.official.opening import requirements

    cost = requirements(*found)
    console.report["texture_requirements"] = {
        "device_bytes": dict(cost.device_bytes),
        "evaluations": cost.evaluations,
        "flops_per_evaluation": cost.flops,
    }
    for line in cost.lines():
        console.note(f"official texture, {line}")


def opened_painter(found: tuple[PaintSource, PaintOptions, PaintEngines]) -> Painter:
    """Open what paints. Raises the errors of `open_painter`."""
    from topos_rt.texture.official.opening import open_painter

    return open_painter(*found)
