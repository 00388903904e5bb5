"""The way from a portrait, or a point cloud, to a head. Only this module knows the order of the stages."""

from __future__ import annotations

import dataclasses
import itertools
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, overload

import numpy as np

from topos_rt.engines import AUTO, EngineOptions, choose_backend
from topos_rt.engines import backend as find_backend
from topos_rt.engines.contract import BuildCallback
from topos_rt.errors import InputError, OptionError, ScanWarning, ToposError
from topos_rt.faces.face import Face
from topos_rt.faces.finder import MOST_FACES, FaceFinder
from topos_rt.faces.networks import FaceNetworks, networks_for
from topos_rt.faces.portrait import ALL, WHOLE, FaceChoice
from topos_rt.faces.pull import check_pull
from topos_rt.flow.sampling import noise
from topos_rt.flow.settings import DEFAULT_PRESET, SamplerSettings, check_seed, resolve
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.rig_fit import prepare_fit
from topos_rt.jobs import (
    BackendName,
    DecoderName,
    Images,
    Job,
    Loading,
    Options,
    PrecisionName,
    Running,
    Sampling,
    Seeds,
    Wanted,
    check_loading,
    groups,
    jobs,
    preview_steps,
    split,
)
from topos_rt.model.bundle import Bundle
from topos_rt.model.decoders import DEFAULT_DECODER
from topos_rt.model.networks import Networks
from topos_rt.pictures.sources import MIN_SIDE, ImageSource
from topos_rt.scan.settings import DEFAULT_PASSES, MIN_POINTS, check_passes
from topos_rt.stages import Look, Piece, Sitting, Stages
from topos_rt.support.closing import Closing
from topos_rt.support.meanwhile import meanwhile
from topos_rt.support.progress import Callback, Progress, Tracker
from topos_rt.texture.stage import TextureChoice

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from topos_rt.texture.official.painter import Painter

# What may fail in the preparation of the first head: also what a limit on memory or threads makes of it.
_FAILURES = (ToposError, MemoryError, OSError, RuntimeError)

__all__ = ["HeadPipeline", "Progress", "generate"]


