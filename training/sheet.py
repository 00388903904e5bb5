"""Put the first pictures of a folder of shards side by side: the picture of docs/training_pictures.md.

python -m training.sheet --shards runs/pictures --out docs/images/training_pictures.jpg
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

from topos_rt.support.files import write_atomic
from training.pictures import shards

QUALITY = 82


def sheet(shard: shards.Shard, columns: int, rows: int, side: int) -> Image.Image:
    """Return the first pictures of people, one of each and then their second ones, `side` pixels each."""
    first = np.argsort(np.arange(len(shard.person)) - 2 * shard.person, kind="stable")
    out = Image.new("RGB", (columns * side, rows * side))
    for place, number in enumerate(first[: columns * rows]):
        with Image.open(io.BytesIO(shard.picture(int(number)))) as picture:
            small = picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
        out.paste(small, (place % columns * side, place // columns * side))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--shards", type=Path, required=True, help="a folder that training.render has written"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shard", type=int, default=0)
    parser.add_argument("--columns", type=int, default=9)
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--side", type=int, default=160)
    args = parser.parse_args()
    shards.Manifest.open(args.shards)
    found = shards.load(shards.path_of(args.shards, args.shard))
    buffer = io.BytesIO()
    sheet(found, args.columns, args.rows, args.side).save(buffer, "JPEG", quality=QUALITY, optimize=True)
    write_atomic(args.out, buffer.getvalue(), parents=True)


if __name__ == "__main__":
    main()
