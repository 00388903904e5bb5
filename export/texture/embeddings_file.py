"""The file of stored prompts: two text streams, and how far the first depends on the portrait."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from export.texture.text_encoder import SAME, Embeddings
from topos_rt.errors import BundleError, InputError
from topos_rt.support.tensorfile import read_tensors, write_tensors

FORMAT = "topos_rt.prompts"
_KEY = "topos_rt"
_FIX = "make it with python -m export embeddings"
MOST_TOKENS = 4096


def write_embeddings(path: Path, found: Embeddings) -> None:
    """Write stored prompts. Raises OutputError."""
    told = {_KEY: json.dumps({"format": FORMAT, "share": found.share})}
    write_tensors(path, {"positive": found.positive, "negative": found.negative}, told)


def read_embeddings(path: Path, channels: int) -> Embeddings:
    """Read stored prompts for a transformer that takes so many channels. Raises InputError."""
    what = f"stored prompts {path}"
    try:
        tensors, told = read_tensors(path)
    except BundleError as error:
        raise InputError(what, got=error.got, expected="a safetensors file", fix=_FIX) from error
    try:
        about = json.loads(told.get(_KEY, ""))
        share = float(about["share"])
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(what, got="a file without their metadata", fix=_FIX) from error
    for name in ("positive", "negative"):
        array = tensors.get(name)
        shape = None if array is None else array.shape
        fits = shape is not None and len(shape) == 3 and shape[0] == 1 and 0 < shape[1] <= MOST_TOKENS
        if array is None or not fits or array.dtype != np.float32 or array.shape[2] != channels:
            got = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
            raise InputError(f"{what}: {name}", got=got, expected=f"float32 [1, T, {channels}]", fix=_FIX)
        if not np.isfinite(array).all():
            raise InputError(f"{what}: {name}", got="NaN or infinite values", fix=_FIX)
    return Embeddings(tensors["positive"], tensors["negative"], share)


def verdict(share: float) -> str:
    """Return what a measured dependence means, as a line for people."""
    if share <= SAME:
        return (
            f"from portrait to portrait the prompts change by {share:.1e}, less than BF16 can tell"
            f" ({SAME:.1e}): they are stored once, and the text encoder is not needed again"
        )
    return (
        f"from portrait to portrait the prompts change by {share:.1e}, more than BF16 can tell ({SAME:.1e})"
    )
