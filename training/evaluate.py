"""Measure a bundle on held-out renders, through the runtime that users run: face stage, crop and all.

    python -m training.evaluate --bundle topos_rt/bundles/mini --held-out runs/held_out [--before OLD] \\
        --json benchmarks/results/mini_quality.json [--picture docs/images/mini_held_out.png]

The renders are those of `python -m training.render --split held_out`: their skins, hair, brows and heads are
in no training picture. The page docs/training.md says what is measured. It takes three minutes on one core.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from topos_rt import Bundle, HeadMesh, HeadPipeline, __version__
from topos_rt.bench.work import model_facts
from topos_rt.errors import OptionError
from topos_rt.head.normals import vertex_normals
from topos_rt.jobs import PresetName
from topos_rt.pictures.preview import render_view
from topos_rt.scan.face_region import face_region
from topos_rt.scan.fit import mean_head
from topos_rt.support.files import check_writable, write_atomic
from training import likeness, spread
from training.defects import CREASE_HEADS, Defects
from training.geometry import MeshGeometry
from training.heads import EVALUATION_SEED, HeadModel, normalise
from training.sitters import Sitter, sit

PRESETS: tuple[PresetName, ...] = ("reference", "balanced", "fast")
PEOPLE = 80
SEEDS, SEED_PEOPLE = 8, 40
_KNOWN = 1000  # training heads
_ROWS = 6  # of the picture
_VIEW = 224  # pixels


def made(pipe: HeadPipeline, sitter: Sitter, preset: PresetName, seeds: list[int]) -> list[np.ndarray]:
    """Return the heads [V,3] that the runtime makes of a picture, metres."""
    heads = pipe(sitter.picture, seed=seeds, preset=preset, face=sitter.face, texture="none")
    return [head.positions for head in heads]


def evaluate(pipe: HeadPipeline, model: HeadModel, args: argparse.Namespace) -> dict[str, Any]:
    """Measure everything that the model card quotes."""
    bundle = pipe.bundle
    region, groups = face_region(bundle), spread.Groups.of(bundle)
    sitters = sit(pipe, args.held_out, args.people)
    people = sitters.found
    truth, yaws = np.stack([p.truth for p in people]), np.array([p.yaw for p in people])
    known = model.sample(_KNOWN, seed=0)
    result: dict[str, Any] = {
        "heads": len(people),
        "pictures": sitters.pictures,
        "without_face": sitters.without_face,
        "turned_away": sitters.turned_away,
        "face_vertices": len(region.vertices),
        "mean_head": likeness.measure(_mean_heads(bundle, len(people)), truth, yaws, region),
        "vae": reconstruction(pipe, model, truth),
    }
    _tell("mean_head", result)
    if args.before is not None:
        with _open(args.before) as before:
            heads = np.stack([made(before, person, "balanced", [0])[0] for person in people])
            about = {"bundle": model_facts(before.bundle), "preset": "balanced"}
        result["before"] = about | likeness.measure(heads, truth, yaws, region)
        _tell("before", result)
    defects = Defects(model, normalise(known)[0][:CREASE_HEADS])
    units, radii = normalise(truth)
    for preset in PRESETS:
        heads = np.stack([made(pipe, person, preset, [0])[0] for person in people])
        rows = zip(normalise(heads)[0], units, radii, strict=True)
        counts = [defects.count(head, true, radius) for head, true, radius in rows]
        result[preset] = likeness.measure(heads, truth, yaws, region) | {
            name: sum(count[name] for count in counts) for name in counts[0]
        }
        _tell(preset, result)
        if preset == "balanced" and args.picture is not None:
            write_atomic(args.picture, drawn(bundle, people, heads), parents=True)
    some, seeds = people[: args.seed_people], list(range(args.seeds))
    result["seeds"] = spread.measure(
        ((person, made(pipe, person, "balanced", seeds)) for person in some),
        groups,
        spread.TrainingHeads(known),
    )
    print("seeds", json.dumps(result["seeds"]), flush=True)
    return result


def reconstruction(pipe: HeadPipeline, model: HeadModel, truth: np.ndarray) -> dict[str, Any]:
    """Return how far the VAE's heads are from true heads [n,V,3], of points that are spread over these."""
    units, _ = normalise(truth)
    count = pipe.bundle.manifest.points.count
    generator = torch.Generator().manual_seed(EVALUATION_SEED)
    geometry = MeshGeometry(model.topology, units.mean(0))
    clouds = geometry.sample_surface(torch.from_numpy(units), count, generator).numpy()
    networks = pipe._networks  # the pipeline itself would fit a frame of its own to the points
    heads = np.stack([networks.decode(networks.encode_points(cloud[None])[0])[:, :3] for cloud in clouds])
    return {"points": clouds.shape[1], "whole_mm": round(float(likeness.whole_mm(heads, truth).mean()), 3)}


