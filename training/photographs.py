"""Measure a bundle on photographs, whose true heads nobody knows.

    python -m training.photographs --bundle topos_rt/bundles/mini [--before OLD] --photos DIR --json OUT

DIR has JPEG and PNG files. `NAME-1.jpg`, `NAME-2.jpg` … are photographs of one person, whose face is the
largest; in a file with another name every face is that of another person. The page docs/training.md says
what is measured, and from which packages photographs can be had.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from topos_rt import Bundle, HeadPipeline, __version__
from topos_rt.bench.work import model_facts
from topos_rt.errors import InputError, OptionError
from topos_rt.faces.face import SMALL_PX, Face
from topos_rt.faces.fit import fit_head
from topos_rt.head.rig_fit import fit_rig
from topos_rt.pictures.image import read_picture
from topos_rt.scan.face_region import face_region
from topos_rt.scan.fit import mean_head
from topos_rt.support.files import check_writable, write_atomic
from training import likeness
from training.changes import CHANGES

SUFFIXES = (".jpg", ".jpeg", ".png")
FEWEST = 3  # people, below which nobody is nearest by more than chance
STABLE = 8  # photographs that are changed
_NUMBERED = re.compile(r"(.+)-(\d+)$")


@dataclass(frozen=True, eq=False)
class Photograph:
    """A face in a photograph."""

    name: str
    person: str
    picture: Image.Image  # upright, RGB
    face: Face
    largest: bool  # of the faces of its file


def photographs(pipe: HeadPipeline, folder: Path) -> tuple[list[Photograph], list[str]]:
    """Return the faces of a folder's photographs, and the files in which none can be used.

    Raises OptionError where there are fewer than three people.
    """
    files = sorted(path for path in _listed(folder) if path.suffix.lower() in SUFFIXES)
    found: list[Photograph] = []
    useless: list[str] = []
    for path in files:
        picture = read_picture(path)
        faces = [face for face in pipe.find_faces(picture) if not face.hidden and face.size >= SMALL_PX]
        numbered = _NUMBERED.match(path.stem)
        if numbered:
            found += [Photograph(path.name, numbered[1], picture, face, True) for face in faces[:1]]
        else:
            for number, face in enumerate(faces):
                name = f"{path.name} {number + 1}"
                found.append(Photograph(name, name, picture, face, number == 0))
        if not faces:
            useless.append(path.name)
    people = len({photo.person for photo in found})
    if people < FEWEST:
        raise OptionError(
            f"--photos {folder}",
            got=f"{people} people in {len(files)} photographs",
            expected=f"{FEWEST} or more, in files that end in {', '.join(SUFFIXES)}",
        )
    return found, useless


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise OptionError(
            f"--photos {folder}", got=error.strerror, expected="a folder of photographs"
        ) from error


def head_of(pipe: HeadPipeline, picture: Image.Image, face: Face) -> np.ndarray:
    """Return the neutral head [V,3] that the runtime makes of a face, metres."""
    return pipe(picture, face=face, texture="none").positions


def reprojection(bundle: Bundle, positions: np.ndarray, photo: Photograph) -> float | None:
    """Return how far a head's landmarks are from a photograph's, in % of the outer-eye distance.

    The shape is frozen; camera and expression are fitted (`topos_rt.faces.fit`). The result is None where no
    pose brings them near each other.
    """
    rig = None if bundle.rig is None else fit_rig(bundle.rig, positions)
    assert bundle.landmarks is not None
    seen, size = photo.face, photo.picture.size
    try:
        fit = fit_head(positions, rig, bundle.landmarks, seen.landmarks, size, scores=seen.expression)
    except InputError:
        return None
    return round(fit.residual, 3)


def distances(heads: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Return the distances [n,n] in mm between the faces of heads, symmetric."""
    table = likeness.face_table(heads, heads, face) * 1000
    return np.asarray((table + table.T) / 2)


