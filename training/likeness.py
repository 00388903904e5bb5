"""Measures of likeness: how far heads [n,V,3] are from the true ones, and whether they tell people apart."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from typing import Any

import numpy as np

from topos_rt.scan.face_errors import face_errors
from topos_rt.scan.face_region import FaceRegion
from training.heads import normalise

YAWS = (0.0, 15.0, 30.0, 60.0)  # degrees: the edges of the bins of the side that a picture is taken from
_NAMES = {
    "face_mm": "mean_mm",
    "now_median_mm": "now_median_mm",
    "now_mean_mm": "now_mean_mm",
    "now_std_mm": "now_std_mm",
}


def measure(heads: np.ndarray, truth: np.ndarray, yaws: np.ndarray, region: FaceRegion) -> dict[str, Any]:
    """Return means over the heads of every measure, in mm, also by the pictures' yaw, and the retrieval.

    heads, truth: [n,V,3] metres. yaws: [n] degrees.
    """
    rows: dict[str, np.ndarray] = {"whole_mm": whole_mm(heads, truth)}
    found = [asdict(face_errors(head, true, region)) for head, true in zip(heads, truth, strict=True)]
    rows |= {name: np.array([errors[key] for errors in found]) for name, key in _NAMES.items()}
    side = np.abs(yaws)
    return {
        **_means(rows, np.ones(len(heads), bool)),
        "nearest_by_face": retrieval(face_table(heads, truth, region.vertices)),
        "nearest_by_whole": retrieval(whole_table(heads, truth)),
        "by_yaw": [
            {"degrees": [low, high], "heads": int(inside.sum()), **_means(rows, inside)}
            for low, high in itertools.pairwise(YAWS)
            if (inside := (side >= low) & (side < high)).any()
        ],
    }


def _means(rows: dict[str, np.ndarray], chosen: np.ndarray) -> dict[str, float]:
    return {name: round(float(values[chosen].mean()), 3) for name, values in rows.items()}


def whole_mm(heads: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean vertex distance [n] in mm, each head in the networks' frame, at the true head's radius.

    The networks know no absolute size, so every head is brought to the unit sphere first.
    """
    unit, radii = normalise(truth)
    return np.asarray(np.linalg.norm(normalise(heads)[0] - unit, axis=2).mean(1) * radii * 1000)


def whole_table(heads: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean vertex distance [n,m] of heads to true ones, all in the networks' frame."""
    unit, made = normalise(truth)[0], normalise(heads)[0]
    return np.stack([np.linalg.norm(unit - head, axis=2).mean(1) for head in made])


def face_table(heads: np.ndarray, truth: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Return the mean distance [n,m] in metres of the face of each head to that of each true head.

    Each pair is aligned by the similarity from the head to the truth (Umeyama 1991), which scales the
    distances by the truth's size; so they are given at the mean size of the true faces.
    """
    target = truth[:, face].astype(np.float64)
    target -= target.mean(1, keepdims=True)
    sizes = np.sqrt((target**2).sum((1, 2)))
    target /= sizes[:, None, None]
    rows = []
    for head in heads[:, face].astype(np.float64):
        own = head - head.mean(0)
        own /= np.sqrt((own**2).sum())
        u, values, v = np.linalg.svd(np.einsum("mvi,vj->mij", target, own))
        values[:, 2] *= (signs := np.sign(np.linalg.det(u @ v)))
        u[:, :, 2] *= signs[:, None]
        moved = values.sum(1)[:, None, None] * np.einsum("vj,mij->mvi", own, u @ v)
        rows.append(np.linalg.norm(moved - target, axis=2).mean(1))
    return np.stack(rows) * sizes.mean()


def retrieval(table: np.ndarray) -> float:
    """Return the share of heads whose nearest true head, by a table of distances [n,n], is their own."""
    return round(float((table.argmin(1) == np.arange(len(table))).mean()), 4)
