"""The one door to the terminal: whatever files say, no control character and no endless line goes through."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bench.results import made
from tests.model.changes import set_value
from topos_rt.cli.console import Console
from topos_rt.cli.main import main
from topos_rt.engines.cache import BuildReport, EngineCache, EngineKey
from topos_rt.errors import BundleError, printable, shortened

NASTY = "\x1b]0;title\x07\x1b[2J\x9b31m\x7f\u202e\r\n" + "x" * 16_000
ALLOWED = re.compile(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]*")

RESULT: dict[str, Callable[[dict[str, Any]], object]] = {
    "backend": set_value("settings", "backend", value=NASTY),
    "precision": set_value("settings", "precision", value=NASTY),
    "processor": set_value("machine", "cpu", value=NASTY),
    "GPU": lambda tree: tree.update(device={"after": {"name": NASTY}}),
    "a nested setting": set_value("settings", "sampling", "solver", value={"a": [NASTY] * 100}),
    "mode": set_value("protocol", "mode", value=NASTY),
    "model": set_value("settings", "model", "sha256", value=NASTY),
    "picture": set_value("settings", "input", value=NASTY),
    "stages": lambda tree: tree.update(samples_ms={NASTY: [1.0] * 20}),
}


def harmless(text: str) -> None:
    assert ALLOWED.fullmatch(text)
    assert max(map(len, text.splitlines()), default=0) < 700


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("case", RESULT)
def test_results_of_measurements(
    case: str, both: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trees = [made(), made()]
    for tree in trees if both else trees[1:]:
        RESULT[case](tree)
    names = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, tree in zip(names, trees, strict=True):
        path.write_text(json.dumps(tree))
    code = main(["bench", "--compare", *map(str, names)])
    assert code in (0, 2)
    out, err = capsys.readouterr()
    harmless(out + err)
    assert main(["bench", "--json", "--compare", *map(str, names)]) == code
    out, err = capsys.readouterr()
    assert ALLOWED.fullmatch(out + err)
    json.loads(out)


def test_files_in_the_engine_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOPOS_RT_CACHE", str(tmp_path))
    key = EngineKey("a.onnx", "a" * 64, {}, "b", "1", "portable", "fp16", 1)
    EngineCache().store(key, b"plan", BuildReport(1.0, {}, {}, {}))
    (path,) = EngineCache().directory.glob("*.json")
    (path.parent / "evil\x1b[2J-0123456789abcdef01234567.plan").write_bytes(b"")
    path.write_text(path.read_text().replace("engine/2", "engine/\\u001b[2J"))
    main(["doctor"])
    harmless(capsys.readouterr().out)


@pytest.mark.parametrize("keys", [("description",), ("weights", "origin"), ("name",), ("weights", "licence")])
def test_manifests(own_bundle: Path, keys: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    path = own_bundle / "manifest.json"
    tree = json.loads(path.read_text())
    set_value(*keys, value=NASTY)(tree)
    path.write_text(json.dumps(tree))
    assert main(["info", str(own_bundle)]) == 2
    harmless("".join(capsys.readouterr()))


def test_names_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = tmp_path / "a\x1b[2J\udcff\u202e.png"
    for words in (["generate", str(name)], ["info", str(name)], ["eval", str(name), str(name)], [str(name)]):
        assert main(words) == 2
        out, err = capsys.readouterr()
        assert ALLOWED.fullmatch(out + err) and err.count("\n") == 1


def test_warnings_are_lines_of_ours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from topos_rt.cli import info

    monkeypatch.setattr(info, "run", lambda *_: warnings.warn("a\x1b[2J\nb", UserWarning, stacklevel=1) or 0)
    assert main(["info"]) == 0
    assert capsys.readouterr().err == "topos-rt: warning: a\\x1b[2J b\n"


def test_tracebacks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from topos_rt.cli import info

    def fail(*_: object) -> int:
        raise ZeroDivisionError("\x1b[2J")

    monkeypatch.setattr(info, "run", fail)
    assert main(["info", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and "ZeroDivisionError: \\x1b[2J" in err and ALLOWED.fullmatch(err)


def test_the_console_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stdout", streams[0])
    monkeypatch.setattr("sys.stderr", streams[1])
    console = Console("test", as_json=True)
    for method in (console.say, console.note, console.warn, lambda text: console.fault("x", text)):
        method(NASTY)
    console.error(BundleError("what", got=NASTY), NASTY, source2=NASTY)
    console.report["text"] = NASTY
    console.finish(0)
    assert ALLOWED.fullmatch(streams[0].getvalue() + streams[1].getvalue())
    assert json.loads(streams[0].getvalue())["text"] == NASTY


def test_what_was_found_is_cut() -> None:
    error = BundleError("what", got="x" * 1000, expected="e")
    assert str(error) == f"what: got {'x' * 199}…; expected e"
    assert error.got == "x" * 1000
    assert shortened("x" * 200) == "x" * 200 and len(shortened("x" * 201)) == 200
    assert printable("ä\n– 頭") == "ä\n– 頭"
