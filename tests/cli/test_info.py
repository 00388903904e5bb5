"""`topos-rt info`."""

from __future__ import annotations

import json

from topos_rt.cli.main import main


def test_for_people(tiny_bundle, capsys):
    assert main(["info", str(tiny_bundle)]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["name"] == "tiny"
    assert rows["path"] == str(tiny_bundle)
    assert rows["weights"] == "random: seeded random numbers"
    assert rows["topology"] == "42 vertices, 48 polygons, no UVs"
    assert rows["rig"] == "2 joints, 2 blendshapes"
    assert rows["textures"] == "none, for the model has no atlas ('python -m export atlas' makes one)"
    assert rows["parts"] == "none ('python -m export parts' makes them for MakeHuman's head)"
    assert rows["image"] == "32 x 32 pixels -> 4 tokens of 5"
    assert rows["files"].endswith("kB, all verified")


def test_for_programs(tiny_bundle, capsys):
    assert main(["info", str(tiny_bundle), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["exit_code"] == 0
    assert result["verified"] is True
    assert result["counts"] == {
        "vertices": 42,
        "polygons": 48,
        "triangles": 80,
        "uvs": 0,
        "joints": 2,
        "blendshapes": 2,
        "bytes": sum(file["bytes"] for file in result["manifest"]["files"].values()),
    }
    manifest = json.loads((tiny_bundle / "manifest.json").read_text())
    assert {key: manifest[key] for key in result["manifest"]} == result["manifest"]