def drawn(bundle: Bundle, people: list[Sitter], heads: np.ndarray) -> bytes:
    """Draw rows of a picture, the head made of it and the true head, as a PNG."""

    def view(positions: np.ndarray) -> np.ndarray:
        placed = (normalise(positions[None])[0][0] * bundle.manifest.frame.radius_m).astype(np.float32)
        mesh = HeadMesh(placed, vertex_normals(placed, bundle.topology.triangles), bundle.topology)
        return np.concatenate([render_view(mesh, yaw, 0, _VIEW) for yaw in (0, -60)], 1)

    rows = []
    for person, head in zip(people[:_ROWS], heads, strict=False):
        portrait = Image.fromarray(person.picture).resize((_VIEW, _VIEW), Image.Resampling.LANCZOS)
        rows.append(np.concatenate([np.asarray(portrait), view(head), view(person.truth)], 1))
    half = -(-len(rows) // 2)
    blank = [np.full_like(rows[0], 255)] * (2 * half - len(rows))
    columns = [np.concatenate(part) for part in (rows[:half], rows[half:] + blank) if part]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(columns, 1)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _mean_heads(bundle: Bundle, count: int) -> np.ndarray:
    return np.repeat(mean_head(bundle).points[None] * bundle.manifest.frame.radius_m, count, 0)


def _open(model: Path) -> HeadPipeline:
    return HeadPipeline.open(Bundle.open(model), threads=1)


def _tell(name: str, result: dict[str, Any]) -> None:
    found = {key: value for key, value in result[name].items() if key not in ("by_yaw", "bundle")}
    print(name, json.dumps(found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument(
        "--held-out", type=Path, required=True, metavar="SHARDS", help="folder of the renders"
    )
    parser.add_argument(
        "--before", type=Path, metavar="BUNDLE", help="an earlier bundle to measure beside it"
    )
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--picture", type=Path, metavar="PNG", help="draw some of the heads")
    parser.add_argument("--people", type=int, default=PEOPLE, help=f"one picture each (default: {PEOPLE})")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"for each picture (default: {SEEDS})")
    parser.add_argument(
        "--seed-people", type=int, default=SEED_PEOPLE, help=f"of these (default: {SEED_PEOPLE})"
    )
    args = parser.parse_args()
    for name, least in (("people", 2), ("seeds", 2), ("seed_people", 1)):
        if getattr(args, name) < least:
            option = f"--{name.replace('_', '-')}"
            raise OptionError(option, got=getattr(args, name), expected=f"{least} or more")
    for path in (args.json, args.picture):
        if path is not None:
            check_writable(path)
    torch.set_num_threads(1)
    started = time.process_time()
    with _open(args.bundle) as pipe:
        result = evaluate(pipe, HeadModel.load(), args)
        about = {
            "topos_rt": __version__,
            "backend": pipe.backend,
            "machine": platform.machine(),
            "model": model_facts(pipe.bundle),
            "cpu_seconds": round(time.process_time() - started),
        }
    write_atomic(args.json, (json.dumps(about | result, indent=2) + "\n").encode(), parents=True)


if __name__ == "__main__":
    main()
