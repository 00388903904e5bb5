"""Many portraits, one pipeline: the model is loaded once, and a bad picture does not lose the others.

    python examples/many_heads.py OUT PORTRAIT...

Every head becomes a small .head file beside a .base that all share, and `index.html` shows them.
"""

import html
import sys
from pathlib import Path

import topos_rt

if len(sys.argv) < 3:
    sys.exit("usage: python examples/many_heads.py OUT PORTRAIT...")
out, portraits = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
out.mkdir(parents=True, exist_ok=True)
rows, failed = [], 0

with topos_rt.HeadPipeline.open("mini") as pipe:
    for number, portrait in enumerate(portraits):
        try:
            head = pipe(portrait, preset="fast", texture_size=512)
        except topos_rt.ImageError as error:
            print(f"error: {error}", file=sys.stderr)
            failed += 1
            continue
        name = f"{number:03}_{portrait.stem}"
        head.save(out / f"{name}.head")  # `topos_rt.HeadMesh.load` reads it again
        (out / f"{name}.png").write_bytes(head.preview(size=160))
        rows.append(f'<figure><img src="{html.escape(name)}.png"><figcaption>{html.escape(portrait.name)}')
        print(f"{name}: {head.timings['total']:.2f} s")

(out / "index.html").write_text("\n".join(['<!doctype html><meta charset="utf-8">', *rows]), "utf-8")
sys.exit(2 if failed else 0)
