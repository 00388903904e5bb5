"""Measure how well `mini`'s rig fits heads it was not made on: `python -m benchmarks.bench_rig`.

Random heads from anny, which neither training nor the fitting of joints has seen, get the rig in three ways:
by adding the template's offsets as they are, by frames alone, and by all of `topos_rt.head.rig_fit.fit_rig`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import write_result
from topos_rt import __version__
from topos_rt.bench.work import model_facts
from topos_rt.head.normals import vertex_normals
from topos_rt.head.rig import Rig
from topos_rt.head.rig_fit import fit_rig
from topos_rt.model.bundle import Bundle
from training.defects import Defects
from training.heads import HeadModel, normalise

SEED = 888_000
HEADS = 40
RESULT = Path(__file__).parent / "results" / "rig_mini.json"
DEEPER_MM = 0.5
BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")
LOOKS = ("eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutRight", "eyeLookUpRight")
# Expressions with closed lips.
CLOSED = {"smile": ("mouthSmileLeft", "mouthSmileRight"), "jawOpen + mouthClose": ("jawOpen", "mouthClose")}
JOINTS = ("eye.L", "eye.R", "jaw", "head", "neck01")


class Judge:
    """Measures rigs on heads, in mm."""

    def __init__(self, model: HeadModel, rig: Rig) -> None:
        assert rig.binding is not None
        self._triangles, self._edges = model.topology.triangles, model.topology.edges
        self._binding, self._template = rig.binding, rig.binding.template.astype(np.float64)
        self._shapes = {name: rig.shape(name).astype(np.float64) for name in rig.shape_names}
        self._lids = {
            name: self._binding.contact_pairs[slice(*self._binding.contact_offsets[n : n + 2])]
            for n, name in enumerate(rig.shape_names)
            if name in BLINKS
        }
        mean = normalise(model.sample(200, seed=0))[0].mean(0)
        self._lip_gaps = Defects(model, mean[None])._lip_gaps  # pairs of facing vertices
        self._own_closing = {
            label: self._closing(self._template, self._shapes, names) for label, names in CLOSED.items()
        }
        self._flips = {name: self._flipped(self._template, shape) for name, shape in self._shapes.items()}

    def measure(self, head: np.ndarray, rig: Rig) -> dict[str, np.ndarray]:
        """Return name -> values, one for each vertex, pair or shape."""
        shapes = {name: rig.shape(name).astype(np.float64) for name in rig.shape_names}
        found = {"lids": 1e3 * np.concatenate([self._lid_gaps(head, shapes[name], name) for name in BLINKS])}
        for label, names in CLOSED.items():
            found[f"lips {label}"] = 1e3 * (self._closing(head, shapes, names) - self._own_closing[label])
        found["eyes"] = 1e3 * np.concatenate([self._bending(head, shapes[name]) for name in LOOKS])
        found["stretch"] = np.array([self._stretch(head, shapes[name], name) for name in shapes])
        flipped = {name: self._flipped(head, shape) & ~self._flips[name] for name, shape in shapes.items()}
        found["folded"] = np.array([np.count_nonzero(flips) for flips in flipped.values()])
        return found

    def _closing(self, head: np.ndarray, shapes: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
        """Return how much shapes, set together, widen the gaps between facing vertices of the lips."""
        moved: np.ndarray = np.sum([shapes[name] for name in names], axis=0)
        gaps: np.ndarray = self._lip_gaps(head + moved) - self._lip_gaps(head)
        return gaps

    def _lid_gaps(self, head: np.ndarray, shape: np.ndarray, name: str) -> np.ndarray:
        """Return how much wider along the opening closed lids are than on the template; below 0: overlap."""

        def gap(rest: np.ndarray, moved: np.ndarray) -> np.ndarray:
            (a, b), posed = self._lids[name].T, rest + moved
            way = rest[a] - rest[b]
            along: np.ndarray = ((posed[a] - posed[b]) * way).sum(1) / np.linalg.norm(way, axis=1)
            return along

        return gap(head, shape) - gap(self._template, self._shapes[name])

    def _bending(self, head: np.ndarray, shape: np.ndarray) -> np.ndarray:
        """Return the changes of distances within each eyeball that the shape moves."""
        changes = []
        for part in (2, 3):
            ids = np.flatnonzero(self._binding.parts == part)
            if shape[ids].any():
                points = head[ids], (head + shape)[ids]
                rest, moved = (np.linalg.norm(p[:, None] - p[None], axis=2) for p in points)
                changes.append(np.abs(moved - rest).ravel())
        return np.concatenate(changes)

    def _stretch(self, head: np.ndarray, shape: np.ndarray, name: str) -> float:
        """Return the mean difference between head and template in the log stretch of edges that move."""

        def stretch(rest: np.ndarray, moved: np.ndarray) -> np.ndarray:
            a, b = self._edges[self._shapes[name][self._edges].any((1, 2))].T
            lengths = [np.linalg.norm(p[a] - p[b], axis=1) for p in (rest, rest + moved)]
            result: np.ndarray = np.log(np.maximum(lengths[1], 1e-9) / np.maximum(lengths[0], 1e-9))
            return result

        return float(np.abs(stretch(head, shape) - stretch(self._template, self._shapes[name])).mean())

    def _flipped(self, rest: np.ndarray, shape: np.ndarray) -> np.ndarray:
        """Return [F] bool: the triangles that face against their surroundings only with the shape set."""

        def against(points: np.ndarray) -> np.ndarray:
            a, b, c = points[self._triangles].transpose(1, 0, 2)
            around = vertex_normals(points, self._triangles)[self._triangles].sum(1)
            looks: np.ndarray = (np.cross(b - a, c - a) * around).sum(1) < 0
            return looks

        return against(rest + shape) & ~against(rest)


def without_contacts(rig: Rig) -> Rig:
    """Return the same rig with frames as the only means to transfer shapes."""
    assert rig.binding is not None
    plain = dataclasses.replace(
        rig.binding,
        parts=0 * rig.binding.parts,
        contact_pairs=np.zeros((0, 2), np.int32),
        contact_offsets=0 * rig.binding.contact_offsets,
    )
    return dataclasses.replace(rig, binding=plain)


def summary(values: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return statistics over all heads."""
    lids = values["lids"]
    result: dict[str, Any] = {}
    result["lids"] = {
        "mean_mm": _round(np.abs(lids).mean()),
        "open_p95_mm": _round(np.percentile(lids, 95)),
        "overlap_p95_mm": _round(-np.percentile(lids, 5)),
        "open_by_1_mm": _round(np.mean(lids > 1)),
    }
    for label in CLOSED:
        gaps = values[f"lips {label}"]
        result[f"lips {label}"] = {
            "mean_mm": _round(np.abs(gaps).mean()),
            "p95_mm": _round(np.percentile(np.abs(gaps), 95)),
            "deeper": _round(np.mean(gaps < -DEEPER_MM)),
        }
    result["eyes"] = {"mean_mm": _round(values["eyes"].mean()), "max_mm": _round(values["eyes"].max())}
    result["stretch"] = _round(values["stretch"].mean())
    result["folded_per_shape"] = _round(values["folded"].mean())
    return result


