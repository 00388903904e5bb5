"""topos_rt: one portrait in, one animatable 3D head with a fixed topology out.

    import topos_rt

    head = topos_rt.generate("portrait.jpg", seed=0)         # one call
    head.save("head.glb")

    pipe = topos_rt.HeadPipeline.open("mini")                # many calls: the model is loaded once
    head = pipe("portrait.jpg", seed=0, preset="balanced")   # HeadMesh: float32, metres, +Y up, facing +Z

Importing this package does no work: each name below is loaded from its module when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from topos_rt import metrics
    from topos_rt.errors import (
        BackendError,
        BundleError,
        Cancelled,
        FaceError,
        ImageError,
        InputError,
        MeshInputError,
        MissingExtraError,
        OptionError,
        OutputError,
        ScanWarning,
        ToposError,
    )
    from topos_rt.faces.camera import Camera
    from topos_rt.faces.face import Face
    from topos_rt.faces.finder import FaceFinder, find_faces
    from topos_rt.faces.fit import HeadFitter
    from topos_rt.faces.one_euro import Smoothing
    from topos_rt.faces.tracker import FaceTracker, TrackedFace
    from topos_rt.flow.solvers import SOLVERS
    from topos_rt.head.mesh import HeadMesh
    from topos_rt.head.rig import Rig
    from topos_rt.head.texture import Texture
    from topos_rt.head.topology import Topology
    from topos_rt.model.bundle import Bundle
    from topos_rt.pictures.preview import render_preview
    from topos_rt.pipeline import HeadPipeline, generate
    from topos_rt.scan.metrics import compare
    from topos_rt.scan.read import read_scan
    from topos_rt.texture.again import texture_head
    from topos_rt.texture.official.opening import PaintEngines, PaintSource, open_painter
    from topos_rt.texture.official.settings import PaintOptions

__version__ = "0.1.0"

__all__ = [
    "SOLVERS",
    "BackendError",
    "Bundle",
    "BundleError",
    "Camera",
    "Cancelled",
    "Face",
    "FaceError",
    "FaceFinder",
    "FaceTracker",
    "HeadFitter",
    "HeadMesh",
    "HeadPipeline",
    "ImageError",
    "InputError",
    "MeshInputError",
    "MissingExtraError",
    "OptionError",
    "OutputError",
    "PaintEngines",
    "PaintOptions",
    "PaintSource",
    "Rig",
    "ScanWarning",
    "Smoothing",
    "Texture",
    "Topology",
    "ToposError",
    "TrackedFace",
    "__version__",
    "compare",
    "find_faces",
    "generate",
    "metrics",
    "open_painter",
    "read_scan",
    "render_preview",
    "texture_head",
]

_MODULES = {
    "BackendError": "errors",
    "Bundle": "model.bundle",
    "BundleError": "errors",
    "Camera": "faces.camera",
    "Cancelled": "errors",
    "Face": "faces.face",
    "FaceError": "errors",
    "FaceFinder": "faces.finder",
    "FaceTracker": "faces.tracker",
    "HeadFitter": "faces.fit",
    "HeadMesh": "head.mesh",
    "HeadPipeline": "pipeline",
    "ImageError": "errors",
    "InputError": "errors",
    "MeshInputError": "errors",
    "MissingExtraError": "errors",
    "OptionError": "errors",
    "OutputError": "errors",
    "PaintEngines": "texture.official.opening",
    "PaintOptions": "texture.official.settings",
    "PaintSource": "texture.official.opening",
    "Rig": "head.rig",
    "SOLVERS": "flow.solvers",
    "ScanWarning": "errors",
    "Smoothing": "faces.one_euro",
    "Texture": "head.texture",
    "Topology": "head.topology",
    "ToposError": "errors",
    "TrackedFace": "faces.tracker",
    "compare": "scan.metrics",
    "find_faces": "faces.finder",
    "generate": "pipeline",
    "metrics": "metrics",
    "open_painter": "texture.official.opening",
    "read_scan": "scan.read",
    "render_preview": "pictures.preview",
    "texture_head": "texture.again",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = import_module(f"{__name__}.{_MODULES[name]}")
    if _MODULES[name] != name:  # "metrics" is a room as a whole
        value = getattr(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
