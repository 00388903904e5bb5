"""The samples in C, Python and C# are built and run, and do what they say."""

from __future__ import annotations

import ctypes
import io
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from importlib import util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from tests import needs
from tests.formats.test_glb import parse, read
from tests.sdk import capi
from topos_rt import HeadPipeline
from topos_rt.formats.glb import write_glb

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sdk/samples"
PYTHON = SAMPLES / "python/portrait_to_glb.py"
LANGUAGES = ("c", "python", "csharp")


class Program:
    """A sample: its command, and where the system finds the library."""

    def __init__(self, words: list[object], library: Path) -> None:
        self.words = [str(word) for word in words]
        self.environment = {**os.environ, "LD_LIBRARY_PATH": str(library.parent)}

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        told = [*self.words, *map(str, words)]
        return subprocess.run(told, env=self.environment, text=True, capture_output=True, check=False)

    def interrupted(self, *words: object) -> tuple[int, str]:
        """Run it on a terminal, interrupt it at its first preview, and return its code and its error."""
        screen, terminal = pty.openpty()  # mono knows Ctrl-C only there
        started = subprocess.Popen(
            [*self.words, *map(str, words)], env={**self.environment, "TERM": "xterm"}, text=True,
            stdin=terminal, stdout=terminal, stderr=subprocess.PIPE,
        )  # fmt: skip
        os.close(terminal)
        seen = b""
        with open(screen, "rb", buffering=0) as lines:
            while b"after step " not in seen:
                seen += lines.read(1000)  # OSError where it ended before
            started.send_signal(signal.SIGINT)
            return started.wait(), started.stderr.read() if started.stderr else ""


@pytest.fixture(params=LANGUAGES)
def program(request: pytest.FixtureRequest, built: Path, tmp_path: Path) -> Program:
    library = built / "sdk/libtopos_rt.so"
    if request.param == "c":
        return Program([built / "sdk/samples/portrait_to_glb"], library)
    if request.param == "python":
        return Program([sys.executable, PYTHON, library], library)
    out = tmp_path / "PortraitToGlb.exe"
    return Program([*mono(sorted((SAMPLES / "csharp").glob("*.cs")), out), out], library)


def positions(glb: bytes) -> np.ndarray:
    document, binary = parse(glb)
    return read(document, binary, document["meshes"][0]["primitives"][0]["attributes"]["POSITION"])


def albedo(glb: bytes) -> np.ndarray:
    document, binary = parse(glb)
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    file = binary[view["byteOffset"] :][: view["byteLength"]]
    return np.asarray(Image.open(io.BytesIO(file))).astype(int)


def test_a_portrait_becomes_a_glb(
    program: Program, ort: Path, packs: dict[str, tuple[Path, Path]], portrait: Path, tmp_path: Path
) -> None:
    """It is the head that Python makes of the same picture, and previews are told of on the way."""
    out = tmp_path / "head.glb"
    done = program.run(packs["mini"][1], portrait, out, ort, 7)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(out)
    assert re.search(r"^after step 4: 2\d\d mm tall$", done.stdout, re.MULTILINE), done.stdout
    with HeadPipeline.open("mini", "onnxruntime") as pipe:
        head = pipe(np.asarray(Image.open(portrait)), seed=7)
    files = out.read_bytes(), write_glb(head)
    own, theirs = map(positions, files)
    assert own.shape == theirs.shape and np.abs(own - theirs).max() <= 1e-5
    skin, wanted = map(albedo, files)
    assert (
        skin.shape == wanted.shape == (1024, 1024, 3) and np.abs(skin - wanted).mean() < 2
    )  # PNG without JPEG
    assert [path.name for path in tmp_path.glob("head*")] == ["head.glb"]


def test_what_it_refuses(
    program: Program, ort: Path, packs: dict[str, tuple[Path, Path]], portrait: Path, tmp_path: Path
) -> None:
    pack, out = packs["mini"][1], tmp_path / "head.glb"
    cut = tmp_path / "cut.ppm"
    cut.write_bytes(portrait.read_bytes()[:-1])
    grey = tmp_path / "grey.ppm"
    Image.new("RGB", (64, 64), (90, 90, 90)).save(grey)
    cases = [
        ((), 2, "usage: "),
        ((pack, tmp_path / "none.png", out, ort), 1, "none.png"),
        ((pack, cut, out, ort), 1, "damaged PPM"),
        ((portrait, portrait, out, ort), 1, "TOPOS_E_PACK"),
        ((pack, portrait, out, portrait), 1, "TOPOS_E_UNAVAILABLE"),
        ((pack, grey, out, ort), 1, "TOPOS_E_IMAGE"),
        ((pack, portrait, tmp_path / "nowhere/head.glb", ort), 1, "TOPOS_E_IO|nowhere"),
    ]
    for words, code, message in cases:
        done = program.run(*words)
        assert done.returncode == code and re.search(message, done.stderr), done
        assert done.stderr.count("\n") == 1 and not out.exists()


def test_an_interrupt_cancels(
    program: Program, ort: Path, packs: dict[str, tuple[Path, Path]], portrait: Path, tmp_path: Path
) -> None:
    out = tmp_path / "head.glb"
    for _ in range(5):  # a head is done so soon that an interrupt may come too late
        code, error = program.interrupted(packs["mini"][1], portrait, out, ort)
        if code != 0:
            break
        out.unlink()
    assert code == 1 and error.count("\n") == 1 and "TOPOS_E_CANCELLED" in error, (code, error)
    assert not list(tmp_path.glob("head*"))


def python_sample() -> ModuleType:
    spec = util.spec_from_file_location("portrait_to_glb", PYTHON)
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_structs_of_python_are_those_of_the_header() -> None:
    theirs, found = capi.structs(), 0
    for name, own in vars(python_sample()).items():
        if not (isinstance(own, type) and issubclass(own, ctypes.Structure)) or name == "Struct":
            continue
        wanted = theirs[f"topos_{snake(name)}"]
        assert ctypes.sizeof(own) == ctypes.sizeof(wanted), name
        assert offsets(own) == offsets(wanted), name
        found += 1
    assert found == 6


def offsets(struct: type[ctypes.Structure]) -> dict[str, tuple[int, int]]:
    """Return where each member lies, and its size."""
    fields = [getattr(struct, field[0]) for field in struct._fields_]
    return {field[0]: (at.offset, at.size) for field, at in zip(struct._fields_, fields, strict=True)}


def snake(name: str) -> str:
    """Return a name of C of one of C#: ort_library of OrtLibrary."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def mono(sources: list[Path], out: Path, *options: str) -> list[object]:
    """Compile C# to a program or library, and return what runs it."""
    mcs = needs.tool("mono's C# compiler", shutil.which("mcs"), "apt-get install mono-mcs")
    runner = needs.tool("mono", shutil.which("mono"), "apt-get install mono-runtime")
    words = [mcs, "-unsafe", "-warnaserror", "-langversion:7.2", f"-out:{out}", *options, *map(str, sources)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [runner]
