"""`topos-rt bench` on a small bundle: on this CPU, in fresh processes, and on a fake GPU."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests import needs
from tests import tiny_bundle as tiny
from tests.sample_pictures import RGB, encode
from tests.tiny_bundle import write_tiny_bundle
from topos_rt.bench import ceilings, session
from topos_rt.bench.result import FORMAT, VERSION
from topos_rt.bench.session import STAGES, TO_GLB
from topos_rt.cli.bench import SLOWER
from topos_rt.cli.main import main
from topos_rt.model.bundle import write_manifest
from topos_rt.model.manifest import Manifest

pytestmark = pytest.mark.usefixtures("whole_pictures")

UNSEEN = {"face", "evidence", "fit", "texture"}  # stages of pictures with a face, and of models that ask
QUICK = ("--runs", "20", "--warm-up", "1", "--cold", "0", "--threads", "1", "--steps", "3")


@pytest.fixture(autouse=True)
def small_ceilings(monkeypatch):
    monkeypatch.setattr(ceilings, "CPU_SIZES", (1024, 1 << 16))
    monkeypatch.setattr(ceilings, "DEVICE_SIZES", (1024, 1 << 16))
    monkeypatch.setattr(ceilings, "_SECONDS", 0.0)


@pytest.fixture
def run(tiny_bundle, capfd):
    def run(*words, model=tiny_bundle):
        code = main(["bench", *map(str, words), *(["--model", str(model)] if model else [])])
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def measured(run, tmp_path):
    """A function that measures, and returns a result's file and what it holds."""

    def measured(*words, name="a.json") -> tuple[Path, dict[str, Any]]:
        path = tmp_path / name
        code, _, err = run(*QUICK, *words, "-o", path)
        assert code == 0, err
        return path, json.loads(path.read_text())

    return measured


def test_evidence_is_a_stage_of_models_that_take_it(run, tmp_path):
    model = tmp_path / "seeing"
    model.mkdir()
    write_tiny_bundle(model, ("landmarks",), varied=True)
    code, _, err = run(*QUICK, "-o", tmp_path / "a.json", model=model)
    assert code == 0, err
    found = json.loads((tmp_path / "a.json").read_text())
    assert set(found["stages"]) == {*STAGES, TO_GLB} - UNSEEN | {"evidence"}
    assert found["settings"]["sampling"]["temperature"] == 0.75


def test_heads(measured):
    _, found = measured("--solver", "heun", "--shift", "1")
    assert (found["format"], found["version"]) == (FORMAT, VERSION)
    assert set(found["stages"]) == {*STAGES, TO_GLB} - UNSEEN == set(found["samples_ms"])
    assert {row["n"] for row in found["stages"].values()} == {20}
    assert found["settings"]["evaluations"] == {"guided": 5, "unguided": 0, "passes": 10}
    assert found["settings"]["guidance_policy"] == "w = 1.5 throughout"
    assert found["settings"]["model"]["kind"] == "random"
    guided = found["graphs"]["dit_step_guided"]
    assert guided["runs_per_head"] == 5 and guided["computeMs"]["n"] == 100
    assert guided["enqMs"] is None and guided["h2dMs"]["max"] == 0
    assert guided["latencyMs"] == guided["computeMs"] == guided["hostMs"]
    assert set(found["graphs"]) == {"image_encoder", "dit_context", "dit_step_guided", "vae_decoder"}
    runs = {graph: row["runs_per_head"] for graph, row in found["graphs"].items()}
    roof = found["roofline"]["head"]
    assert roof["flops"] == sum(count * tiny.flops()[graph] for graph, count in runs.items())
    assert roof["rho"] == pytest.approx(roof["floor_ms"] / found["stages"]["head"]["p50"])
    assert found["cold"] == [] and found["device"] == {"before": None, "after": None}
    assert found["memory"]["peak_host_bytes"] > 1 << 20
    # In every run, a head is the sum of its stages.
    kept = found["samples_ms"]
    stages = [name for name in STAGES[: STAGES.index("head")] if name in kept]
    parts = [sum(kept[name][k] for name in stages) for k in range(20)]
    assert parts == pytest.approx(kept["head"], abs=1e-3)
    whole = [a + b for a, b in zip(kept["head"], kept["glb"], strict=True)]
    assert whole == pytest.approx(kept[TO_GLB], abs=1e-3)


