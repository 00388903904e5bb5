"""Paint the colour map of a portrait, as TOPOS-Texture does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from PIL import Image

from topos_rt.engines import AUTO, EngineOptions, choose_backend
from topos_rt.errors import BackendError
from topos_rt.faces.portrait import Portrait
from topos_rt.flow.program import flow_program
from topos_rt.flow.sampling import noise
from topos_rt.flow.settings import SamplerSettings
from topos_rt.pictures.image import on_black
from topos_rt.support.closing import Closing
from topos_rt.texture.official.bundle import TextureBundle
from topos_rt.texture.official.loop import GuidedField, run
from topos_rt.texture.official.manifest import LayoutSpec
from topos_rt.texture.official.networks import Branch, TextureNetworks
from topos_rt.texture.official.settings import PaintOptions, evaluations, sampler_settings

# Receives what is being done, the part of it that is done and how many parts there are; it raises to cancel.
Report: TypeAlias = Callable[[str, int, int], object]
PREPARING, PAINTING = "preparing the texture's times", "painting the texture"


@dataclass(frozen=True, eq=False)
class Painted:
    """A colour map, and how it was made."""

    albedo: np.ndarray  # [S,S,3] uint8 sRGB, the first row is v = 1
    facts: Mapping[str, Any] = field(default_factory=dict)  # JSON values


class Painter(Protocol):
    """What makes a colour map of a portrait."""

    @property
    def layout(self) -> LayoutSpec:
        """The topology in whose UVs it paints."""
        ...

    def paint(self, picture: Image.Image, seed: int = 0, report: Report | None = None) -> Painted:
        """Return the map of a whole RGB picture. Raises BackendError where an engine fails."""
        ...

    def close(self) -> None:
        """Free what it holds. May be called again."""
        ...


class EnginePainter(Closing):
    """A `Painter` that runs a texture bundle in inference engines, without PyTorch."""

    def __init__(self, bundle: TextureBundle, networks: TextureNetworks, options: PaintOptions) -> None:
        """Take over networks of a bundle. Raises OptionError for options out of range."""
        self.bundle = bundle
        self.settings: SamplerSettings = sampler_settings(bundle.manifest, options)
        self._networks = networks
        self._black: Any = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        options: PaintOptions | None = None,
        backend: str = AUTO,
        *,
        precision: str | None = None,
        engines: EngineOptions | None = None,
        resident: bool = True,
    ) -> EnginePainter:
        """Open a texture bundle; its engines are loaded when they are first used.

        engines: threads, cache and progress of builds. precision, resident: see `TextureNetworks`. Raises
        BundleError, OptionError; InputError where the backend does not work here.
        """
        bundle = TextureBundle.open(Path(path))
        name = choose_backend(backend)[0]
        networks = TextureNetworks(bundle, name, engines or EngineOptions(), precision, resident)
        return cls(bundle, networks, options or PaintOptions())

    @property
    def layout(self) -> LayoutSpec:
        """See `Painter.layout`."""
        return self.bundle.manifest.layout

    def paint(self, picture: Image.Image, seed: int = 0, report: Report | None = None) -> Painted:
        """See `Painter.paint`. The same seed, backend and options give the same map.

        Seeds are ours: the release draws its noise on the GPU, unseeded.
        """
        manifest, told = self.bundle.manifest, report or _nobody
        start = noise(seed, (1, manifest.picture.tokens, manifest.picture.channels))
        program = flow_program(self.settings)
        told(PREPARING, 0, 1)
        for done, count in self._networks.prepare(evaluation.t for evaluation in program):
            told(PREPARING, done, count)
        field_ = self._field(picture)
        told(PAINTING, 0, len(program))
        latent: Any = start
        for done, latent in enumerate(run(field_, program, start), 1):  # noqa: B007 - the last is decoded
            told(PAINTING, done, len(program))
        albedo = map_pixels(self._networks.decode(latent))
        facts = {
            "size": manifest.picture.side,
            "seed": seed,
            "steps": self.settings.steps,
            "solver": self.settings.solver,
            "guidance": round(1.0 + float(self.settings.guidance or 0), 6),
            "evaluations": evaluations(self.settings),
            "precision": self._networks.precision,
            "weights": manifest.weights.note,
        }
        return Painted(albedo, facts)

    def close(self) -> None:
        """Free what the engines hold."""
        self._networks.close()

    def _field(self, picture: Image.Image) -> GuidedField:
        """Bind the transformer to a portrait, and its negative branch to a black picture."""
        side, make = self.bundle.manifest.picture.reference_side, self._networks.encode
        (text, mask), (negative, negative_mask) = self._networks.texts()
        seen = make(portrait_pixels(picture, side))
        if self._black is None:
            self._black = make(np.full((1, 3, side, side), -1, np.float32))
        return GuidedField(
            self._networks, Branch(text, mask, seen), Branch(negative, negative_mask, self._black)
        )


def portrait(seen: Portrait) -> Image.Image:
    """Return what a painter sees: the whole picture, as in the release, or the box that was asked for."""
    picture = on_black(seen.picture)
    if not isinstance(seen.crop, tuple):
        return picture
    x, y, wide, high = seen.crop
    return picture.crop((x, y, x + wide, y + high))


def portrait_pixels(picture: Image.Image, side: int) -> np.ndarray:
    """Return a whole RGB picture stretched to a square, [1,3,side,side] float32 in -1..1.

    Lanczos, and no crop, as in the release.
    """
    square = (
        picture if picture.size == (side, side) else picture.resize((side, side), Image.Resampling.LANCZOS)
    )
    pixels = np.asarray(square, np.float32) / np.float32(255)
    return np.ascontiguousarray((pixels * 2 - 1).transpose(2, 0, 1))[None]


def map_pixels(picture: np.ndarray) -> np.ndarray:
    """Return a decoded picture [1,3,S,S] in -1..1 as [S,S,3] uint8, rounded down as in the release.

    Raises BackendError for NaN and infinite values.
    """
    if not np.isfinite(picture).all():
        raise BackendError(
            "the VAE of the texture stage",
            got="NaN or infinite pixels",
            expected="finite numbers",
            fix="use the precision bf16 or fp32, for fp16 overflows in this network; check the weights",
        )
    shown = np.clip(picture[0].transpose(1, 2, 0) / 2 + np.float32(0.5), 0, 1)
    pixels: np.ndarray = (shown * 255).astype(np.uint8)
    return pixels


def _nobody(stage: str, done: int, count: int) -> None:
    """Receive a report that nobody asked for."""
