"""Teeth and lashes on the command line: with `mini`, and without them by --no-parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from topos_rt.cli.main import main
from topos_rt.formats.mesh_reader import read_mesh

PORTRAIT = Path(__file__).parents[2] / "examples" / "astronaut.jpg"


def test_heads_have_parts_unless_they_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["generate", str(PORTRAIT), "--preset", "fast", "--texture", "none", "--json"]
    sizes = {}
    for name, options in (("with", []), ("without", ["--no-parts"])):
        path = tmp_path / f"{name}.obj"
        assert main([*command, "-o", str(path), *options]) == 0
        (told,) = json.loads(capsys.readouterr().out)["heads"]
        assert told["vertices"] == 4538  # of the topology
        sizes[name] = {Path(file).name for file in told["files"]}
    assert sizes == {"with": {"with.obj", "with.mtl", "with_parts.png"}, "without": {"without.obj"}}
    whole, bare = (read_mesh(tmp_path / f"{name}.obj") for name in ("with", "without"))
    assert len(bare.positions) == 4538 and len(whole.positions) == 4538 + 646
    assert np.array_equal(whole.positions[:4538], bare.positions)
    assert "teeth" not in (tmp_path / "without.obj").read_text()


def test_info_tells_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    assert "teeth and lashes, 646 vertices" in capsys.readouterr().out
