"""Read the release's YAML configuration, its keys under MODEL and DATA; released values are the default."""

from __future__ import annotations

import copy
import difflib
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topos_rt.errors import InputError

IMAGE_SIZE = 518  # pixels along a side of the image encoder's picture
POINTS = 8192  # points that the VAE encoder takes at a time
_MAX_BYTES = 1 << 20
_MOST_BRACKETS = 500
_SECTIONS = ("SOLVER", "DATA", "MODEL", "LOSS", "SYS")
# These keys are read and checked. The unused ones below say nothing about the networks.
_MODEL: dict[str, Any] = {
    "base_mesh": "./data/template.obj",
    "vae_out_channel": 6, "code_channel": 32, "num_latents": 1513, "width": 128, "num_encoder_layers": 8,
    "point_feats": 3, "num_freqs": 8, "include_pi": False, "include_distance": False,
    "decoder_blocks": [4, 4, 3, 3], "decoder_channel": [512, 512, 256, 256, 128],
    "df_in_channels": 32, "df_out_channels": 32, "cond_channels": 1024, "model_channels": 1024,
    "num_blocks": 24, "num_heads": 16, "num_head_channels": 64, "mlp_ratio": 4, "pe_mode": "ape",
    "share_mod": False, "qk_rms_norm": True, "qk_rms_norm_cross": False, "use_fp16": False,
    "image_cond_model_name": "dinov2_vitl14_reg",
    "image_cond_model_path": "./pretrained_ckpt/dinov2_vitl14_reg4_pretrain.pth",
    "cfg_strength": 3.0, "sample_steps": 50, "sigma_min": 1e-5,
}  # fmt: skip
_MODEL_UNUSED = (
    "compile", "sync_bn", "find_unused_parameters", "vae_ckpt", "use_checkpoint", "p_uncond", "ema_rate",
    "image_cond_model_dir",
)  # fmt: skip
_DATA: dict[str, Any] = {
    "depth": 8, "edge_file": "./data/edges.npy", "cluster_file": "./data/cluster.npz",
    "template_vertices_path": "./data/template_vertices.npz",
}  # fmt: skip
_DATA_UNUSED = {
    "train": (
        "root_dir", "use_surface", "use_images", "max_rotation", "max_translate", "scale_range", "image_nums",
        "filelist", "batch_size", "shuffle", "num_workers",
    ),
    "test": ("test_pointcloud_path", "test_pointcloud_dir", "test_image_path", "test_image_dir", "seeds"),
}  # fmt: skip
# The networks here are made for these values alone, and the release has no others.
_FIXED = {
    "include_distance": False, "pe_mode": "ape", "share_mod": False, "vae_out_channel": 6, "point_feats": 3
}  # fmt: skip
# The networks' arguments that have the same names in MODEL.
_VAE_SAME = (
    "num_latents", "width", "num_encoder_layers", "point_feats", "num_freqs", "include_pi", "decoder_blocks",
    "decoder_channel",
)  # fmt: skip
_DIT_SAME = (
    "model_channels", "num_latents", "cond_channels", "num_blocks", "num_heads", "mlp_ratio", "pe_mode",
    "qk_rms_norm", "qk_rms_norm_cross", "share_mod",
)  # fmt: skip
_GROUPS = 4  # number of groups in the decoder's group norms


@dataclass(frozen=True)
class TopologyFiles:
    """The file names inside the topology's directory, and the number of its cluster maps."""

    mesh: str
    vertices: str
    edges: str
    clusters: str
    depth: int


@dataclass(frozen=True)
class ReleaseConfig:
    """The facts about the networks and their files in the release's configuration."""

    model: Mapping[str, Any]  # the keys of MODEL
    files: TopologyFiles

    @classmethod
    def load(cls, path: Path | None) -> ReleaseConfig:
        """Read a YAML file; None gives the released values.

        As in the release, `dit_test.yaml` is laid over a `dit.yaml` beside it. SOLVER, LOSS and SYS are
        ignored. Raises InputError for unreadable files, unknown keys and values of a wrong type or size.
        """
        model, data = copy.deepcopy(_MODEL), dict(_DATA)
        if path is not None:
            base = path.with_name(path.name.split("_")[0] + ".yaml")
            for file in ([base] if base != path and base.is_file() else []) + [path]:
                _merge(file, _read(file), model, data)
        source = "the released configuration" if path is None else str(path)
        _check(model, source)
        values = model["base_mesh"], data["template_vertices_path"], data["edge_file"], data["cluster_file"]
        mesh, vertices, edges, clusters = (Path(value).name for value in values)
        if data["depth"] < len(model["decoder_blocks"]):
            _refuse(
                f"DATA.test.depth in {source}",
                data["depth"],
                f"at least {len(model['decoder_blocks'])}, the decoder's stages",
            )
        return cls(model, TopologyFiles(mesh, vertices, edges, clusters, data["depth"]))

    @property
    def vae(self) -> dict[str, Any]:
        """The arguments of TOPOSVAE."""
        return {name: self.model[name] for name in _VAE_SAME} | {
            "out_channels": self.model["vae_out_channel"],
            "code_channels": self.model["code_channel"],
        }

    @property
    def dit(self) -> dict[str, Any]:
        """The arguments of TOPOSDiT."""
        return {name: self.model[name] for name in _DIT_SAME} | {
            "in_channels": self.model["df_in_channels"],
            "out_channels": self.model["df_out_channels"],
        }


