"""Habits of people on a command line: pipes, URLs, machines with tight limits, old libraries."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests import needs
from tests.meshes import ball
from tests.sample_pictures import RGB, encode
from topos_rt import HeadPipeline
from topos_rt.cli.main import main
from topos_rt.engines import onnxruntime
from topos_rt.errors import BackendError, BundleError, MeshInputError
from topos_rt.model.bundle import Bundle
from topos_rt.support.boundary import ending


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(encode(RGB, "PNG"))
    return tmp_path / "a.png"


def run(words: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "topos_rt", *words], capture_output=True, check=False, **options
    )  # type: ignore[call-overload, no-any-return]


def test_a_head_on_standard_output(portrait: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    model = ["--model", str(tiny_bundle), "--no-face-check"]
    assert run(["generate", str(portrait), "-o", str(tmp_path / "h.obj"), *model]).returncode == 0
    done = run(
        [
            "generate",
            str(portrait),
            "-o",
            "-",
            "--format",
            "obj",
            *model,
            "--preview",
            str(tmp_path / "p.png"),
        ]
    )
    assert done.returncode == 0 and done.stdout == (tmp_path / "h.obj").read_bytes()
    assert b"vertices" in done.stderr and (tmp_path / "p.png").exists()
    assert run(["generate", str(portrait), "-o", "-", *model]).stdout[:4] == b"glTF"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-o", "-", "--json"], "--json: got -o -: both print to standard output; fix: drop one"),
        (["-o", "-", "--seeds", "1,2"], "-o - for 2 heads: got standard output; expected a file"),
        (["--preview", "-"], "--preview: got '-'; expected a name that ends in .png"),
    ],
)
def test_what_cannot_go_to_standard_output(
    words: list[str], told: str, portrait: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(portrait), "--model", str(tiny_bundle), *words]) == 2
    assert told in capsys.readouterr().err


URLS = ["https://example.org/a.png", "http://[::1]/x.glb?y=1", "s3://bucket/a.ply", "FILE:///etc/passwd"]


@pytest.mark.parametrize("url", URLS)
def test_urls_are_named(
    url: str, tiny_bundle: Path, portrait: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", str(tiny_bundle)]
    for words in (
        ["generate", url, *model],
        ["retopologize", url, "-o", "x.glb", *model],
        ["eval", url, url],
        ["info", url],
    ):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert f"{url}: got a URL; expected a file on this machine, since nothing is fetched" in err
        assert "; fix: pass the path" in err or "; fix: download it first" in err
        assert err.count("\n") == 1


def test_no_temporary_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "nothing")])
    with pytest.raises(FileNotFoundError) as caught:
        tempfile.gettempdir()
    found = ending(caught.value, "topos-rt", debug=False)
    assert (found.code, found.message.startswith("temporary files: got No usable temporary")) == (2, True)
    assert found.message.endswith("fix: set TMPDIR to a directory") and "\n" not in found.message


def test_what_libraries_print_past_python_goes_to_stderr() -> None:
    script = (
        "import os, sys; from topos_rt.cli import info; from topos_rt.cli.main import main; real = info.run\n"
        "def noisy(*a):\n    os.write(1, b'noise'); return real(*a)\n"
        "info.run = noisy; code = main(['info', '--json']); os.write(1, b'after'); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0 and done.stderr.startswith(b"noise")
    text, _, after = done.stdout.partition(b"\nafter")
    assert json.loads(text)["exit_code"] == 0 and after == b""


LIMITED = """
import resource, sys
import topos_rt.engines.onnxruntime as o
o.library()
size = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (size + 150 * 2**20,) * 2)
from topos_rt.cli.main import main
sys.exit(main(["generate", sys.argv[1], "-o", sys.argv[2], "--model", sys.argv[3], "--threads", "500"]))
"""


def test_a_limit_on_threads_is_not_blamed_on_the_model(
    portrait: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    needs.machine(Path("/proc/self/statm").exists(), "there is no /proc")
    words = [sys.executable, "-c", LIMITED, str(portrait), str(tmp_path / "h.glb"), str(tiny_bundle)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert (
        "onnxruntime needs more threads than this process may start: got a limit that allows" in done.stderr
    )
    assert "fix: use fewer, with --threads" in done.stderr and "bundle" not in done.stderr


def test_memory_that_runs_out_is_not_blamed_on_the_model(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = onnxruntime.library()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("std::bad_alloc")

    monkeypatch.setattr(library, "InferenceSession", fail)
    with pytest.raises(BackendError, match=r"cannot load image_encoder\.onnx here: got std::bad_alloc"):
        HeadPipeline.open(tiny_bundle, "onnxruntime", threads=1)


def test_no_message_is_inside_another(own_bundle: Path) -> None:
    path = own_bundle / "topology.safetensors"
    (own_bundle / "rig.safetensors").replace(path)
    from topos_rt.model.bundle import write_manifest
    from topos_rt.model.manifest import Manifest

    manifest = Manifest.from_json((own_bundle / "manifest.json").read_bytes())
    import dataclasses

    write_manifest(own_bundle, dataclasses.replace(manifest, rig=None))
    with pytest.raises(BundleError) as caught:
        Bundle.open(own_bundle)
    assert str(caught.value).count("; fix: ") == 1 and str(caught.value).count("; expected ") == 1


def test_normals_are_estimated_where_there_are_none(tiny_bundle: Path) -> None:
    needs.module("scipy")
    head = ball(rings=20, segments=24, radius=0.1)
    with HeadPipeline.open(tiny_bundle, "onnxruntime", threads=1) as pipe:
        without = pipe.retopologize(head.positions, passes=1)
        with_them = pipe.retopologize(head.positions, head.normals, passes=1)
        assert np.abs(without.positions - with_them.positions).max() < 0.002
        with pytest.raises(MeshInputError, match="points"):
            pipe.retopologize(np.zeros((3, 3)), None)


def test_doctor_loads_a_graph(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As onnxruntime 1.17 did, which imports, but cannot load the graphs of `mini`."""
    monkeypatch.setenv("TOPOS_RT_CACHE", str(tmp_path))
    library = onnxruntime.library()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Unsupported model IR version: 10, max supported IR version: 9")

    monkeypatch.setattr(library, "InferenceSession", fail)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert re.search(
        "mini +does not work: graph dit_modulation.onnx: got Unsupported model IR version: 10", out
    )
    assert "fix: pip install --upgrade onnxruntime" in out
    assert os.listdir(tmp_path) == []
