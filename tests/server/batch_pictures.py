"""Folders of small pictures, and the options that make heads of them with the tiny bundle, for batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests import needs

needs.module("pyarrow")

import numpy as np
import pyarrow.parquet
from PIL import Image

from topos_rt.server.batch_crew import READY, Event
from topos_rt.server.batch_work import Setup

# Nobody is to be seen on noise, so pictures are taken whole.
WHOLE: dict[str, Any] = {"preset": "fast", "face": "largest", "crop": "none", "face_check": False}
WORDS = ["--backend", "onnxruntime", "--preset", "fast", "--crop", "none", "--no-face-check"]


class Together:
    """Mixed into a crew: nobody gets work before all workers are ready, so that none is left without any."""

    size: int
    _early: list[Event] | None = None
    _given_out = False

    def wait(self, seconds: float) -> list[Event]:
        events: list[Event] = super().wait(seconds)  # type: ignore[misc]
        if self._given_out:
            return events
        self._early = [*(self._early or ()), *events]
        if sum(event.kind == READY for event in self._early) < self.size:
            return []
        self._given_out = True
        return self._early


def picture(path: Path, seed: int = 0) -> Path:
    """Write a small picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def folder(directory: Path, count: int) -> Path:
    """Write pictures 00.png, 01.png and so on."""
    for number in range(count):
        picture(directory / f"{number:02d}.png", number)
    return directory


def setup_of(bundle: Path, out: Path, **more: Any) -> Setup:
    """Return what makes heads of such pictures in `out`."""
    return Setup(out, str(bundle), {"backend": "onnxruntime", "threads": 1}, WHOLE, **more)


def rows_of(out: Path) -> list[dict[str, Any]]:
    """Return the rows of the results, by input and seed."""
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(out / "results.parquet").to_pylist()
    return sorted(rows, key=lambda row: (row["input"], row["seed"] or 0, row["face"] or 0))


def files_of(out: Path) -> list[str]:
    """Return all files below `out`, hidden ones too, but for those of the batch itself."""
    own = {"results.parquet", "batch.jsonl", ".batch.lock"}
    return sorted(
        path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() and path.name not in own
    )


def check_once(out: Path, names: Sequence[str], seeds: Sequence[int] = (0,)) -> None:
    """Check that there is one whole head, and one row, of each picture and seed, and no other file."""
    heads = [f"{name}_seed{seed}.glb" for name in sorted(names) for seed in seeds]
    assert files_of(out) == sorted(heads)
    assert [row["output"] for row in rows_of(out) if row["exit_code"] == 0] == heads
    for head in heads:
        data = (out / head).read_bytes()
        assert data[:4] == b"glTF" and int.from_bytes(data[8:12], "little") == len(data)
