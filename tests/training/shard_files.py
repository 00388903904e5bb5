"""Held-out shards for tests: people of a head model, in any pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from training.pictures import shards
from training.pictures.camera import Camera

WORN = ("beard", "hand")


def write_shards(
    folder: Path, heads: np.ndarray, picture: np.ndarray, yaws: list[float], worn: tuple[int, ...] = ()
) -> None:
    """Write one shard of heads [m,V,3], each in two copies of a picture seen from a yaw in degrees.

    worn: the bits of WORN of every picture; nothing is worn where it is empty.
    """
    count = len(heads)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=95)
    jpeg = np.frombuffer(buffer.getvalue(), np.uint8)
    manifest = shards.Manifest(
        shards.FORMAT, "held_out", 9, len(picture), heads.shape[1], count, 2, (), ("skin",), WORN, "0.6.2"
    )
    manifest.save(folder)
    origins = ((heads.min(1) + heads.max(1)) / 2).astype(np.float32)
    person = np.repeat(np.arange(count, dtype=np.int32), 2)
    cameras = [Camera(_turn(yaws[row]), np.zeros(3), 1.0, 500.0, np.zeros(2)).numbers() for row in person]
    seen = np.ones((2 * count, heads.shape[1]), bool)
    seen[:, ::3] = False
    shards.save(
        shards.path_of(folder, 0),
        shards.Shard(
            jpeg=np.tile(jpeg, 2 * count),
            jpeg_ends=len(jpeg) * np.arange(1, 2 * count + 1, dtype=np.int64),
            heads=np.round((heads - origins[:, None]) / shards.UNIT).astype(np.int16),
            origins=origins,
            person=person,
            weights=np.zeros((2 * count, 52), np.float16),
            camera=np.stack(cameras),
            visible=np.packbits(seen, axis=1),
            looks=np.zeros((2 * count, 6), np.int16),
            skin_share=np.zeros(2 * count, np.float16),
            worn=np.array(worn or [0] * (2 * count), np.uint32),
            age=np.zeros(2 * count, np.float16),
            female=np.zeros(2 * count, bool),
        ),
    )


def _turn(degrees: float) -> np.ndarray:
    a = np.radians(degrees)
    return np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
