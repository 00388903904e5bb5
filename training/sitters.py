"""People of held-out renders, one picture each, as the runtime's face stage sees them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from topos_rt import HeadPipeline
from topos_rt.errors import OptionError
from topos_rt.faces.face import Face
from topos_rt.faces.pose import angles
from training.pictures import shards


@dataclass(frozen=True, eq=False)
class Sitter:
    """A person who does not exist, in a picture in which a face was found."""

    picture: np.ndarray  # [S,S,3] uint8
    face: Face  # the largest that was found
    truth: np.ndarray  # [V,3] float32, the neutral head, metres, around the origin
    seen: np.ndarray  # [V] bool, which of its vertices the picture shows
    yaw: float  # degrees, of the true camera


class Sitters(NamedTuple):
    """Those who sat, and how many pictures were of no use."""

    found: list[Sitter]
    pictures: int  # that were looked at
    without_face: int
    turned_away: int  # by more than the runtime takes


def sit(pipe: HeadPipeline, folder: Path, count: int) -> Sitters:
    """Return the first `count` people of a folder of shards in whose first picture the runtime sees a face.

    Raises OptionError where the folder has too few, or heads of another topology than the pipeline's.
    """
    manifest = shards.Manifest.open(folder)
    vertices = pipe.bundle.topology.num_vertices
    if manifest.vertices != vertices:
        raise OptionError(
            f"--held-out {folder}", got=f"heads of {manifest.vertices} vertices", expected=f"{vertices}"
        )
    found: list[Sitter] = []
    pictures = without = turned = 0
    for path in sorted(folder.glob("shard_*.npz")):
        shard = shards.load(path)
        heads, seen = shard.neutral_heads(), shard.seen()
        for person, picture in zip(*np.unique(shard.person, return_index=True), strict=True):
            if len(found) == count:
                break
            pixels = np.asarray(Image.open(io.BytesIO(shard.picture(picture))).convert("RGB"))
            pictures += 1
            faces = pipe.find_faces(pixels)
            if not faces:
                without += 1
            elif faces[0].hidden:
                turned += 1
            else:
                head = heads[person]
                yaw = angles(shard.camera_of(picture).rotation)[0]
                middle = (head.min(0) + head.max(0)) / 2
                found.append(Sitter(pixels, faces[0], head - middle, seen[picture], yaw))
    if len(found) < count:
        raise OptionError(
            f"--held-out {folder}",
            got=f"{len(found)} people whose face is found",
            expected=f"{count}",
            fix="lower --people, or render more",
        )
    return Sitters(found, pictures, without, turned)
