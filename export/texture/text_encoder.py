"""The text encoder of the base model, fed as the release feeds it, and how much of a portrait it sees.

The release hands the encoder's processor a picture in -1..1, which the processor takes for one in 0..255: it
divides by 255 and normalises, so that what the encoder sees is nearly black, whoever is shown. If that makes
the embeddings of the instructions the same for every portrait, they can be stored once, and the encoder, 8.3
billion weights, need never be loaded again. `dependence` measures it on the weights at hand.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from export.texture.base_model import Checkpoint, read_json
from export.texture.libraries import library
from export.texture.prompts import Instructions
from topos_rt.errors import InputError

STRETCHED, SEEN = 1024, 384  # sides of the portrait: as the release stretches it, and as the encoder gets it
_PICTURE = "Picture 1: <|vision_start|><|image_pad|><|vision_end|>"
_PAD = "<|image_pad|>"
# An eighth bit: BF16 cannot tell numbers apart that differ by less.
SAME = 2.0**-8


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """The encoder and what prepares its inputs."""

    model: Any
    tokenizer: Any
    template: str
    skipped: int  # tokens of the template before the instruction, which the transformer does not get
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    patch: int
    merge: int

    @classmethod
    def open(cls, base: Path, device: str, dtype: torch.dtype) -> TextEncoder:
        """Load the encoder of a base model. Raises InputError, MissingExtraError."""
        transformers, diffusers = library("transformers"), library("diffusers")
        _ = Checkpoint(base / "text_encoder").files  # safetensors, or a clear error
        told = read_json(base / "processor" / "preprocessor_config.json", "configuration of the processor")
        loading: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
        try:
            model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
                base / "text_encoder", torch_dtype=dtype, **loading
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(base / "tokenizer", local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise InputError(
                f"text encoder of {base}", got=error, expected="that of Qwen-Image-Edit-2511"
            ) from error
        parts = ("scheduler", "vae", "text_encoder", "tokenizer", "processor", "transformer")
        pipeline = diffusers.QwenImageEditPlusPipeline(**dict.fromkeys(parts))
        return cls(
            model.to(device).eval(),
            tokenizer,
            pipeline.prompt_template_encode,
            pipeline.prompt_template_encode_start_idx,
            tuple(told["image_mean"]),
            tuple(told["image_std"]),
            told["patch_size"],
            told["merge_size"],
        )

    @torch.no_grad()
    def embed(self, instruction: str, picture: Tensor) -> Tensor:
        """Return the text stream [1,T,J] FP32 of an instruction beside a picture [1,3,h,w] of any range.

        The tokens of the picture are left out: only the text's go to the transformer.
        """
        patches, grid = self.patches(picture)
        count = int(grid.prod()) // self.merge**2
        text = self.template.format(_PICTURE + instruction).replace(_PAD, _PAD * count)
        device = self.model.device
        tokens = self.tokenizer([text], return_tensors="pt").to(device)
        ids = tokens["input_ids"]
        pictured = ids == self.model.config.image_token_id
        more = {}
        if "mm_token_type_ids" in _arguments(self.model):  # transformers 5 asks for the kinds of tokens
            more["mm_token_type_ids"] = pictured.long()
        out = self.model(
            input_ids=ids,
            attention_mask=tokens["attention_mask"],
            pixel_values=patches.to(device),
            image_grid_thw=grid.to(device),
            output_hidden_states=True,
            **more,
        )
        hidden: Tensor = out.hidden_states[-1]
        return hidden[:, ~pictured[0]][:, self.skipped :].float()

    def patches(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Return the patches [P,3*2*patch^2] and the grid [1,3] of a picture [1,3,h,w] as the processor does.

        It takes the picture for one in 0..255, whatever its range. Sides become multiples of patch x merge.
        """
        unit = self.patch * self.merge
        high, wide = (max(unit, round(side / unit) * unit) for side in picture.shape[2:])
        if (high, wide) != tuple(picture.shape[2:]):
            picture = F.interpolate(picture, (high, wide), mode="bicubic", antialias=True)
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.deviation))
        pixels = (picture / 255 - mean) / deviation
        rows, columns = high // unit, wide // unit
        frames = pixels.expand(2, -1, -1, -1)  # a picture is two equal frames of a film
        cut = frames.reshape(2, 3, rows, self.merge, self.patch, columns, self.merge, self.patch)
        patches = cut.permute(2, 5, 3, 6, 1, 0, 4, 7).reshape(rows * columns * self.merge**2, -1)
        return patches, torch.tensor([[1, rows * self.merge, columns * self.merge]])


def seen_picture(picture: Image.Image, stretched: int = STRETCHED) -> Tensor:
    """Return what the release hands the encoder of a portrait: [1,3,384,384] in -1..1.

    Stretched with Lanczos, then every so many pixels interpolated, without a filter.
    """
    square = picture.convert("RGB")
    if square.size != (stretched, stretched):
        square = square.resize((stretched, stretched), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255 * 2 - 1
    return F.interpolate(pixels, (SEEN, SEEN), mode="bilinear", align_corners=False)


def black_picture() -> Tensor:
    """Return what the negative branch's encoder gets instead of a portrait."""
    return -torch.ones(1, 3, SEEN, SEEN)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The embeddings of both instructions, and how far they depend on the portrait."""

    positive: np.ndarray  # [1,T,J] float32
    negative: np.ndarray
    share: float  # the largest relative change from portrait to portrait; -1: not measured


def dependence(
    encoder: TextEncoder, instructions: Instructions, portraits: Sequence[Image.Image]
) -> Embeddings:
    """Embed both instructions, the first beside each of two or more portraits, and compare.

    Raises InputError for fewer than two portraits.
    """
    if len(portraits) < 2:
        raise InputError(
            "portraits to compare", got=len(portraits), expected="two or more, of different people"
        )
    made = [encoder.embed(instructions.prompt, seen_picture(portrait)) for portrait in portraits]
    share = max(float((a - b).norm() / a.norm()) for a, b in itertools.combinations(made, 2))
    negative = encoder.embed(instructions.negative_prompt, black_picture())
    return Embeddings(made[0].cpu().numpy(), negative.cpu().numpy(), share)


def _arguments(model: Any) -> Sequence[str]:
    code = type(model).forward
    while hasattr(code, "__wrapped__"):
        code = code.__wrapped__
    names: Sequence[str] = code.__code__.co_varnames[: code.__code__.co_argcount]
    return names
