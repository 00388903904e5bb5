"""The contents of a texture bundle's `texture.json`: frozen dataclasses, read strictly from JSON.

`python -m export texture` writes it. Every key is required, and unknown ones are errors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from topos_rt.errors import BundleError
from topos_rt.model.manifest import FileInfo, WeightsInfo
from topos_rt.support.strictjson import AGAIN, describe, parse_object, read_as, refuse

FORMAT = "topos_rt.texture_bundle"
VERSION = 1
MANIFEST_NAME = "texture.json"
# Precision -> what it means for the transformer; the VAE is FP32 in all, as released.
PRECISIONS = {
    "bf16": "the blocks' products of BF16 operands, all else FP32; the release is BF16 throughout",
    "fp16": "the blocks' products of FP16 operands, whose range this network may leave",
    "fp32": "FP32 throughout",
}
ROUNDINGS = ("bf16", "fp32")
MAX_SIDE = 4096
# Graphs besides the sections and their modulations. They only exist in FP32: they are little of the work.
SINGLE = ("vae_encoder", "text_in", "entry", "exit", "guide", "advance", "vae_decoder")
_LARGEST = 1 << 31


@dataclass(frozen=True)
class PictureSpec:
    """Sizes of the map that is made and of the portrait as the transformer sees it."""

    side: int  # pixels of the map
    reference_side: int  # pixels of the portrait
    tokens: int  # of the map
    reference_tokens: int
    channels: int  # of a token


@dataclass(frozen=True)
class TextSpec:
    """Sizes of the stored prompts. Both are padded to `tokens`."""

    tokens: int
    channels: int
    positive: int  # tokens of the prompt
    negative: int


@dataclass(frozen=True)
class TransformerSpec:
    """Sizes of the transformer, which is cut in sections of some blocks each."""

    blocks: int
    sections: int
    width: int
    heads: int


@dataclass(frozen=True)
class ScheduleSpec:
    """How the times of a run follow from the number of steps; names as in `scheduler_config.json`."""

    base_image_seq_len: int
    max_image_seq_len: int
    base_shift: float
    max_shift: float
    shift_terminal: float  # the last time before 0; 0 leaves the times as they are
    rounding: str  # one of ROUNDINGS: what the network's times are rounded to

    def __post_init__(self) -> None:
        if self.rounding not in ROUNDINGS:
            refuse("schedule.rounding", repr(self.rounding), f"one of: {', '.join(ROUNDINGS)}")
        if not 0 < self.base_image_seq_len < self.max_image_seq_len < _LARGEST:
            got = f"{self.base_image_seq_len} and {self.max_image_seq_len}"
            refuse("schedule.max_image_seq_len", got, "two rising numbers")
        if not 0 <= self.shift_terminal < 1:
            refuse("schedule.shift_terminal", self.shift_terminal, "a number from 0 to 1")


@dataclass(frozen=True)
class LayoutSpec:
    """The topology in whose UVs the map is painted."""

    name: str
    vertices: int
    polygons: int


# The release paints for MetaHuman's head.
METAHUMAN = LayoutSpec("MetaHuman", 24049, 24002)


@dataclass(frozen=True)
class TextureManifest:
    """The whole of `texture.json`. Raises BundleError for invalid values."""

    name: str
    weights: WeightsInfo
    picture: PictureSpec
    text: TextSpec
    transformer: TransformerSpec
    schedule: ScheduleSpec
    layout: LayoutSpec
    guidance: float  # true CFG scale, as released: 1 is none
    steps: int
    embeddings: str  # file with the prompts
    portrait_share: float  # relative change of the prompts from portrait to portrait, as measured; -1: not
    graphs: Mapping[str, str]  # graph -> its FP32 file
    graphs_bf16: Mapping[str, str]
    graphs_fp16: Mapping[str, str]
    parameters: Mapping[str, int]  # graph -> number of its weights
    flops: Mapping[str, int]  # graph -> operations of one run
    files: Mapping[str, FileInfo] = field(default_factory=dict)
    weight_files: Mapping[str, str] = field(default_factory=dict)  # graph file -> file of its weights

    def __post_init__(self) -> None:
        for key in ("picture", "text", "transformer"):
            for name, value in asdict(getattr(self, key)).items():
                if not 0 < value < _LARGEST:
                    refuse(f"{key}.{name}", describe(value), "an integer > 0")
        for name in ("side", "reference_side"):
            if getattr(self.picture, name) > MAX_SIDE:
                refuse(f"picture.{name}", getattr(self.picture, name), f"at most {MAX_SIDE}")
        if max(self.text.positive, self.text.negative) > self.text.tokens:
            refuse("text.tokens", self.text.tokens, "at least the tokens of both prompts")
        if not 1 <= self.steps <= 1000:
            refuse("steps", self.steps, "1 to 1000")
        if not 1 <= self.guidance <= 1000:
            refuse("guidance", self.guidance, "1 to 1000")
        wanted = set(self.graph_names())
        for key in ("graphs", "parameters", "flops"):
            if set(getattr(self, key)) != wanted:
                first = min(wanted ^ set(getattr(self, key)))
                refuse(key, f"another set of graphs, as {first} shows", f"{len(wanted)} graphs")
        for key in ("graphs_bf16", "graphs_fp16"):
            if getattr(self, key) and set(getattr(self, key)) != wanted.difference(SINGLE):
                refuse(key, "another set of graphs", "all sections and modulations, or none")

    def graph_names(self) -> tuple[str, ...]:
        """Return the names of all graphs."""
        return (*SINGLE, *self.section_names(), *self.modulation_names())

    def section_names(self) -> tuple[str, ...]:
        """Return the names of the transformer's sections, in their order."""
        return tuple(f"section_{k:02d}" for k in range(self.transformer.sections))

    def modulation_names(self) -> tuple[str, ...]:
        """Return the names of the graphs that make the modulations of the sections."""
        return tuple(f"modulation_{k:02d}" for k in range(self.transformer.sections))

    def precisions(self) -> tuple[str, ...]:
        """Return the precisions that the bundle has, the fastest first."""
        forms = {"bf16": self.graphs_bf16, "fp16": self.graphs_fp16, "fp32": self.graphs}
        return tuple(name for name, files in forms.items() if files)

    def graph_file(self, graph: str, precision: str) -> str:
        """Return the ONNX file of a graph in a precision; where it has no such form, the FP32 one."""
        forms = {"bf16": self.graphs_bf16, "fp16": self.graphs_fp16, "fp32": self.graphs}
        return forms[precision].get(graph, self.graphs[graph])

    def graph_files(self) -> tuple[str, ...]:
        """Return the names of the ONNX files."""
        forms = (self.graphs, self.graphs_bf16, self.graphs_fp16)
        return tuple(file for files in forms for file in files.values())

    def references(self) -> Iterator[str]:
        """Yield the names of the files that the manifest assigns a role to."""
        yield from self.graph_files()
        yield self.embeddings
        yield from self.weight_files.values()

    @classmethod
    def from_json(cls, data: bytes) -> TextureManifest:
        """Read JSON text. Raises BundleError naming the key that is wrong."""
        tree = parse_object(data)
        for key, wanted in (("format", FORMAT), ("version", VERSION)):
            if (found := tree.pop(key, None)) != wanted:
                refuse(key, describe(found), repr(wanted))
        manifest = read_as(cls, tree)
        assert isinstance(manifest, TextureManifest)
        return manifest

    def to_json(self) -> str:
        """Return JSON text that `from_json` reads back."""
        tree: dict[str, Any] = {"format": FORMAT, "version": VERSION} | asdict(self)
        return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def wrong_precision(precision: str, manifest: TextureManifest) -> BundleError:
    """Return the error for a precision that a bundle does not have."""
    return BundleError(
        f"texture bundle {manifest.name}: precision {precision}",
        got=f"a bundle with {', '.join(manifest.precisions())}",
        fix=f"{AGAIN}, or choose one of these",
    )
