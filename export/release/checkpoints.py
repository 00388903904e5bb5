"""State dicts from files that somebody else wrote: read without running anything, checked key by key."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from topos_rt.errors import InputError

# What torch.load is known to raise on damaged files.
_DAMAGE = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, OverflowError,
    MemoryError, zipfile.BadZipFile,
)  # fmt: skip
_EXPECTED = "a state dict as PyTorch (.pth) or safetensors writes it"
_LISTED = 10
_COMPILED = "_orig_mod."  # what torch.compile puts before every key
_HETERO = re.compile(r"(.*)\.lins\.(\d+)\.(weight|bias)")


@dataclass(frozen=True)
class Network:
    """How one of the three checkpoints is told from the others."""

    name: str
    flag: str
    key: str  # one that only this network has
    file: str  # its name in the release


VAE = Network("TOPOS-VAE", "--vae", "post_kl.linear.weight", "TOPOS-VAE.model.pth")
DIT = Network("TOPOS-DiT", "--dit", "t_embedder.mlp.0.weight", "TOPOS-DiT.model.pth")
IMAGE_ENCODER = Network(
    "DINOv2", "--image-encoder", "patch_embed.proj.weight", "dinov2_vitl14_reg4_pretrain.pth"
)
NETWORKS = (VAE, DIT, IMAGE_ENCODER)


def read_state(path: Path, network: Network) -> dict[str, Tensor]:
    """The tensors of a checkpoint file by key, FP32, mapped from disk where the format allows it.

    Takes what `torch.save` writes (zip or legacy) and safetensors; a bare state dict or a snapshot of
    training with `model_dict`. The prefix that torch.compile puts before keys is dropped. Nothing in the
    file is run.

    Raises InputError: no such file; a damaged or foreign file; a pickle that needs more than tensors; the
    checkpoint of another network; values that are not finite floating-point numbers.
    """
    what = f"{network.flag} {path}"
    loaded = _load(path, what)
    if isinstance(loaded, Mapping) and isinstance(loaded.get("model_dict"), Mapping):
        loaded = loaded["model_dict"]
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
    _check_network(state, network, what)
    return {key: _plain(key, value, what) for key, value in state.items()}


def load_into(module: nn.Module, state: Mapping[str, Tensor], what: str, fix: str) -> None:
    """Make `state` the module's parameters and buffers, without copying; strict.

    Raises InputError naming the first key of another shape, or up to ten missing and unexpected keys.
    """
    state = merge_hetero_linear(state)
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
            f"{len(keys)} {kind} ({_listed(keys)})"
            for kind, keys in (("missing", missing), ("unexpected", extra))
            if keys
        ]
        raise InputError(
            f"{what}: keys", got=" and ".join(parts), expected=f"the {len(expected)} of this network", fix=fix
        )
    module.load_state_dict(dict(state), strict=True, assign=True)
    module.requires_grad_(False)


def merge_hetero_linear(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring the layouts of PyTorch Geometric's HeteroLinear to one: weight [types,in,out], bias [types,out].

    Up to version 2.1, and up to 2.3 without pyg-lib, it holds a layer per type: `lins.0.weight` [out,in] …
    """
    merged: dict[str, Tensor] = {}
    parts: dict[str, dict[int, Tensor]] = {}
    for key, value in state.items():
        match = _HETERO.fullmatch(key)
        if match is None:
            merged[key] = value
        else:
            turned = value.T if match[3] == "weight" else value
            parts.setdefault(f"{match[1]}.{match[3]}", {})[int(match[2])] = turned
    for key, types in parts.items():
        alike = len({value.shape for value in types.values()}) == 1
        if alike and sorted(types) == list(range(len(types))) and key not in merged:
            merged[key] = torch.stack([types[i] for i in range(len(types))])
        else:  # told as unexpected keys
            stem, _, kind = key.rpartition(".")
            merged |= {f"{stem}.lins.{i}.{kind}": value for i, value in types.items()}
    return merged


def _load(path: Path, what: str) -> object:
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
        raise InputError(what, got="an empty file", expected=_EXPECTED, fix=_AGAIN)
    if foreign := _foreign(start):
        raise InputError(what, got=foreign, expected=_EXPECTED, fix=_AGAIN)
    if start[8:9] == b"{":
        return _load_safetensors(path, what)
    zipped = start.startswith(b"PK")
    if zipped and not zipfile.is_zipfile(path):
        raise InputError(what, got=f"a truncated file of {size} bytes", expected=_EXPECTED, fix=_AGAIN)
    try:
        # Mapped files are read once, when the weights are written, and never counted twice.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)|(Unsupported \w+)", str(error))
        if found is None:
            raise InputError(
                what, got="a damaged file or no checkpoint at all", expected=_EXPECTED, fix=_AGAIN
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
            what, got=f"a damaged or truncated file of {size} bytes", expected=_EXPECTED, fix=_AGAIN
        ) from error


def _load_safetensors(path: Path, what: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(
            what, got=f"a damaged or truncated file ({error})", expected=_EXPECTED, fix=_AGAIN
        ) from error


_AGAIN = "download it again"


def _foreign(start: bytes) -> str | None:
    """What a failed download leaves in place of a checkpoint."""
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html")):
        return "a web page"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    return None


def _check_network(state: Mapping[str, Tensor], network: Network, what: str) -> None:
    if network.key in state:
        return
    other = next((n for n in NETWORKS if n.key in state), None)
    if other is not None:
        raise InputError(
            what,
            got=f"the checkpoint of {other.name}",
            expected=f"that of {network.name}, {network.file}",
            fix=f"pass it as {other.flag}",
        )
    raise InputError(
        what,
        got=f"{len(state)} tensors of another network ({_listed(list(state))})",
        expected=f"{network.name}, with the key {network.key}",
        fix=f"pass {network.file}",
    )


def _plain(key: str, value: Tensor, what: str) -> Tensor:
    if value.layout != torch.strided or not value.is_floating_point():
        raise InputError(f"{what}: key {key}", got=str(value.dtype), expected="dense floating-point numbers")
    if not bool(torch.isfinite(value).all()):
        raise InputError(
            f"{what}: key {key}", got="NaN or infinite values", expected="finite numbers", fix=_AGAIN
        )
    return value.detach().float().contiguous()


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return ", ".join(keys[:_LISTED]) + more
