"""The ONNX graphs of a texture bundle, each made from the checkpoint when it is asked for.

So memory holds one section of the transformer at a time, and never the 20 billion weights of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from export.onnx.graphs import OnnxGraph
from export.texture.base_model import FETCH, BaseModel
from export.texture.lora import Lora
from models.qwen_image import ABSENT, Entry, Exit, Modulation, Section, TextIn
from models.qwen_vae import PATCH, QwenVaeDecoder, QwenVaeEncoder, flat_weights
from topos_rt.errors import InputError, OptionError
from topos_rt.texture.official.contracts import TERMS

Module = TypeVar("Module", bound=nn.Module)


class Guide(nn.Module):
    """Guidance with the length of the conditional velocity in every token; see `topos_rt`'s loop."""

    def forward(self, conditional: Tensor, unconditional: Tensor, guidance: Tensor) -> tuple[Tensor, Tensor]:
        mixed = conditional + guidance * (conditional - unconditional)
        length, wanted = (x.pow(2).sum(-1, keepdim=True).sqrt() for x in (mixed, conditional))
        velocity = mixed * (wanted / (length + 1e-12))
        return velocity, (velocity - conditional) / guidance


class Advance(nn.Module):
    """A sum of arrays, each times its weight; what has the weight 0 is an array given again."""

    def forward(self, a: Tensor, b: Tensor, c: Tensor, d: Tensor, weights: Tensor) -> Tensor:
        return weights[0] * a + weights[1] * b + weights[2] * c + weights[3] * d


@dataclass(frozen=True)
class Sizes:
    """What the shapes of the graphs follow from, besides the configuration of the networks."""

    side: int  # pixels of the map
    reference_side: int  # pixels of the portrait
    text_tokens: int
    blocks: int  # of a section, at most

    def check(self, base: BaseModel) -> None:
        """Raise OptionError for sides that are not whole tokens, or a number of blocks out of range."""
        unit = base.vae.shrinks * PATCH
        for name, side in (("--size", self.side), ("--reference-size", self.reference_side)):
            if side % unit or not unit <= side <= 2048:
                raise OptionError(name, got=side, expected=f"a multiple of {unit}, up to 2048")
        if not 1 <= self.blocks <= base.transformer.num_layers:
            raise OptionError(
                "--blocks", got=self.blocks, expected=f"1 to {base.transformer.num_layers}, those there are"
            )


