"""One portrait becomes a head in a file, with a picture of it.

    python examples/first_head.py [PORTRAIT [HEAD.glb]]

The suffix of HEAD chooses the format: .glb, .gltf, .head, .obj, .ply, .usd or .usda.
"""

import sys
from pathlib import Path

import topos_rt

portrait, out = [*sys.argv[1:], *("", "")][:2]
portrait = portrait or str(Path(__file__).with_name("astronaut.jpg"))
out = out or "head.glb"

try:
    head = topos_rt.generate(portrait, seed=0, preset="fast")
except topos_rt.ImageError as error:  # no such file, no picture, nobody in it …
    sys.exit(f"error: {error}")

head.save(out)
Path(out).with_suffix(".png").write_bytes(head.preview(size=320))

low, high = head.bounds
print(f"{out}: {len(head.positions):,} vertices, {high[1] - low[1]:.3f} m high")
print(f"made in {head.timings['total']:.2f} s; the face looks {head.face.yaw:.0f} degrees sideways")