class HeadPipeline(Closing):
    """A loaded model, which turns portraits and scans into heads.

    A pipeline may be used from several threads: each call has its own state, and engine runs take turns.
    Heads are float32, in metres, +Y up, facing +Z. The same seed, model, backend and settings give the same
    head.
    """

    def __init__(
        self,
        bundle: Bundle,
        networks: Networks,
        backend: str = "custom",
        reason: str = "",
        finder: FaceFinder | None = None,
    ) -> None:
        """Take over networks that `open` or the caller loaded. `backend` goes into the metadata of heads.

        finder: finds the faces of pictures; without one, pictures are taken whole, as with crop="none".
        """
        self.bundle = bundle
        self.backend = backend
        self.backend_reason = reason
        self._networks = networks
        self._finder = finder
        self._stages = Stages(bundle, networks, finder)

    def paint_with(self, painter: Painter | None) -> None:
        """Let a painter, of `topos_rt.open_painter`, make texture "official"; the caller closes it."""
        self._stages = dataclasses.replace(self._stages, painter=painter)

    @classmethod
    def open(
        cls,
        model: str | os.PathLike[str] | Bundle = "mini",
        backend: BackendName = AUTO,
        threads: int | None = None,
        *,
        precision: PrecisionName | None = None,
        cache: str | os.PathLike[str] | None = None,
        progress: BuildCallback | None = None,
        **loading: Unpack[Loading],
    ) -> HeadPipeline:
        """Load a model.

        Args:
            model: "mini", the directory of a bundle, or a `Bundle`.
            backend: "auto" takes the best one that works here; the pipeline's `backend_reason` says why.
            threads: the number of CPU threads; None uses every usable core.
            precision: one of "fp16", "fp32", "int8" and "fp8" that the backend offers, see docs/backends.md;
                None takes FP16 where the model has it.
            cache: the directory that keeps built engines; None is the user's cache directory.
            progress: receives the graph and the share done, 0 to 1, while an engine is built. Returning False
                cancels the build.
            decoder: what decodes latents to vertices: "engine" is the backend's engine, "kernels" our CUDA
                kernels in FP16, "native" our compiled passes on the CPU, "numpy" the kernels' NumPy twins;
                "auto" takes the kernels or the passes where they are available and fast, else the engine.
            cuda_graph: on a GPU, make a head from the image's tokens by launching one CUDA graph, which is
                recorded at the first use of its settings. `stream`, and calls with `stepwise`, still launch
                each step on its own.
            batch: how many heads of a call may go through the networks at once: 1, 2, 4 or 8. It stays 1 on
                a CPU, which gains nothing from more, in 8 bits, and for models without graphs for it; the
                pipeline's `batch` says what it is. docs/backends.md says what equal heads means then.

        Raises:
            BundleError: there is no such bundle, it fails verification, its graphs are not what its manifest
                says, or it lacks what the precision or decoder needs.
            OptionError: an unknown backend, precision or decoder, a number of threads or a batch out of
                range, or a CUDA graph where there is no GPU.
            InputError: the backend asked for does not work here (MissingExtraError: it is not installed).
            BackendError: no backend works here, or this one fails.
            Cancelled: `progress` returned False.
        """
        check_loading(loading)
        kept = None if cache is None else Path(cache)
        options = EngineOptions(threads, precision, kept, progress=progress)
        name, reason = choose_backend(backend)
        bundle = model if isinstance(model, Bundle) else Bundle.open(model)
        faces = FaceNetworks(name, options)
        with meanwhile(lambda: _prepare(bundle, name, faces), options.threads):
            # In no variable: this frame may live on, in the errors of backends that do not work here.
            return cls(
                bundle, Networks.open(bundle, name, options, **loading), name, reason, FaceFinder(faces)
            )

    @staticmethod
    def requirements(
        model: str | os.PathLike[str] | Bundle = "mini",
        backend: BackendName = AUTO,
        *,
        precision: PrecisionName | None = None,
        cache: str | os.PathLike[str] | None = None,
        progress: BuildCallback | None = None,
        decoder: DecoderName = DEFAULT_DECODER,
        batch: int = 1,
    ) -> dict[str, dict[str, int]]:
        """Return the bytes on the GPU by graph and kind, before anything is loaded there.

        The kinds are "weights", "activations" (all graphs share one arena, sized for the largest),
        "inputs_outputs" and, where our kernels decode, "buffers". A CPU backend needs none. Engines that are
        not built yet are built. Arguments and errors are those of `open`.
        """
        options = EngineOptions(None, precision, None if cache is None else Path(cache), progress=progress)
        bundle = model if isinstance(model, Bundle) else Bundle.open(model)
        name = choose_backend(backend)[0]
        needs = Networks.requirements(bundle, name, options, decoder, batch)
        networks = networks_for(bundle.manifest.evidence)
        return needs | FaceNetworks(name, options).requirements(networks)

    @property
    def batch(self) -> int:
        """How many heads of a call go through the networks at once, at most."""
        return self._networks.numbers[0]

    @overload
    def __call__(self, image: ImageSource, *, seed: int = 0, **options: Unpack[Options]) -> HeadMesh: ...
    @overload
    def __call__(
        self, image: Images, *, seed: int | Seeds = 0, **options: Unpack[Options]
    ) -> list[HeadMesh]: ...
    @overload
    def __call__(self, image: ImageSource, *, seed: Seeds, **options: Unpack[Options]) -> list[HeadMesh]: ...

    def __call__(
        self, image: ImageSource | Images, *, seed: int | Seeds = 0, **options: Unpack[Options]
    ) -> HeadMesh | list[HeadMesh]:
        """Turn a portrait into a head.

        Args:
            image: anything that `load_image` takes, or a list of such.
            seed: 0 <= seed < 2**64, or a list: one seed for each image, or several for one image.
            face: "largest" (the default), "all", or one of the faces that `find_faces` returns: a `Face`, or
                its number from 0.
            crop: "auto" (the default) cuts out the head, with the eyes level; "none" takes the whole picture,
                as the TOPOS release does; (x, y, width, height) takes that part of the upright picture.
            face_check: False also takes pictures without a face; see `FaceChoice`.
            callback: receives the `Progress`. Returning False, or anything else that is false but
                None, cancels; what it raises propagates.
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
            landmark_pull: how much the landmarks of the face count while sampling, 0 to 100: 0, the default,
                is off; 1 counts them as their errors allow. The model has to have a landmark response.
            reuse: compute v_cond - v_uncond only at every reuse-th guided evaluation; the others take half
                the work.

        Returns:
            A head, or a list of heads where a list was given or all faces were asked for, each equal to that
            of a single call. Heads of one image come face by face, the largest first. `timings` holds the
            seconds of each stage done for that head, and their "total"; "face", "crop" and "warnings" in the
            metadata say what was seen.

        Raises:
            ImageError, OptionError: the image or an option cannot be used.
            FaceError: there is no face in the image, or it looks too far sideways.
            Cancelled: the callback returned False.
            BackendError: an engine failed.
        """
        work, single = jobs(image, seed)
        heads = list(self._each(work, *split(options)))
        return heads[0] if single and options.get("face") != ALL else heads

    def each(
        self, image: ImageSource | Images, *, seed: int | Seeds = 0, **options: Unpack[Options]
    ) -> Iterator[HeadMesh]:
        """Yield the heads of a call one by one, as they are made, so that none is kept until the last.

        Arguments and errors are those of a call. Options are checked at once; an error ends the iteration.
        No lock is held between heads: the pipeline may be used, and the iterator dropped, at any time.
        """
        return self._each(jobs(image, seed)[0], *split(options))

    def stream(
        self,
        image: ImageSource,
        *,
        seed: int = 0,
        previews: Sequence[int] | None = None,
        **options: Unpack[Options],
    ) -> Iterator[HeadMesh]:
        """Yield a decoded estimate of the head after each sampling step; the last is the head of a call.

        `previews` lists the steps, 1 to steps, after which an estimate is decoded; None means every step.
        Estimates have "preview_step" in their metadata and no rig. Each step is launched on its own. No lock
        is held between heads: the pipeline may be used, and the iterator dropped, at any time. Arguments and
        errors are those of a call, but all faces at once cannot be asked for; options are checked at once.
        """
        running, wanted, sampling = split(options)
        if wanted.face.face == ALL:
            raise OptionError("face", got=repr(ALL), expected="one face, since a stream shows one head")
        settings, metadata = self._settle(sampling)
        seeds, tracker = [check_seed(seed)], Tracker(running.callback, settings.steps)
        chosen = preview_steps(previews, settings.steps)

        def heads() -> Iterator[HeadMesh]:
            (sitting,) = self._stages.sittings(image, tracker, wanted.face, wanted.texture)
            about = metadata | sitting.portrait.facts()
            yield from self._stages.heads(sitting, seeds, settings, about, iter([tracker]), chosen)

        return heads()

    def retopologize(
        self,
        points: np.ndarray,
        normals: np.ndarray | None = None,
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
            normals: [P,3], outward, of any length but zero; None estimates them, as `read_scan` does.
            seed: None takes the mean of the VAE's posterior; a seed takes a sample, as the release does.
            align: find the orientation first, where it is unknown. The head keeps the orientation of the
                points; "rotation" in its metadata, [3,3], turns an upright head that faces +Z into it.
            passes: 1 encodes the points as they are; each further pass lays the head over the scan and
                encodes the two combined (see `topos_rt.scan.fit`). More than 1, and align, need SciPy.
            callback: as in a call; called before every stage.

        Raises:
            MeshInputError: the points or normals cannot be used or, unless passes is 1, are not a head.
            OptionError: a seed or number of passes out of range.
            MissingExtraError: SciPy is needed but not installed.
            Cancelled: the callback returned False.
            BackendError: an engine failed.

        Warns:
            ScanWarning: without align, the scan would fit a head much better if it were turned.
        """
        from topos_rt.scan.fit import Fit  # few processes need it, and to load it takes time

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
        return self._stages.decode(latent, tracker, about, placement)

    def find_faces(self, image: ImageSource, most: int = MOST_FACES) -> list[Face]:
        """Return the faces of a picture, the largest first, as `topos_rt.find_faces` does.

        Raises ImageError, OptionError; InputError for a pipeline without a face finder.
        """
        if self._finder is None:
            raise InputError("find_faces", got="a pipeline without a finder", expected="one that `open` made")
        return self._finder.find(image, most)

    def warm_up(self, **sampling: Unpack[Sampling]) -> None:
        """Run every graph once, so that no later call pays for first-time work.

        A CUDA graph is recorded for each way to sample: pass the sampling arguments of the later calls.

        Raises OptionError, BackendError.
        """
        self._settle(sampling)
        grey = np.full((MIN_SIDE, MIN_SIDE, 3), 128, np.uint8)
        whole = Wanted(FaceChoice(crop=WHOLE, check=False), TextureChoice("none"))
        # One evaluation has guidance and one has none, so that both graphs of a step run.
        both: Sampling = {"preset": "reference", "steps": 2, "guidance": 1.0, "reuse": 2}
        next(self._each([(grey, [0])], Running(stepwise=True), whole, both))
        points = noise(0, (MIN_POINTS, 3))
        self.retopologize(points, points, passes=1)
        if self._finder is not None:
            self._finder.warm_up(self.bundle.manifest.evidence)
        if self._networks.records:
            next(self._each([(grey, [0])], Running(), whole, sampling))

    def __repr__(self) -> str:
        return f"<HeadPipeline: {self.bundle.manifest.name} on {self.backend}>"

    def __reduce__(self) -> NoReturn:
        raise InputError(
            "a pipeline cannot be pickled or copied",
            got="engines that belong to this process",
            fix="open it in each process with HeadPipeline.open",
        )

    def close(self) -> None:
        """Free what the engines hold. Later calls raise InputError."""
        self._networks.close()
        if self._finder is not None:
            self._finder.close()

    def _each(
        self, work: list[Job], running: Running, wanted: Wanted, sampling: Sampling
    ) -> Iterator[HeadMesh]:
        settings, metadata = self._settle(sampling)
        items = sum(len(seeds) for _, seeds in work)
        trackers = (
            # With all faces asked for, there may be more heads than images and seeds promise.
            Tracker(running.callback, settings.steps, item, max(items, item + 1))
            for item in itertools.count()
        )
        one_launch = self._networks.records and not running.stepwise
        check_pull(self.bundle, settings.landmark_pull, one_launch)

        def sittings() -> Iterator[tuple[Sitting, list[int], dict[str, Any], Iterator[Tracker]]]:
            for source, seeds in work:
                first = next(trackers)
                own = itertools.chain([first], trackers)
                for sitting in self._stages.sittings(source, first, wanted.face, wanted.texture):
                    yield sitting, seeds, metadata | sitting.portrait.facts(), own

        def heads() -> Iterator[HeadMesh]:
            for sitting, seeds, about, own in sittings():
                yield from self._stages.heads(sitting, seeds, settings, about, own, one_launch=one_launch)

        def pieces() -> Iterator[Piece]:
            for sitting, seeds, about, own in sittings():
                look = Look(sitting)
                yield from (Piece(look, k, about, tracker) for k, tracker in zip(seeds, own, strict=False))

        # What landmarks pull at is decoded head by head at every step.
        if self.batch == 1 or items == 1 or settings.landmark_pull:
            return heads()
        made = (
            self._stages.heads_at_once(group, settings, one_launch)
            for group in groups(pieces(), self._networks.numbers)
        )
        return itertools.chain.from_iterable(made)

    def _settle(self, sampling: Sampling) -> tuple[SamplerSettings, dict[str, Any]]:
        settings = resolve(**sampling)
        flow, variation = self.bundle.manifest.flow, self.bundle.variation
        own: dict[str, Any] = {"guidance": flow.guidance, "temperature": flow.temperature}
        own = {name: value for name, value in own.items() if getattr(settings, name) is None}
        told = dict(own)
        if "temperature" in own and variation is not None:
            del own["temperature"]  # the stages scale the noise by two numbers, and not by this one alone
            told["open_temperature"] = variation.open_temperature
        settings = dataclasses.replace(settings, **own)
        named = {"preset": sampling.get("preset", DEFAULT_PRESET)}
        chosen = dataclasses.asdict(settings)
        check_pull(self.bundle, settings.landmark_pull, one_launch=False)
        if not settings.landmark_pull:
            del chosen["landmark_pull"]  # files of heads stay what they were before there was such a thing
        return settings, self._origin() | named | chosen | told

    def _origin(self) -> dict[str, Any]:
        manifest = self.bundle.manifest
        return {"model": manifest.name, "weights": manifest.weights.note, "backend": self.backend}


def _prepare(bundle: Bundle, name: str, faces: FaceNetworks) -> None:
    """Do what the first head would wait for; whatever fails here is tried again, and told, by that head.

    On a GPU the face networks wait for it: they may have to be built, and two builds at once would mix what
    they tell the caller's `progress`, and lose the answer to one.
    """
    if not find_backend(name).on_device:
        with suppress(*_FAILURES):
            faces.load()
    with suppress(*_FAILURES):
        if bundle.rig is not None:
            prepare_fit(bundle.rig)


def generate(
    image: ImageSource,
    *,
    seed: int = 0,
    model: str | os.PathLike[str] | Bundle = "mini",
    backend: BackendName = AUTO,
    threads: int | None = None,
    precision: PrecisionName | None = None,
    cache: str | os.PathLike[str] | None = None,
    **options: Unpack[Options],
) -> HeadMesh:
    """Load a model and turn one portrait into one head; a `HeadPipeline` loads it once for many calls.

    model, backend, threads, precision and cache are those of `HeadPipeline.open`; all other arguments are
    those of a pipeline's call. Raises the errors of both.
    """
    with HeadPipeline.open(model, backend, threads, precision=precision, cache=cache) as pipe:
        return pipe(image, seed=seed, **options)
