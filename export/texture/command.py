"""`python -m export texture`: make a texture bundle of TOPOS-Texture's weights, its LoRA merged.

The bundle runs in `topos-rt texture --official BUNDLE`, without PyTorch.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from export.bundle_writer import staged
from export.onnx.files import form_file, write_graphs
from export.onnx.flops import count
from export.texture.base_model import BaseModel, open_base, transformer_shapes
from export.texture.embeddings_file import read_embeddings
from export.texture.graphs import Sizes, TextureGraphs
from export.texture.lora import NO_LORA, open_lora
from export.texture.text_encoder import Embeddings
from models.qwen_image import QwenImageConfig
from models.qwen_vae import PATCH
from topos_rt.errors import InputError
from topos_rt.model.bundle import Bundle
from topos_rt.model.manifest import WeightsInfo
from topos_rt.support.tensorfile import write_tensors
from topos_rt.texture.official.bundle import write_texture_manifest
from topos_rt.texture.official.manifest import (
    MANIFEST_NAME,
    METAHUMAN,
    SINGLE,
    LayoutSpec,
    PictureSpec,
    ScheduleSpec,
    TextSpec,
    TextureManifest,
    TransformerSpec,
)

FORMS = ("bf16", "fp16")
ROUNDED = 8  # prompts are padded to a multiple of so many tokens
_EMBEDDINGS = "prompts.safetensors"
_LICENCE = "Qwen-Image-Edit-2511: Apache-2.0; TOPOS-Texture: MIT"
# What the release's sampler reads where its configuration is silent.
_DEFAULTS = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
# Options of the scheduler that this code does not have -> the only value that it stands for.
_SCHEDULER = {
    "use_dynamic_shifting": True,
    "time_shift_type": "exponential",
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "invert_sigmas": False,
    "stochastic_sampling": False,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `texture`."""
    parser.add_argument(
        "--official", type=Path, required=True, metavar="DIR", help="the base model's directory"
    )
    parser.add_argument("--lora", type=Path, metavar="DIR", help="the LoRA's directory (default: none)")
    parser.add_argument(
        "--embeddings",
        type=Path,
        required=True,
        metavar="FILE",
        help="what python -m export embeddings stored",
    )
    parser.add_argument(
        "--size",
        type=int,
        default=1024,
        metavar="PX",
        help="side of the map (default: %(default)s, as released)",
    )
    parser.add_argument(
        "--reference-size",
        type=int,
        metavar="PX",
        help="side of the portrait that the transformer sees (default: as the map); half of it costs 0.58 of"
        " an evaluation, and changes the map",
    )
    parser.add_argument(
        "--blocks", type=int, default=3, metavar="N", help="blocks in a section (default: %(default)s)"
    )
    parser.add_argument(
        "--weights",
        choices=("bf16", "fp32"),
        default="bf16",
        help="what merged weights are rounded to; fp32 doubles the files (default: bf16, as published)",
    )
    parser.add_argument(
        "--layout",
        metavar="BUNDLE",
        help="a model in whose UVs the map is painted (default: MetaHuman, as released)",
    )


def run(arguments: argparse.Namespace) -> TextureManifest:
    """Write the bundle, which appears whole or not at all. Raises InputError, OptionError, OutputError."""
    base = open_base(arguments.official)
    lora = NO_LORA
    if arguments.lora is not None:
        lora = open_lora(arguments.lora, transformer_shapes(base.transformer))
    prompts = read_embeddings(arguments.embeddings, base.transformer.joint_attention_dim)
    text = text_spec(prompts, base.transformer)
    side = arguments.size
    sizes = Sizes(side, arguments.reference_size or side, text.tokens, arguments.blocks)
    graphs = TextureGraphs(base, lora, sizes, arguments.weights == "bf16")
    layout = METAHUMAN if arguments.layout is None else _layout(arguments.layout)
    schedule = schedule_spec(base)
    with staged(arguments.out, MANIFEST_NAME) as directory:
        names = [name for name in graphs if not name.startswith("section_") or name == "section_00"]
        files = write_graphs(graphs, directory, "bf16", forms=FORMS, compared=names)
        for name in SINGLE:
            for form in FORMS:
                (directory / form_file(name, form)).unlink()
        write_tensors(
            directory / _EMBEDDINGS, {"positive": prompts.positive, "negative": prompts.negative}, {}
        )
        narrow = [name for name in graphs if name not in SINGLE]
        return write_texture_manifest(
            directory,
            TextureManifest(
                name="topos-texture",
                weights=WeightsInfo(_origin(base, lora.path), _LICENCE, "official"),
                picture=_picture(base, graphs),
                text=text,
                transformer=TransformerSpec(
                    base.transformer.num_layers,
                    graphs.sections,
                    base.transformer.width,
                    base.transformer.num_attention_heads,
                ),
                schedule=schedule,
                layout=layout,
                guidance=1.2,
                steps=50,
                embeddings=_EMBEDDINGS,
                portrait_share=prompts.share,
                graphs=files,
                graphs_bf16={name: form_file(name, "bf16") for name in narrow},
                graphs_fp16={name: form_file(name, "fp16") for name in narrow},
                parameters=parameters(base, graphs),
                flops={name: count(directory / file) for name, file in files.items()},
            ),
        )


