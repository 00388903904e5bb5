"""State dicts from files that somebody else wrote: read without running anything, checked key by key."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from topos_rt.errors import InputError, shortened

# The errors that torch.load is known to raise on damaged files.
_DAMAGE = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, OverflowError,
    MemoryError, AssertionError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
_EXPECTED = "a state dict as PyTorch (.pth) or safetensors writes it"
_LISTED = 80  # characters of the keys that a message lists
_TIED = 4  # how often, on average, a stored number may be used: networks tie few weights
_COMPILED = "_orig_mod."  # the prefix that torch.compile puts before every key


def read_file(path: Path, what: str, fix: str) -> object:
    """Return what a file holds, mapped from disk where its format allows it; nothing in it is run.

    The file may be one that `torch.save` wrote (zip or legacy), or safetensors. what: the file's name in
    messages. fix: the remedy for a damaged file.

    Raises InputError for a missing, damaged or foreign file, and for a pickle that needs more than tensors.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte inside the name
        raise InputError(
            what,
            got=getattr(error, "strerror", None) or str(error),
            expected="a readable file",
            fix="check the path",
        ) from error
    if not start:
        raise InputError(what, got="an empty file", expected=_EXPECTED, fix=fix)
    if foreign := _foreign(start):
        raise InputError(what, got=foreign, expected=_EXPECTED, fix=fix)
    if start[8:9] == b"{":
        return _read_safetensors(path, what, fix)
    zipped = start.startswith(b"PK")
    if zipped and not _is_zip(path):
        raise InputError(what, got=f"a truncated file of {size} bytes", expected=_EXPECTED, fix=fix)
    try:
        # A mapped file is read once, when the weights are written, and its pages are not held twice.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)|(Unsupported \w+)", str(error))
        if found is None:
            raise InputError(
                what, got="a damaged file or no checkpoint at all", expected=_EXPECTED, fix=fix
            ) from error
        asked = f"a pickle that asks for {found[1]}" if found[1] else "a pickle of more than tensors"
        raise InputError(
            what,
            got=f"{asked}; nothing of it was run",
            expected="tensors only",
            fix="do not open it with anything else; get the file from its authors",
        ) from error
    except _DAMAGE as error:
        raise InputError(
            what, got=f"a damaged or truncated file of {size} bytes", expected=_EXPECTED, fix=fix
        ) from error


def as_state(loaded: object, what: str) -> dict[str, Tensor]:
    """Return what `read_file` gave as tensors by key, without the prefix of torch.compile.

    Raises InputError for anything but a mapping from names to tensors.
    """
    if not isinstance(loaded, Mapping) or not loaded:
        raise InputError(
            what, got=f"{'nothing' if loaded == {} else type(loaded).__name__}", expected=_EXPECTED
        )
    state: dict[str, Tensor] = {}
    for key, value in loaded.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(
                what, got=f"{type(value).__name__} under the key {key!r}", expected="only tensors"
            )
        state[key.removeprefix(_COMPILED)] = value
    if len(state) < len(loaded):
        raise InputError(what, got=f"keys both with and without {_COMPILED!r}", expected="one of each")
    return state


def as_float32(state: Mapping[str, Tensor], what: str, fix: str) -> dict[str, Tensor]:
    """Return the tensors as dense FP32.

    Raises InputError where values are not finite numbers, and for tensors that would take more memory than
    there are bytes for them in the file.
    """
    stored = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()
        for value in state.values()
        if value.layout == torch.strided
    }
    total = sum(value.numel() * value.element_size() for value in state.values())
    if total > _TIED * sum(stored.values()):
        raise InputError(
            what,
            got=f"tensors of {total:,} bytes made from {sum(stored.values()):,}",
            expected="each number in the file",
            fix=fix,
        )
    for key, value in state.items():
        if value.layout != torch.strided or not value.is_floating_point():
            raise InputError(
                f"{what}: key {key}", got=str(value.dtype), expected="dense floating-point numbers"
            )
        if not bool(torch.isfinite(value).all()):
            raise InputError(
                f"{what}: key {key}", got="NaN or infinite values", expected="finite numbers", fix=fix
            )
    return {key: value.detach().float().contiguous() for key, value in state.items()}


def load_into(module: nn.Module, state: Mapping[str, Tensor], what: str, fix: str) -> None:
    """Make `state` the module's parameters and buffers, without copying; every key and shape must fit.

    Raises InputError naming the first key of another shape, or the first missing and unexpected keys.
    """
    expected = module.state_dict()
    for key, value in expected.items():
        if key in state and state[key].shape != value.shape:
            raise InputError(
                f"{what}: key {key}",
                got=f"shape {list(state[key].shape)}",
                expected=list(value.shape),
                fix=fix,
            )
    missing = [key for key in expected if key not in state]
    extra = [key for key in state if key not in expected]
    if missing or extra:
        parts = [
            f"{len(keys)} {kind} ({listed(keys)})"
            for kind, keys in (("missing", missing), ("unexpected", extra))
            if keys
        ]
        raise InputError(
            f"{what}: keys", got=" and ".join(parts), expected=f"the {len(expected)} of this network", fix=fix
        )
    module.load_state_dict(dict(state), strict=True, assign=True)
    module.requires_grad_(False)


def listed(keys: Sequence[str]) -> str:
    """Return the first keys as text of some 80 characters, and the number of the others."""
    shown = 1
    while shown < len(keys) and len(", ".join(keys[: shown + 1])) <= _LISTED:
        shown += 1
    more = f" and {len(keys) - shown} more" if len(keys) > shown else ""
    return ", ".join(shortened(key, _LISTED) for key in keys[:shown]) + more


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # it says so of some damaged archives, and raises for others
        return False


def _read_safetensors(path: Path, what: str, fix: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, *_DAMAGE) as error:
        raise InputError(
            what, got=f"a damaged or truncated file ({error})", expected=_EXPECTED, fix=fix
        ) from error


def _foreign(start: bytes) -> str | None:
    """Name the kind of file that a failed download leaves in place of a checkpoint."""
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html")):
        return "a web page"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    return None
