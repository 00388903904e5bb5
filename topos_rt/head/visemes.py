"""Which blendshapes a head is given: ARKit's, the 15 visemes made of them, or some by name.

The visemes are those of Oculus LipSync, with the names that Ready Player Me's avatars made common. None is
sculpted: each is a weighted sum of ARKit's blendshapes, which the rig has fitted to the head.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from topos_rt.errors import OptionError, did_you_mean, shortened
from topos_rt.head.rig import Rig

_ARKIT = """
browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft
cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight
eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft
eyeWideRight jawForward jawLeft jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight
mouthFrownLeft mouthFrownRight mouthFunnel mouthLeft mouthLowerDownLeft mouthLowerDownRight
mouthPressLeft mouthPressRight mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower
mouthShrugUpper mouthSmileLeft mouthSmileRight mouthStretchLeft mouthStretchRight mouthUpperUpLeft
mouthUpperUpRight noseSneerLeft noseSneerRight tongueOut
"""
ARKIT = tuple(_ARKIT.split())
# Viseme -> weights of ARKit's blendshapes; a name without side stands for both sides.
VISEMES: dict[str, dict[str, float]] = {
    "viseme_sil": {},
    "viseme_PP": {"mouthRollLower": 0.4, "mouthRollUpper": 0.4, "mouthPress": 0.3, "mouthPucker": 0.1},
    "viseme_FF": {"mouthRollLower": 0.6, "mouthUpperUp": 0.3, "mouthShrugLower": 0.2, "jawOpen": 0.04},
    "viseme_TH": {"jawOpen": 0.14, "tongueOut": 0.6, "mouthLowerDown": 0.2, "mouthUpperUp": 0.15},
    "viseme_DD": {"jawOpen": 0.12, "mouthLowerDown": 0.3, "mouthUpperUp": 0.2, "mouthStretch": 0.1},
    "viseme_kk": {"jawOpen": 0.2, "mouthLowerDown": 0.2, "mouthUpperUp": 0.15, "mouthStretch": 0.1},
    "viseme_CH": {"jawOpen": 0.06, "mouthFunnel": 0.5, "mouthPucker": 0.2, "mouthShrugUpper": 0.1},
    "viseme_SS": {"jawOpen": 0.04, "mouthStretch": 0.25, "mouthLowerDown": 0.35, "mouthUpperUp": 0.2},
    "viseme_nn": {"jawOpen": 0.1, "mouthLowerDown": 0.2, "mouthUpperUp": 0.1, "mouthSmile": 0.1},
    "viseme_RR": {"jawOpen": 0.1, "mouthFunnel": 0.35, "mouthPucker": 0.15},
    "viseme_aa": {"jawOpen": 0.6, "mouthLowerDown": 0.15, "mouthUpperUp": 0.1},
    "viseme_E": {"jawOpen": 0.28, "mouthStretch": 0.3, "mouthSmile": 0.15, "mouthLowerDown": 0.15},
    "viseme_ih": {"jawOpen": 0.18, "mouthSmile": 0.3, "mouthStretch": 0.2, "mouthLowerDown": 0.2},
    "viseme_oh": {"jawOpen": 0.45, "mouthFunnel": 0.45, "mouthPucker": 0.2},
    "viseme_ou": {"jawOpen": 0.12, "mouthPucker": 0.9, "mouthFunnel": 0.35},
}
# Group -> the blendshapes that its name stands for; every other name is that of a blendshape.
GROUPS = {
    "all": "every blendshape of the rig",
    "arkit": f"those with ARKit's {len(ARKIT)} names",
    "visemes": f"the {len(VISEMES)} visemes of Oculus LipSync, made of ARKit's",
    "none": "no blendshape",
}


def checked_morphs(morphs: str | Sequence[str]) -> tuple[str, ...]:
    """Return names of blendshapes and groups, given as text with commas between or as a sequence.

    Whether a rig has them is known to `with_morphs` alone. Raises OptionError for anything else.
    """
    names = morphs.split(",") if isinstance(morphs, str) else list(morphs)
    names = [name.strip() if isinstance(name, str) else name for name in names]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise OptionError(
            "morphs", got=shortened(repr(morphs)), expected=f"{', '.join(GROUPS)}, or names of blendshapes"
        )
    if "none" in names and len(names) > 1:
        raise OptionError("morphs", got=shortened(repr(morphs)), expected="none alone, or other names")
    return tuple(names)


def with_morphs(rig: Rig, morphs: str | Sequence[str]) -> Rig:
    """Return a fitted rig with the blendshapes that names and groups choose, each once, in that order.

    Raises OptionError for a name that neither the rig nor VISEMES has, and for visemes of a rig that lacks
    the blendshapes of ARKit that they are made of.
    """
    names: dict[str, None] = {}
    for name in checked_morphs(morphs):
        names |= dict.fromkeys(_group(rig, name))
    if tuple(names) == rig.shape_names:
        return rig
    shapes = [_shape(rig, _parts(rig, name)) for name in names]
    none = np.zeros(0, np.int32), np.zeros((0, 3), np.float32)
    return dataclasses.replace(
        rig,
        shape_names=tuple(names),
        shape_index=np.concatenate([none[0], *(ids for ids, _ in shapes)]),
        shape_delta=np.concatenate([none[1], *(delta for _, delta in shapes)]),
        shape_offsets=np.cumsum([0, *(len(ids) for ids, _ in shapes)]),
        binding=None,
        source=None,
    )


def _group(rig: Rig, name: str) -> Sequence[str]:
    if name == "arkit":
        return [shape for shape in rig.shape_names if shape in ARKIT]
    groups: dict[str, Sequence[str]] = {"all": rig.shape_names, "visemes": tuple(VISEMES), "none": ()}
    return groups.get(name, (name,))


def _parts(rig: Rig, name: str) -> Mapping[str, float]:
    """Return the blendshapes of a rig, with weights, that one blendshape or viseme is made of."""
    if name in rig.shape_names:
        return {name: 1.0}
    if name not in VISEMES:
        known = [*GROUPS, *rig.shape_names, *VISEMES]
        raise OptionError(
            "unknown blendshape",
            got=shortened(repr(name)),
            expected=f"one of: {', '.join(known)}",
            fix=did_you_mean(name, known),
        )
    parts = arkit_parts(name)
    missing = [part for part in parts if part not in rig.shape_names]
    if missing:
        raise OptionError(
            f"the blendshape {name}",
            got=f"a rig without {', '.join(missing)}",
            expected="the blendshapes of ARKit that it is made of",
            fix="choose other blendshapes",
        )
    return parts


def arkit_parts(viseme: str) -> dict[str, float]:
    """Return the weights of ARKit's blendshapes, each by its whole name, that a viseme is made of."""
    return {
        full: weight
        for name, weight in VISEMES[viseme].items()
        for full in ((name,) if name in ARKIT else (f"{name}Left", f"{name}Right"))
    }


def _shape(rig: Rig, parts: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices [k] that a sum of blendshapes moves, rising, and the offsets [k,3] float32."""
    if list(parts.values()) == [1.0]:
        start, end = _span(rig, next(iter(parts)))
        return rig.shape_index[start:end], rig.shape_delta[start:end]
    moved, offsets = np.zeros(rig.num_vertices, bool), np.zeros((rig.num_vertices, 3))
    for name, weight in parts.items():
        start, end = _span(rig, name)
        ids = rig.shape_index[start:end]
        moved[ids] = True
        offsets[ids] += weight * rig.shape_delta[start:end].astype(np.float64)
    union = np.flatnonzero(moved)
    return union.astype(np.int32), offsets[union].astype(np.float32)


def _span(rig: Rig, name: str) -> tuple[int, int]:
    number = rig.shape_names.index(name)
    start, end = rig.shape_offsets[number : number + 2].tolist()
    return start, end
