"""The tiny base model of tests/data/texture, and what the release's own script made of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from topos_rt.support.tensorfile import read_tensors

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data" / "texture"
BASE, LORA, PROMPTS = DATA / "base", DATA / "lora", DATA / "prompts.json"
# Of diffusers: the release's pin, with transformers 4.56.2 and peft 0.17.0; the newest when this was made.
VERSIONS = ("0.37.0", "0.42.1")
PEOPLE = ("astronaut", "hopper")
SIDE, STEPS, GUIDANCE = 32, 4, 3.0


@cache
def made(version: str) -> dict[str, np.ndarray]:
    """Return what the release's script made with a version of diffusers."""
    return read_tensors(DATA / f"release_diffusers_{version}.safetensors")[0]


def picture(person: str) -> Image.Image:
    """Return a portrait."""
    return Image.open(ROOT / "examples" / f"{person}.jpg").convert("RGB")


def apart(found: Any, wanted: Any) -> float:
    """Return the relative RMS between two arrays."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