def test_a_model_without_a_rig(run, own_bundle, tmp_path):
    (own_bundle / "rig.safetensors").unlink()
    manifest = Manifest.from_json((own_bundle / "manifest.json").read_bytes())
    write_manifest(own_bundle, dataclasses.replace(manifest, rig=None))
    code, out, err = run(*QUICK, "-o", tmp_path / "a.json", "--plot", tmp_path / "a.png", model=own_bundle)
    assert code == 0, err
    stages = set(json.loads((tmp_path / "a.json").read_text())["stages"])
    assert stages == {*STAGES, TO_GLB} - UNSEEN - {"rig"}
    assert "vae_decoder" in out and "\nrig" not in out


def test_the_lines_for_people_say_the_same(run):
    code, out, err = run(*QUICK)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "tiny (random weights: the shape means nothing)"
    assert lines[2] == (
        "balanced: unipc, 3 steps, 6 evaluations, guidance w = 1.5 throughout; random pixels in memory"
    )
    assert [line.split()[0] for line in lines if line.startswith(("image", "head", "glb"))] == [
        "image",
        "image_encoder",
        "head",
        "glb",
        "image_encoder",
    ]
    assert any(line.startswith("ceilings: ") for line in lines)
    assert any(line.startswith("rho ") for line in lines)
    assert all(line.startswith("note: ") for line in err.splitlines())


def test_json_on_stdout(run):
    code, out, err = run(*QUICK, "--json")
    found = json.loads(out)
    assert code == 0 == found["exit_code"] and found["command"] == "bench"
    assert found["format"] == FORMAT and found["errors"] == []
    assert "warm, ms" in err


def test_single_graphs(measured):
    _, found = measured("--stage", "vae_decoder,vae_encoder,dit_step")
    assert list(found["samples_ms"]) == list(found["graphs"]) == ["vae_decoder", "vae_encoder", "dit_step"]
    assert found["protocol"]["mode"] == "graphs" and found["stages"] == {}
    assert found["roofline"]["head"] is None
    assert found["roofline"]["graphs"]["vae_encoder"]["flops"] == tiny.flops()["vae_encoder"]
    assert {row["computeMs"]["n"] for row in found["graphs"].values()} == {20}


def test_fresh_processes(measured):
    _, found = measured("--cold", "2")
    states = [(state["state"], state["warmed_up"]) for state in found["cold"]]
    assert states == [(name, warm) for name in ("no graphs kept", "fresh process") for warm in (False, True)]
    at_once, warmed = found["cold"][2:]
    for state in found["cold"]:
        ms = {name: row["p50"] for name, row in state["ms"].items()}
        assert {row["n"] for row in state["ms"].values()} == {2}
        assert ms["build"] == 0 and min(ms["interpreter"], ms["import"], ms["load"], ms["first"]) > 0
        assert state["peak_host_bytes"] > 10 << 20 and state["device_bytes"] is None
    laps = at_once["ms"]
    assert set(warmed["ms"]) - set(laps) == {"warm_up"}
    parts = sum(laps[name]["mean"] for name in ("interpreter", "import", "load", "first"))
    assert laps["to_first_head"]["mean"] == pytest.approx(parts, rel=0.02)


def test_a_picture_file(measured, tmp_path):
    (tmp_path / "p.png").write_bytes(encode(RGB, "PNG"))
    _, found = measured(tmp_path / "p.png")
    assert found["settings"]["input"] == "a picture file"


