"""The tiny base model of tests/data/texture as a texture bundle, made once for a process."""

from __future__ import annotations

import atexit
import contextlib
import io
import shutil
import tempfile
from functools import cache
from pathlib import Path

from tests.export.texture.released import BASE, LORA, SIDE, VERSIONS, made
from topos_rt.support.tensorfile import write_tensors


def stored_prompts(path: Path, share: float = 5e-4) -> Path:
    """Write prompts as `python -m export embeddings` stores them: those of the release's own script."""
    released = made(VERSIONS[0])
    prompts = {name: released[f"astronaut.text.{k}"] for k, name in enumerate(("positive", "negative"))}
    told = f'{{"format": "topos_rt.prompts", "share": {share}}}'
    write_tensors(path, prompts, {"topos_rt": told})
    return path


@cache
def texture_bundle(blocks: int = 2, reference: int = SIDE) -> Path:
    """Export the bundle, in FP32 so that it is exact, of sections of so many blocks."""
    from export.__main__ import main

    folder = Path(tempfile.mkdtemp(prefix="topos_rt-texture-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    prompts = stored_prompts(folder / "prompts.safetensors")
    words = ["texture", "--official", str(BASE), "--lora", str(LORA), "--embeddings", str(prompts)]
    sizes = ["--size", str(SIDE), "--reference-size", str(reference), "--blocks", str(blocks)]
    with contextlib.redirect_stdout(io.StringIO()):  # a test may read what its own command prints
        assert main([*words, *sizes, "--weights", "fp32", "--out", str(folder / "bundle")]) == 0
    return folder / "bundle"
