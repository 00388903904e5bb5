"""The inputs and outputs that each ONNX graph of a texture bundle must have, given its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from topos_rt.engines import Engine
from topos_rt.errors import BundleError
from topos_rt.support.strictjson import AGAIN
from topos_rt.texture.official.manifest import TextureManifest

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
TERMS = 4  # arrays in one sum of `advance`, as in `topos_rt.flow.program`


def contract(manifest: TextureManifest, graph: str) -> tuple[Shapes, Shapes]:
    """Return the shapes of a graph's inputs and outputs; every tensor is float32."""
    picture, text, transformer = manifest.picture, manifest.text, manifest.transformer
    latent = (1, picture.tokens, picture.channels)
    reference = (1, picture.reference_tokens, picture.channels)
    image = (1, picture.tokens + picture.reference_tokens, transformer.width)
    stream = (1, text.tokens, transformer.width)
    blocks = section_blocks(manifest, graph)
    modulation = (blocks, 3, 6 * transformer.width)
    kind = graph.partition("_")[0] if blocks else graph
    table: dict[str, tuple[Shapes, Shapes]] = {
        "vae_encoder": (
            {"picture": (1, 3, picture.reference_side, picture.reference_side)},
            {"reference": reference},
        ),
        "text_in": ({"prompt": (1, text.tokens, text.channels)}, {"text": stream}),
        "entry": ({"latent": latent, "reference": reference}, {"image": image}),
        "modulation": ({"time": (1,)}, {"modulation": modulation}),
        "section": (
            {"image": image, "text": stream, "mask": (1, text.tokens), "modulation": modulation},
            {"image_out": image, "text_out": stream},
        ),
        "exit": ({"image": image, "time": (1,)}, {"velocity": latent}),
        "guide": (
            {"conditional": latent, "unconditional": latent, "guidance": (1,)},
            {"velocity": latent, "difference": latent},
        ),
        "advance": ({**{f"term_{k}": latent for k in range(TERMS)}, "weights": (TERMS,)}, {"sum": latent}),
        "vae_decoder": ({"latent": latent}, {"picture": (1, 3, picture.side, picture.side)}),
    }
    return table[kind]


def section_blocks(manifest: TextureManifest, graph: str) -> int:
    """Return the number of blocks of a section, or of the section of a modulation; 0 for other graphs."""
    kind, _, number = graph.partition("_")
    if kind not in ("section", "modulation"):
        return 0
    spec = manifest.transformer
    most, first = -(-spec.blocks // spec.sections), int(number)
    return min(most, spec.blocks - first * most)


def check_contract(manifest: TextureManifest, graph: str, engine: Engine) -> None:
    """Raise BundleError unless an engine has the inputs and outputs that the manifest promises."""
    sides = zip(("input", "output"), (engine.inputs, engine.outputs), contract(manifest, graph), strict=True)
    for side, found, wanted in sides:
        shapes = {name: spec.shape for name, spec in found.items()}
        kinds = {spec.dtype for spec in found.values()}
        if shapes != dict(wanted) or kinds != {np.dtype(np.float32)}:
            raise BundleError(
                f"{side}s of texture graph {graph}", got=shapes, expected=dict(wanted), fix=AGAIN
            )
