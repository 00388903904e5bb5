"""Measure what landmarks in the loop of sampling do to heads, by how much they count.

    python -m benchmarks.bench_landmark_pull --bundle BUNDLE --held-out SHARDS [--photos DIR] --json OUT

On held-out renders the true heads are known: what counts are their errors. On photographs only the
reprojection of landmarks and the likeness of two photographs of one person can be measured, and a pull lowers
the first in any case. docs/training.md says what the measures are and where the pictures come from.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import write_result
from topos_rt import Bundle, HeadPipeline, __version__
from topos_rt.bench.work import model_facts
from topos_rt.cli.options import numbers
from topos_rt.errors import OptionError
from topos_rt.faces.pull import checked_response
from topos_rt.scan.face_region import FaceRegion, face_region
from topos_rt.scan.fit import mean_head
from topos_rt.support.files import check_writable
from training import likeness
from training.photographs import Photograph, distances, photographs, reprojection, same_person
from training.sitters import Sitter, sit

WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
PEOPLE = 80
_REPEATS = 2000  # of the bootstrap


def on_renders(
    pipe: HeadPipeline, people: Sequence[Sitter], region: FaceRegion, weights: Sequence[float], seed: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the measures of the mean head on held-out renders, and a row for each weight."""
    truth, yaws = np.stack([person.truth for person in people]), np.array([person.yaw for person in people])
    mean = mean_head(pipe.bundle).points * pipe.bundle.manifest.frame.radius_m
    rows, errors = [], {}
    for weight in weights:
        made = [
            pipe(person.picture, face=person.face, seed=seed, texture="none", landmark_pull=weight)
            for person in people
        ]
        heads = np.stack([head.positions for head in made])
        errors[weight] = own_errors(heads, truth, region)
        rows.append(
            {
                "weight": weight,
                "reprojection_percent": _mean([_residual(head.metadata) for head in made]),
                "seconds_of_steps": round(float(np.median([head.timings["dit_step"] for head in made])), 4),
                **likeness.measure(heads, truth, yaws, region),
                "face_change_mm": change(errors[weight], errors[weights[0]]),
            }
        )
        print(json.dumps({key: value for key, value in rows[-1].items() if key != "by_yaw"}), flush=True)
    return likeness.measure(np.repeat(mean[None], len(people), 0), truth, yaws, region), rows


def own_errors(heads: np.ndarray, truth: np.ndarray, region: FaceRegion) -> np.ndarray:
    """Return the mean distance [n] in mm of the face of each head to that of its true head."""
    pairs = zip(heads, truth, strict=True)
    return np.array([1000 * likeness.face_table(h[None], t[None], region.vertices)[0, 0] for h, t in pairs])


def change(errors: np.ndarray, before: np.ndarray) -> dict[str, float]:
    """Return the mean change of paired errors, and its 95 % interval by the bootstrap over people."""
    off = errors - before
    draws = np.random.default_rng(0).integers(0, len(off), (_REPEATS, len(off)))
    low, high = np.percentile(off[draws].mean(1), (2.5, 97.5))
    return {
        "mean": round(float(off.mean()), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "share_better": round(float((off < 0).mean()), 4),
    }


def on_photographs(
    pipe: HeadPipeline, photos: Sequence[Photograph], region: FaceRegion, weight: float, seed: int
) -> dict[str, Any]:
    """Return a weight's measures on photographs."""
    heads = np.stack(
        [
            pipe(photo.picture, face=photo.face, seed=seed, texture="none", landmark_pull=weight).positions
            for photo in photos
        ]
    )
    off = [reprojection(pipe.bundle, head, photo) for head, photo in zip(heads, photos, strict=True)]
    people = [photo.person for photo in photos]
    alike = same_person(distances(heads, region.vertices), people)
    row = {"weight": weight, "reprojection_percent": _mean(off), "same_person": alike}
    print(json.dumps(row), flush=True)
    return row


def _residual(metadata: Any) -> float | None:
    """Return how far a head's landmarks are from the picture's; None where no pose brings them near."""
    pose = metadata.get("pose")
    return None if pose is None else float(pose["residual_percent"])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 3) if known else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True, metavar="SHARDS")
    parser.add_argument("--photos", type=Path, metavar="DIR")
    parser.add_argument("--people", type=int, default=PEOPLE, help=f"one picture each (default: {PEOPLE})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--weights", type=numbers, default=list(WEIGHTS), help="what to compare, the first with the others"
    )
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    check_writable(args.json)
    if args.people < 2:
        raise OptionError("--people", got=args.people, expected="2 or more")
    started = time.process_time()
    with HeadPipeline.open(Bundle.open(args.bundle), threads=1) as pipe:
        response, _ = checked_response(pipe.bundle)
        region, sitters = face_region(pipe.bundle), sit(pipe, args.held_out, args.people)
        mean, rows = on_renders(pipe, sitters.found, region, args.weights, args.seed)
        result: dict[str, Any] = {
            "topos_rt": __version__,
            "model": model_facts(pipe.bundle),
            "response": pipe.bundle.manifest.files[str(pipe.bundle.manifest.landmark_response)].sha256,
            "directions": len(response.directions),
            "seed": args.seed,
            "people": len(sitters.found),
            "mean_head": mean,
            "renders": rows,
        }
        if args.photos is not None:
            photos, useless = photographs(pipe, args.photos)
            result |= {
                "photographs": len(photos),
                "photograph_files_without_face": useless,
                "on_photographs": [
                    on_photographs(pipe, photos, region, weight, args.seed) for weight in args.weights
                ],
            }
        result["cpu_seconds"] = round(time.process_time() - started)
    write_result(args.json, result)


if __name__ == "__main__":
    main()