def same_person(table: np.ndarray, people: list[str]) -> dict[str, Any] | None:
    """Return how near photographs of one person are to each other; None where everybody is seen once.

    Each person with several photographs counts once in the mean within people, however many there are.
    """
    names = np.array(people)
    own = names[:, None] == names
    pairs = own & ~np.eye(len(people), dtype=bool)
    if not pairs.any():
        return None
    several = np.flatnonzero(pairs.any(1))
    nearest = (table + np.where(np.eye(len(people)), np.inf, 0)).argmin(1)
    by_person = {name: float(table[pairs & (names == name)].mean()) for name in np.unique(names[several])}
    within, between = float(np.mean(list(by_person.values()))), float(table[~own].mean())
    return {
        "people": len(by_person),
        "photographs": len(several),
        "nearest_is_the_same": round(float(own[several, nearest[several]].mean()), 4),
        "within_mm": round(within, 3),
        "within_mm_by_person": {name: round(value, 3) for name, value in by_person.items()},
        "between_mm": round(between, 3),
        "ratio": round(within / between, 4) if between > 0 else None,
    }


def stability(pipe: HeadPipeline, photo: Photograph, face: np.ndarray) -> dict[str, Any]:
    """Return how far heads move, in mm, when nothing but the photograph's capture changes."""
    base = head_of(pipe, photo.picture, photo.face)
    result: dict[str, Any] = {}
    for name, change in CHANGES.items():
        picture = change(photo.picture)
        faces = pipe.find_faces(picture)
        if not faces or faces[0].hidden:
            result[name] = None
            continue
        heads = np.stack([base, head_of(pipe, picture, faces[0])])
        result[name] = round(float(distances(heads, face)[0, 1]), 3)
    return result


def measure(pipe: HeadPipeline, photos: list[Photograph], frozen: np.ndarray | None = None) -> dict[str, Any]:
    """Return a model's measures on photographs; frozen: a head [V,3] to measure in place of the model's."""
    bundle = pipe.bundle
    face = face_region(bundle).vertices
    if frozen is None:
        heads = np.stack([head_of(pipe, photo.picture, photo.face) for photo in photos])
    else:
        heads = np.repeat(frozen[None], len(photos), 0)
    off = {photo.name: reprojection(bundle, head, photo) for head, photo in zip(heads, photos, strict=True)}
    fitted = [value for value in off.values() if value is not None]
    found: dict[str, Any] = {
        "reprojection_percent": {
            "mean": round(float(np.mean(fitted)), 3),
            "median": round(float(np.median(fitted)), 3),
            "unfitted": len(off) - len(fitted),
        },
        "by_photograph": off,
    }
    if frozen is not None:
        return found
    found["same_person"] = same_person(distances(heads, face), [photo.person for photo in photos])
    chosen = [photo for photo in photos if photo.largest][:STABLE]
    rows = [stability(pipe, photo, face) for photo in chosen]
    found["stability_mm"] = {name: _summary([row[name] for row in rows]) for name in CHANGES}
    return found


def _summary(moved: list[float | None]) -> dict[str, Any]:
    known = [value for value in moved if value is not None]
    mean = round(float(np.mean(known)), 3) if known else None
    return {"mean": mean, "without_face": len(moved) - len(known)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument(
        "--before", type=Path, metavar="BUNDLE", help="an earlier bundle to measure beside it"
    )
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    check_writable(args.json)
    result: dict[str, Any] = {"topos_rt": __version__}
    with HeadPipeline.open(Bundle.open(args.bundle), threads=1) as pipe:
        photos, useless = photographs(pipe, args.photos)
        people = Counter(photo.person for photo in photos)
        result |= {
            "model": model_facts(pipe.bundle),
            "faces": len(photos),
            "people": len(people),
            "files_without_face": useless,
            "mean_head": measure(
                pipe, photos, mean_head(pipe.bundle).points * pipe.bundle.manifest.frame.radius_m
            ),
            "now": measure(pipe, photos),
        }
    if args.before is not None:
        with HeadPipeline.open(Bundle.open(args.before), threads=1) as pipe:
            result["before"] = {"bundle": model_facts(pipe.bundle)} | measure(pipe, photos)
    write_atomic(args.json, (json.dumps(result, indent=2) + "\n").encode(), parents=True)
    for name in ("mean_head", "before", "now"):
        if name in result:
            print(name, json.dumps({k: v for k, v in result[name].items() if k != "by_photograph"}))


if __name__ == "__main__":
    main()
