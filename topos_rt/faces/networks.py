"""The engines of the face bundle, each behind its own method."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from topos_rt.engines import Engine, EngineOptions, backend
from topos_rt.errors import BundleError, InputError
from topos_rt.faces.bundle import NETWORKS, FaceBundle
from topos_rt.faces.expression import NAMES, POINTS
from topos_rt.model.evidence import BIOMETRIC, EVIDENCE
from topos_rt.support.arrays import Array
from topos_rt.support.closing import Closing
from topos_rt.support.forks import in_forked_child, leak
from topos_rt.support.strictjson import AGAIN

LOOKED_WITH = NETWORKS[:3]  # the networks that find a face
_IDENTITY = NETWORKS[3]
_BUSY = "face_landmarks"  # runs twice for a face, and takes most of the time to find one
LANDMARKS = 478
CUT = 256  # side of the pictures that the landmark network takes
IDENTITY_CUT = 150

# Network -> its inputs and outputs, with their shapes.
_CONTRACTS = {
    "face_detector": ({"pixels": (1, 192, 192, 3)}, {"boxes": (1, 2304, 16), "scores": (1, 2304, 1)}),
    "face_landmarks": (
        {"pixels": (1, CUT, CUT, 3)},
        {"landmarks": (1, 1, 1, 3 * LANDMARKS), "face": (1, 1, 1, 1)},
    ),
    "face_expression": ({"points": (1, len(POINTS), 2)}, {"scores": (len(NAMES),)}),
    "face_identity": (
        {"pixels": (1, IDENTITY_CUT, IDENTITY_CUT, 3)},
        {"embedding": EVIDENCE["identity"], "features": EVIDENCE["features"]},
    ),
}


def networks_for(evidence: Sequence[str] | None) -> tuple[str, ...]:
    """Return the networks that a model needs which takes this evidence."""
    return LOOKED_WITH if BIOMETRIC.isdisjoint(evidence or ()) else (*LOOKED_WITH, _IDENTITY)


class FaceNetworks(Closing):
    """Runs the networks of the face stage, which are loaded when they are first used.

    They are safe to use from several threads: a lock is held for one engine run, or its loading, at a time.
    """

    def __init__(self, name: str, options: EngineOptions, bundle: FaceBundle | None = None) -> None:
        """Prepare networks for the backend `name`. Raises OptionError for an unknown one.

        bundle: None is the one that comes with the package; it is opened at the first use.
        """
        self._bundle = bundle
        self._backend = backend(name)
        self._options = options
        self._lock = threading.Lock()
        self._held: ExitStack | None = ExitStack()
        self._workspace: object = None
        self._engines: dict[str, Engine] = {}
        self._forked = False
        _living.add(self)

    @property
    def bundle(self) -> FaceBundle:
        """The face bundle. Raises BundleError where it is damaged."""
        if self._bundle is None:
            self._bundle = FaceBundle.open()
        return self._bundle

    def requirements(self, names: Sequence[str] = LOOKED_WITH) -> dict[str, dict[str, int]]:
        """Return the bytes on the device by network and kind, as `HeadPipeline.requirements` does."""
        needs = {
            name: dict(self._backend.requirements(*face_engine_source(self.bundle, name, self._options)))
            for name in names
        }
        return {name: kinds for name, kinds in needs.items() if kinds}

    def detect(self, pixels: Array) -> tuple[Array, Array]:
        """Return boxes [1,2304,16] and scores [1,2304,1] of a picture [1,192,192,3] in -1..1."""
        out = self._run("face_detector", {"pixels": pixels})
        return out["boxes"], out["scores"]

    def landmarks(self, pixels: Array) -> tuple[Array, float]:
        """Return landmarks [478,3] in pixels of a cut [1,256,256,3] in 0..1, and how sure a face is there."""
        out = self._run("face_landmarks", {"pixels": pixels})
        logit = float(out["face"].reshape(-1)[0])
        return out["landmarks"].reshape(LANDMARKS, 3), float(1 / (1 + np.exp(-logit)))

    def expression(self, points: Array) -> Array:
        """Return scores [52], in the order of NAMES, of the landmarks [1,146,2] in POINTS, in pixels."""
        scores: Array = self._run("face_expression", {"points": points})["scores"]
        return scores

    def identity(self, pixels: Array) -> tuple[Array, Array]:
        """Return the embedding [1,128] and features [1,128,8,8] of an aligned face [1,150,150,3] in 0..1.

        Both are biometric data.
        """
        out = self._run(_IDENTITY, {"pixels": pixels})
        return out["embedding"], out["features"]

    def load(self, *names: str) -> None:
        """Load networks ahead of their first use; all but the identity network unless some are named."""
        for name in names or LOOKED_WITH:
            with self._lock:
                self._engine(name)

    def forget(self) -> None:
        """Prepare for use in a process that was forked from the one that loaded them, as `Networks` do."""
        self._lock = threading.Lock()
        if self._backend.on_device and self._engines:
            leak([self._engines, self._held, self._workspace])
            self._engines, self._held, self._workspace = {}, None, None
            self._forked = True

    def close(self) -> None:
        """Free what the engines hold. Later calls raise InputError."""
        with self._lock:
            held, self._held = self._held, None
            self._engines = {}
        if held is not None:
            held.close()

    def __del__(self) -> None:
        # Engines would free themselves, but what they share would not; at exit the system frees everything.
        if getattr(self, "_held", None) is not None and not sys.is_finalizing():
            self.close()

    def _run(self, name: str, feeds: Mapping[str, Array]) -> dict[str, Array]:
        with self._lock:
            engine = self._engine(name)
            return engine.run(feeds)

    def _engine(self, name: str) -> Engine:
        if self._held is None:
            got = (
                "a process that was forked after they were loaded" if self._forked else "a call after close()"
            )
            raise InputError("face networks are closed", got=got, fix="open them again")
        if name not in self._engines:
            if self._workspace is None:
                self._workspace = self._held.enter_context(self._backend.workspace())
            engine = self._backend.load(
                *face_engine_source(self.bundle, name, self._options, self._workspace)
            )
            _check(name, self._held.enter_context(engine))
            self._engines[name] = engine
        return self._engines[name]


def face_engine_source(
    bundle: FaceBundle, name: str, options: EngineOptions, workspace: object = None
) -> tuple[Path, EngineOptions]:
    """Return the ONNX file of a network that a backend loads, and its options: FP32, with verified hashes."""
    hashes = {bundle.path / file: info.sha256 for file, info in bundle.manifest.files.items()}
    return bundle.graph(name), dataclasses.replace(
        options, precision="fp32", hashes=hashes, workspace=workspace, busy=name == _BUSY
    )


def _check(name: str, engine: Engine) -> None:
    for kind, wanted, found in zip(
        ("input", "output"), _CONTRACTS[name], (engine.inputs, engine.outputs), strict=True
    ):
        shapes = {key: spec.shape for key, spec in found.items()}
        if shapes != wanted:
            raise BundleError(f"{kind}s of {name}", got=shapes, expected=wanted, fix=AGAIN)


_living = in_forked_child(FaceNetworks.forget)
