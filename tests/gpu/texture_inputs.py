"""Random arguments of project_texture and finish_texture."""

from __future__ import annotations

from typing import Any

import numpy as np

from topos_rt.pictures.colour import SRGB


def projection(rng: np.random.Generator, texels: int, height: int = 9, width: int = 7) -> tuple[Any, ...]:
    """Return vertices, weights, attributes, picture, light and base; some texels lie outside or face away."""
    count = 40
    weights = rng.dirichlet(np.ones(3), texels).astype(np.float32)
    places = rng.uniform(-1, [width + 1, height + 1], (count, 2))
    normals = rng.standard_normal((count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    facing = rng.uniform(-0.3, 1, (count, 1))
    return (
        rng.integers(0, count, (texels, 3)).astype(np.int32),
        weights,
        np.concatenate([places, facing, normals], 1).astype(np.float32),
        rng.random((height, width, 3)).astype(np.float32),
        (rng.standard_normal((9, 3)) * 0.3).astype(np.float32),
        rng.uniform(-3, 0, (texels, 3)).astype(np.float32),
    )


def finishing(rng: np.random.Generator, cells: int = 8, step: int = 4) -> dict[str, Any]:
    """Return the arguments of finish_texture by name, with a window of 4 x 6 cells."""
    side, high, wide = cells * step, 4 * step, 6 * step
    texels = rng.standard_normal((high, wide, 4)).astype(np.float32)
    texels[..., 3] = rng.uniform(-0.2, 1, (high, wide))
    window = rng.random((4, 6, 5)).astype(np.float32)
    window[..., 2:] -= 0.5
    fields = rng.standard_normal((cells, cells, 4)).astype(np.float32)
    fields[..., 3] = rng.uniform(0, 1, (cells, cells))
    return {
        "base": rng.random((side, side, 3)).astype(np.float32),
        "cells": fields,
        "texels": texels,
        "window_cells": window,
        "skin": rng.random((high, wide)).astype(np.float32),
        "grain": rng.uniform(0.5, 1.5, (side, side)).astype(np.float32),
        "hair": rng.random(3).astype(np.float32) * 0.1,
        "tone": rng.standard_normal(3).astype(np.float32) * 0.2,
        "srgb": SRGB.copy(),
        "corner": (step, step),
        "mirror": True,
    }
