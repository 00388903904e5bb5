"""The sheet shows one picture of each person before it shows a second one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests import needs

needs.module("numba")
from training.pictures.shards import Shard
from training.sheet import sheet


def test_people_come_before_their_second_pictures() -> None:
    files = []
    for level in (20, 60, 100, 140):
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), (level,) * 3).save(buffer, "JPEG")
        files.append(np.frombuffer(buffer.getvalue(), np.uint8))
    empty = dict.fromkeys(Shard._fields, np.zeros(0))
    arrays = {
        "jpeg": np.concatenate(files),
        "jpeg_ends": np.cumsum([len(f) for f in files]),
        "person": np.array([0, 0, 1, 1]),
    }
    drawn = np.asarray(sheet(Shard(**{**empty, **arrays}), columns=4, rows=1, side=8))
    assert drawn.shape == (8, 32, 3)
    assert drawn[4, 4::8, 0] == pytest.approx([20, 100, 60, 140], abs=3)
