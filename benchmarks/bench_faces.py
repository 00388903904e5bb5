"""Measure the face stage: its time by part, and how well landmarks follow a changed picture.

python -m benchmarks.bench_faces [--runs 40] [--threads N] [--json benchmarks/results/faces_cpu.json]
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from benchmarks.report import report
from topos_rt import __version__
from topos_rt.faces.detection import detections, searches
from topos_rt.faces.finder import FaceFinder, square_around
from topos_rt.pictures.image import read_picture

EXAMPLES = Path(__file__).parents[1] / "examples"
SIDE = 1000  # pixels of the picture that is timed
_OUTER_EYES = [33, 263]


def timed_picture() -> Image.Image:
    """Return a picture of one megapixel with a portrait on it, as a phone's might be."""
    picture = Image.new("RGB", (SIDE, SIDE), (126, 131, 140))
    with Image.open(EXAMPLES / "hopper.jpg") as portrait:
        picture.paste(portrait.resize((700, 700), Image.Resampling.LANCZOS), (150, 220))
    return picture


def times(finder: FaceFinder, picture: Image.Image, runs: int) -> dict[str, dict[str, float]]:
    """Return part -> milliseconds of the parts of finding one face, measured by turns."""
    (whole,) = next(iter(searches(picture.size)))
    (found,) = detections(picture, [whole], finder.networks.detect)
    landmarks, confidence = finder.landmarks(picture, found.square(1.5))
    square = square_around(landmarks)
    parts: dict[str, Callable[[], object]] = {
        "detect once": lambda: detections(picture, [whole], finder.networks.detect),
        "landmarks once": lambda: finder.landmarks(picture, square),
        "pose and expression": lambda: finder.face(picture, landmarks, confidence),
        "find_faces": lambda: finder.find_in(picture),
    }
    samples: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(runs):
        for name, part in parts.items():
            start = time.perf_counter()
            part()
            samples[name].append(1e3 * (time.perf_counter() - start))
    return {
        name: {f"p{q}": round(float(np.percentile(values, q)), 2) for q in (50, 95)}
        for name, values in samples.items()
    }


def changes(picture: Image.Image) -> dict[str, tuple[Image.Image, np.ndarray]]:
    """Return name -> a changed picture, and the map [2,3] from its pixels back to the first picture's."""
    made = {}
    size, middle = np.array(picture.size), np.array(picture.size) / 2
    for factor in (0.5, 0.75, 1.5, 2.0, 3.0):
        new = np.rint(size * factor).astype(int)
        scaled = picture.resize((int(new[0]), int(new[1])), Image.Resampling.LANCZOS)
        made[f"scaled by {factor:g}"] = scaled, np.column_stack([np.diag(size / new), np.zeros(2)])
    for degrees in (-6, -3, 3, 6):
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        back = np.array([[cos, -sin], [sin, cos]])
        turned = picture.rotate(degrees, Image.Resampling.BICUBIC)
        made[f"turned by {degrees} degrees"] = turned, np.column_stack([back, middle - back @ middle])
    same = np.eye(2, 3)
    for factor in (0.4, 2.0):
        made[f"brightness x {factor:g}"] = ImageEnhance.Brightness(picture).enhance(factor), same
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=20)
    made["JPEG of quality 20"] = read_picture(file.getvalue()), same
    return made


def stability(finder: FaceFinder, picture: Image.Image) -> dict[str, dict[str, float]]:
    """Return change -> how far landmarks move when it is undone, in percent of the outer-eye distance."""
    (before,) = finder.find_in(picture)
    unit = float(np.linalg.norm(np.subtract(*before.landmarks[_OUTER_EYES, :2]))) / 100
    moved = {}
    for name, (changed, back) in changes(picture).items():
        (after,) = finder.find_in(changed)
        found = after.landmarks[:, :2] @ back[:, :2].T + back[:, 2]
        apart = np.linalg.norm(found - before.landmarks[:, :2], axis=1) / unit
        moved[name] = {"mean": round(float(apart.mean()), 3), "max": round(float(apart.max()), 3)}
    return moved


def measure(runs: int, threads: int | None) -> dict[str, Any]:
    """Return everything that is measured."""
    with FaceFinder.open("onnxruntime", threads) as finder:
        finder.warm_up()
        return {
            "topos_rt": __version__,
            "model": None,
            "threads": threads,
            "runs": runs,
            "picture": f"{SIDE} x {SIDE} pixels, one face",
            "times_ms": times(finder, timed_picture(), runs),
            "stability_percent": {
                name: stability(finder, read_picture(EXAMPLES / f"{name}.jpg"))
                for name in ("hopper", "astronaut")
            },
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--threads", type=int, help="default: one for each usable core")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    def measured() -> dict[str, Any]:
        result = measure(args.runs, args.threads)
        for name, row in result["times_ms"].items():
            print(f"{name:24} {row['p50']:8.1f} ms")
        for name, rows in result["stability_percent"].items():
            for change, row in rows.items():
                print(f"{name:12} {change:24} {row['mean']:6.2f} % on average")
        return result

    return report(measured, args.json)


if __name__ == "__main__":
    raise SystemExit(main())
