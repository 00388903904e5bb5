"""`topos-rt serve` and `topos-rt studio` as a person starts and stops them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import needs

needs.module("fastapi")

from topos_rt.cli import serve
from topos_rt.cli.main import main
from topos_rt.server import page, run

ROOT = Path(__file__).parents[2]


def told(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1, captured
    return code, captured.err


@contextmanager
def started(*words: object, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """Start a command, and yield it with its address and its lines once it is ready."""
    command = [sys.executable, "-m", "topos_rt", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    lines: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if "  ready" in line:
                break
        else:
            raise AssertionError("".join(lines))
        yield process, line.split()[0], lines
    finally:
        process.kill()
        process.communicate()


def test_a_service_from_start_to_end(tiny_bundle: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("0123456789abcdef\n")
    words = ("serve", "--model", tiny_bundle, "--port", 0, "--threads", 1, "--api-key-file", key)
    with started(*words) as (process, address, lines):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address) and "warning" not in "".join(lines)
        port = address.rpartition(":")[2]
        other = subprocess.run(
            [sys.executable, "-m", "topos_rt", "serve", "--port", port], capture_output=True, text=True,
            check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert other.returncode == 2 and other.stderr == (
            f"topos-rt: error: port {port}: got one that another program listens on; "
            "fix: choose another with --port, or --port 0 for a free one\n"
        )
        asked = urllib.request.Request(f"{address}/v1/models", headers={"X-API-Key": "0123456789abcdef"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            assert json.load(answer)["models"][0]["name"] == "tiny"
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=60)[0]
        assert process.returncode == 0, rest
        assert rest.splitlines()[-1] == "stopped"
        assert '"route": "/v1/models", "status": 200' in rest and "0123456789abcdef" not in rest


def test_two_studios_on_one_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.html").write_text("")
    monkeypatch.setattr(page, "FOLDER", tmp_path)
    monkeypatch.setattr(page, "is_built", lambda folder: True)
    with run.listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        code, line = told(capsys, "studio", "--port", port, "--no-browser")
    assert code == 2 and f"port {port}: got one that another program listens on; fix: choose another" in line


def test_a_page_that_is_not_built(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page, "is_built", lambda folder: False)
    code, line = told(capsys, "studio")
    assert code == 2 and "npm run build" in line


@pytest.mark.parametrize("command", ["serve", "studio"])
def test_without_the_extra(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("topos_rt.server.")]:
        if name not in ("topos_rt.server.settings", "topos_rt.server.problems"):
            monkeypatch.delitem(sys.modules, name)
    server = sys.modules["topos_rt.server"]
    for name in ("app", "run", "page"):
        monkeypatch.delattr(server, name, raising=False)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, line = told(capsys, command)
    assert code == 2 and "fix: pip install 'topos-rt[serve]'" in line


WRONG: dict[str, tuple[list[str], str]] = {
    "a port that is none": (["--port", "70000"], "expected a whole number from 0 to 65,535"),
    "an address of somebody else": (["--host", "192.0.2.1"], "192.0.2.1"),
    "a name that is none": (["--host", "no.such.name.invalid"], "--host no.such.name.invalid"),
    "no workers": (["--workers", "0"], "expected a whole number from 1 to 64"),
    "JSON": (["--json"], "--json"),
    "a key file that is not there": (["--api-key-file", "/none/key"], "No such file"),
    "a word": (["portrait.jpg"], "unrecognized arguments: portrait.jpg"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, message = WRONG[case]
    code = main(["serve", *words])
    captured = capsys.readouterr()
    assert code == 2 and message in captured.err


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "an empty file"), (b"\n", "an empty file"), (b"\xff", "no ASCII"), (b"short", "got 5 characters"),
     (b"a" * 5000, "more than 4,096 bytes"), (b"a key of two words\nin two lines", "printable ASCII")],
)  # fmt: skip
def test_wrong_key_files(
    data: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_bytes(data)
    code, line = told(capsys, "serve", "--api-key-file", tmp_path / "key")
    assert code == 2 and message in line
    assert not data.strip() or data.decode("latin-1").strip() not in line


def test_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import argparse

    arguments = argparse.Namespace(api_key_file=None)
    monkeypatch.setenv(serve.KEY, "from the environment")
    assert serve.key_of(arguments) == "from the environment"
    monkeypatch.setenv(serve.KEY, "")
    assert serve.key_of(arguments) is None


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code = main(["serve", "--port", "0", "--model", str(tmp_path / "none"), "--quiet"])
    captured = capsys.readouterr()
    assert code == 2 and captured.err.splitlines()[-1].startswith("topos-rt: error: ")


def test_results_where_no_directory_can_be(
    capsys: pytest.CaptureFixture[str], tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    code = main(["serve", "--port", "0", "--model", str(tiny_bundle), "--results", str(tmp_path / "file")])
    captured = capsys.readouterr()
    assert code == 2 and "topos-rt: error: --results" in captured.err


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:")]
)
def test_addresses(host: str, address: str) -> None:
    with run.listen(host, 0) as listening:
        assert run.address_of(listening).startswith(address)
        assert run.is_local(listening) == (host == "127.0.0.1")


def test_a_warning_where_other_machines_get_in(tiny_bundle: Path) -> None:
    words = ("serve", "--host", "0.0.0.0", "--model", tiny_bundle, "--port", 0, "--threads", 1)
    with started(*words) as (_, _, lines):
        assert (
            "warning: 0.0.0.0 can be reached from other machines, and the service asks for no API key"
            in lines[0]
        )
