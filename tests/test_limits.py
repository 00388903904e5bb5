"""docs/limits.md has the numbers that the code has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import needs
from topos_rt.bench import result
from topos_rt.engines import cache, contract
from topos_rt.errors import BundleError
from topos_rt.flow import settings
from topos_rt.formats.limits import LIMITS as READERS
from topos_rt.head import topology
from topos_rt.model import bundle_files
from topos_rt.pictures import sources
from topos_rt.scan import points
from topos_rt.support import npyfile

PAGE = (Path(__file__).parents[1] / "docs" / "limits.md").read_text()
LIMITS = {
    "a picture": [sources.MAX_PIXELS, sources.MIN_SIDE],
    "an open file, or standard input, with a picture": [sources.MAX_BYTES],
    "a mesh file, and a character for `python -m export rig`": [READERS.file_bytes],
    "a mesh to retopologize or compare": [READERS.triangles],
    "a point cloud": [points.MIN_POINTS, READERS.points],
    "a manifest": [bundle_files.MAX_MANIFEST_BYTES],
    "the vertices of a model's topology": [topology.MAX_VERTICES],
    "the arrays of an `.npy` or `.npz` file of a release": [npyfile.LIMIT_BYTES, npyfile._MOST_MEMBERS],
    "a measurement to compare with `topos-rt bench`": [result._MAX_BYTES],
    "the engine cache": [cache.LIMIT_BYTES],
    "sampling steps": [settings.MAX_STEPS],
    "threads": [contract.MAX_THREADS],
    "what a message says was found": [len(str(BundleError("", got="x" * 999))) - len(": got ")],
}


@pytest.mark.parametrize("what", LIMITS)
def test_the_page_has_the_numbers_of_the_code(what: str) -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| {what} |"))
    for number in LIMITS[what]:
        assert f" {number:,}" in row.replace(";", " "), number


def test_the_limits_of_the_export() -> None:
    needs.module("torch")
    from export.release import config

    (row,) = (line for line in PAGE.splitlines() if line.startswith("| a configuration for"))
    assert f"{config._MAX_BYTES:,} bytes" in row