@pytest.mark.parametrize("words", [(), ("--stage", "vae_decoder")])
def test_a_plot(run, tmp_path, words):
    code, _, err = run(*QUICK, *words, "--plot", tmp_path / "a.png")
    assert code == 0, err
    with Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())) as image:
        assert image.format == "PNG" and len(set(image.convert("L").tobytes())) > 50


def calm(path: Path, name: str, ms: float) -> Path:
    """Write the result with made-up times, since those of a small model on a busy machine prove nothing."""
    tree = json.loads(path.read_text())
    times = [ms * (1 + 0.001 * (k % 3)) for k in range(20)]
    tree["samples_ms"] = dict.fromkeys(tree["samples_ms"], times)
    other = path.with_name(name)
    other.write_text(json.dumps(tree))
    return other


def test_the_exit_code_is_for_ci(run, measured, tmp_path):
    measured_here, _ = measured()
    path, twice = calm(measured_here, "once.json", 10), calm(measured_here, "twice.json", 20)
    code, out, _ = run("--compare", path, twice, "--fail-above", "5%", "-o", tmp_path / "c.json", model=None)
    assert code == SLOWER == 3
    assert out.splitlines()[-1] == "slower than the 5.0% allowed: head"
    rows = json.loads((tmp_path / "c.json").read_text())["rows"]
    assert rows["head"]["change"] == pytest.approx(1, rel=1e-3)
    assert run("--compare", path, twice, model=None)[0] == 0
    assert run("--compare", path, twice, "--fail-above", "150%", model=None)[0] == 0
    assert run("--compare", twice, path, "--fail-above", "0%", model=None)[0] == 0
    assert run("--compare", path, path, "--fail-above", "0%", model=None)[0] == 0


def test_both_run_anew(run, measured, monkeypatch):
    """Heads have made-up times here, which only new runs can have."""
    first, _ = measured("--solver", "euler", name="first.json")
    second, _ = measured("--solver", "ab2", name="second.json")
    order = []
    head = session.Session.head

    def slowed(self):
        order.append(self.request.sampling["solver"])
        return dict.fromkeys(head(self), (30 if order[-1] == "ab2" else 10) + 0.01 * (len(order) % 5))

    monkeypatch.setattr(session.Session, "head", slowed)
    code, out, err = run("--compare", first, second, "--rerun", "--fail-above", "50%")
    assert code == SLOWER, out + err
    assert out.splitlines()[0] == "run by turns, here and now"
    assert "settings.sampling.solver: euler and ab2" in out
    assert order[-8:] == ["euler", "ab2", "ab2", "euler", "euler", "ab2", "ab2", "euler"]


def test_the_picture_is_run_anew(run, measured, tmp_path, monkeypatch):
    (tmp_path / "p.png").write_bytes(encode(RGB, "PNG"))
    result, _ = measured(tmp_path / "p.png")
    seen = set()
    head = session.Session.head

    def watched(self):
        seen.add(self._image)
        return head(self)

    monkeypatch.setattr(session.Session, "head", watched)
    assert run(tmp_path / "p.png", "--compare", result, result, "--rerun")[0] == 0
    assert seen == {str(tmp_path / "p.png")}
    code, _, err = run(tmp_path / "none.png", "--compare", result, result, "--rerun")
    assert code == 2 and "none.png: got no such file" in err


def test_another_model_is_not_run_in_its_place(run, measured):
    path, _ = measured()
    code, _, err = run("--compare", path, path, "--rerun", model="mini")
    assert code == 2 and "model mini: got " in err and "--model" in err


def test_different_steps_are_not_compared(run, measured):
    first, _ = measured(name="first.json")
    second, _ = measured("--steps", "4", name="second.json")
    code, out, err = run("--compare", first, second, model=None)
    assert (code, out) == (2, "")
    assert "two results that differ in the number of steps: got 3 and 4" in err


