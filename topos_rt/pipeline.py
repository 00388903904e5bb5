"""The way from a portrait, or a point cloud, to a head. Only this module knows the order of the stages."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from topos_rt.engines import AUTO, EngineOptions, choose_backend
from topos_rt.engines.contract import BuildCallback, Value
from topos_rt.errors import ScanWarning
from topos_rt.flow.sampling import clean_estimate, guided, noise, sample
from topos_rt.flow.settings import DEFAULT_PRESET, SamplerSettings, check_seed, resolve
from topos_rt.head.mesh import HeadMesh
from topos_rt.jobs import Images, Job, Options, Sampling, Seeds, jobs, preview_steps
from topos_rt.model.bundle import Bundle
from topos_rt.model.frame import place, place_rig
from topos_rt.model.networks import DEFAULT_DECODER, Networks
from topos_rt.pictures.image import MIN_SIDE, ImageSource, load_image
from topos_rt.scan.fit import DEFAULT_PASSES, Fit, check_passes
from topos_rt.scan.points import MIN_POINTS
from topos_rt.support.arrays import Array
from topos_rt.support.closing import Closing
from topos_rt.support.progress import Callback, Progress, Tracker
from topos_rt.support.similarity import Similarity

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["HeadPipeline", "Progress", "generate"]


class HeadPipeline(Closing):
    """A loaded model, which turns portraits and scans into heads.

    A pipeline may be used from several threads: each call has its own state, and engine runs take turns.
    Heads are float32, in metres, +Y up, facing +Z. The same seed, model, backend and settings give the same
    head.
    """

    def __init__(self, bundle: Bundle, networks: Networks, backend: str = "custom", reason: str = "") -> None:
        """Take over networks that `open` or the caller loaded. `backend` goes into the metadata of heads."""
        self.bundle = bundle
        self.backend = backend
        self.backend_reason = reason
        self._networks = networks

    @classmethod
    def open(
        cls,
        model: str | os.PathLike[str] | Bundle = "mini",
        backend: str = AUTO,
        threads: int | None = None,
        *,
        precision: str | None = None,
        cache: str | os.PathLike[str] | None = None,
        progress: BuildCallback | None = None,
        decoder: str = DEFAULT_DECODER,
        cuda_graph: bool = False,
    ) -> HeadPipeline:
        """Load a model.

        Args:
            model: "mini", the directory of a bundle, or a `Bundle`.
            backend: "auto" takes the best one that works here; the pipeline's `backend_reason` says why.
            threads: the number of CPU threads; None uses every usable core.
            precision: "fp16" or "fp32", where a backend offers both; None takes FP16 where the model has it.
            cache: the directory that keeps built engines; None is the user's cache directory.
            progress: receives the graph and the share done, 0 to 1, while an engine is built. Returning False
                cancels the build.
            decoder: what decodes latents to vertices: "engine" is the backend's engine, "kernels" our CUDA
                kernels in FP16, "numpy" their NumPy twins; "auto" takes the kernels where they are available,
                else the engine.
            cuda_graph: on a GPU, make a head from the image's tokens by launching one CUDA graph, which is
                recorded at the first use of its settings. `stream`, and calls with `stepwise`, still launch
                each step on its own.

        Raises:
            BundleError: there is no such bundle, it fails verification, its graphs are not what its manifest
                says, or it lacks what the precision or decoder needs.
            OptionError: an unknown backend, precision or decoder, a number of threads out of range, or a CUDA
                graph where there is no GPU.
            InputError: the backend asked for does not work here (MissingExtraError: it is not installed).
            BackendError: no backend works here, or this one fails.
            Cancelled: `progress` returned False.
        """
        kept = None if cache is None else Path(cache)
        options = EngineOptions(threads, precision, kept, progress=progress)
        name, reason = choose_backend(backend)
        bundle = model if isinstance(model, Bundle) else Bundle.open(model)
        return cls(bundle, Networks.open(bundle, name, options, decoder, cuda_graph), name, reason)

    @staticmethod
    def requirements(
        model: str | os.PathLike[str] | Bundle = "mini",
        backend: str = AUTO,
        *,
        precision: str | None = None,
        cache: str | os.PathLike[str] | None = None,
        progress: BuildCallback | None = None,
        decoder: str = DEFAULT_DECODER,
    ) -> dict[str, dict[str, int]]:
        """Return the bytes on the GPU by graph and kind, before anything is loaded there.

        The kinds are "weights", "activations" (all graphs share one arena, sized for the largest),
        "inputs_outputs" and, where our kernels decode, "buffers". A CPU backend needs none. Engines that are
        not built yet are built. Arguments and errors are those of `open`.
        """
        options = EngineOptions(None, precision, None if cache is None else Path(cache), progress=progress)
        bundle = model if isinstance(model, Bundle) else Bundle.open(model)
        return Networks.requirements(bundle, choose_backend(backend)[0], options, decoder)

    @overload
    def __call__(self, image: ImageSource, *, seed: int = 0, **options: Unpack[Options]) -> HeadMesh: ...
    @overload
    def __call__(
        self, image: Images, *, seed: int | Seeds = 0, **options: Unpack[Options]
    ) -> list[HeadMesh]: ...
    @overload
    def __call__(self, image: ImageSource, *, seed: Seeds, **options: Unpack[Options]) -> list[HeadMesh]: ...

    def __call__(
        self,
        image: ImageSource | Images,
        *,
        seed: int | Seeds = 0,
        callback: Callback | None = None,
        stepwise: bool = False,
        **sampling: Unpack[Sampling],
    ) -> HeadMesh | list[HeadMesh]:
        """Turn a portrait into a head.

        Args:
            image: anything that `load_image` takes, or a list of such.
            seed: 0 <= seed < 2**64, or a list: one seed for each image, or several for one image.
            callback: receives the `Progress`. Returning False cancels; what it raises propagates.
            stepwise: with a CUDA graph, launch each step on its own, so that the callback is called, and may
                cancel, after each step; otherwise all steps are one stage. Heads may differ in the last bits.
                Without a CUDA graph this changes nothing.
            preset: "reference" (as released), "balanced" (the default) or "fast"; the arguments below replace
                its values, and None keeps them.
            steps, solver: the number of steps, and one of `topos_rt.SOLVERS`.
            shift: a value above 1 spends more steps near the noise.
            times: steps + 1 times that fall from 1 to 0, in place of steps and shift.
            guidance: w in (1 + w) v_cond - w v_uncond. None is the model's own; 0 turns guidance off, which
                halves the work.
            interval: (lo, hi), the times, from 0 to 1, at which guidance acts; elsewhere the work is halved.
            temperature: scale of the initial noise, 0 to 2; None is the model's own. 1 samples as trained;
                less makes the heads of different seeds more alike, and nearer to the most likely one.
            reuse: compute v_cond - v_uncond only at every reuse-th guided evaluation; the others take half
                the work.

        Returns:
            A head, or a list of heads where a list was given, each equal to that of a single call. `timings`
            holds the seconds of each stage done for that head, and their "total".

        Raises:
            ImageError, OptionError: the image or an option cannot be used.
            Cancelled: the callback returned False.
            BackendError: an engine failed.
        """
        work, single = jobs(image, seed)
        heads = list(self._each(work, callback, stepwise, sampling))
        return heads[0] if single else heads

    def each(
        self,
        image: ImageSource | Images,
        *,
        seed: int | Seeds = 0,
        callback: Callback | None = None,
        stepwise: bool = False,
        **sampling: Unpack[Sampling],
    ) -> Iterator[HeadMesh]:
        """Yield the heads of a call one by one, as they are made, so that none is kept until the last.

        Arguments and errors are those of a call. Options are checked at once; an error ends the iteration.
        No lock is held between heads: the pipeline may be used, and the iterator dropped, at any time.
        """
        return self._each(jobs(image, seed)[0], callback, stepwise, sampling)

    def stream(
        self,
        image: ImageSource,
        *,
        seed: int = 0,
        previews: Sequence[int] | None = None,
        callback: Callback | None = None,
        **sampling: Unpack[Sampling],
    ) -> Iterator[HeadMesh]:
        """Yield a decoded estimate of the head after each sampling step; the last is the head of a call.

        `previews` lists the steps, 1 to steps, after which an estimate is decoded; None means every step.
        Estimates have "preview_step" in their metadata and no rig. Each step is launched on its own. No lock
        is held between heads: the pipeline may be used, and the iterator dropped, at any time. Arguments and
        errors are those of a call; options are checked at once.
        """
        settings, metadata = self._settle(sampling)
        job, tracker = (image, [check_seed(seed)]), Tracker(callback, settings.steps)
        chosen = preview_steps(previews, settings.steps)
        return self._heads(job, settings, metadata, iter([tracker]), chosen)

    def retopologize(
        self,
        points: np.ndarray,
        normals: np.ndarray,
        *,
        seed: int | None = None,
        align: bool = False,
        passes: int = DEFAULT_PASSES,
        callback: Callback | None = None,
    ) -> HeadMesh:
        """Lay the model's topology over a scanned or modelled head, in its place and size.

        Args:
            points: [P,3] on the head's surface, metres, +Y up, facing +Z, P >= 16; ten thousand or more are
                best. `topos_rt.read_scan` reads them from files.
            normals: [P,3], outward, of any length but zero.
            seed: None takes the mean of the VAE's posterior; a seed takes a sample, as the release does.
            align: find the orientation first, where it is unknown. The head keeps the orientation of the
                points; "rotation" in its metadata, [3,3], turns an upright head that faces +Z into it.
            passes: 1 encodes the points as they are; each further pass lays the head over the scan and
                encodes the two combined (see `topos_rt.scan.fit`). More than 1, and align, need SciPy.
            callback: as in a call; called before every stage.

        Raises:
            MeshInputError: the points or normals cannot be used or, unless passes is 1, are not a head.
            OptionError: a seed or number of passes out of range.
            MissingExtraError: SciPy is not installed.
            Cancelled: the callback returned False.
            BackendError: an engine failed.

        Warns:
            ScanWarning: without align, the scan would fit a head much better if it were turned.
        """
        tracker, passes = Tracker(callback), check_passes(passes)
        seed = None if seed is None else check_seed(seed)
        fit = Fit(self.bundle, self._networks, tracker)
        latent, logvar, placement = fit.run(points, normals, passes, bool(align))
        for warning in fit.warnings:
            warnings.warn(warning, ScanWarning, stacklevel=2)
        if seed is not None:
            latent += np.exp(logvar / 2) * noise(seed, latent.shape)
        about = self._origin() | {"seed": seed, "passes": passes, "aligned": bool(align)}
        if align:
            about["rotation"] = placement.rotation.tolist()
        return self._decode(latent, tracker, about, placement)

    def warm_up(self, **sampling: Unpack[Sampling]) -> None:
        """Run every graph once, so that no later call pays for first-time work.

        A CUDA graph is recorded for each way to sample: pass the sampling arguments of the later calls.

        Raises OptionError, BackendError.
        """
        settings, _ = self._settle(sampling)
        grey = np.full((MIN_SIDE, MIN_SIDE, 3), 128, np.uint8)
        # One evaluation has guidance and one has none, so that both graphs of a step run.
        self(grey, stepwise=True, preset="reference", steps=2, guidance=1.0, reuse=2)
        points = noise(0, (MIN_POINTS, 3))
        self.retopologize(points, points, passes=1)
        if self._networks.records:
            next(self._heads((grey, [0]), settings, {}, iter([Tracker()]), one_launch=True))

    def close(self) -> None:
        """Free what the engines hold. Later calls raise InputError."""
        self._networks.close()

    def _each(
        self, work: list[Job], callback: Callback | None, stepwise: bool, sampling: Sampling
    ) -> Iterator[HeadMesh]:
        settings, metadata = self._settle(sampling)
        items = sum(len(seeds) for _, seeds in work)
        trackers = (Tracker(callback, settings.steps, item, items) for item in range(items))
        one_launch = self._networks.records and not stepwise
        return (
            head
            for job in work
            for head in self._heads(job, settings, metadata, trackers, one_launch=one_launch)
        )

    def _heads(
        self,
        job: Job,
        settings: SamplerSettings,
        metadata: dict[str, Any],
        trackers: Iterator[Tracker],
        previews: Collection[int] = (),
        one_launch: bool = False,
    ) -> Iterator[HeadMesh]:
        """Yield the head of each seed of one image, preceded by its estimates after the steps in `previews`.

        one_launch: make each head with one CUDA graph, without estimates.
        """
        (source, seeds), tokens, context = job, None, None
        manifest = self.bundle.manifest
        for seed, tracker in zip(seeds, trackers, strict=False):
            tokens = self._tokens(source, tracker) if tokens is None else tokens
            start = noise(seed, (1, manifest.latent.tokens, manifest.latent.channels))
            start *= np.float32(1.0 if settings.temperature is None else settings.temperature)
            about = metadata | {"seed": seed}
            if one_launch:
                with tracker.all_steps("flow_graph"):
                    vertices = self._networks.flow(tokens, start, settings)
                yield self._head(vertices, tracker, about)
                continue
            if context is None:
                with tracker.stage("dit_context"):
                    context = self._networks.context(tokens)
            velocity = guided(self._networks.field(context), settings)
            for step in tracker.each("dit_step", sample(velocity, start, settings)):
                number = step.index + 1
                if number == settings.steps:
                    yield self._decode(step.x_next, tracker, about)
                elif number in previews:
                    estimate = clean_estimate(step, manifest.flow.sigma_min)
                    yield self._decode(estimate, tracker, about | {"preview_step": number})

    def _tokens(self, source: ImageSource, tracker: Tracker) -> Value:
        spec = self.bundle.manifest.image
        with tracker.stage("image"):
            pixels = load_image(source, spec.height, spec.width)
        with tracker.stage("image_encoder"):
            return self._networks.encode_image(pixels)

    def _decode(
        self, latent: Array, tracker: Tracker, metadata: dict[str, Any], placement: Similarity | None = None
    ) -> HeadMesh:
        with tracker.stage("vae_decoder"):
            vertices = self._networks.decode(latent)
        return self._head(vertices, tracker, metadata, placement)

    def _head(
        self, vertices: Array, tracker: Tracker, metadata: dict[str, Any], placement: Similarity | None = None
    ) -> HeadMesh:
        manifest, rig = self.bundle.manifest, None
        head = place(vertices, manifest.frame, self.bundle.topology, placement)
        # Nobody animates an estimate, so the time is better spent on the next step.
        if self.bundle.rig is not None and "preview_step" not in metadata:
            with tracker.stage("rig"):
                rig = place_rig(self.bundle.rig, head.positions, manifest.frame, placement)
        timings = tracker.timings | {"total": sum(tracker.timings.values())}
        return dataclasses.replace(head, rig=rig, metadata=metadata, timings=timings)

    def _settle(self, sampling: Sampling) -> tuple[SamplerSettings, dict[str, Any]]:
        settings = resolve(**sampling)
        flow = self.bundle.manifest.flow
        settings = dataclasses.replace(
            settings,
            guidance=flow.guidance if settings.guidance is None else settings.guidance,
            temperature=flow.temperature if settings.temperature is None else settings.temperature,
        )
        named = {"preset": sampling.get("preset", DEFAULT_PRESET)}
        return settings, self._origin() | named | dataclasses.asdict(settings)

    def _origin(self) -> dict[str, Any]:
        manifest = self.bundle.manifest
        return {"model": manifest.name, "weights": manifest.weights.note, "backend": self.backend}


def generate(
    image: ImageSource,
    *,
    seed: int = 0,
    model: str | os.PathLike[str] | Bundle = "mini",
    backend: str = AUTO,
    threads: int | None = None,
    precision: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    **options: Unpack[Options],
) -> HeadMesh:
    """Load a model and turn one portrait into one head; a `HeadPipeline` loads it once for many calls.

    model, backend, threads, precision and cache are those of `HeadPipeline.open`; all other arguments are
    those of a pipeline's call. Raises the errors of both.
    """
    with HeadPipeline.open(model, backend, threads, precision=precision, cache=cache) as pipe:
        return pipe(image, seed=seed, **options)
