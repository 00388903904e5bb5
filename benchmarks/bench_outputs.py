"""Measure the files that are written of one head: their sizes, and by how much what they hold is off.

    python -m benchmarks.bench_outputs [--json benchmarks/results/outputs_mini.json]

The head is the one that the rig of `mini` was made on, so the model's weights do not matter.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import write_result
from topos_rt import Bundle, HeadMesh, __version__
from topos_rt.formats.gltf_numbers import Quantized
from topos_rt.head.normals import vertex_normals
from topos_rt.head.rig_fit import fit_rig

# Name -> suffix, and arguments of `HeadMesh.save`.
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "glb": ("glb", {}),
    "glb, quantize": ("glb", {"quantize": True}),
    "glb, skeleton compact": ("glb", {"skeleton": "compact"}),
    "glb, morphs visemes": ("glb", {"morphs": "visemes"}),
    "glb, morphs visemes, quantize": ("glb", {"morphs": "visemes", "quantize": True}),
    "glb, morphs none": ("glb", {"morphs": "none"}),
    "glb, no rig": ("glb", {"rig": False}),
    "gltf": ("gltf", {}),
    "usd": ("usd", {}),
    "head": ("head", {}),
}


def template() -> HeadMesh:
    """Return the head that the rig of `mini` was made on, with that rig."""
    bundle = Bundle.open("mini")
    assert bundle.rig is not None and bundle.rig.binding is not None
    positions = bundle.rig.binding.template
    positions = positions * np.float32(bundle.manifest.frame.radius_m / np.abs(positions).max())
    normals = vertex_normals(positions, bundle.topology.triangles)
    return HeadMesh(positions, normals, bundle.topology, fit_rig(bundle.rig, positions))


def measure(head: HeadMesh) -> dict[str, Any]:
    """Return form -> suffix -> bytes, and the errors of the forms that round numbers."""
    assert head.rig is not None
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (suffix, options) in FORMS.items():
            directory = Path(folder, name)
            directory.mkdir()
            head.save(directory / f"head.{suffix}", **options)
            sizes[name] = {file.suffix: file.stat().st_size for file in sorted(directory.iterdir())}
        again = HeadMesh.load(Path(folder, "head", "head.head"))
    rest, shapes = Quantized(head.positions).error_mm(head.positions, head.rig.shape_delta)
    cosines = (again.normals.astype(np.float64) * head.normals).sum(1).clip(-1, 1)
    degrees = np.degrees(np.arccos(cosines))
    return {
        "vertices": len(head.positions),
        "joints": len(head.rig.joint_names),
        "compact_joints": len(head.with_rig(skeleton="compact").rig.joint_names),  # type: ignore[union-attr]
        "bytes": sizes,
        "quantized": {"positions_mm": round(rest, 5), "blendshapes_mm": round(shapes, 5)},
        "head": {
            "positions_mm": float(np.abs(again.positions - head.positions).max() * 1e3),
            "normals_mean_degrees": round(float(degrees.mean()), 3),
            "normals_max_degrees": round(float(degrees.max()), 3),
        },
    }


def main(words: list[str] | None = None) -> None:
    """Measure, print, and write the result if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_outputs", description=__doc__)
    parser.add_argument("--json", type=Path, help="the file to write")
    arguments = parser.parse_args(words)
    result = {"topos_rt": __version__, "model": None, **measure(template())}
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json is not None:
        write_result(arguments.json, result)


if __name__ == "__main__":
    main()
