"""Draw how a person is seen: expression and gaze, the camera, and how the shoulders are turned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from topos_rt.faces.pose import rotation
from training.pictures.camera import Camera

# Mixtures of facial actions with their largest weights, and how often they are drawn.
EXPRESSIONS: dict[str, tuple[float, dict[str, float]]] = {
    "smile": (3.0, {"mouthSmile": 0.9, "cheekSquint": 0.5, "eyeSquint": 0.3}),
    "laugh": (
        2.0,
        {"mouthSmile": 0.9, "jawOpen": 0.45, "mouthUpperUp": 0.5, "cheekSquint": 0.6, "eyeSquint": 0.5},
    ),
    "grin": (1.2, {"mouthSmile": 0.7, "mouthUpperUp": 0.6, "mouthLowerDown": 0.6, "jawOpen": 0.08}),
    "talk": (2.0, {"jawOpen": 0.35, "mouthFunnel": 0.5, "mouthLowerDown": 0.4}),
    "round": (0.7, {"jawOpen": 0.5, "mouthPucker": 0.6}),
    "gape": (0.8, {"jawOpen": 0.9, "browInnerUp": 0.6, "browOuterUp": 0.6, "eyeWide": 0.6}),
    "frown": (1.0, {"browDown": 0.8, "mouthFrown": 0.6, "mouthPress": 0.4}),
    "snarl": (0.4, {"browDown": 0.8, "noseSneer": 0.8, "mouthUpperUp": 0.6, "jawOpen": 0.2}),
    "sad": (0.5, {"browInnerUp": 0.8, "mouthFrown": 0.7, "mouthShrugLower": 0.5}),
    "brows": (1.0, {"browInnerUp": 0.7, "browOuterUp": 0.7}),
    "squint": (0.7, {"eyeSquint": 0.9, "browDown": 0.4}),
    "blink": (0.8, {"eyeBlink": 1.0}),
    "half_blink": (0.7, {"eyeBlink": 0.45}),
    "pucker": (0.6, {"mouthPucker": 0.8}),
    "puff": (0.25, {"cheekPuff": 0.8}),
    "press": (0.6, {"mouthPress": 0.7, "mouthRollLower": 0.4, "mouthRollUpper": 0.4}),
    "aside": (0.4, {"mouthLeft": 0.6, "jawLeft": 0.4}),
    "other_side": (0.4, {"mouthRight": 0.6, "jawRight": 0.4}),
}
_NEUTRAL_SHARE = 0.3
_TWO_SIDED = 0.35  # the share of expressions that differ from side to side
_SENSOR_HEIGHT = 0.242  # metres from chin to crown of the template


def expression(names: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Draw weights [52] float32 of facial actions named `names`, gaze included."""
    weights = np.zeros(len(names), np.float32)
    place = {name: i for i, name in enumerate(names)}

    def add(name: str, value: float) -> None:
        if name in place:
            weights[place[name]] = np.clip(weights[place[name]] + value, 0, 1)

    if rng.random() > _NEUTRAL_SHARE:
        shares = np.array([share for share, _ in EXPRESSIONS.values()])
        count = 1 + (rng.random() < 0.35) + (rng.random() < 0.1)
        for kind in rng.choice(list(EXPRESSIONS), count, replace=False, p=shares / shares.sum()):
            amount = rng.uniform(0.15, 1.0)
            uneven = rng.normal(0, 0.25) if rng.random() < _TWO_SIDED else 0.0
            for action, most in EXPRESSIONS[kind][1].items():
                value = most * amount * rng.uniform(0.7, 1.15)
                add(action, value)
                add(f"{action}Left", value * max(1 + uneven, 0))
                add(f"{action}Right", value * max(1 - uneven, 0))
        for name in rng.choice(list(names), rng.integers(0, 4), replace=False):
            if not name.startswith(("eyeLook", "tongue", "jaw", "mouthClose")):
                add(str(name), abs(rng.normal(0, 0.15)))
    _gaze(add, rng)
    return weights


def _gaze(add, rng: np.random.Generator) -> None:  # type: ignore[no-untyped-def]
    """Turn both eyes to the same place, mostly near the camera."""
    left, up = rng.normal(0, [0.18, 0.12])
    if rng.random() < 0.2:
        left, up = rng.uniform(-0.8, 0.8), rng.uniform(-0.6, 0.5)
    add("eyeLookOutLeft" if left > 0 else "eyeLookInLeft", abs(left))
    add("eyeLookInRight" if left > 0 else "eyeLookOutRight", abs(left))
    for side in ("Left", "Right"):
        add(("eyeLookUp" if up > 0 else "eyeLookDown") + side, abs(up))


def camera(head: np.ndarray, size: int, rng: np.random.Generator) -> Camera:
    """Draw a camera for a head [V,3] in metres: 0.5 to 3 m away, mostly from the front.

    The head fills 48 to 92 % of the height of a picture of `size` pixels, as after a face detector's crop.
    """
    wide = rng.random() < 0.2
    yaw = rng.uniform(-65, 65) if wide else np.clip(rng.normal(0, 17), -45, 45)
    pitch, roll = np.clip(rng.normal(0, 9), -28, 28), np.clip(rng.normal(0, 6), -25, 25)
    distance = float(np.exp(rng.uniform(np.log(0.5), np.log(3.0))))
    share = rng.uniform(0.48, 0.92)
    centre = (head.min(0) + head.max(0)) / 2
    turn = rotation(yaw, pitch, roll)
    turned = (head - centre) @ turn.T
    depth = distance - turned[:, 2]
    high = (turned[:, 1] / depth).max() - (turned[:, 1] / depth).min()
    focal = float(share * size / high)
    room = (1 - share) * 0.35 + 0.03
    shift = rng.uniform(-room, room, 2) * size
    middle = np.array([
        ((turned[:, 0] / depth).max() + (turned[:, 0] / depth).min()) / 2,
        -((turned[:, 1] / depth).max() + (turned[:, 1] / depth).min()) / 2,
    ])  # fmt: skip
    principal = size / 2 + shift - focal * middle
    rounded = Camera(turn, centre, distance, focal, principal).numbers()
    return Camera.from_numbers(rounded)


def turn_shoulders(points: np.ndarray, below_neck: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn the shoulders against the head: the farther below the neck, the more."""
    yaw, tilt = rng.normal(0, 14), rng.normal(0, 4)
    pivot = points[np.abs(below_neck) < 0.02].mean(0)
    share = np.clip((below_neck + 0.005) / 0.07, 0, 1)[:, None]
    share = share * share * (3 - 2 * share)
    turned = (points - pivot) @ rotation(float(yaw), 0.0, float(tilt)).T + pivot
    return (points + share * (turned - points)).astype(np.float32)