class TextureGraphs(Mapping[str, OnnxGraph]):
    """Name -> graph. Every access reads the weights anew and merges the adapter into them."""

    def __init__(self, base: BaseModel, lora: Lora, sizes: Sizes, rounded: bool = True) -> None:
        """Prepare the graphs; rounded: see `Lora.merged`. Raises OptionError."""
        sizes.check(base)
        self._rounded = rounded
        self._base, self._lora, self.sizes = base, lora, sizes
        unit = base.vae.shrinks * PATCH
        self.squares = (sizes.side // unit, sizes.reference_side // unit)
        count = base.transformer.num_layers
        spans = [range(k, min(k + sizes.blocks, count)) for k in range(0, count, sizes.blocks)]
        self.sections = len(spans)
        self._makers: dict[str, Callable[[], OnnxGraph]] = {
            "vae_encoder": self._vae_encoder,
            "text_in": self._text_in,
            "entry": self._entry,
            "exit": self._exit,
            "guide": self._guide,
            "advance": self._advance,
            "vae_decoder": self._vae_decoder,
        }
        for k, span in enumerate(spans):
            self._makers[f"section_{k:02d}"] = lambda span=span: self._section(span)  # type: ignore[misc]
            self._makers[f"modulation_{k:02d}"] = lambda span=span: self._modulation(span)  # type: ignore[misc]

    def __getitem__(self, name: str) -> OnnxGraph:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def vae_channels(self) -> int:
        """Return the channels of a token of the VAE."""
        return self._base.vae.z_dim * PATCH**2

    def _latent(self, part: int = 0) -> Tensor:
        return _example(1, self.squares[part] ** 2, self._base.transformer.in_channels)

    def _stream(self, tokens: int) -> Tensor:
        return _example(1, tokens, self._base.transformer.width)

    def _loaded(self, module: Module) -> Module:
        """Fill a module of the transformer, which lies on the meta device, with merged weights."""
        state = self._base.transformer_weights.read(module.state_dict())
        return assigned(module, self._lora.merged(state, self._rounded))

    def _section(self, span: range) -> OnnxGraph:
        config = self._base.transformer
        pictures = ((self.squares[0],) * 2, (self.squares[1],) * 2)
        module = self._loaded(blank(lambda: Section(config, span, pictures, self.sizes.text_tokens)))
        tokens = self.squares[0] ** 2 + self.squares[1] ** 2
        mask = torch.zeros(1, self.sizes.text_tokens)
        mask[:, -1] = ABSENT
        inputs = {
            "image": self._stream(tokens),
            "text": self._stream(self.sizes.text_tokens),
            "mask": mask,
            "modulation": 0.2 * _example(len(span), 3, 6 * config.width),
        }
        return OnnxGraph(module, inputs, ("image_out", "text_out"))

    def _modulation(self, span: range) -> OnnxGraph:
        module = self._loaded(blank(lambda: Modulation(self._base.transformer, span)))
        return OnnxGraph(module, {"time": torch.tensor([0.7])}, ("modulation",))

    def _text_in(self) -> OnnxGraph:
        config = self._base.transformer
        prompt = _example(1, self.sizes.text_tokens, config.joint_attention_dim)
        return OnnxGraph(self._loaded(blank(lambda: TextIn(config))), {"prompt": prompt}, ("text",))

    def _entry(self) -> OnnxGraph:
        inputs = {"latent": self._latent(), "reference": self._latent(1)}
        return OnnxGraph(self._loaded(blank(lambda: Entry(self._base.transformer))), inputs, ("image",))

    def _exit(self) -> OnnxGraph:
        made, tokens = self.squares[0] ** 2, self.squares[0] ** 2 + self.squares[1] ** 2
        inputs = {"image": self._stream(tokens), "time": torch.tensor([0.7])}
        module = self._loaded(blank(lambda: Exit(self._base.transformer, made)))
        return OnnxGraph(module, inputs, ("velocity",))

    def _guide(self) -> OnnxGraph:
        inputs = {
            "conditional": self._latent(),
            "unconditional": self._latent() + 1,
            "guidance": torch.tensor([0.2]),
        }
        return OnnxGraph(Guide(), inputs, ("velocity", "difference"))

    def _advance(self) -> OnnxGraph:
        inputs = {f"term_{k}": self._latent() + k for k in range(TERMS)}
        return OnnxGraph(Advance(), inputs | {"weights": torch.tensor([1.0, -0.1, 0.5, 0.0])}, ("sum",))

    def _vae_encoder(self) -> OnnxGraph:
        picture = _picture(self.sizes.reference_side)
        module = self._vae(blank(lambda: QwenVaeEncoder(self._base.vae)))
        return OnnxGraph(module, {"picture": picture}, ("reference",))

    def _vae_decoder(self) -> OnnxGraph:
        module = self._vae(blank(lambda: QwenVaeDecoder(self._base.vae, self.sizes.side)))
        return OnnxGraph(module, {"latent": self._latent()}, ("picture",))

    def _vae(self, module: Module) -> Module:
        return assigned(module, flat_weights(self._base.vae_weights.read(module.state_dict())))


def blank(make: Callable[[], Module]) -> Module:
    """Make a module without memory for its weights, since others take their place; tables are made."""
    with torch.device("meta"):
        return make()


def assigned(module: Module, state: Mapping[str, Tensor]) -> Module:
    """Give a module its weights. Raises InputError for a key of another shape."""
    for key, wanted in module.state_dict().items():
        if state[key].shape != wanted.shape:
            raise InputError(
                f"weights of the base model: key {key}",
                got=f"shape {list(state[key].shape)}",
                expected=list(wanted.shape),
                fix=FETCH,
            )
    module.load_state_dict(dict(state), strict=True, assign=True)
    return module.requires_grad_(False).eval()


def _example(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _picture(side: int) -> Tensor:
    return _example(1, 3, side, side).clamp(-1, 1)
