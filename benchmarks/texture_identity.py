"""How far a head with its texture is from its photograph, by an embedding and drawn again in its pose.

The embedding is no input of `mini`.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.faceres import FaceRes
from benchmarks.texture_again import against_photograph
from topos_rt.faces.face import Face
from topos_rt.head.mesh import HeadMesh
from topos_rt.metrics import FeatureNetwork
from topos_rt.pictures.preview import render_view
from topos_rt.pipeline import HeadPipeline
from training.pictures import shards

EXAMPLES = Path(__file__).parents[1] / "examples"
PHOTOGRAPHS, RENDERS, HELD_OUT = "photograph", "gallery's render", "held-out render"
GALLERY = {PHOTOGRAPHS: EXAMPLES, RENDERS: EXAMPLES / "people"}
_YAWS = (0.0, 30.0, -30.0)
_SIDE = 320
_HIDING = ("sunglasses", "hand", "bar", "microphone", "cup", "block", "scarf")


def people(folder: Path | None, count: int) -> Iterator[tuple[str, str, Image.Image]]:
    """Yield name, group and picture of people whose faces are free.

    The photographs and the rendered people of the gallery come first, then `count` of the rendered people in
    a folder of shards, one picture of each. None of the rendered people was trained on.
    """
    for group, directory in GALLERY.items():
        for path in sorted(directory.glob("*.jpg")):
            with Image.open(path) as opened:
                yield path.stem, group, opened.convert("RGB")
    if folder is None:
        return
    manifest, shard = shards.Manifest.open(folder), shards.load(shards.path_of(folder, 0))
    hidden = sum(1 << manifest.worn.index(name) for name in _HIDING)
    given = 0
    for row in range(0, len(shard.worn), 2):
        if given == count:
            return
        if not shard.worn[row] & hidden:
            with Image.open(io.BytesIO(shard.picture(row))) as opened:
                yield f"render {row}", HELD_OUT, opened.convert("RGB")
            given += 1


def measure(
    archive: Path, folder: Path | None, count: int, perceptual: FeatureNetwork | None = None
) -> dict[str, Any]:
    """Return 1 - cosine of photographs and their heads, by texture and yaw, and of mismatched pairs.

    Each row also has what `against_photograph` finds, with LPIPS where a network for it is given.
    """
    network, rows, photos, fronts = FaceRes(archive), [], [], []
    with HeadPipeline.open("mini", "onnxruntime") as pipe:
        for name, group, picture in people(folder, count):
            found = [face for face in pipe.find_faces(picture, 1) if not face.hidden and abs(face.yaw) < 30]
            if not found:
                continue
            photo = network(picture, found[0])
            head = pipe(picture, face=found[0], preset="fast", texture_size=512)
            assert head.texture is not None
            row: dict[str, Any] = {"picture": name, "group": group}
            kinds = {"projected": head, "flat": dataclasses.replace(head, texture=None)}
            for kind, one in kinds.items():
                seen = [_seen(network, pipe, one, yaw) for yaw in _YAWS]
                row[kind] = [None if other is None else round(1 - float(photo @ other), 4) for other in seen]
                if kind == "projected" and seen[0] is not None:
                    photos.append(photo)
                    fronts.append(seen[0])
            row["again"] = against_photograph(pipe.bundle, head, picture, found[0], perceptual)
            rows.append(row)
            print(row, flush=True)
    apart = 1 - np.array(photos) @ np.array(fronts).T
    others = apart[~np.eye(len(apart), dtype=bool)]
    nearest = float((apart.argmin(1) == np.arange(len(apart))).mean())
    return {
        "yaws": _YAWS,
        "pictures": rows,
        "mismatched_mean": round(float(others.mean()), 4),
        "mismatched_5_percent": round(float(np.percentile(others, 5)), 4),
        "right_head_is_nearest": round(nearest, 3),
        "heads": len(apart),
    }


def _seen(network: FaceRes, pipe: HeadPipeline, head: HeadMesh, yaw: float) -> np.ndarray | None:
    picture = Image.fromarray(render_view(head, yaw, 0, _SIDE))
    faces: list[Face] = [face for face in pipe.find_faces(picture, 1) if len(face.landmarks)]
    return network(picture, faces[0]) if faces else None
