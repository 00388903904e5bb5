"""`mini` makes the heads that it made when `tests/data/heads.json` was recorded.

The record of the generated heads is older than the rooms of `topos_rt/`: the code before that move wrote it.
Retopologized heads were recorded again when points came to be chosen by where they lie, and GLBs when names
of joints lost their dots and when rigs came to be fitted by compiled code. Parts came later: without them,
files are those of the record.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests import needs, same_heads
from topos_rt import HeadMesh, HeadPipeline
from topos_rt.formats import EXPORTERS, ExportOptions
from topos_rt.model.native_decoder import PLAIN, instruction_sets
from topos_rt.support.native import native

# Metres: how far a vertex may be from the record. Another processor rounds otherwise, and so do kernels of
# old versions of onnxruntime: 1.19 moves the worst vertex of a guided head by 1.6e-4, of a scan's by 4.7e-4.
OLD_KERNELS = tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 23)
SAME_M = 1e-3 if OLD_KERNELS else 1e-5
WRITERS: dict[str, Callable[[HeadMesh], bytes]] = {
    "glb": lambda head: EXPORTERS["glb"](head, ExportOptions(parts=False)),
    "glb, level of detail 1": lambda head: EXPORTERS["glb"](head.lod(1), ExportOptions(parts=False)),
    "obj, centimetres, z up": lambda head: EXPORTERS["obj"](
        head, ExportOptions(units="cm", up="z", parts=False)
    ),
    "ply": lambda head: EXPORTERS["ply"](head, ExportOptions(parts=False)),
}


def opened() -> HeadPipeline:
    return HeadPipeline.open("mini", "onnxruntime")


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(same_heads.RECORD.read_text())
    return record


@pytest.fixture(scope="module")
def made() -> dict[str, dict[str, Any]]:
    return {name: same_heads.about(head, WRITERS) for name, head in same_heads.heads(opened)}


def test_the_vertices_are_those_of_the_record(
    recorded: dict[str, Any], made: dict[str, dict[str, Any]]
) -> None:
    assert made.keys() == recorded["heads"].keys()
    for name, head in made.items():
        apart = np.subtract(head["vertices"], recorded["heads"][name]["vertices"])
        assert np.abs(apart).max() <= SAME_M, name


def test_the_bytes_are_those_of_the_record(recorded: dict[str, Any], made: dict[str, dict[str, Any]]) -> None:
    # Fits of rigs are rounded otherwise where they are not compiled, by less than a micrometre.
    compiled = native() is not None and instruction_sets()[:1] not in ([], [PLAIN])
    same = compiled and same_heads.arithmetic() == recorded["arithmetic"]
    needs.machine(same, "sums are rounded otherwise here than where the heads were recorded")
    for name, head in made.items():
        assert head["sha256"] == recorded["heads"][name]["sha256"], name