def text_spec(prompts: Embeddings, config: QwenImageConfig) -> TextSpec:
    """Return the sizes of two prompts, padded to one length."""
    lengths = prompts.positive.shape[1], prompts.negative.shape[1]
    return TextSpec(-(-max(lengths) // ROUNDED) * ROUNDED, config.joint_attention_dim, *lengths)


def schedule_spec(base: BaseModel) -> ScheduleSpec:
    """Return what of the scheduler's configuration decides the times. Raises InputError for another kind."""
    found = base.scheduler
    for key, value in _SCHEDULER.items():
        if found.get(key, value) != value:
            raise InputError(
                f"scheduler of {base.path}: key {key}", got=repr(found[key])[:40], expected=repr(value)
            )
    numbers: dict[str, Any] = {key: found.get(key, value) for key, value in _DEFAULTS.items()}
    return ScheduleSpec(**numbers, shift_terminal=float(found.get("shift_terminal") or 0), rounding="bf16")


def parameters(base: BaseModel, graphs: TextureGraphs) -> dict[str, int]:
    """Return graph -> number of its weights, from the shapes alone."""
    shapes = transformer_shapes(base.transformer)
    sizes = {key: int(np.prod(shape)) for key, shape in shapes.items()}
    vae = base.vae_weights.shapes()
    counts = dict.fromkeys(graphs, 0)
    for name, prefixes in {
        "entry": ("img_in.",),
        "text_in": ("txt_norm.", "txt_in."),
        "exit": ("time_text_embed.", "norm_out.", "proj_out."),
    }.items():
        counts[name] = sum(size for key, size in sizes.items() if key.startswith(prefixes))
    for name, prefixes in {
        "vae_encoder": ("encoder.", "quant_conv."),
        "vae_decoder": ("decoder.", "post_quant_conv."),
    }.items():
        counts[name] = sum(
            # Of a 3D kernel the last slice is used.
            int(np.prod(shape)) // (shape[2] if len(shape) == 5 else 1)
            for key, shape in vae.items()
            if key.startswith(prefixes) and ".time_conv." not in key
        )
    embedding = sum(size for key, size in sizes.items() if key.startswith("time_text_embed."))
    for key, size in sizes.items():
        if key.startswith("transformer_blocks."):
            _, block, kind, *_ = key.split(".")
            number = int(block) // graphs.sizes.blocks
            part = "modulation" if kind in ("img_mod", "txt_mod") else "section"
            counts[f"{part}_{number:02d}"] += size
    for name in counts:
        counts[name] += embedding if name.startswith("modulation_") else 0
    return counts


def _picture(base: BaseModel, graphs: TextureGraphs) -> PictureSpec:
    tokens, reference = (side**2 for side in graphs.squares)
    sizes = graphs.sizes
    return PictureSpec(sizes.side, sizes.reference_side, tokens, reference, base.vae.z_dim * PATCH**2)


def _origin(base: BaseModel, lora: Path) -> str:
    merged = f" with the LoRA {lora.name} merged" if lora.name else ""
    return f"the user's copy of {base.path.name}{merged}"


def _layout(path: str) -> LayoutSpec:
    bundle = Bundle.open(path)
    topology = bundle.topology
    return LayoutSpec(bundle.manifest.name, topology.num_vertices, len(topology.polygon_sizes))