def _round(value: Any) -> float:
    return round(float(value), 4)


def measure(model: HeadModel, rig: Rig, radius: float, count: int) -> dict[str, Any]:
    """Return everything that the documentation quotes."""
    heads, radii = normalise(model.sample(count, SEED))
    heads = heads.astype(np.float64) * radius
    judge = Judge(model, rig)
    loose = without_contacts(rig)
    methods: dict[str, Callable[[np.ndarray], Rig]] = {
        "addition": lambda head: rig,
        "frames": lambda head: fit_rig(loose, head),
        "fit": lambda head: fit_rig(rig, head),
    }
    result: dict[str, Any] = {"heads": count, "seed": SEED, "methods": {}}
    for name, method in methods.items():
        found = [judge.measure(head, method(head)) for head in heads]
        together = {key: np.concatenate([one[key] for one in found]) for key in found[0]}
        result["methods"][name] = summary(together)
    result["joints"] = _joints(model, rig, radius / radii, count)
    clocks = {"wall": time.perf_counter, "cpu": time.process_time}
    result["fit_ms"] = {}
    for name, clock in clocks.items():
        times = []
        for head in heads:
            start = clock()
            fit_rig(rig, head)
            times.append(clock() - start)
        result["fit_ms"][name] = round(1e3 * float(np.median(times)), 2)
    return result


def _joints(model: HeadModel, rig: Rig, scale: np.ndarray, count: int) -> dict[str, Any]:
    """Return statistics of the distances to anny's own joints, at the nominal radius."""
    assert rig.binding is not None
    heads, own = model.sample(count, SEED), model.joints(count, SEED)
    got = np.stack([rig.binding.joints(head) for head in heads])
    off = 1e3 * np.linalg.norm(got - own, axis=2) * scale[:, None]
    result = {"all": {"mean_mm": _round(off.mean()), "p95_mm": _round(np.percentile(off, 95))}}
    for name in JOINTS:
        one = off[:, model.bones.index(name)]
        result[name] = {"mean_mm": _round(one.mean()), "p95_mm": _round(np.percentile(one, 95))}
    return {"vertices_per_joint": int(np.diff(rig.binding.joint_offsets).max())} | result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--heads", type=int, default=HEADS)
    parser.add_argument("--json", type=Path, default=RESULT)
    arguments = parser.parse_args()
    bundle = Bundle.open("mini")
    assert bundle.rig is not None
    about = {"topos_rt": __version__, "model": model_facts(bundle)}
    result = measure(HeadModel.load(), bundle.rig, bundle.manifest.frame.radius_m, arguments.heads)
    write_result(arguments.json, about | result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
