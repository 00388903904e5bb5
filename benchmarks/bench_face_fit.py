"""Measure the fit of camera and expression to faces in pictures whose truth is known.

python -m benchmarks.bench_face_fit [--pictures 150] [--shards DIR] [--json FILE]

The pictures are drawings of held-out synthetic heads; `--shards` adds those of a folder that
`python -m training.render --split held_out` has written. The heads that are fitted are the true one, and the
model's mean head, whose shape is wrong as a head's from a photograph is. Times are of one core.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import face_pictures
from benchmarks.face_pictures import Labelled
from benchmarks.report import write_result
from export.landmarks.command import mean_head
from topos_rt import __version__
from topos_rt.bench.machine import load_average
from topos_rt.bench.work import model_facts
from topos_rt.faces.bundle import FaceBundle
from topos_rt.faces.expression import NAMES
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.fit import HeadFit, HeadFitter
from topos_rt.faces.pose import angles, place
from topos_rt.head.rig_fit import fit_rig
from topos_rt.model.bundle import Bundle

SEED = 555_000
RESULT = Path(__file__).parent / "results" / "face_fit_mini.json"
_ENOUGH = 15  # pictures that show an expression, below which no correlation is told
_FRONTAL = 35.0  # degrees of yaw up to which expressions are compared


def measure(bundle: Bundle, pictures: Labelled) -> dict[str, Any]:
    """Return the errors of poses and the correlations of expressions, by method."""
    canonical = FaceBundle.open(verify=False).canonical
    mean = mean_head(bundle)
    assert bundle.landmarks is not None and bundle.rig is not None and mean.rig is not None
    shared = HeadFitter(mean.positions, mean.rig, bundle.landmarks)
    fits: dict[str, list[HeadFit]] = {"fit, true head": [], "fit, mean head": []}
    found: dict[str, list[tuple[float, float, float]]] = {"Face": []}
    wall, cpu = [], []
    for number, landmarks in enumerate(pictures.landmarks):
        scores = dict(zip(NAMES[1:], map(float, pictures.scores[number]), strict=True))
        found["Face"].append(angles(place(landmarks, canonical).turn))
        neutral = pictures.neutral[number]
        own = HeadFitter(neutral, fit_rig(bundle.rig, neutral), bundle.landmarks)
        fits["fit, true head"].append(own.fit(landmarks, scores=scores))
        started = time.perf_counter(), time.process_time()
        fits["fit, mean head"].append(shared.fit(landmarks, scores=scores))
        wall.append(time.perf_counter() - started[0])
        cpu.append(time.process_time() - started[1])
    found |= {method: [fit.pose.angles for fit in made] for method, made in fits.items()}
    truth = np.array([angles(turn) for turn in pictures.turn])
    weights = {"network": _columns(pictures, list(NAMES[1:]), pictures.scores)}
    for method, made in fits.items():
        names = list(made[0].expression)
        weights[method] = _columns(pictures, names, np.array([[*fit.expression.values()] for fit in made]))
    return {
        "pictures": pictures.pictures,
        "faces": len(pictures),
        "poses": {method: _pose_errors(np.array(rows), truth) for method, rows in found.items()},
        "expressions": _expressions(pictures, weights, truth),
        "residual_percent": {
            method: _middle([fit.residual for fit in made]) for method, made in fits.items()
        },
        "fit_ms": {"wall": _middle(1e3 * np.array(wall)), "cpu": _middle(1e3 * np.array(cpu))},
    }


def _pose_errors(found: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Return the bias, and the median and 90 % of the absolute errors, of angles [n,3] in degrees."""
    off = (found - truth + 180) % 360 - 180
    result = {}
    for name, column in zip(("yaw", "pitch", "roll"), off.T, strict=True):
        median, most = np.percentile(np.abs(column), [50, 90])
        result[name] = {"bias": round(float(np.median(column)), 2), "median": round(float(median), 2)}
        result[name]["p90"] = round(float(most), 2)
    return result


def _columns(pictures: Labelled, names: list[str], values: np.ndarray) -> np.ndarray:
    """Return values [n,S] in the order of the truth's shapes; NaN where a method does not know one."""
    columns = np.full((len(values), len(pictures.shapes)), np.nan)
    for number, name in enumerate(pictures.shapes):
        if name in names:
            columns[:, number] = values[:, names.index(name)]
    return columns


def _expressions(pictures: Labelled, weights: dict[str, np.ndarray], truth: np.ndarray) -> dict[str, Any]:
    """Return shape -> how many pictures show it, and each method's correlation and mean absolute error."""
    frontal = np.abs(truth[:, 0]) <= _FRONTAL
    result: dict[str, Any] = {}
    for number, name in enumerate(pictures.shapes):
        real = pictures.weights[frontal, number]
        shown = int(np.count_nonzero(real > 0.05))
        if shown < _ENOUGH or all(np.isnan(found[:, number]).all() for found in weights.values()):
            continue
        result[name] = {"shown": shown}
        for method, found in weights.items():
            column = found[frontal, number]
            if np.isnan(column).any():  # the method does not know the shape
                continue
            varies = column.std() > 1e-6
            correlation = float(np.corrcoef(column, real)[0, 1]) if varies else 0.0
            error = float(np.abs(column - real).mean())
            result[name][method] = {"correlation": round(correlation, 3), "error": round(error, 3)}
    return result


def _middle(values: Any) -> float:
    return round(float(np.median(values)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=150)
    parser.add_argument("--shards", type=Path, metavar="DIR", help="held-out pictures of training.render")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--json", type=Path, default=RESULT)
    args = parser.parse_args()
    bundle = Bundle.open(args.model)
    result: dict[str, Any] = {
        "topos_rt": __version__,
        "model": model_facts(bundle),
        "load_average": load_average(),
        "sets": {},
    }
    with FaceFinder.open() as finder:
        result["sets"]["drawings"] = measure(bundle, face_pictures.draw(bundle, args.pictures, SEED, finder))
        if args.shards:
            result["sets"]["renders"] = measure(bundle, face_pictures.read(args.shards, finder))
    write_result(args.json, result)
    for name, found in result["sets"].items():
        print(name, json.dumps(found["poses"]), found["residual_percent"], found["fit_ms"])


if __name__ == "__main__":
    main()
