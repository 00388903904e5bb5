"""What a map costs in memory and work, told before anything is loaded.

It is arithmetic on what a texture bundle's manifest says, or on the sizes of the user's files; it was not
measured on a GPU. Weights are exact. Activations are what one block needs at once if nothing is fused, so
engines need less. The work counts products alone, 2 for a multiply-add.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from topos_rt.flow.settings import SamplerSettings
from topos_rt.texture.official.manifest import SINGLE, TextureManifest
from topos_rt.texture.official.settings import evaluations

_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
_WIDE = 4  # of an FP32 number
# Arrays of a stream that a block holds at once: two in FP32 on either side, then, of operands, query, key,
# value, what attention gives, and the hidden layer of the MLP, four times as wide.
_STREAMS, _OPERANDS = 4, 8


@dataclass(frozen=True)
class Cost:
    """What one map takes."""

    device_bytes: Mapping[str, int]  # by kind
    evaluations: int
    flops: int  # of one evaluation; 0 where only the files' sizes are known

    @property
    def total_bytes(self) -> int:
        """All bytes on the device at once."""
        return sum(self.device_bytes.values())

    def seconds(self, tflops: float) -> float:
        """Return the seconds that the transformer takes at a sustained rate, in 10^12 operations a second."""
        return self.evaluations * self.flops / tflops / 1e12

    def lines(self) -> list[str]:
        """Return lines for people."""
        kinds = ", ".join(f"{kind} {size / 1e9:.1f}" for kind, size in self.device_bytes.items())
        told = [f"memory on the device: {self.total_bytes / 1e9:.1f} GB ({kinds})"]
        work = f"work: {self.evaluations} evaluations of the transformer"
        if self.flops:
            work += (
                f", {self.flops / 1e12:.4g} TFLOP each; at a sustained 100 TFLOP/s that is"
                f" {self.seconds(100):.3g} s, at 400 TFLOP/s {self.seconds(400):.3g} s"
            )
        return [*told, work]


def bundle_cost(
    manifest: TextureManifest, settings: SamplerSettings, precision: str, resident: bool = True
) -> Cost:
    """Return what a map costs with a texture bundle.

    resident: False holds one section at a time, and reads all of them anew for every evaluation.
    """
    sizes = {
        name: manifest.parameters[name] * (_WIDE if name in SINGLE else _BYTES[precision])
        for name in manifest.graph_names()
    }
    sections = [sizes[name] for name in manifest.section_names()]
    modulations = [sizes[name] for name in manifest.modulation_names()]
    picture, text, transformer = manifest.picture, manifest.text, manifest.transformer
    tokens = picture.tokens + picture.reference_tokens + text.tokens
    stream = tokens * transformer.width
    held = sum(sections) if resident else max(sections)
    return Cost(
        {
            # Modulations are computed one section at a time, before the sections are loaded.
            "sections": max(held, max(modulations)),
            "other networks": sum(sizes[name] for name in SINGLE),
            "activations": stream * (_STREAMS * _WIDE + _OPERANDS * _BYTES[precision]),
        },
        evaluations(settings),
        evaluation_flops(manifest),
    )


def evaluation_flops(manifest: TextureManifest) -> int:
    """Return the operations of one evaluation of the transformer."""
    return sum(manifest.flops[name] for name in ("entry", *manifest.section_names(), "exit"))


def release_cost(base: Path, steps: int, guided: bool, encoder: bool) -> Cost:
    """Return what a map costs with the released weights in PyTorch, from the sizes of their files.

    encoder: whether the text encoder is loaded, too.
    """
    parts = ("transformer", "vae", *(("text_encoder",) if encoder else ()))
    sizes = {
        part.replace("_", " "): sum(file.stat().st_size for file in (base / part).glob("*.safetensors"))
        for part in parts
    }
    return Cost(sizes, steps * (2 if guided else 1), 0)
