"""Read the user's copy of the base model, Qwen-Image-Edit-2511, tensor by tensor and without unpickling."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from export.state_files import listed
from models.qwen_image import QwenImageConfig
from models.qwen_vae import QwenVaeConfig
from topos_rt.errors import InputError

PIPELINE = "QwenImageEditPlusPipeline"
FETCH = "download Qwen-Image-Edit-2511 whole, with its folders, and name its directory"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_LARGEST_JSON = 64 << 20  # an index of shards names every tensor


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The tensors of one folder of safetensors files, read when they are asked for."""

    folder: Path

    @cached_property
    def files(self) -> Mapping[str, Path]:
        """Key -> the file that holds it. Raises InputError where there is none, or only a pickle."""
        what = f"weights in {self.folder}"
        paths = sorted(self.folder.glob("*.safetensors"))
        if not paths:
            pickles = [path.name for kind in _PICKLES for path in sorted(self.folder.glob(kind))]
            got = f"{pickles[0]}, a pickle; nothing of it was run" if pickles else "no such files"
            raise InputError(what, got=got, expected="safetensors files", fix=FETCH)
        found: dict[str, Path] = {}
        for path in paths:
            try:
                with safe_open(path, "pt") as file:
                    found |= dict.fromkeys(file.keys(), path)
            except (OSError, SafetensorError) as error:
                raise InputError(
                    f"weights {path}", got=f"a damaged or truncated file ({error})", fix=FETCH
                ) from error
        return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor, from the headers alone."""
        found = {}
        for path in sorted(set(self.files.values())):
            with safe_open(path, "pt") as file:
                for key in file.keys():  # noqa: SIM118
                    found[key] = tuple(file.get_slice(key).get_shape())
        return found

    def read(self, keys: Iterable[str]) -> dict[str, Tensor]:
        """Return tensors as dense FP32. Raises InputError for a missing key, NaN and infinite values."""
        made = {}
        for key in keys:
            if key not in self.files:
                raise missing_key(self.folder, key, "nothing")
            with safe_open(self.files[key], "pt") as file:
                value = file.get_tensor(key).float()
            if not bool(torch.isfinite(value).all()):
                raise InputError(
                    f"weights in {self.folder}: key {key}",
                    got="NaN or infinite values",
                    expected="finite numbers",
                    fix=FETCH,
                )
            made[key] = value
        return made


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A copy of the base model whose configuration is known to this code."""

    path: Path
    transformer: QwenImageConfig
    vae: QwenVaeConfig
    scheduler: Mapping[str, Any]

    @property
    def transformer_weights(self) -> Checkpoint:
        return Checkpoint(self.path / "transformer")

    @property
    def vae_weights(self) -> Checkpoint:
        return Checkpoint(self.path / "vae")


def open_base(path: Path) -> BaseModel:
    """Read the configuration of a base model and check the keys of its transformer and VAE.

    Raises InputError for a missing or other model, naming the first key that is not as expected.
    """
    index = read_json(path / "model_index.json", "model_index.json of the base model")
    if index.get("_class_name") != PIPELINE:
        raise InputError(
            f"base model {path}: key _class_name of model_index.json",
            got=repr(index.get("_class_name")),
            expected=repr(PIPELINE),
            fix=FETCH,
        )
    found = BaseModel(
        path,
        _config(path / "transformer" / "config.json", QwenImageConfig),
        _config(path / "vae" / "config.json", QwenVaeConfig),
        read_json(path / "scheduler" / "scheduler_config.json", "configuration of the scheduler"),
    )
    check_keys(found.transformer_weights, transformer_shapes(found.transformer))
    for key in vae_keys(found.vae):
        if key not in found.vae_weights.files:
            raise missing_key(found.vae_weights.folder, key, "nothing")
    return found


def transformer_shapes(config: QwenImageConfig) -> dict[str, tuple[int, ...]]:
    """Return key -> shape of a transformer's weights. No memory is taken for them."""
    from models.qwen_image import Entry, Exit, Modulation, Section, TextIn

    blocks = range(config.num_layers)
    with torch.device("meta"):
        parts: list[nn.Module] = [
            Entry(config),
            TextIn(config),
            Exit(config, 1),
            Section(config, blocks, ((1, 1),), 1),
            Modulation(config, blocks),
        ]
    return {key: tuple(value.shape) for part in parts for key, value in part.state_dict().items()}


def vae_keys(config: QwenVaeConfig) -> list[str]:
    """Return the keys of a VAE's weights that a picture needs."""
    from models.qwen_vae import QwenVaeDecoder, QwenVaeEncoder

    with torch.device("meta"):
        parts: list[nn.Module] = [QwenVaeEncoder(config), QwenVaeDecoder(config, 64)]
    return [key for part in parts for key in part.state_dict()]


def check_keys(weights: Checkpoint, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise InputError naming the first key that is missing, of another shape, or unknown."""
    found = weights.shapes()
    for key, shape in expected.items():
        if key not in found:
            raise missing_key(weights.folder, key, "nothing")
        if found[key] != shape:
            raise missing_key(weights.folder, key, f"shape {list(found[key])}", list(shape))
    extra = [key for key in found if key not in expected]
    if extra:
        raise InputError(
            f"weights in {weights.folder}: key {extra[0]}",
            got=f"{len(extra)} keys more than this network has ({listed(extra)})",
            expected=f"the {len(expected)} of its configuration",
            fix=FETCH,
        )


def missing_key(folder: Path, key: str, got: str, expected: object = "a tensor") -> InputError:
    """Return the error for a key of a checkpoint."""
    return InputError(f"weights in {folder}: key {key}", got=got, expected=expected, fix=FETCH)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Return the JSON object of a small file. Raises InputError."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_JSON + 1)
        tree = json.loads(data[:_LARGEST_JSON])
    except OSError as error:
        raise InputError(f"{what}: {path}", got=error.strerror or error, fix=FETCH) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what}: {path}", got=f"no JSON ({error})", fix=FETCH) from error
    if not isinstance(tree, dict):
        raise InputError(f"{what}: {path}", got=type(tree).__name__, expected="an object", fix=FETCH)
    return tree


# Options of the published classes that this code does not have -> the only value that it stands for.
_FIXED = {
    "guidance_embeds": False,
    "use_additional_t_cond": False,
    "use_layer3d_rope": False,
    "attn_scales": [],
    "dropout": 0.0,
    "input_channels": 3,
}


def _config(path: Path, kind: Any) -> Any:
    tree = read_json(path, "configuration of the base model")
    for key, value in _FIXED.items():
        if tree.get(key, value) != value:
            raise InputError(f"{path}: key {key}", got=repr(tree[key])[:40], expected=repr(value), fix=FETCH)
    named = {}
    for field in fields(kind):
        if field.name in tree:
            value = tree[field.name]
            named[field.name] = tuple(value) if isinstance(value, list) else value
    try:
        made = kind(**named)
        _check_numbers(path, made)
    except TypeError as error:
        raise InputError(
            f"configuration {path}", got=str(error), expected="a published one", fix=FETCH
        ) from error
    return made


def _check_numbers(path: Path, config: Any) -> None:
    for field in fields(config):
        for value in _flat(getattr(config, field.name)):
            if isinstance(value, bool) or field.name == "latents_mean":
                continue
            if not isinstance(value, int | float) or not 0 < value < 1 << 20:
                raise InputError(
                    f"{path}: key {field.name}", got=repr(value)[:40], expected="a number > 0", fix=FETCH
                )


def _flat(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, tuple) else (value,)