BAD = {
    "no runs": ("--runs 0", "argument --runs: got '0'; expected a whole number from 1 to 100,000"),
    "half a run": ("--runs 2.5", "argument --runs: got '2.5'"),
    "fewer than none": ("--cold -1", "argument --cold: got '-1'"),
    "many threads": ("--threads 5000", "argument --threads: got '5000'; expected a whole number from 1 to"),
    "an unknown stage": ("--stage decoder", "unknown stage: got 'decoder'; expected one of: image_encoder"),
    "an empty stage": ("--stage vae_decoder,", "unknown stage: got ''"),
    "several seeds": ("--seeds 1,2", "unrecognized arguments: --seeds"),
    "a bad seed": ("--seed -1", "seed: got -1"),
    "no steps": ("--steps 0", "steps: got 0"),
    "an unknown precision": ("--precision int4", "unknown precision: got 'int4'"),
    "no picture": ("nowhere.png", "cannot use the image nowhere.png: got no such file"),
    "no percentage": ("--compare a b --fail-above 5", "got '5'; expected a percentage such as 5%"),
    "less than nothing": ("--compare a b --fail-above=-5%", "got '-5%'; expected a percentage"),
    "a limit to nothing": ("--fail-above 5%", "--fail-above: got no results to compare"),
    "nothing to run anew": ("--rerun", "--rerun: got no results to compare"),
    "one result": ("--compare a.json", "argument --compare: expected 2 arguments"),
    "no result": ("--compare a.json b.json", "result a.json: got No such file"),
    "an output that is a directory": ("-o /tmp", "cannot write /tmp: got a directory"),
    "a plot that is a directory": ("--plot /tmp", "cannot write /tmp: got a directory"),
    "a comparison in a directory": ("--compare a b -o /tmp", "cannot write /tmp: got a directory"),
    "a plot of a comparison": ("--compare a b --plot c.png", "--plot: got a comparison"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_usage_is_one_line(run, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, message = BAD[case]
    code, out, err = run(*words.split())
    assert (code, out) == (2, "")
    assert message in err and len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_failure_in_a_fresh_process_is_told(run, own_bundle, monkeypatch):
    monkeypatch.setattr("topos_rt.bench.cold.sys.executable", "/bin/false")
    code, _, err = run(*QUICK, "--cold", "1")
    assert code == 1
    assert "a fresh process failed: got exit code 1; fix: measure without fresh processes: --cold 0" in err


def test_on_a_gpu(measured, monkeypatch, tmp_path):
    """A fake device gives all of it: events, transfers, clocks, memory."""
    fake_gpu = needs.module("tests.engines.fake_gpu")
    trt = fake_gpu.install(monkeypatch)
    answer = "Imaginary RTX 1, 580.1, P0, 1500, 9000, 2000, 90.5, 200.0, 60, 512"
    monkeypatch.setattr(
        "topos_rt.bench.machine.nvidia_smi",
        lambda fields, *options: ["0x4" if "reasons" in fields else answer],
    )
    _, found = measured("--cache", tmp_path / "cache")
    assert found["settings"]["backend"] == "tensorrt-rtx"
    assert trt.gpu.events == {}
    for row in found["graphs"].values():
        times = {name: row[name]["mean"] for name in ("enqMs", "h2dMs", "computeMs", "d2hMs", "latencyMs")}
        assert min(times.values()) > 0
        parts = times["h2dMs"] + times["computeMs"] + times["d2hMs"]
        assert times["latencyMs"] == pytest.approx(parts)
        assert times["latencyMs"] < row["hostMs"]["mean"]
    assert found["device"]["after"]["held_back_by"] == ["the power limit"]
    assert "thermal" in {line["kind"] for line in found["diagnosis"]}
    memory = found["memory"]["device"]
    assert memory["peak_bytes"] == trt.gpu.bytes - memory["free_bytes"] > trt.scratch
    assert found["ceilings"]["gemm"]["precision"] == "fp32"  # the small bundle has no FP16 form
