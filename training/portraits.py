"""Draw the G-buffers of the training and held-out portraits.

    python -m training.portraits --out runs/mini [--heads 8000] [--views 2]
"""

from __future__ import annotations

import argparse
from multiprocessing import Pool
from pathlib import Path

import numpy as np

from training.gbuffers import SIZE, Painter, View
from training.heads import HeadModel
from training.seeds import HELD_OUT_SEED, TRAIN_SEED

HELD_OUT_PORTRAITS = 200
_CHUNK = 250  # heads a task
_painter: Painter | None = None


def open_buffers(directory: Path, name: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Memory-mapped normals [n,S,S,3] int8 and materials [n,S,S] uint8, and the views per head."""
    normals = np.load(directory / f"{name}_normals.npy", mmap_mode="r")
    materials = np.load(directory / f"{name}_materials.npy", mmap_mode="r")
    return normals, materials, int(np.load(directory / f"{name}_views.npy"))


def draw_set(directory: Path, name: str, heads: int, views: int, seed: int, workers: int) -> None:
    """`heads` heads of the stream `seed`, `views` portraits of each, one after the other."""
    directory.mkdir(parents=True, exist_ok=True)
    shape = (heads * views, SIZE, SIZE)
    normals = np.lib.format.open_memmap(directory / f"{name}_normals.npy", "w+", np.int8, (*shape, 3))
    materials = np.lib.format.open_memmap(directory / f"{name}_materials.npy", "w+", np.uint8, shape)
    np.save(directory / f"{name}_views.npy", np.array(views))
    positions = HeadModel.load().sample(heads, seed).astype(np.float32)
    tasks = [(positions[i : i + _CHUNK], views, seed, i) for i in range(0, heads, _CHUNK)]
    with Pool(workers, initializer=_start) as pool:
        for first, (some_normals, some_materials) in pool.imap_unordered(_draw_chunk, tasks):
            normals[first * views : first * views + len(some_normals)] = some_normals
            materials[first * views : first * views + len(some_materials)] = some_materials
            print(f"{name}: heads {first}..{first + _CHUNK}", flush=True)


def _start() -> None:
    global _painter  # one per worker process: building it loads the head model
    _painter = Painter(HeadModel.load())


def _draw_chunk(task: tuple[np.ndarray, int, int, int]) -> tuple[int, tuple[np.ndarray, np.ndarray]]:
    heads, views, seed, first = task
    assert _painter is not None
    rng = np.random.default_rng([seed, first])
    drawn = [_painter.draw(_painter.with_expression(head, rng), View.random(rng), rng) for head in heads for _ in range(views)]
    return first, (np.stack([n for n, _ in drawn]), np.stack([m for _, m in drawn]))


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
