"""Standard input as a picture of `generate` and `faces`."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import needs
from tests.sample_pictures import RGB, encode
from topos_rt.cli import inputs
from topos_rt.cli.main import main
from topos_rt.pictures import sources

EXAMPLES = Path(__file__).parents[2] / "examples"
PNG = encode(RGB, "PNG")
BYTES = "standard input: cannot use the image (bytes)"
Run = Callable[..., tuple[int, str, str]]


class Stdin(io.TextIOWrapper):
    """Standard input that holds some bytes, or is a terminal."""

    def __init__(self, data: bytes, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data))
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture
def run(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*words: str, stdin: Stdin | None) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", stdin)
        own = ["--model", str(tiny_bundle), "--no-face-check"] if words[0] == "generate" else []
        code = main([*words, *own])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_head_of_standard_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    assert run("generate", "a.png", stdin=None)[0] == 0
    code, out, err = run("generate", "-", stdin=Stdin(PNG))
    assert code == 0 and out.startswith("stdin.glb  "), err
    assert (tmp_path / "stdin.glb").read_bytes() == (tmp_path / "a.glb").read_bytes()


def test_names_of_files_and_of_the_picture(run: Run, tmp_path: Path) -> None:
    words = ["-", "--seeds", "1,2", "-o", "new/{stem}_{seed}.ply", "--preview", "new/", "--json"]
    code, out, _ = run("generate", *words, stdin=Stdin(PNG))
    assert code == 0 and [head["image"] for head in json.loads(out)["heads"]] == ["-", "-"]
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"stdin_1.ply", "stdin_2.ply", "stdin_seed1.png", "stdin_seed2.png"}


def test_a_pipe_on_both_sides(tiny_bundle: Path, tmp_path: Path) -> None:
    words = ["generate", "-", "-o", "-", "--no-face-check", "--model", str(tiny_bundle)]
    done = subprocess.run(
        [sys.executable, "-m", "topos_rt", *words], input=PNG, capture_output=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0 and done.stdout[:4] == b"glTF", done.stderr
    assert b"standard input" not in done.stderr and not list(tmp_path.iterdir())


BAD = {
    "twice": (["generate", "-", "-"], PNG, "standard input: got - 2 times; expected - once, since it can be"),
    "twice for faces": (["faces", "-", "-"], PNG, "standard input: got - 2 times"),
    "empty": (["generate", "-"], b"", f"{BYTES}: got no bytes"),
    "no picture": (["generate", "-"], b"hello", f"{BYTES}: got a file that"),
    "no picture of faces": (["faces", "-"], b"hello", f"{BYTES}: got a file"),
    "nobody": (["faces", "-"], PNG, "standard input: no face was found"),
    "base64": (
        ["generate", "data:image/png;base64," + "A" * 5000], b"", "a picture: got 5,022 characters, data:"
    ),
    "one name for two": (
        ["generate", "-", "stdin.jpg"], PNG, "got standard input (seed 0) and stdin.jpg (seed 0); expected"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(run: Run, case: str, tmp_path: Path) -> None:
    words, data, message = BAD[case]
    code, _, err = run(*words, stdin=Stdin(data))
    assert code == 2 and message in err and err.count("\n") == 1 and len(err) < 400
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["generate", "faces"])
@pytest.mark.parametrize(("stdin", "got"), [(Stdin(b"", terminal=True), "a terminal"), (None, "nothing")])
def test_nobody_is_kept_waiting(run: Run, command: str, stdin: Stdin | None, got: str) -> None:
    code, _, err = run(command, "-", stdin=stdin)
    assert code == 2
    assert f"standard input: got {got}; expected a picture; fix: add < portrait.jpg, or name a file" in err


def test_a_real_terminal() -> None:
    needs.machine(hasattr(pty, "openpty"), "there are no pseudo-terminals")
    master, slave = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "topos_rt", "faces", "-"],
        stdin=slave,
        capture_output=True,
        timeout=300,
        check=False,
    )
    os.close(master)
    os.close(slave)
    assert done.returncode == 2 and b"got a terminal" in done.stderr


def test_too_much_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_BYTES", 50)
    code, _, err = run("generate", "-", stdin=Stdin(PNG))
    assert code == 2 and "cannot use standard input: got more than 50 bytes" in err


def test_one_bad_picture_does_not_lose_standard_input(run: Run, tmp_path: Path) -> None:
    code, out, err = run("generate", "missing.png", "-", stdin=Stdin(PNG))
    assert code == 2 and "missing.png: got no such file" in err and out.startswith("stdin.glb")


def test_a_file_of_that_name_is_still_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "-").write_bytes(PNG)
    assert run("generate", "./-", "-o", "a.glb", stdin=None)[0] == 0
    assert run("generate", "-", stdin=Stdin(PNG))[0] == 0  # and is not in its way


def test_faces_of_standard_input(run: Run, tmp_path: Path) -> None:
    portrait = (EXAMPLES / "hopper.jpg").read_bytes()
    code, out, err = run("faces", "-", "--draw", "seen/", stdin=Stdin(portrait))
    assert code == 0 and out.startswith("standard input  face 1: "), err
    assert (tmp_path / "seen" / "stdin.faces.png").exists()


def test_the_label() -> None:
    assert (inputs.label("-"), inputs.label("a.jpg")) == ("standard input", "a.jpg")
