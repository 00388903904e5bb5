"""`topos-rt retopologize`, `eval` and `--lod`: what they write, say and refuse."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import trimesh

from tests import needs
from tests.meshes import ball
from tests.tiny_bundle import V
from topos_rt.cli.main import main
from topos_rt.head.mesh import HeadMesh
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.scan.face_errors import face_errors
from topos_rt.scan.face_region import face_region
from topos_rt.scan.fit import mean_head
from topos_rt.scan.read import SUFFIXES
from topos_rt.scan.surface import Surface

HEAD = ball(radius=0.12)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    mesh = trimesh.Trimesh(HEAD.positions, HEAD.triangles, process=False)
    for suffix in (".obj", ".ply", ".stl"):
        mesh.export(f"scan{suffix}")
    np.savez("cloud.npz", points=trimesh.sample.sample_surface(mesh, 900, seed=1)[0])
    trimesh.Trimesh(HEAD.positions * 1000, HEAD.triangles, process=False).export("large.ply")
    Path("bad.ply").write_bytes(b"ply\n")
    Path("text.fbx").write_text("x")
    return directory


def run(words: str, model: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, dict, str]:
    code = main([*words.split(), "--model", str(model), "--json"])
    out, err = capfd.readouterr()
    return code, json.loads(out), err


def test_a_head_and_its_report(tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, report, err = run("retopologize scan.stl -o head.obj --preview head.png", tiny_bundle, capfd)
    assert code == 0 and report["errors"] == []
    (head,) = report["heads"]
    assert head["input"] == "scan.stl" and head["kind"] == "mesh" and head["vertices"] == V
    assert head["metadata"]["passes"] == 3 and head["metadata"]["aligned"] is False
    assert Path("head.obj").stat().st_size == head["bytes"] and Path("head.png").exists()
    found = head["against_input"]
    assert found["unit"] == "mm" and set(found["f_score"]) == {"1", "2", "5"}
    made = trimesh.load("head.obj", process=False)
    there = Surface(made.vertices, made.faces).closest(HEAD.positions).distances.mean() * 1000
    assert found["completeness_mm"] == pytest.approx(there, rel=0.25)
    assert "against the input" in err
    text = main(["retopologize", "scan.stl", "-o", "other.obj", "--model", str(tiny_bundle)])
    assert text == 0 and "F-score" in capfd.readouterr().out
    assert Path("other.obj").read_bytes() == Path("head.obj").read_bytes()


def test_several_inputs_one_of_them_bad(tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, report, err = run("retopologize scan.obj bad.ply cloud.npz -o heads/", tiny_bundle, capfd)
    assert code == 2
    assert [head["input"] for head in report["heads"]] == ["scan.obj", "cloud.npz"]
    assert report["errors"][0]["input"] == "bad.ply" and "no PLY header" in report["errors"][0]["message"]
    assert sorted(path.name for path in Path("heads").iterdir()) == ["cloud.glb", "scan.glb"]
    cloud = report["heads"][1]
    assert cloud["kind"] == "points" and "estimated" in cloud["notes"][0] and "estimated" in err
    assert cloud["against_input"]["normal_consistency"] is None


def test_wrong_units_are_warned_of(tiny_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, report, err = run("retopologize large.ply -o head.obj", tiny_bundle, capfd)
    assert code == 0 and "warning: large.ply: 240 m across" in err and "--input-units mm" in err
    assert report["heads"][0]["warnings"]
    code, report, err = run("retopologize large.ply -o small.obj --input-units mm", tiny_bundle, capfd)
    assert report["heads"][0]["warnings"] == [] and "warning" not in err
    sizes = [np.ptp(trimesh.load(f"{n}.obj", process=False).vertices, axis=0) for n in ("head", "small")]
    assert np.allclose(sizes[0], 1000 * sizes[1], rtol=1e-3)


@pytest.mark.parametrize(
    "words, message",
    [
        ("retopologize", "the following arguments are required: MESH_OR_POINTS"),
        ("retopologize missing.ply", "no such file; fix: check the path"),
        ("retopologize text.fbx", f"expected a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file"),
        ("retopologize scan.ply --passes 0", "passes: got 0; expected a whole number from 1 to 20"),
        ("retopologize scan.ply --passes many", "argument --passes: got 'many'; expected a whole number"),
        ("retopologize scan.ply --input-units inch", "unknown unit of length: got 'inch'"),
        ("retopologize scan.ply --seed -1", "seed: got -1"),
        ("retopologize scan.ply --lod 3", "unknown level of detail: got '3'; expected one of: 0, 1, 2"),
        ("retopologize scan.ply --lod 1", "this one has no levels of detail"),
        ("retopologize scan.ply scan.obj", "two heads would be written to scan.glb"),
        ("retopologize scan.obj -o scan.obj", "-o would overwrite an input: got scan.obj"),
        ("retopologize scan.ply --units cm", "expected units m, up y"),
        ("retopologize scan.ply --preview view.jpg", "expected a name that ends in .png"),
    ],
)
def test_bad_usage_is_one_line_and_leaves_nothing(
    here: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    before = sorted(here.iterdir())
    assert main([*words.split(), "--model", str(tiny_bundle)]) == 2
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and message in err
    assert sorted(here.iterdir()) == before


def test_eval_of_a_mesh_and_its_copy_and_of_a_larger_one(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "scan.obj", "scan.ply"]) == 0
    told = capfd.readouterr().out
    assert "Chamfer L1, mm                         0.000" in told and "vertices: max, mm" in told
    larger = trimesh.Trimesh(HEAD.positions * 1.025, HEAD.triangles, process=False)
    larger.export("larger.ply")
    assert main(["eval", "larger.ply", "scan.obj", "--thresholds", "2,4", "--samples", "3000", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["unit"] == "mm" and report["thresholds_mm"] == [2, 4] and report["samples"] == [3000, 3000]
    assert report["chamfer_l1_mm"] == pytest.approx(3, abs=0.05)  # 2.5 % of 120 mm
    assert report["f_score"] == {"2": 0.0, "4": 1.0}
    assert report["vertices"]["mean_mm"] == pytest.approx(3, abs=0.01)
    assert main(["eval", "cloud.npz", "scan.stl", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["vertices"] is None and report["normal_consistency"] is None


def test_eval_of_the_faces_of_a_model(capfd: pytest.CaptureFixture[str]) -> None:
    bundle = Bundle.open("mini", verify=False)
    positions = mean_head(bundle).points.astype(np.float32) * np.float32(0.14)
    normals = np.zeros_like(positions) + np.float32([0, 0, 1])
    HeadMesh(positions, normals, bundle.topology).save("mean.glb")
    longer = positions * np.float32([1, 1.1, 1])
    HeadMesh(longer, normals, bundle.topology).save("longer.obj")
    words = ["eval", "mean.glb", "longer.obj", "--samples", "500", "--model", "mini"]
    assert main([*words, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    expected = face_errors(positions, longer, face_region(bundle))
    assert report["face"]["vertices"] == expected.vertices
    assert report["face"]["mean_mm"] == pytest.approx(expected.mean_mm, abs=1e-3)
    assert report["face"]["now_median_mm"] < report["face"]["mean_mm"]
    assert main(words) == 0
    told = capfd.readouterr().out
    assert (
        f"face: mean, mm                    {expected.mean_mm:10.3f}" in told
        and "face, NoW: median, mm" in told
    )
    assert main(words[:-2]) == 0
    assert "face" not in capfd.readouterr().out


def test_eval_by_a_model_without_a_landmark_map(own_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = Bundle.open(own_bundle)
    (own_bundle / "landmarks.safetensors").unlink()
    write_manifest(own_bundle, dataclasses.replace(bundle.manifest, landmarks=None))
    assert main(["eval", "missing.obj", "scan.ply", "--model", str(own_bundle)]) == 2
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert "landmark map of the model tiny: got none" in err and "fix: python -m export landmarks" in err


@pytest.mark.parametrize("order", [("large.ply", "scan.obj"), ("scan.obj", "large.ply")])
def test_eval_of_other_units_says_so_and_compares_few_points(
    order: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", *order, "--json"]) == 0
    out, err = capfd.readouterr()
    report = json.loads(out)
    assert report["samples"] == [1000, 1000]
    across = [f"{240 if name == 'large.ply' else 0.24:.3g}" for name in order]
    assert f"PRED is {across[0]} m across and GT {across[1]} m, both taken as m" in report["warnings"][0]
    assert err.count("topos-rt: warning: ") == 2
    assert main(["eval", "scan.obj", "scan.ply", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["warnings"] == []


@pytest.mark.parametrize(
    "words, message",
    [
        ("eval scan.obj", "the following arguments are required: GT"),
        ("eval scan.obj missing.ply", "no such file"),
        ("eval bad.ply scan.obj", "no PLY header"),
        ("eval scan.obj scan.ply --samples 0", "--samples: got 0; expected 1 to"),
        ("eval scan.obj scan.ply --thresholds 1,-2", "expected positive numbers"),
        ("eval scan.obj scan.ply --thresholds x", "expected numbers with commas between"),
        ("eval scan.obj scan.ply --input-units ft", "unknown unit of length"),
        ("eval scan.obj scan.ply --model nowhere", "no such model: got 'nowhere'; expected"),
        ("eval scan.obj scan.ply --model mini", "cannot compare faces: the prediction: got"),
        ("eval cloud.npz scan.ply --model mini", "got a point cloud; expected a head of the model: 4,538"),
    ],
)
def test_bad_eval(capfd: pytest.CaptureFixture[str], words: str, message: str) -> None:
    assert main(words.split()) == 2
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and message in err


def test_lod_writes_fewer_triangles(own_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export = needs.module("export.__main__").main
    assert export(["lods", str(own_bundle)]) == 0
    capfd.readouterr()
    code, report, _ = run("retopologize scan.ply --lod 1 -o head.obj", own_bundle, capfd)
    assert code == 0 and report["heads"][0]["lod"] == 1
    topology = Bundle.open(own_bundle).topology
    assert report["heads"][0]["triangles"] == len(topology.lods[0].triangles) < len(topology.triangles)
    assert Path("head.obj").read_text().count("\nf ") == len(topology.lods[0].triangles)
