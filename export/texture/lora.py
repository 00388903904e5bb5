"""Merge a LoRA, a directory as PEFT writes it, into the weights of the base model, tensor by tensor.

W + s B A, with s = alpha / r, or alpha / sqrt(r) where the adapter says so. Source: Hu et al. 2021, LoRA
(arXiv 2106.09685); Kalajdzievski 2023 (arXiv 2312.03732) for the root; the files' layout is PEFT's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from export.texture.base_model import read_json
from topos_rt.errors import InputError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_KEY = re.compile(rf"{re.escape(_PREFIX)}(.+)\.lora_([AB])(?:\.default)?\.weight")
_FIX = "name the directory of the LoRA that was trained for this base model"
# What an adapter may ask for that a merge of products cannot do -> the values that ask for nothing.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "use_dora": (False, None),
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "fan_in_fan_out": (False, None),
    "lora_bias": (False, None),
}


@dataclass(frozen=True, eq=False)
class Lora:
    """The products of an adapter, by the module that each belongs to."""

    path: Path
    pairs: Mapping[str, tuple[Tensor, Tensor]]  # module -> A [r,in] and B [out,r], FP32
    scales: Mapping[str, float]

    def merged(self, state: Mapping[str, Tensor], rounded: bool) -> dict[str, Tensor]:
        """Return FP32 weights by key with the adapter in them.

        rounded: whether to round them to BF16, in which all is published, and which halves the files.
        """
        made = {}
        for key, value in state.items():
            module = key.removesuffix(".weight")
            if module in self.pairs:
                a, b = self.pairs[module]
                value = value + self.scales[module] * (b @ a)
            made[key] = value.bfloat16().float() if rounded else value
        return made


NO_LORA = Lora(Path(), {}, {})


def open_lora(path: Path, base: Mapping[str, tuple[int, ...]]) -> Lora:
    """Read an adapter for a base model. base: key -> shape of its weights.

    Raises InputError for a missing or damaged adapter, a pickle, one of another base, naming the first module
    that does not fit, and one that is no plain LoRA.
    """
    config = read_json(path / CONFIG, "configuration of the LoRA")
    for key, values in _PLAIN.items():
        if config.get(key) not in values:
            raise InputError(
                f"LoRA {path}: key {key}",
                got=repr(config[key])[:60],
                expected=f"{values[0]!r}: a plain LoRA, which can be merged",
                fix="run it in PyTorch, with python -m export paint",
            )
    pairs = check_lora(path, base)
    scales = {module: _scale(config, module, len(a)) for module, (a, _) in pairs.items()}
    return Lora(path, pairs, scales)


def check_lora(path: Path, base: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return module -> A and B of an adapter, each of which fits the base. Raises as `open_lora` does."""
    config = read_json(path / CONFIG, "configuration of the LoRA")
    if config.get("peft_type") != "LORA":
        raise InputError(
            f"LoRA {path}: key peft_type", got=repr(config.get("peft_type"))[:40], expected="'LORA'", fix=_FIX
        )
    halves: dict[str, dict[str, Tensor]] = {}
    for key, value in _tensors(path).items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise InputError(f"LoRA {path}: key {key}", got="a key of no LoRA product", fix=_FIX)
        halves.setdefault(match[1], {})[match[2]] = value.float()
    if not halves:
        raise InputError(f"LoRA {path / WEIGHTS}", got="no tensors", fix=_FIX)
    return {
        module: _pair(path, module, found, base.get(f"{module}.weight")) for module, found in halves.items()
    }


def _tensors(path: Path) -> dict[str, Tensor]:
    file = path / WEIGHTS
    if not file.is_file():
        pickle = path / "adapter_model.bin"
        got = f"{pickle.name}, a pickle; nothing of it was run" if pickle.is_file() else "no such file"
        raise InputError(f"LoRA {file}", got=got, expected="a safetensors file", fix=_FIX)
    try:
        with safe_open(file, "pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"LoRA {file}", got=f"a damaged or truncated file ({error})", fix=_FIX) from error


def _pair(
    path: Path, module: str, found: Mapping[str, Tensor], shape: tuple[int, ...] | None
) -> tuple[Tensor, Tensor]:
    what = f"LoRA {path}: module {module}"
    if shape is None:
        raise InputError(what, got="a module that the base model does not have", fix=_FIX)
    if set(found) != {"A", "B"}:
        raise InputError(what, got=f"lora_{''.join(found)} alone", expected="lora_A and lora_B", fix=_FIX)
    a, b = found["A"], found["B"]
    fits = a.dim() == b.dim() == len(shape) == 2 and (b.shape[0], a.shape[1]) == shape
    if not fits or b.shape[1] != a.shape[0]:
        got = f"A {list(a.shape)} and B {list(b.shape)}"
        raise InputError(what, got=got, expected=f"factors of {list(shape)}", fix=_FIX)
    if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
        raise InputError(what, got="NaN or infinite values", expected="finite numbers", fix=_FIX)
    return a, b


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    alpha = _patterned(config.get("alpha_pattern"), module, config.get("lora_alpha"))
    if not isinstance(alpha, int | float):
        raise InputError("LoRA: key lora_alpha", got=repr(alpha)[:40], expected="a number", fix=_FIX)
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _patterned(patterns: Any, module: str, otherwise: Any) -> Any:
    """Return the value of the first pattern that matches the end of a module's name, as PEFT does."""
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            return value
    return otherwise
