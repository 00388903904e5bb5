"""The three checkpoints of the release: how they are told apart, and the layouts that they come in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from export.state_files import as_float32, as_state, listed, read_file
from topos_rt.errors import InputError

_AGAIN = "download it again"
_HETERO = re.compile(r"(.*)\.lins\.(\d+)\.(weight|bias)")


@dataclass(frozen=True)
class Network:
    """One of the three networks, and what tells its checkpoint from the others."""

    name: str
    flag: str
    key: str  # a key that only this network has
    file: str  # its name in the release


VAE = Network("TOPOS-VAE", "--vae", "post_kl.linear.weight", "TOPOS-VAE.model.pth")
DIT = Network("TOPOS-DiT", "--dit", "t_embedder.mlp.0.weight", "TOPOS-DiT.model.pth")
IMAGE_ENCODER = Network(
    "DINOv2", "--image-encoder", "patch_embed.proj.weight", "dinov2_vitl14_reg4_pretrain.pth"
)
NETWORKS = (VAE, DIT, IMAGE_ENCODER)


def read_state(path: Path, network: Network) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint file by key, in FP32 and in the layout of our networks.

    The file holds a bare state dict, or a snapshot of training with `model_dict`. Both layouts of PyTorch
    Geometric's HeteroLinear are brought to one. Nothing in the file is run.

    Raises InputError: no such file; a damaged or foreign file; a pickle that needs more than tensors; the
    checkpoint of another network; values that are not finite floating-point numbers.
    """
    what = f"{network.flag} {path}"
    loaded = read_file(path, what, _AGAIN)
    if isinstance(loaded, Mapping) and isinstance(loaded.get("model_dict"), Mapping):
        loaded = loaded["model_dict"]
    state = as_state(loaded, what)
    _check_network(state, network, what)
    return merge_hetero_linear(as_float32(state, what, _AGAIN))


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
        else:  # `load_into` will report these as unexpected keys
            stem, _, kind = key.rpartition(".")
            merged |= {f"{stem}.lins.{i}.{kind}": value for i, value in types.items()}
    return merged


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
        got=f"{len(state)} tensors of another network ({listed(list(state))})",
        expected=f"{network.name}, with the key {network.key}",
        fix=f"pass {network.file}",
    )
