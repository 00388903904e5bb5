"""Render training pictures: textured heads of people who do not exist, with all that is known of them.

    python -m training.render --makehuman DIR --out runs/pictures --split train --pictures 30000
    python -m training.render --makehuman DIR --out runs/held_out --split held_out --pictures 1000

DIR holds MakeHuman's skins/, hair/, eyebrows/, eyelashes/ and eyes/ (CC0); the repository ships none of them.
Started again, it goes on after the last shard that is whole. The page docs/training_pictures.md says more.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import time
from multiprocessing import Pool
from pathlib import Path

import numpy as np

from training.pictures import figure, occluders, people, shards, wear
from training.pictures.assets import HELD_OUT, SPLITS, Library, names
from training.pictures.body import Body
from training.pictures.fields import Fields
from training.pictures.figure import Stage
from training.pictures.picture import SIZE, Studio

PEOPLE_PER_SHARD = 100
PICTURES_PER_PERSON = 1  # people are what is learned, and to draw one costs little beside a picture
# Seeds of heads: no head of one split is ever drawn in the other, nor by `training.heads`.
SEEDS = {"train": 4_000_001, "held_out": 9_000_001}
WORN = ("beard", "spectacles", "sunglasses", *wear.HATS, *occluders.KINDS)
_studio: Studio | None = None  # one per worker process


def open_studio(makehuman: Path, split: str) -> Studio:
    """Load everything that pictures of a split are made from, which takes half a minute."""
    import torch

    from training.heads import HeadModel

    torch.set_num_threads(1)
    head = HeadModel.load()
    body = Body.load(head)
    library = Library.load(makehuman, split)
    return Studio(Stage(body, Fields.of(body, head, library.eyes), library))


def describe(makehuman: Path, split: str, actions: tuple[str, ...], vertices: int) -> shards.Manifest:
    """Return the manifest of a split."""
    found = [name for kind in HELD_OUT for name in names(makehuman, kind, split)]
    return shards.Manifest(
        format=shards.FORMAT,
        split=split,
        seed=SEEDS[split],
        size=SIZE,
        vertices=vertices,
        people_per_shard=PEOPLE_PER_SHARD,
        pictures_per_person=PICTURES_PER_PERSON,
        actions=actions,
        names=(*found, *figure.SHORN),
        worn=WORN,
        anny=importlib.metadata.version("anny"),
    )


def draw_shard(studio: Studio, manifest: shards.Manifest, number: int) -> shards.Shard:
    """Draw the people of shard `number` and take their pictures: the same ones on every call."""
    stage = studio.stage
    rng = np.random.default_rng([manifest.seed, number])
    drawn = people.draw(stage.body, stage.fields, stage.library, manifest.people_per_shard, rng)
    pictures = [
        (row, studio.take(person, np.random.default_rng([manifest.seed, number, row, view])))
        for row, person in enumerate(drawn)
        for view in range(manifest.pictures_per_person)
    ]
    heads = np.stack([person.neutral[stage.body.head_ids] for person in drawn])
    return shards.pack(manifest, heads, drawn, pictures)


def _start(makehuman: Path, split: str) -> None:
    global _studio
    _studio = open_studio(makehuman, split)


def _draw(task: tuple[Path, shards.Manifest, int]) -> int:
    folder, manifest, number = task
    assert _studio is not None
    shards.save(shards.path_of(folder, number), draw_shard(_studio, manifest, number))
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--makehuman", type=Path, required=True, help="the folder with MakeHuman's assets")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the shards")
    parser.add_argument("--split", choices=SPLITS, required=True)
    parser.add_argument("--pictures", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    text = "the number of the first shard; later ones hold people whom an earlier run did not see"
    parser.add_argument("--first", type=int, default=0, metavar="N", help=text)
    args = parser.parse_args()
    from training.heads import HeadModel

    head = HeadModel.load()
    manifest = describe(args.makehuman, args.split, head.action_names, len(head.template))
    manifest.save(args.out)
    total = -(-args.pictures // manifest.pictures_per_shard)
    wanted = range(args.first, args.first + total)
    left = [n for n in wanted if not shards.path_of(args.out, n).exists()]
    print(f"{args.split}: {total - len(left)} of {total} shards are there", flush=True)
    started = time.monotonic()
    with Pool(args.workers, initializer=_start, initargs=(args.makehuman, args.split)) as pool:
        tasks = [(args.out, manifest, number) for number in left]
        for done, number in enumerate(pool.imap_unordered(_draw, tasks), 1):
            rate = done * manifest.pictures_per_shard / (time.monotonic() - started)
            print(
                f"{args.split}: shard {number}, {done} of {len(left)} left, {rate:.1f} pictures/s", flush=True
            )


if __name__ == "__main__":
    main()
