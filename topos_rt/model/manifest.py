"""The contents of a bundle's `manifest.json`: frozen dataclasses, read strictly from JSON and written back.

Every key is required, unknown and repeated keys are errors, and every value is checked when a dataclass is
made, so every `Manifest` is valid. `topos_rt.model.bundle` checks the files against it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from topos_rt.engines.contract import FORMS
from topos_rt.errors import BundleError
from topos_rt.model.evidence import check_evidence
from topos_rt.support.strictjson import AGAIN, describe, parse_object, read_as, refuse

FORMAT = "topos_rt.bundle"
VERSION = 9
_FIRST_VERSION = 4  # the earliest that is still read
# Version -> the keys that came with it, all of which may be null. Manifests of earlier versions lack them.
_CAME_WITH = {
    5: ("landmarks",),
    6: ("atlas",),
    7: ("evidence", "variation", "parts"),
    8: ("residual_scale", "landmark_response"),
    9: ("graphs_at_once",),
}
MANIFEST_NAME = "manifest.json"
WEIGHT_KINDS = ("trained", "official", "random")

# Plain names only: no separator, drive or stream of any operating system gets into a path.
_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST = 1 << 31
_MOST_FLOPS = 1 << 63
_MOST_SCALE = 1e3


@dataclass(frozen=True)
class WeightsInfo:
    """Where the weights come from and what may be done with them."""

    origin: str
    licence: str
    kind: str  # one of WEIGHT_KINDS

    def __post_init__(self) -> None:
        if self.kind not in WEIGHT_KINDS:
            refuse("weights.kind", repr(self.kind), f"one of: {', '.join(WEIGHT_KINDS)}")

    @property
    def note(self) -> str:
        """The line about the weights that every output of the model carries."""
        return "random weights: the shape means nothing" if self.kind == "random" else self.origin


@dataclass(frozen=True)
class GraphFiles:
    """The ONNX file of each graph."""

    image_encoder: str
    dit_modulation: str
    dit_context: str
    dit_step: str
    dit_step_guided: str
    vae_decoder: str
    vae_encoder: str


GRAPHS = tuple(f.name for f in dataclasses.fields(GraphFiles))


@dataclass(frozen=True)
class AtOnceFiles:
    """The ONNX files of graphs that take several heads at once, whose number is the first size."""

    dit_context: str
    dit_step: str
    dit_step_guided: str


GRAPHS_AT_ONCE = tuple(f.name for f in dataclasses.fields(AtOnceFiles))


@dataclass(frozen=True)
class ImageSpec:
    """The sizes of the image encoder: pixels in, condition tokens out."""

    height: int
    width: int
    tokens: int
    channels: int

    def __post_init__(self) -> None:
        _check_sizes("image", self)


@dataclass(frozen=True)
class LatentSpec:
    """The shape [tokens, channels] of the latent."""

    tokens: int
    channels: int

    def __post_init__(self) -> None:
        _check_sizes("latent", self)


@dataclass(frozen=True)
class PointSpec:
    """The number of points that the VAE encoder takes."""

    count: int

    def __post_init__(self) -> None:
        _check_sizes("points", self)


@dataclass(frozen=True)
class FlowSpec:
    """The flow the DiT was trained on, and how it is meant to be sampled.

    guidance: the weight w. temperature: scale of the initial noise; 1 is the flow's own, and less trades
    variety for accuracy, as in flow-matching speech models (Matcha-TTS, arXiv 2309.03199).
    """

    sigma_min: float
    guidance: float
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.sigma_min < 1:
            refuse("flow.sigma_min", self.sigma_min, "0 <= sigma_min < 1")
        if not 0 <= self.guidance <= 1000:
            refuse("flow.guidance", self.guidance, "0 <= guidance <= 1000")
        if not 0 <= self.temperature <= 2:
            refuse("flow.temperature", self.temperature, "0 <= temperature <= 2")


@dataclass(frozen=True)
class FrameSpec:
    """The axes and the size of the networks' sphere-normalised frame."""

    up: str  # "+y", "-z" …
    forward: str
    radius_m: float  # metres of one network unit

    def __post_init__(self) -> None:
        for name, axis in (("up", self.up), ("forward", self.forward)):
            if not re.fullmatch(r"[+-][xyz]", axis):
                refuse(f"frame.{name}", repr(axis), "a sign and an axis such as '+y'")
        if self.up[1] == self.forward[1]:
            refuse("frame.forward", repr(self.forward), f"an axis perpendicular to up, {self.up!r}")
        if not 0 < self.radius_m < math.inf:
            refuse("frame.radius_m", self.radius_m, "a finite number > 0")

    @property
    def rotation(self) -> np.ndarray:
        """The right-handed rotation [3,3] float32 to +Y up and +Z forward: `head = rotation @ network`."""
        up, forward = (
            float(axis[0] + "1") * np.eye(3)["xyz".index(axis[1])] for axis in (self.up, self.forward)
        )
        return np.stack([np.cross(up, forward), up, forward]).astype(np.float32)


@dataclass(frozen=True)
class FileInfo:
    """The size and SHA-256 (64 lower-case hex digits) of one file."""

    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if self.bytes < 0:
            refuse("files: bytes", self.bytes, "an integer >= 0")
        if not _SHA256.fullmatch(self.sha256):
            refuse("files: sha256", repr(self.sha256[:80]), "64 lower-case hex digits")