def _read(path: Path) -> dict[str, Any]:
    import yaml

    what = f"--config {path}"
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise InputError(what, got="more than 1 MiB", expected="a configuration of the release")
        if (
            data.count(b"[") + data.count(b"{") > _MOST_BRACKETS
        ):  # the time to read them grows with the square
            raise InputError(what, got="a deeply nested file", expected="a configuration of the release")
        tree = yaml.safe_load(data)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or getattr(error, "problem", None) or error
        raise InputError(what, got=reason, expected="a YAML file of the release") from error
    if not isinstance(tree, dict):
        raise InputError(what, got=f"{type(tree).__name__}", expected="the sections MODEL and DATA")
    return tree


def _merge(path: Path, tree: dict[str, Any], model: dict[str, Any], data: dict[str, Any]) -> None:
    """Lay the values of one file over those that are there."""
    where = str(path)
    _known(tree, _SECTIONS, "", where)
    section = _section(tree, "MODEL", where)
    _known(section, (*_MODEL, *_MODEL_UNUSED), "MODEL.", where)
    for key, value in section.items():
        if key in _MODEL:
            model[key] = _typed(value, _MODEL[key], f"MODEL.{key} in {where}")
    parts = _section(tree, "DATA", where)
    _known(parts, tuple(_DATA_UNUSED), "DATA.", where)
    for name in ("train", "test"):  # inference uses `test`, so it comes last
        part = _section(parts, name, where)
        _known(part, (*_DATA, *_DATA_UNUSED[name]), f"DATA.{name}.", where)
        for key in _DATA:
            if part.get(key, "") != "":
                data[key] = _typed(part[key], _DATA[key], f"DATA.{name}.{key} in {where}")


def _section(tree: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    section = tree.get(name)
    if section is not None and not isinstance(section, dict):
        _refuse(f"{name} in {where}", section, "a section with keys")
    return section or {}


def _known(section: Mapping[str, Any], names: tuple[str, ...], prefix: str, where: str) -> None:
    for key in section:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1)
            raise InputError(
                f"unknown key in {where}",
                got=f"{prefix}{key}",
                expected="only keys of the release",
                fix=f"did you mean {prefix}{near[0]}?" if near else "remove it",
            )


def _typed(value: Any, like: Any, what: str) -> Any:
    """Return `value`, if it has the type of the released one."""
    kinds: dict[type, tuple[str, Callable[[Any], bool]]] = {
        bool: ("true or false", lambda v: isinstance(v, bool)),
        int: ("a whole number > 0", lambda v: type(v) is int and v > 0),
        float: ("a number >= 0", lambda v: type(v) in (int, float) and 0 <= v < 1e6),
        str: ("a text", lambda v: isinstance(v, str) and bool(v)),
        list: (
            "a list of whole numbers > 0",
            lambda v: isinstance(v, list) and bool(v) and all(type(i) is int and i > 0 for i in v),
        ),
    }
    expected, fits = kinds[type(like)]
    if type(like) is float and isinstance(value, str):
        value = _number(value)  # YAML 1.1 reads 1e-5 as text
    if not fits(value):
        _refuse(what, value, expected)
    return value


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _check(model: Mapping[str, Any], source: str) -> None:
    """Refuse values with which no network can be built."""
    for key, value in _FIXED.items():
        if model[key] != value:
            _refuse(f"MODEL.{key} in {source}", model[key], f"{value}, as released")
    if len(model["decoder_channel"]) != len(model["decoder_blocks"]) + 1:
        _refuse(
            f"MODEL.decoder_channel in {source}",
            model["decoder_channel"],
            f"{len(model['decoder_blocks']) + 1} numbers, one more than decoder_blocks",
        )
    for key, unit in (("decoder_channel", _GROUPS), ("model_channels", model["num_heads"])):
        values = model[key] if isinstance(model[key], list) else [model[key]]
        if any(value % unit for value in values):
            _refuse(f"MODEL.{key} in {source}", model[key], f"multiples of {unit}")
    for key in ("df_in_channels", "df_out_channels"):
        if model[key] != model["code_channel"]:
            _refuse(f"MODEL.{key} in {source}", model[key], f"{model['code_channel']}, the code_channel")


def _refuse(what: str, got: Any, expected: str) -> None:
    raise InputError(
        what, got=reprlib.repr(got), expected=expected, fix="use the configuration of this checkpoint"
    )
