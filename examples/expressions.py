"""A head with expressions: the portrait's own, a few of ours, and all that a game needs to animate it.

python examples/expressions.py OUT [PORTRAIT]
"""

import sys
from pathlib import Path

import topos_rt

out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("expressions")
portrait = sys.argv[2] if len(sys.argv) > 2 else Path(__file__).with_name("hopper.jpg")
out.mkdir(parents=True, exist_ok=True)

head = topos_rt.generate(portrait, preset="fast", texture_size=512)  # neutral, whatever the portrait does
faces = {
    "portrait": head.expression,  # the weights of ARKit's 52 blendshapes that the portrait shows
    "surprise": {"jawOpen": 0.5, "browInnerUp": 0.9, "eyeWideLeft": 0.8, "eyeWideRight": 0.8},
    "wink": {"eyeBlinkLeft": 1.0, "mouthSmileLeft": 0.6, "cheekSquintLeft": 0.5},
}
for name, shapes in faces.items():
    posed = head.posed(shapes, degrees={"head": (0, 15, 0)})  # turned to its left
    posed.save(out / f"{name}.glb")  # a mesh that stays as it is

# One file to animate: joints, ARKit's blendshapes and 15 visemes, with 16-bit numbers.
head.save(out / "rigged.glb", skeleton="compact", morphs="arkit,visemes", quantize=True)
speaking = head.with_rig(morphs="visemes").posed({"viseme_aa": 0.8})
(out / "aa.png").write_bytes(speaking.preview(size=160))
print(f"{len(faces)} expressions and rigged.glb are in {out}")