@dataclass(frozen=True)
class Manifest:
    """The whole of `manifest.json`, version 9. Raises BundleError for invalid values.

    All file names are relative to the bundle, with "/" between parts. `weight_files` and `files` are empty
    only until `topos_rt.model.bundle.write_manifest` fills them.
    """

    name: str
    description: str
    weights: WeightsInfo
    graphs: GraphFiles
    graphs_fp16: GraphFiles | None  # the same with FP16 operands, for engines that keep the graphs' types
    graphs_at_once: Mapping[str, AtOnceFiles] | None  # one of FORMS -> the graphs
    topology: str
    hierarchy: str
    rig: str | None
    landmarks: str | None  # where the landmarks of the face mesh lie: `topos_rt.head.landmark_map`
    atlas: str | None  # how textures lie on the heads, and their base material: `topos_rt.head.atlas`
    # What the image encoder takes besides the pixels: names of `topos_rt.model.evidence`, in its order.
    evidence: tuple[str, ...] | None
    # Not null: the image encoder has a second output, `estimate` [1,N,D], and the flow makes the residual
    # (latent - estimate) / residual_scale in place of the latent.
    residual_scale: float | None
    landmark_response: str | None  # how latents move landmarks: `topos_rt.model.landmark_response`
    variation: str | None  # which directions of the latent pictures leave open: `topos_rt.flow.variation`
    parts: str | None  # teeth and lashes beside the topology: `topos_rt.head.part_kit`
    image: ImageSpec
    latent: LatentSpec
    points: PointSpec
    flow: FlowSpec
    frame: FrameSpec
    # Graph -> floating-point operations of one run in matrix products, convolutions and attention, where a
    # multiply-add counts as two. The export counts them, since the runtime has no ONNX parser.
    flops: Mapping[str, int]
    # ONNX file -> the safetensors file of its weights; graphs that contain their weights are left out.
    weight_files: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileInfo] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= 100:
            refuse("name", f"{len(self.name)} characters", "1 to 100")
        if set(self.flops) != set(GRAPHS):
            wanted = f"one number for each of: {', '.join(GRAPHS)}"
            refuse("flops", ", ".join(self.flops) or "nothing", wanted)
        for graph, count in self.flops.items():
            if not 0 <= count < _MOST_FLOPS:
                refuse(f"flops.{graph}", describe(count), "a whole number >= 0")
        for form in self.graphs_at_once or ():
            if form not in FORMS:
                refuse("graphs_at_once", repr(form[:80]), f"only: {', '.join(FORMS)}")
        if self.evidence is not None:
            check_evidence(self.evidence)
        if self.residual_scale is not None and not 0 < self.residual_scale <= _MOST_SCALE:
            refuse("residual_scale", self.residual_scale, f"null, or 0 < residual_scale <= {_MOST_SCALE:g}")
        for name in (*self.references(), *self.files):
            _check_name(name)

    def graph_files(self) -> tuple[str, ...]:
        """Return the names of all ONNX files: in FP32, in FP16 and of several heads, where there are any."""
        forms = (self.graphs, self.graphs_fp16, *(self.graphs_at_once or {}).values())
        return tuple(name for graphs in forms if graphs for name in dataclasses.astuple(graphs))

    def references(self) -> Iterator[str]:
        """Yield the names of the files that the manifest assigns a role to."""
        yield from self.graph_files()
        yield from self.weight_files.values()
        yield from (self.topology, self.hierarchy)
        optional = (self.rig, self.landmarks, self.atlas, self.landmark_response, self.variation, self.parts)
        yield from (name for name in optional if name is not None)

    @classmethod
    def from_json(cls, data: str | bytes) -> Manifest:
        """Read JSON text of this version, or of an older one, in which later keys are taken for null.

        Raises BundleError naming the key that is unknown, missing, repeated or of the wrong type.
        """
        tree = parse_object(data)
        # The version comes first: a manifest of another version may have other keys.
        if (found := tree.pop("format", None)) != FORMAT:
            refuse("format", describe(found), repr(FORMAT))
        version = tree.pop("version", None)
        if type(version) is not int or not _FIRST_VERSION <= version <= VERSION:
            fix = "upgrade topos-rt" if isinstance(version, int) and version > VERSION else AGAIN
            raise BundleError("manifest key 'version'", got=describe(version), expected=VERSION, fix=fix)
        for key in (key for came, keys in _CAME_WITH.items() if came > version for key in keys):
            if key in tree:
                refuse(key, "a key of a later version", f"none in version {version}")
            tree[key] = None
        manifest = read_as(cls, tree)
        assert isinstance(manifest, Manifest)
        return manifest

    def to_json(self) -> str:
        """Return JSON text that `from_json` reads back; equal manifests give equal text."""
        tree: dict[str, Any] = {"format": FORMAT, "version": VERSION} | dataclasses.asdict(self)
        tree["files"] = dict(sorted(tree["files"].items()))
        return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _check_name(name: str) -> None:
    parts = name.split("/")
    if len(name) > 200 or not all(_PART.fullmatch(part) for part in parts):
        raise BundleError(
            "file name in manifest.json",
            got=repr(name[:220]),
            fix=AGAIN,
            expected="a relative path inside the bundle, of letters, digits, '_', '-' and '.'",
        )
    if name == MANIFEST_NAME:
        raise BundleError(
            "file name in manifest.json", got=repr(name), expected="only other files", fix=AGAIN
        )


def _check_sizes(where: str, spec: ImageSpec | LatentSpec | PointSpec) -> None:
    for key, value in dataclasses.asdict(spec).items():
        if not 0 < value < _LARGEST:
            refuse(f"{where}.{key}", describe(value), "an integer > 0")
