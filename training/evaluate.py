"""Measure a bundle of `mini` on held-out synthetic heads, through the runtime that users run.

    python -m training.evaluate --bundle topos_rt/bundles/mini --json benchmarks/results/mini_quality.json \\
        [--picture docs/images/mini_held_out.png]
"""

from __future__ import annotations

import argparse
import io
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

from models.mini import RADIUS_M
from topos_rt import Bundle, HeadMesh, HeadPipeline, __version__
from topos_rt.bench.work import model_facts
from topos_rt.head.normals import vertex_normals
from topos_rt.pictures.preview import render_view
from topos_rt.support.files import write_atomic
from training.gbuffers import Painter
from training.geometry import MeshGeometry
from training.heads import HeadModel, normalise
from training.shading import shade, to_bytes

EVALUATION_SEED = 555_001  # draws neither the training heads nor those that the loops hold out
HEADS = 100
SETTINGS: dict[str, dict[str, Any]] = {
    "reference": {"preset": "reference"},
    "reference_w3": {"preset": "reference", "guidance": 3.0, "temperature": 1.0},
    "reference_w0": {"preset": "reference", "guidance": 0.0, "temperature": 1.0},
    "balanced": {"preset": "balanced"},
    "fast": {"preset": "fast"},
}
PENETRATION_MM = 0.5
CREASE_HEADS, CREASE_SHARE = 500, 0.02


def portraits(model: HeadModel, heads: np.ndarray, size: int) -> np.ndarray:
    """Render heads [n,V,3] as [n,size,size,3] uint8, with random camera and light as in training."""
    painter, rng = Painter(model), np.random.default_rng(EVALUATION_SEED)
    drawn = painter.draw_views(heads, 1, rng)
    surface = torch.from_numpy(drawn.normals), torch.from_numpy(drawn.materials)
    return to_bytes(shade(*surface, size, torch.Generator().manual_seed(EVALUATION_SEED)).permute(0, 2, 3, 1))


def _positions(pipe: HeadPipeline, image: np.ndarray, seed: int, settings: dict[str, Any]) -> np.ndarray:
    """Return the head [V,3] of a render, which has the framing of the training pictures and is not cut."""
    head = pipe(image, seed=seed, crop="none", face_check=False, **settings)
    return head.positions


def distances_mm(got: np.ndarray, want: np.ndarray, radius: float) -> np.ndarray:
    """Return the vertex distances [V] of heads in the networks' frame, at one head's radius in metres."""
    return np.linalg.norm(got - want, axis=-1) * radius * 1000


def summary(errors: np.ndarray) -> dict[str, float]:
    """Summarise errors [n,V] in mm over all vertices and heads."""
    return {
        "mean": round(float(errors.mean()), 3),
        "rms": round(float(np.sqrt((errors**2).mean())), 3),
        "p50": round(float(np.median(errors)), 3),
        "p99": round(float(np.percentile(errors, 99)), 3),
        "max": round(float(errors.max()), 3),
    }


def retrieval(got: np.ndarray, want: np.ndarray) -> float:
    """Return the share of heads whose nearest true head, by mean vertex distance, is their own."""
    table = np.stack([np.linalg.norm(got - head, axis=-1).mean(1) for head in want], 1)
    return float((table.argmin(1) == np.arange(len(got))).mean())


