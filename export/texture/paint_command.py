"""`python -m export paint`: paint colour maps in PyTorch, by the released texture stage as it is.

With --serve it takes portraits from standard input, one JSON object a line, and answers with JSON lines on
standard output; `topos-rt texture --official DIR --lora DIR` runs it so.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from export.texture.embeddings_file import read_embeddings
from export.texture.prompts import PROMPTS_HELP, Instructions, read_instructions
from export.texture.release_loop import LoopSettings, ReleasedNetworks, paint
from export.texture.text_encoder import TextEncoder, black_picture, seen_picture
from export.texture.torch_options import add_torch_options, torch_options
from topos_rt.errors import OptionError, ToposError
from topos_rt.flow.settings import check_seed
from topos_rt.pictures.image import read_picture
from topos_rt.support.files import check_writable, write_atomic

# Returns the text streams of both branches for a portrait.
Prompts = Callable[[Image.Image], tuple[Tensor, Tensor]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `paint`."""
    parser.add_argument("photo", nargs="?", metavar="PHOTO", help="a portrait")
    parser.add_argument(
        "--official", type=Path, required=True, metavar="DIR", help="the base model's directory"
    )
    parser.add_argument("--lora", type=Path, metavar="DIR", help="the LoRA's directory (default: none)")
    parser.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help=f"{PROMPTS_HELP}; the text encoder embeds them for each portrait",
    )
    parser.add_argument(
        "--embeddings", type=Path, metavar="FILE", help="stored prompts; the text encoder is not loaded"
    )
    parser.add_argument("--out", type=Path, metavar="PNG", help="where to write the map")
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="random seed (default: 0)")
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="steps (default: 50, as released)")
    parser.add_argument(
        "--guidance", type=float, default=1.2, metavar="S", help="true CFG scale (default: 1.2, as released)"
    )
    parser.add_argument(
        "--size", type=int, default=1024, metavar="PX", help="side of the map (default: 1024)"
    )
    parser.add_argument("--serve", action="store_true", help="take portraits from standard input")
    add_torch_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Paint one portrait, or those that standard input names. Raises ToposError."""
    if arguments.serve:
        with _answers() as answer:
            return _serve(arguments, answer)
    if arguments.photo is None or arguments.out is None:
        raise OptionError("python -m export paint", got="no PHOTO or no --out", expected="both, or --serve")
    check_writable(arguments.out, parents=True)
    picture = read_picture(arguments.photo)
    painter = _Released(arguments)
    pixels = painter.paint(picture, _settings(arguments, arguments.seed), _counter)
    write_atomic(arguments.out, _png(pixels), parents=True)
    print(f"{arguments.out}: {len(pixels)} x {len(pixels)}")
    return 0


class _Released:
    """The networks, and what prompts come from."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        if (arguments.prompts is None) == (arguments.embeddings is None):
            raise OptionError(
                "prompts of the texture stage",
                got="both --prompts and --embeddings" if arguments.prompts else "neither",
                expected="--prompts FILE or --embeddings FILE",
            )
        device, dtype = torch_options(arguments)
        _settings(arguments, 0)
        told = None if arguments.prompts is None else read_instructions(arguments.prompts)
        self._networks = ReleasedNetworks.open(arguments.official, arguments.lora, device, dtype)
        channels = int(self._networks.transformer.config.joint_attention_dim)
        if told is not None:
            self._prompts = _encoded(TextEncoder.open(arguments.official, device, dtype), told)
        else:
            self._prompts = _stored(arguments.embeddings, channels)

    def paint(
        self, picture: Image.Image, settings: LoopSettings, told: Callable[[int, int], object]
    ) -> np.ndarray:
        return paint(self._networks, self._prompts(picture), picture, settings, told)


def _encoded(encoder: TextEncoder, told: Instructions) -> Prompts:
    negative = encoder.embed(told.negative_prompt, black_picture())
    return lambda picture: (encoder.embed(told.prompt, seen_picture(picture)), negative)


def _stored(path: Path, channels: int) -> Prompts:
    found = read_embeddings(path, channels)
    both = torch.from_numpy(found.positive), torch.from_numpy(found.negative)
    return lambda picture: both


def _settings(arguments: argparse.Namespace, seed: int) -> LoopSettings:
    if not 2 <= arguments.steps <= 1000:
        raise OptionError("--steps", got=arguments.steps, expected="a whole number from 2 to 1000")
    if not 1 <= arguments.guidance <= 1000:
        raise OptionError("--guidance", got=arguments.guidance, expected="a number from 1 (none) to 1000")
    if arguments.size % 16 or not 16 <= arguments.size <= 2048:
        raise OptionError("--size", got=arguments.size, expected="a multiple of 16, up to 2048")
    return LoopSettings(arguments.steps, arguments.guidance, arguments.size, check_seed(seed))


def _serve(arguments: argparse.Namespace, answer: Callable[[dict[str, Any]], None]) -> int:
    """Answer one line for every line of standard input, and lines of progress before it."""
    try:
        painter = _Released(arguments)
        answer({"ready": True})
        for line in sys.stdin:
            asked = json.loads(line)
            pixels = painter.paint(
                read_picture(asked["picture"]),
                _settings(arguments, asked["seed"]),
                lambda done, count: answer({"done": done, "count": count}),
            )
            write_atomic(Path(asked["out"]), _png(pixels))
            answer({"painted": asked["out"]})
    except ToposError as error:
        parts = {part: getattr(error, part) for part in ("what", "got", "expected", "fix")}
        named = {part: None if text is None else str(text) for part, text in parts.items()}
        answer({"error": type(error).__name__, **named})
        return error.exit_code
    return 0


@contextmanager
def _answers() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Keep standard output for answers: what libraries print goes to standard error."""
    stream: IO[str] = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(told: dict[str, Any]) -> None:
        stream.write(json.dumps(told) + "\n")
        stream.flush()

    with stream:
        yield answer


def _counter(done: int, count: int) -> None:
    print(f"\rstep {done} of {count}", end="" if done < count else "\n", file=sys.stderr, flush=True)


def _png(pixels: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
