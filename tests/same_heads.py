"""Heads of `mini` that must not change, and whether this machine rounds as the recording one did.

`python -m tests.same_heads` records them in `tests/data/heads.json`: do so only with a change that is meant
to change heads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "tests" / "data" / "heads.json"
MINI = ROOT / "topos_rt" / "bundles" / "mini"
PORTRAITS = ("astronaut", "hopper")
CALLS: dict[str, dict[str, Any]] = {
    "balanced": {},
    "fast, seed 7": {"preset": "fast", "seed": 7},
    "guided": {"preset": "reference", "steps": 5, "guidance": 3.0, "reuse": 2, "temperature": 1.0, "seed": 3},
    "heun in an interval": {"solver": "heun", "steps": 3, "guidance": 1.5, "interval": (0.2, 0.9)},
    "own times": {"solver": "dpmpp_2m", "times": [1, 0.7, 0.2, 0], "seed": 2**40},
}
_SAMPLE = 97  # the record has every 97th vertex


def arithmetic() -> str:
    """Hash what onnxruntime and NumPy compute here: the bytes of heads can only agree where this agrees.

    Processors and versions of the libraries differ in the last bits of sums. Nothing here uses topos_rt.
    """
    draw, digest = np.random.default_rng(0), hashlib.sha256()
    options = onnxruntime.SessionOptions()
    options.use_deterministic_compute = True
    for path in sorted(MINI.glob("*.onnx")):
        if len(path.suffixes) > 1:  # the FP16 form, or that of several heads
            continue
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feeds = {
            value.name: draw.standard_normal(value.shape).astype(np.float32) for value in session.get_inputs()
        }
        for array in session.run(None, feeds):
            digest.update(array.tobytes())
    left, right = draw.standard_normal((2, 300, 300))
    parts = [left @ right, (left @ right).astype(np.float32), np.einsum("ij,kj->ik", left, right)]
    parts += [*np.linalg.svd(left[:40, :40]), np.exp(left), np.linalg.solve(left, right)]
    for part in parts:
        digest.update(part.tobytes())
    return digest.hexdigest()


def heads(open_pipeline: Callable[[], Any]) -> Iterator[tuple[str, Any]]:
    """Yield names and heads: portraits sampled in several ways, and a head laid over its own points."""
    with open_pipeline() as pipe:
        for portrait in PORTRAITS:
            for name, call in CALLS.items():
                source = ROOT / "examples" / f"{portrait}.jpg"
                yield f"{portrait}, {name}", pipe(source, **call, texture="none")
        head = pipe(ROOT / "examples" / f"{PORTRAITS[0]}.jpg", texture="none")
        for passes in (1, 2):
            made = pipe.retopologize(head.positions, head.normals, passes=passes, seed=passes)
            yield f"retopologized, {passes} passes", made


def about(head: Any, writers: dict[str, Callable[[Any], bytes]]) -> dict[str, Any]:
    """Return the hash of each file of a head, and some of its vertices in metres."""
    files = {name: hashlib.sha256(write(head)).hexdigest() for name, write in writers.items()}
    return {"sha256": files, "vertices": np.round(head.positions[::_SAMPLE].astype(float), 7).tolist()}


def record(open_pipeline: Callable[[], Any], writers: dict[str, Callable[[Any], bytes]]) -> None:
    """Write the record."""
    found = {name: about(head, writers) for name, head in heads(open_pipeline)}
    RECORD.write_text(json.dumps({"arithmetic": arithmetic(), "heads": found}) + "\n")


if __name__ == "__main__":
    from tests.test_same_heads import WRITERS, opened

    record(opened, WRITERS)
