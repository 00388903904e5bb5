"""`topos-rt doctor`, on this machine and on machines where something is wrong."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs
from topos_rt import engines as backends
from topos_rt.cli import doctor
from topos_rt.cli.main import main
from topos_rt.engines import BACKENDS, BUILDERS, Probe
from topos_rt.engines.cache import BuildReport, EngineCache, EngineKey
from topos_rt.errors import MissingExtraError
from topos_rt.model import bundle

ROOT = Path(__file__).parents[2]


@pytest.fixture
def one_model(tiny_bundle, tmp_path, monkeypatch):
    """A machine on which the small bundle is the packaged model."""
    monkeypatch.setattr(bundle, "known_bundles", lambda: {"tiny": tiny_bundle})
    monkeypatch.setattr("topos_rt.cli.doctor.shutil.which", lambda _: None)
    monkeypatch.setenv("TOPOS_RT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def examine(capsys):
    def examine():
        code = main(["doctor", "--json"])
        found = json.loads(capsys.readouterr().out)
        assert main(["doctor"]) == code
        return code, found, capsys.readouterr().out

    return examine


def test_a_machine_that_works(one_model, examine):
    code, found, text = examine()
    assert (code, found["problems"]) == (0, [])
    assert found["auto"]["backend"] in BACKENDS
    assert "best that works here" in found["auto"]["reason"]
    assert found["models"]["tiny"]["works"]
    assert all(found["packages"][name]["fault"] is None for name in doctor.REQUIRED)
    assert set(found["backends"]) == set(BACKENDS)
    offered = {name: told["precisions"] for name, told in found["backends"].items()}
    assert offered == {name: list(backends.backend(name).precisions) for name in BACKENDS}
    assert found["platform"]["cpu_threads"] >= 1
    assert text.splitlines()[-1] == "no problems found"
    assert f"takes {found['auto']['backend']}: " in text
    assert "GPU       no NVIDIA GPU found" in text
    assert found["engine_cache"]["entries"] == [] and found["engine_cache"]["fault"] is None
    assert f"engines   0, 0.0 MB in {found['engine_cache']['path']}" in text


def test_no_bundled_model(monkeypatch, examine):
    monkeypatch.setattr(bundle, "known_bundles", dict)
    code, found, text = examine()
    assert code == 1
    assert {"problem": "this installation has no bundled model", "fix": "reinstall topos-rt"} in found[
        "problems"
    ]
    assert "fix: reinstall topos-rt" in text


def test_a_damaged_model(one_model, own_bundle, monkeypatch, examine):
    (own_bundle / "dit_step.onnx").write_bytes(b"")
    monkeypatch.setattr(bundle, "known_bundles", lambda: {"tiny": own_bundle})
    code, found, _ = examine()
    assert code == 1
    assert not found["models"]["tiny"]["works"]
    assert found["problems"][0]["problem"].startswith(
        "the bundled model tiny cannot be used: size of bundle file"
    )


def test_no_backend(one_model, monkeypatch, examine):
    fault = MissingExtraError("the onnxruntime backend", got="no module", fix="pip install onnxruntime")
    monkeypatch.setattr(backends, "survey", lambda *names: {"onnxruntime": Probe("no module", fault)})
    code, found, text = examine()
    assert (code, found["auto"]) == (1, None)
    assert found["problems"] == [{"problem": "no backend works here", "fix": "pip install onnxruntime"}]
    assert re.search("onnxruntime +does not work: no module; fix: pip install onnxruntime", text)
    assert "finds none that works" in text


KEY = EngineKey("dit_step.onnx", "a" * 64, {}, "tensorrt-rtx", "1.6.1.120", "portable", "fp16", 1)
BUILD = BuildReport(1.0, {"fp16": {"MATRIX_MULTIPLY": 1}}, {}, {"weights": 1})


def test_the_engines_that_are_kept(one_model, examine):
    cache = EngineCache()
    cache.store(KEY, bytes(2_500_000), BUILD)
    cache.store(dataclasses.replace(KEY, compute_capability="8.9"), b"short", BUILD)
    damaged = dataclasses.replace(KEY, graph="vae_decoder.onnx", recipe=0)
    cache.store(damaged, b"plan", BUILD)
    (cache.directory / f"{damaged.stem}.plan").write_bytes(b"")
    code, found, text = examine()
    assert (code, found["problems"]) == (0, [])  # a damaged engine is rebuilt, and reported then
    kept = found["engine_cache"]
    assert kept["path"] == str(cache.directory)
    assert kept["bytes"] == sum(path.stat().st_size for path in cache.directory.iterdir())
    by_capability = {entry["compute_capability"]: entry for entry in kept["entries"] if not entry["fault"]}
    assert set(by_capability) == {"portable", "8.9"}
    told = by_capability["portable"]
    assert (told["graph"], told["backend"], told["backend_version"], told["precision"]) == (
        "dit_step.onnx",
        "tensorrt-rtx",
        "1.6.1.120",
        "fp16",
    )
    assert "dit_step.onnx  tensorrt-rtx 1.6.1.120, fp16, portable, 2.5 MB, last used 20" in text
    assert "for compute capability 8.9" in text
    assert f"{damaged.stem}  not usable: its plan has 0 bytes, not 4" in text


def test_a_cache_that_cannot_be_written_to(one_model, monkeypatch, tmp_path, examine):
    (tmp_path / "cache").write_text("")
    code, found, text = examine()
    assert code == 0
    assert "cannot write to the engine cache" in found["engine_cache"]["fault"]
    assert "name another directory with --cache or TOPOS_RT_CACHE" in text
    works = any(found["backends"][name]["works"] for name in BUILDERS)
    assert len(found["problems"]) == works  # a problem only if a backend here would cache engines


def test_a_machine_with_a_gpu(one_model, monkeypatch, examine):
    fake_gpu = needs.module("tests.engines.fake_gpu")
    fake_gpu.install(monkeypatch)
    _, found, text = examine()
    assert found["auto"]["backend"] == "tensorrt-rtx"
    assert "takes tensorrt-rtx: the best that works here; tensorrt-rtx 1." in text
    assert "Imaginary RTX 1, 1 GiB, compute capability 8.9, driver for CUDA 13.0" in text


def test_each_backend_that_does_not_work_has_one_remedy(one_model, monkeypatch, examine):
    fake_gpu = needs.module("tests.engines.fake_gpu")
    fake_gpu.install(monkeypatch).gpu.driver = 0
    code, found, text = examine()
    assert (code, found["auto"]["backend"], found["problems"]) == (0, "onnxruntime", [])
    line = next(line for line in text.splitlines() if re.match("  tensorrt-rtx +does not work", line))
    assert "builds engines here, but cannot run them: no driver" in line
    assert line.count("fix:") == 1 and "install the NVIDIA driver" in line


def smi(monkeypatch, directory, script):
    program = directory / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)
    monkeypatch.setattr("topos_rt.cli.doctor.shutil.which", lambda _: str(program))


def test_gpus_are_listed(one_model, monkeypatch, tmp_path, examine):
    line = "NVIDIA GeForce RTX 5090, 12.0, 32607 MiB, 570.86"
    smi(monkeypatch, tmp_path, f"echo '{line}'; echo '{line}'")
    code, found, text = examine()
    told = "NVIDIA GeForce RTX 5090, compute capability 12.0, 32607 MiB, driver 570.86"
    assert (code, found["gpus"]) == (0, [told, told])
    assert f"GPU       {told}; {told}" in text


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 'NVIDIA-SMI has failed\nbecause of the driver'; exit 9", "has failed because of the driver"),
        ("exit 6", "exit code 6"),
    ],
)
def test_a_driver_that_does_not_answer(one_model, monkeypatch, tmp_path, examine, script, told):
    smi(monkeypatch, tmp_path, script)
    code, found, _ = examine()
    assert code == 0  # the CPU still works
    assert told in found["problems"][0]["problem"]
    assert found["gpus"] == []


def test_a_driver_that_hangs(one_model, monkeypatch, tmp_path, examine):
    smi(monkeypatch, tmp_path, "exec sleep 60")
    monkeypatch.setattr("topos_rt.support.machine._SMI_TIMEOUT_S", 0.2)
    _, found, _ = examine()
    assert "timed out" in found["problems"][0]["problem"]


@pytest.mark.parametrize("absent", ["filelock", "numpy", "PIL", "onnxruntime", "safetensors", "platformdirs"])
def test_a_missing_dependency(tmp_path, absent):
    """The doctor works without any of them, and says what to install."""
    (tmp_path / f"{absent}.py").write_text("raise ModuleNotFoundError(f'No module named {__name__!r}')\n")
    done = subprocess.run(
        [sys.executable, "-m", "topos_rt", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
    )
    name = {"PIL": "pillow"}.get(absent, absent)
    problems = json.loads(done.stdout)["problems"]
    assert [problem["problem"] for problem in problems[1:]] in (
        [],
        ["this installation has no bundled model"],
    )
    first = problems[0]
    assert first["problem"].startswith(f"{name} cannot be imported: ")
    assert first["fix"].startswith("pip install ")
    assert first["fix"].endswith(name)
    assert "Traceback" not in done.stderr  # onnxruntime prints one if it is tried without numpy
    if absent in ("numpy", "onnxruntime", "safetensors"):
        assert done.returncode == 1


@pytest.mark.parametrize("built", [True, False])
def test_kernels_are_an_option(one_model, monkeypatch, examine, built):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: (built or None) if name == "topos_rt._kernels" else find(name, *rest),
    )
    code, found, text = examine()
    assert code == 0 and found["problems"] == []
    assert found["kernels"]["built"] is built
    told = "built" if built else "not built (optional: install the CUDA toolkit, then topos-rt again)"
    assert f"kernels   {told}" in text.splitlines()