class Defects:
    """Counts what a fixed topology must never show: folded faces, and lids or lips through each other.

    Extreme true heads fold a face or two themselves, so only what the head's own truth does not show counts.
    Creases do not count either: they are the few faces that one true head in fifty folds, such as one at the
    root of the tongue.
    """

    def __init__(self, model: HeadModel, heads: np.ndarray) -> None:
        """Learn the limits from true heads [n,V,3], some hundreds, in the networks' frame."""
        mean = heads.mean(0)
        self._triangles = model.topology.triangles
        self._creased = np.zeros(len(self._triangles), bool)
        self._creased = np.mean([self._folded(head) for head in heads[:CREASE_HEADS]], 0) >= CREASE_SHARE
        lips = model.topology.regions["lips"]
        above = mean[lips, 1] > np.median(mean[lips, 1])
        self._lips = self._facing(mean, lips[~above], lips[above])
        upper, lower = (
            np.flatnonzero(model.bone_weight(bone) > 0.5) for bone in ("orbicularis03", "orbicularis04")
        )
        self._lids = self._above_each_other(mean, lower, upper)

    def count(self, got: np.ndarray, want: np.ndarray, radius: float) -> dict[str, int]:
        """Count the defects of one head [V,3] against the true one, both in the networks' frame."""
        folded = self._folded(got) & ~self._folded(want)
        tolerance = PENETRATION_MM / 1000 / radius
        crossings = {
            name: int((gaps(got) < np.minimum(0, gaps(want)) - tolerance).sum())
            for name, gaps in (("lip_crossings", self._lip_gaps), ("lid_crossings", self._lid_gaps))
        }
        return {"folded_faces": int(folded.sum()), **crossings}

    def _folded(self, positions: np.ndarray) -> np.ndarray:
        """Mark the faces [F] that look against the surface around them."""
        a, b, c = positions[self._triangles].transpose(1, 0, 2)
        around = vertex_normals(positions, self._triangles)[self._triangles].sum(1)
        return ((np.cross(b - a, c - a) * around).sum(1) < 0) & ~self._creased

    def _facing(self, mean: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Pair lip vertices [n,2] that lie opposite each other, at most 3 mm apart."""
        normals = vertex_normals(mean, self._triangles)
        distance, nearest = cKDTree(mean[upper]).query(mean[lower])
        pairs = np.stack([lower, upper[nearest]], 1)
        opposite = (normals[pairs[:, 0]] * normals[pairs[:, 1]]).sum(1) < -0.3
        return pairs[opposite & (distance < 0.003 / RADIUS_M)]

    @staticmethod
    def _above_each_other(mean: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Pair each lower lid vertex with the upper one at the same side and depth: [n,2]."""
        _, nearest = cKDTree(mean[upper][:, [0, 2]]).query(mean[lower][:, [0, 2]])
        return np.stack([lower, upper[nearest]], 1)

    def _lip_gaps(self, positions: np.ndarray) -> np.ndarray:
        """Return how far the upper lip lies above the lower one, along the lower one's normal."""
        normals = vertex_normals(positions, self._triangles)
        low, up = self._lips.T
        return ((positions[up] - positions[low]) * normals[low]).sum(1)

    def _lid_gaps(self, positions: np.ndarray) -> np.ndarray:
        low, up = self._lids.T
        return positions[up, 1] - positions[low, 1]


def measure(pipe: HeadPipeline, model: HeadModel, picture: Path | None) -> dict[str, Any]:
    """Measure everything that the model card quotes; `picture` is where to draw some of the heads."""
    heads = model.sample(HEADS, EVALUATION_SEED)
    truth, radii = normalise(heads)
    known = normalise(model.sample(2000, seed=0))[0]
    mean, defects, unit = known.mean(0), Defects(model, known), pipe.bundle.manifest.frame.radius_m
    images = portraits(model, heads, pipe.bundle.manifest.image.height)
    result: dict[str, Any] = {
        "heads": HEADS,
        "mean_head_mm": summary(_errors(np.repeat(mean[None], HEADS, 0), truth, radii)),
        "vae": _reconstruction(pipe, model, truth, radii),
    }
    made: dict[str, np.ndarray] = {}
    for name, settings in SETTINGS.items():
        made[name] = np.stack([_positions(pipe, image, 0, settings) / unit for image in images])
        counts = [defects.count(g, w, r) for g, w, r in zip(made[name], truth, radii, strict=True)]
        result[name] = {
            "settings": settings,
            "error_mm": summary(_errors(made[name], truth, radii)),
            "nearest_is_right": retrieval(made[name], truth),
            **{key: sum(c[key] for c in counts) for key in counts[0]},
        }
        print(name, json.dumps(result[name]), flush=True)
    again = np.stack([_positions(pipe, image, 1, SETTINGS["balanced"]) / unit for image in images[:30]])
    base = made["balanced"]
    result["differs_mm"] = {
        "same_image_other_seed": _apart(again, base[: len(again)], unit),
        "same_seed_other_image": _apart(base[1:], base[:-1], unit),
    }
    if picture is not None:
        _picture(pipe, model, images, base, truth, picture)
    return result


def _errors(got: np.ndarray, want: np.ndarray, radii: np.ndarray) -> np.ndarray:
    return np.stack([distances_mm(g, w, r) for g, w, r in zip(got, want, radii, strict=True)])


def _apart(heads: np.ndarray, others: np.ndarray, unit: float) -> float:
    return float(np.mean([distances_mm(a, b, unit).mean() for a, b in zip(heads, others, strict=True)]))


def _reconstruction(
    pipe: HeadPipeline, model: HeadModel, truth: np.ndarray, radii: np.ndarray
) -> dict[str, Any]:
    geometry = MeshGeometry(model.topology, truth.mean(0))
    generator = torch.Generator().manual_seed(EVALUATION_SEED)
    count = pipe.bundle.manifest.points.count
    clouds = geometry.sample_surface(torch.from_numpy(truth), count, generator).numpy()
    networks = pipe._networks  # the pipeline itself would fit a frame of its own to the points
    got = np.stack([networks.decode(networks.encode_points(cloud[None])[0])[:, :3] for cloud in clouds])
    return {"points": clouds.shape[1], "error_mm": summary(_errors(got, truth, radii))}


def _picture(
    pipe: HeadPipeline, model: HeadModel, images: np.ndarray, got: np.ndarray, truth: np.ndarray, path: Path
) -> None:
    """Draw rows of a portrait, the generated head and the true head."""
    from PIL import Image

    def view(positions: np.ndarray) -> np.ndarray:
        metres = (positions * pipe.bundle.manifest.frame.radius_m).astype(np.float32)
        mesh = HeadMesh(metres, vertex_normals(metres, model.topology.triangles), pipe.bundle.topology)
        return np.concatenate([render_view(mesh, yaw, 0, 224) for yaw in (0, -60)], 1)

    rows = []
    for i in range(6):
        portrait = np.asarray(Image.fromarray(images[i]).resize((224, 224), Image.Resampling.NEAREST))
        rows.append(np.concatenate([portrait, view(got[i]), view(truth[i])], 1))
    left, right = np.concatenate(rows[:3]), np.concatenate(rows[3:])
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate([left, right], 1)).save(buffer, "PNG", optimize=True)
    write_atomic(path, buffer.getvalue(), parents=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--picture", type=Path)
    args = parser.parse_args()
    model = HeadModel.load()
    with HeadPipeline.open(Bundle.open(args.bundle)) as pipe:
        result = measure(pipe, model, args.picture)
        about = {
            "topos_rt": __version__,
            "backend": pipe.backend,
            "machine": platform.machine(),
            "model": model_facts(pipe.bundle),
        }
    write_atomic(args.json, (json.dumps(about | result, indent=2) + "\n").encode(), parents=True)


if __name__ == "__main__":
    main()
