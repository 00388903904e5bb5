"""Open what paints the official texture: engines for a texture bundle, PyTorch for the released weights."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from topos_rt.engines import AUTO, EngineOptions, choose_backend
from topos_rt.engines.contract import BuildCallback
from topos_rt.errors import InputError, OptionError
from topos_rt.flow.settings import MAX_STEPS
from topos_rt.support.files import refuse_url
from topos_rt.texture.official.bundle import TextureBundle
from topos_rt.texture.official.cost import Cost, bundle_cost, release_cost
from topos_rt.texture.official.manifest import MANIFEST_NAME, PRECISIONS
from topos_rt.texture.official.networks import settled_precision
from topos_rt.texture.official.outside import OutsidePainter, Release
from topos_rt.texture.official.painter import EnginePainter
from topos_rt.texture.official.settings import PaintOptions, sampler_settings

RELEASED = "model_index.json"  # what the directory of the base model has


@dataclass(frozen=True)
class PaintEngines:
    """What computes. Raises OptionError.

    backend, threads, cache, progress: of a texture bundle's engines, as for `HeadPipeline.open`. precision:
    one of `manifest.PRECISIONS`; None is the bundle's fastest on a GPU, and FP32 on a CPU. resident: False
    loads each section of the transformer for every evaluation anew. device: "cuda" or "cpu", of PyTorch.
    """

    backend: str = AUTO
    precision: str | None = None
    resident: bool = True
    threads: int | None = None
    cache: Path | None = None
    progress: BuildCallback | None = None
    device: str = "cuda"

    def __post_init__(self) -> None:
        if self.precision is not None and self.precision not in PRECISIONS:
            raise OptionError(
                "precision of the texture",
                got=repr(self.precision),
                expected=f"one of: {', '.join(PRECISIONS)}",
            )


@dataclass(frozen=True)
class PaintSource:
    """The user's copies: a texture bundle, or the base model with its LoRA and prompts. Raises InputError.

    prompts: the release's script or a JSON file, for the text encoder. embeddings: stored prompts instead.
    """

    official: Path
    lora: Path | None = None
    prompts: Path | None = None
    embeddings: Path | None = None

    def __post_init__(self) -> None:
        if not (self.is_bundle or (self.official / RELEASED).is_file()):
            there = self.official.is_dir()
            raise InputError(
                f"official texture {self.official}",
                got="a directory of something else" if there else "no such directory",
                expected=f"a texture bundle ({MANIFEST_NAME}) or the base model ({RELEASED})",
                fix="download Qwen-Image-Edit-2511, or make a bundle with python -m export texture",
            )
        if self.is_bundle and (self.lora or self.prompts or self.embeddings):
            raise OptionError(
                "official texture",
                got="a texture bundle, which has its LoRA and prompts inside, and others",
                expected="the bundle alone",
                fix="drop --lora, --prompts and --embeddings",
            )

    @property
    def is_bundle(self) -> bool:
        """Whether engines can run it."""
        return (self.official / MANIFEST_NAME).is_file()


def open_painter(
    official: str | os.PathLike[str] | PaintSource,
    options: PaintOptions | None = None,
    engines: PaintEngines | None = None,
) -> EnginePainter | OutsidePainter:
    """Open what paints the official texture; weights are loaded for the first portrait.

    official: the directory of a texture bundle, or a `PaintSource`. Raises InputError, BundleError,
    OptionError; MissingExtraError where PyTorch is needed and cannot be had.
    """
    source = _source(official)
    options, engines = options or PaintOptions(), engines or PaintEngines()
    if not source.is_bundle:
        return OutsidePainter(_release(source, options, engines))
    loading = EngineOptions(engines.threads, cache=engines.cache, progress=engines.progress)
    return EnginePainter.open(
        source.official,
        options,
        engines.backend,
        precision=engines.precision,
        engines=loading,
        resident=engines.resident,
    )


def requirements(
    official: str | os.PathLike[str] | PaintSource,
    options: PaintOptions | None = None,
    engines: PaintEngines | None = None,
) -> Cost:
    """Return what a map costs, before anything is loaded. Takes and raises what `open_painter` does."""
    source = _source(official)
    options, engines = options or PaintOptions(), engines or PaintEngines()
    if not source.is_bundle:
        release = _release(source, options, engines)
        return release_cost(source.official, release.steps, release.guidance > 1, source.prompts is not None)
    bundle = TextureBundle.open(source.official, verify=False)
    precision = settled_precision(bundle, choose_backend(engines.backend)[0], engines.precision)
    return bundle_cost(
        bundle.manifest, sampler_settings(bundle.manifest, options), precision, engines.resident
    )


def _source(official: str | os.PathLike[str] | PaintSource) -> PaintSource:
    if isinstance(official, PaintSource):
        return official
    if isinstance(official, str):
        refuse_url(official, f"cannot use {official}")
    return PaintSource(Path(official))


def _release(source: PaintSource, options: PaintOptions, engines: PaintEngines) -> Release:
    """Return what PyTorch is asked for. Raises OptionError for what only engines can do."""
    plain = PaintOptions(options.steps, guidance=options.guidance)
    if options != plain:
        raise OptionError(
            "official texture in PyTorch",
            got="another solver, or guidance in an interval or reused",
            expected="steps and guidance alone: it is the release's own loop",
            fix="make a texture bundle, whose loop has them: python -m export texture",
        )
    steps = 50 if options.steps is None else options.steps
    guidance = 1.2 if options.guidance is None else options.guidance
    if type(steps) is not int or not 2 <= steps <= MAX_STEPS:
        raise OptionError("steps of the texture", got=repr(steps)[:40], expected=f"2 to {MAX_STEPS}")
    return Release(
        source.official,
        source.lora,
        source.prompts,
        source.embeddings,
        steps,
        float(guidance),
        device=engines.device,
        dtype="fp32" if engines.precision == "fp32" else "bf16",
    )
