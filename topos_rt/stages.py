"""The stages of a head in their order: a picture, what is seen of it, a latent, a mesh, a rig and a fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from topos_rt.errors import InputError
from topos_rt.faces.evidence import evidence
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.portrait import FaceChoice, Portrait
from topos_rt.faces.portrait import portraits as cut_portraits
from topos_rt.faces.pull import LandmarkPull
from topos_rt.faces.seen import with_face
from topos_rt.flow.sampling import clean_estimate, corrected, guided, noise, sample
from topos_rt.flow.settings import SamplerSettings
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.parts import parts_of
from topos_rt.model.bundle import Bundle
from topos_rt.model.frame import place, place_rig
from topos_rt.model.networks import Condition, Networks
from topos_rt.pictures.image import upright_picture
from topos_rt.pictures.sources import ImageSource, describe
from topos_rt.support.arrays import Array
from topos_rt.support.progress import Tracker
from topos_rt.support.similarity import Similarity
from topos_rt.texture.stage import OFFICIAL, TextureChoice, with_texture

if TYPE_CHECKING:  # few processes paint, and to load what does takes time
    from topos_rt.texture.official.painter import Painter


@dataclass(frozen=True, eq=False)
class Sitting:
    """A portrait, what the image encoder takes of it, and the texture that its heads get."""

    portrait: Portrait
    pixels: Array
    texture: TextureChoice


class Look:
    """A sitting, which is encoded once for all its heads, where these are made in several batches."""

    def __init__(self, sitting: Sitting) -> None:
        self.sitting = sitting
        self._condition: Condition | None = None

    def condition(self, stages: Stages, tracker: Tracker) -> Condition:
        """Return what the flow is told of it, on the host. The time goes to the head that asks first."""
        if self._condition is None:
            self._condition = stages.condition(self.sitting, tracker, keep=False)
        return self._condition


@dataclass(frozen=True, eq=False)
class Piece:
    """One head that is to be made."""

    look: Look
    seed: int
    metadata: dict[str, Any]
    tracker: Tracker


@dataclass(frozen=True)
class Stages:
    """What a pipeline has loaded, and the work that it does with it. Errors are those of `HeadPipeline`."""

    bundle: Bundle
    networks: Networks
    finder: FaceFinder | None  # None takes pictures whole
    painter: Painter | None = None  # makes texture "official"

    def sittings(
        self, source: ImageSource, tracker: Tracker, choice: FaceChoice, texture: TextureChoice
    ) -> list[Sitting]:
        """Return the portraits of an image, each with what the image encoder takes."""
        self.networks.check_open()
        self._check_painter(texture)
        with tracker.stage("image"):
            picture = upright_picture(source)
            if self.finder is None or not choice.looks:
                return self._sittings(cut_portraits(picture, describe(source), None, choice), texture)
        with tracker.stage("face"):
            return self._sittings(cut_portraits(picture, describe(source), self.finder, choice), texture)

    def _check_painter(self, texture: TextureChoice) -> None:
        """Raise InputError or BundleError where texture "official" was asked for and cannot be painted."""
        if texture.kind != OFFICIAL:
            return
        if self.painter is None:
            raise InputError(
                "texture 'official'",
                got="a pipeline without a painter",
                expected="one that has a painter",
                fix="pipe.paint_with(topos_rt.open_painter(DIR)), or --official DIR on the command line",
            )
        from topos_rt.texture.official.dress import check_layout

        check_layout(self.bundle.topology, self.painter.layout, f"the model {self.bundle.manifest.name}")

    def _sittings(self, portraits: list[Portrait], texture: TextureChoice) -> list[Sitting]:
        spec = self.bundle.manifest.image
        for portrait in portraits:
            texture.check(portrait, self.bundle.atlas)
        return [
            Sitting(portrait, portrait.pixels(spec.height, spec.width), texture) for portrait in portraits
        ]

    def heads(
        self,
        sitting: Sitting,
        seeds: list[int],
        settings: SamplerSettings,
        metadata: dict[str, Any],
        trackers: Iterator[Tracker],
        previews: Collection[int] = (),
        one_launch: bool = False,
    ) -> Iterator[HeadMesh]:
        """Yield the head of each seed of a portrait, preceded by its estimates after the steps in `previews`.

        one_launch: make each head with one CUDA graph, without estimates.
        """
        condition, context, manifest = None, None, self.bundle.manifest
        for seed, tracker in zip(seeds, trackers, strict=False):
            if condition is None:
                condition = self.condition(sitting, tracker)
            start = self.start(seed, settings)
            about = metadata | {"seed": seed}
            if one_launch:
                with tracker.all_steps("flow_graph"):
                    vertices = self.networks.flow(condition, start, settings)[0]
                yield self._head(vertices, tracker, about, sitting=sitting)
                continue
            if context is None:
                with tracker.stage("dit_context"):
                    context = self.networks.context(condition.tokens)
            velocity = guided(self.networks.field(context), settings)
            pull = self._pull(sitting, settings, condition)
            if pull is not None:
                velocity = corrected(velocity, pull.moved, manifest.flow.sigma_min)
            for step in tracker.each("dit_step", sample(velocity, start, settings)):
                number = step.index + 1
                if number == settings.steps:
                    if pull is not None and pull.warning:
                        about["warnings"] = [*about.get("warnings", ()), pull.warning]
                    latent = self.networks.latent(step.x_next, condition)
                    yield self.decode(latent, tracker, about, sitting=sitting)
                elif number in previews:
                    estimate = clean_estimate(step, manifest.flow.sigma_min)
                    latent = self.networks.latent(estimate, condition)
                    yield self.decode(latent, tracker, about | {"preview_step": number})

    def heads_at_once(
        self, pieces: Sequence[Piece], settings: SamplerSettings, one_launch: bool = False
    ) -> Iterator[HeadMesh]:
        """Yield the heads of as many pieces as the networks take at once. one_launch: as in `heads`."""
        own = [piece.look.condition(self, piece.tracker) for piece in pieces]
        condition = Condition.joined(own)
        start = np.concatenate([self.start(piece.seed, settings) for piece in pieces])
        with Tracker.shared([piece.tracker for piece in pieces]) as tracker:
            if one_launch:
                with tracker.all_steps("flow_graph"):
                    vertices = self.networks.flow(condition, start, settings)
            else:
                with tracker.stage("dit_context"):
                    context = self.networks.context(condition.tokens)
                velocity = guided(self.networks.field(context), settings)
                for step in tracker.each("dit_step", sample(velocity, start, settings)):
                    latents = step.x_next
                latents = self.networks.latent(latents, condition)
        for k, piece in enumerate(pieces):
            about = piece.metadata | {"seed": piece.seed}
            if one_launch:
                yield self._head(vertices[k], piece.tracker, about, sitting=piece.look.sitting)
            else:
                yield self.decode(latents[k : k + 1], piece.tracker, about, sitting=piece.look.sitting)

    def _pull(self, sitting: Sitting, settings: SamplerSettings, condition: Condition) -> LandmarkPull | None:
        if not settings.landmark_pull:
            return None

        def decode(state: Array) -> Array:
            return self.networks.decode(self.networks.latent(state, condition))

        return LandmarkPull.of(self.bundle, decode, sitting.portrait, settings.landmark_pull)

    def condition(self, sitting: Sitting, tracker: Tracker, keep: bool = True) -> Condition:
        """Encode a portrait, with what the face stage saw of it where the model takes that.

        keep: as in `Networks.encode_image`.
        """
        names, portrait = self.bundle.manifest.evidence, sitting.portrait
        seen: dict[str, Array] = {}
        if names is not None:
            with tracker.stage("evidence"):
                seen = evidence(names, portrait.picture, portrait.face, self.finder)
        with tracker.stage("image_encoder"):
            return self.networks.encode_image(sitting.pixels, seen, keep)

    def start(self, seed: int, settings: SamplerSettings) -> Array:
        """Return the scaled noise [1,N,D] of a seed; where the temperature is None, as the model says."""
        manifest, variation = self.bundle.manifest, self.bundle.variation
        start = noise(seed, (1, manifest.latent.tokens, manifest.latent.channels))
        if settings.temperature is None and variation is not None:
            return variation.scaled(start, manifest.flow.temperature)
        scale = manifest.flow.temperature if settings.temperature is None else settings.temperature
        return start * np.float32(scale)

    def decode(
        self,
        latent: Array,
        tracker: Tracker,
        metadata: dict[str, Any],
        placement: Similarity | None = None,
        sitting: Sitting | None = None,
    ) -> HeadMesh:
        with tracker.stage("vae_decoder"):
            vertices = self.networks.decode(latent)
        return self._head(vertices, tracker, metadata, placement, sitting)

    def _head(
        self,
        vertices: Array,
        tracker: Tracker,
        metadata: dict[str, Any],
        placement: Similarity | None = None,
        sitting: Sitting | None = None,
    ) -> HeadMesh:
        manifest, rig = self.bundle.manifest, None
        head = place(vertices, manifest.frame, self.bundle.topology, placement)
        # Nobody animates an estimate, so the time is better spent on the next step.
        if self.bundle.rig is not None and "preview_step" not in metadata:
            with tracker.stage("rig"):
                rig = place_rig(self.bundle.rig, head.positions, manifest.frame, placement)
        kit = self.bundle.parts
        parts = None if kit is None else parts_of(kit, head.positions, rig)
        head = dataclasses.replace(head, rig=rig, metadata=metadata, parts=parts)
        if sitting is not None and sitting.portrait.face is not None:
            with tracker.stage("fit"):
                head = with_face(head, sitting.portrait, self.bundle.landmarks)
        if sitting is not None and sitting.texture.makes(self.bundle.atlas):
            with tracker.stage("texture"):
                head = self._textured(head, sitting, tracker)
        timings = tracker.timings | {"total": sum(tracker.timings.values())}
        return dataclasses.replace(head, timings=timings)

    def _textured(self, head: HeadMesh, sitting: Sitting, tracker: Tracker) -> HeadMesh:
        choice = sitting.texture
        if choice.kind != OFFICIAL:
            return with_texture(head, sitting.portrait, self.bundle, choice)
        assert self.painter is not None  # the pipeline has checked it
        from topos_rt.texture.official.dress import dressed
        from topos_rt.texture.official.painter import portrait as painted_portrait

        def report(stage: str, done: int, count: int) -> None:
            tracker.part("texture", done, count)

        seed = int(head.metadata.get("seed") or 0)
        painted = self.painter.paint(painted_portrait(sitting.portrait), seed, report)
        return dressed(head, painted, choice.size, choice.format)
