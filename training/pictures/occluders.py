"""Draw what is in front of a person: hands, bars, microphones, cups and telephones, as distance fields."""

from __future__ import annotations

import numpy as np

from training.pictures.compiled import compiled
from training.pictures.lights import Setting
from training.pictures.people import SKIN_TONES
from training.pictures.raster import Array

KINDS = ("hand", "bar", "microphone", "cup", "block")
_SHARES = (0.42, 0.14, 0.16, 0.14, 0.14)


def draw(
    size: int, face: np.ndarray, tone: np.ndarray, setting: Setting, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, str]:
    """Draw one occluder near a face, given as centre and radius [3] in pixels.

    Returns its colour [size,size,3] (linear), its cover [size,size] in 0..1, and its kind.
    """
    kind = str(rng.choice(KINDS, p=_SHARES))
    angle = rng.uniform(0, 2 * np.pi)
    reach = face[2] * rng.uniform(0.35, 1.15)
    at = face[:2] + reach * np.array(
        [np.cos(angle), abs(np.sin(angle)) if kind != "block" else np.sin(angle)]
    )
    capsules, colour = _SHAPES[kind](at, face[2], angle, tone, rng)
    height = np.empty((size, size), np.float32)
    _bulge(np.array([[*a, *b, ra, rb] for a, b, ra, rb in capsules]), height)
    cover = np.clip(np.where(height > 0, height, height + 0.5), 0, 1)
    return _lit(height, colour, setting), cover.astype(np.float32), kind


@compiled
def _bulge(capsules: Array, height: Array) -> None:
    """Fill heights [S,S] over the picture of capsules [n,6], two ends and two radii; negative outside."""
    for y in range(height.shape[0]):
        for x in range(height.shape[1]):
            most = -1e3
            for i in range(len(capsules)):
                ax, ay, bx, by, ra, rb = capsules[i]
                dx, dy, px, py = bx - ax, by - ay, x + 0.5 - ax, y + 0.5 - ay
                share = (px * dx + py * dy) / max(dx * dx + dy * dy, 1e-6)
                share = min(max(share, 0.0), 1.0)
                radius = ra + share * (rb - ra)
                far = np.hypot(px - share * dx, py - share * dy)
                found = np.sqrt(radius * radius - far * far) if far < radius else radius - far
                most = max(most, found)
            height[y, x] = most


def _lit(height: np.ndarray, colour: np.ndarray, setting: Setting) -> np.ndarray:
    down, across = np.gradient(np.maximum(height, 0))
    there = height > -1
    normal = np.stack([-across[there], down[there], np.ones(there.sum(), np.float32)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    light = setting.ambient[0] + normal @ setting.ambient[1:]
    for direction, strength in zip(setting.directions, setting.colours, strict=True):
        light = light + np.clip((normal @ direction + 0.2) / 1.2, 0, None)[..., None] * strength
    out = np.zeros((*height.shape, 3), np.float32)
    out[there] = np.clip(light, 0, None) * colour
    return out


def _hand(at, radius, angle, tone, rng):  # type: ignore[no-untyped-def]
    """Return a palm and four fingers that lie side by side."""
    turn = angle + rng.normal(np.pi, 0.5)
    ahead, side = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    size = radius * rng.uniform(0.28, 0.4)
    out = [(at - ahead * size * 0.9, at - ahead * size * 2.5, size * 0.75, size * 0.6)]
    gap = size * rng.uniform(0.36, 0.55)
    for i, long in enumerate((0.95, 1.25, 1.35, 1.1)):
        root = at + side * gap * (i - 1.5)
        tip = (
            root + ahead * size * long * rng.uniform(0.7, 1.2) + side * gap * (i - 1.5) * rng.uniform(0, 0.4)
        )
        out.append((root - ahead * size * 0.6, tip, size * 0.24, size * 0.19))
    out.append((at - ahead * size - side * size * 0.6, at - side * size * 1.3, size * 0.25, size * 0.2))
    colour = tone if rng.random() < 0.8 else SKIN_TONES[rng.integers(len(SKIN_TONES))]
    return out, colour * np.array([1.03, 0.95, 0.92])


def _bar(at, radius, angle, tone, rng):  # type: ignore[no-untyped-def]
    turn = rng.uniform(0, np.pi)
    ahead = np.array([np.cos(turn), np.sin(turn)]) * radius * 6
    width = radius * rng.uniform(0.04, 0.16)
    return [(at - ahead, at + ahead, width, width)], rng.uniform(0, 0.8, 3) ** 2


def _microphone(at, radius, angle, tone, rng):  # type: ignore[no-untyped-def]
    ball = radius * rng.uniform(0.14, 0.24)
    foot = at + np.array([rng.normal(0, 0.5), 1.0]) * radius * 3
    return [(at, at, ball, ball), (at, foot, ball * 0.5, ball * 0.4)], np.full(3, rng.uniform(0.01, 0.12))


def _cup(at, radius, angle, tone, rng):  # type: ignore[no-untyped-def]
    size = radius * rng.uniform(0.22, 0.4)
    return [(at, at + np.array([0, size * 1.2]), size, size * 0.8)], rng.uniform(0.02, 0.9, 3)


def _block(at, radius, angle, tone, rng):  # type: ignore[no-untyped-def]
    """Return a telephone or a sheet: thick lines side by side make a rectangle."""
    long, wide = radius * rng.uniform(0.3, 1.0, 2)
    turn = rng.normal(0, 0.4)
    ahead, side = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    thick = max(wide * 0.3, 1.5)
    lines = np.linspace(-wide, wide, 9)
    colour = np.full(3, rng.choice([0.01, 0.05, 0.4, 0.8])) * np.exp(rng.normal(0, 0.2, 3))
    return [(at + side * d - ahead * long, at + side * d + ahead * long, thick, thick) for d in lines], colour


_SHAPES = {"hand": _hand, "bar": _bar, "microphone": _microphone, "cup": _cup, "block": _block}
