"""Draw the training and held-out portraits.

    python -m training.portraits --out runs/mini [--heads 8000] [--views 2] [--lights 3]

The geometry of a view is drawn once, as a G-buffer, which is lit, coloured and degraded several times. Doing
the latter in every training step would cost as much as the network.
"""

from __future__ import annotations

import argparse
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from models.mini import IMAGE_SIZE
from training.gbuffers import LANDMARKS, Painter
from training.heads import HELD_OUT_SEED, TRAIN_SEED, HeadModel
from training.lessons import GRID, SEEN_CHANNELS, what_is_seen
from training.shading import shade, to_bytes

HELD_OUT_PORTRAITS = 200
_CHUNK = 100  # heads in one task
_BLOCK = 50_000  # heads that are sampled together, which takes ten gigabytes for a while
_painter: Painter | None = None


class Portraits(NamedTuple):
    """The arrays of a set of n views."""

    pixels: np.ndarray  # [n,lights,3,S,S] uint8
    seen: np.ndarray  # [n,patches,SEEN_CHANNELS] int8, 127 is 1
    landmarks: np.ndarray  # [n,LANDMARKS,2] float16


def open_set(directory: Path, name: str) -> tuple[Portraits, np.ndarray]:
    """Map a set's portraits and heads [m,V,3] (float32, metres); n/m views of one head follow each other."""
    heads, *arrays = (
        np.load(directory / f"{name}_{field}.npy", mmap_mode="r") for field in ("heads", *Portraits._fields)
    )
    return Portraits(*arrays), heads


def draw_set(
    directory: Path, name: str, heads: int, views: int, lights: int, seed: int, workers: int
) -> None:
    """Draw `views` portraits of each of `heads` heads, each in `lights` lights, and write the set.

    The portraits of a head follow each other. Every block of heads has a seed of its own, counted up from
    `seed`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    model = HeadModel.load()
    kinds = {
        "heads": ((heads, *model.template.shape), np.float32),
        "pixels": ((heads * views, lights, 3, IMAGE_SIZE, IMAGE_SIZE), np.uint8),
        "seen": ((heads * views, GRID**2, SEEN_CHANNELS), np.int8),
        "landmarks": ((heads * views, LANDMARKS, 2), np.float16),
    }
    arrays = {
        field: np.lib.format.open_memmap(directory / f"{name}_{field}.npy", "w+", dtype, shape)
        for field, (shape, dtype) in kinds.items()
    }
    with Pool(workers, initializer=_start) as pool:
        for block, start in enumerate(range(0, heads, _BLOCK)):
            positions = model.sample(min(_BLOCK, heads - start), seed + block)
            arrays["heads"][start : start + len(positions)] = positions
            tasks = [
                (positions[i : i + _CHUNK], views, lights, seed + block, i)
                for i in range(0, len(positions), _CHUNK)
            ]
            for first, drawn in pool.imap_unordered(_draw_chunk, tasks):
                at = (start + first) * views
                for field, rows in drawn._asdict().items():
                    arrays[field][at : at + len(rows)] = rows
                print(f"{name}: heads {start + first}..{start + first + _CHUNK}", flush=True)


def draw_some(model: HeadModel, heads: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Render heads [n,V,3] as [n,size,size,3] uint8, with random camera and light as in training."""
    drawn = Painter(model).draw_views(heads, 1, np.random.default_rng(seed))
    surface = torch.from_numpy(drawn.normals), torch.from_numpy(drawn.materials)
    return to_bytes(shade(*surface, size, torch.Generator().manual_seed(seed)).permute(0, 2, 3, 1))


def _start() -> None:
    global _painter  # one per worker process: building it loads the head model
    torch.set_num_threads(1)
    _painter = Painter(HeadModel.load())


def _draw_chunk(task: tuple[np.ndarray, int, int, int, int]) -> tuple[int, Portraits]:
    heads, views, lights, seed, first = task
    assert _painter is not None
    rng = np.random.default_rng([seed, first])
    drawn = _painter.draw_views(heads, views, rng)
    surface = torch.from_numpy(drawn.normals), torch.from_numpy(drawn.materials)
    generator = torch.Generator().manual_seed(seed * 1_000_003 + first)
    lit = [to_bytes(shade(*surface, IMAGE_SIZE, generator)) for _ in range(lights)]
    seen = (what_is_seen(*surface) * 127).round().to(torch.int8).numpy()
    return first, Portraits(np.stack(lit, 1), seen, drawn.landmarks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--heads", type=int, default=8000)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--lights", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    draw_set(args.out, "held_out", HELD_OUT_PORTRAITS, 1, 1, HELD_OUT_SEED, 1)
    draw_set(args.out, "train", args.heads, args.views, args.lights, TRAIN_SEED, args.workers)


if __name__ == "__main__":
    main()
