"""Draw the G-buffers of the training and held-out portraits.

    python -m training.portraits --out runs/mini [--heads 8000] [--views 2]
"""

from __future__ import annotations

import argparse
from multiprocessing import Pool
from pathlib import Path

import numpy as np

from training.gbuffers import LANDMARKS, SIZE, GBuffer, Painter, View
from training.heads import HeadModel
from training.seeds import HELD_OUT_SEED, TRAIN_SEED

HELD_OUT_PORTRAITS = 200
_CHUNK = 250  # heads a task
_painter: Painter | None = None


def open_buffers(directory: Path, name: str) -> tuple[GBuffer, int]:
    """The memory-mapped arrays of a set, one row a portrait, and the portraits per head."""
    arrays = (np.load(directory / f"{name}_{field}.npy", mmap_mode="r") for field in GBuffer._fields)
    return GBuffer(*arrays), int(np.load(directory / f"{name}_views.npy"))


def draw_set(directory: Path, name: str, heads: int, views: int, seed: int, workers: int) -> None:
    """`heads` heads of `seed`, `views` portraits of each, one after the other."""
    directory.mkdir(parents=True, exist_ok=True)
    kinds = {"normals": ((SIZE, SIZE, 3), np.int8), "materials": ((SIZE, SIZE), np.uint8),
             "landmarks": ((LANDMARKS, 2), np.float16)}  # fmt: skip
    arrays = {}
    for field, (shape, dtype) in kinds.items():
        path = directory / f"{name}_{field}.npy"
        arrays[field] = np.lib.format.open_memmap(path, "w+", dtype, (heads * views, *shape))
    np.save(directory / f"{name}_views.npy", np.array(views))
    positions = HeadModel.load().sample(heads, seed).astype(np.float32)
    tasks = [(positions[i : i + _CHUNK], views, seed, i) for i in range(0, heads, _CHUNK)]
    with Pool(workers, initializer=_start) as pool:
        for first, drawn in pool.imap_unordered(_draw_chunk, tasks):
            for field, rows in drawn._asdict().items():
                arrays[field][first * views : first * views + len(rows)] = rows
            print(f"{name}: heads {first}..{first + _CHUNK}", flush=True)


def _start() -> None:
    global _painter  # one per worker process: building it loads the head model
    _painter = Painter(HeadModel.load())


def _draw_chunk(task: tuple[np.ndarray, int, int, int]) -> tuple[int, GBuffer]:
    heads, views, seed, first = task
    assert _painter is not None
    rng = np.random.default_rng([seed, first])
    drawn = [_painter.draw(_painter.with_expression(head, rng), View.random(rng), rng)
             for head in heads for _ in range(views)]  # fmt: skip
    return first, GBuffer(*(np.stack(rows) for rows in zip(*drawn, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--heads", type=int, default=8000)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    draw_set(args.out, "held_out", HELD_OUT_PORTRAITS, 1, HELD_OUT_SEED, 1)
    draw_set(args.out, "train", args.heads, args.views, TRAIN_SEED, args.workers)


if __name__ == "__main__":
    main()
