"""The console: the progress bar leaves no trace, and with --json stdout has nothing but JSON."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest

from topos_rt.cli import console as module
from topos_rt.cli.console import Console
from topos_rt.errors import BackendError, ImageError, OutputError


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def screen(self):
        """Return the lines that are visible at the end: each carriage return writes over the line."""
        lines = []
        for line in self.getvalue().split("\n"):
            shown = ""
            for part in line.split("\r"):
                shown = part + shown[len(part) :]
            lines.append(shown.rstrip())
        return lines


@pytest.fixture
def terminal(monkeypatch):
    # Only the module's `sys` is patched: pytest replaces the streams of the real one before every test.
    terminal = Terminal()
    monkeypatch.setattr(module, "sys", SimpleNamespace(stdout=io.StringIO(), stderr=terminal))
    monkeypatch.setattr(module, "_REDRAW_S", 0.0)
    return terminal


def test_the_bar_grows_and_shrinks_cleanly(terminal):
    console = Console("test")
    console.progress(0.5, "a long label")
    assert terminal.screen() == ["[############............]  50%  a long label"]
    console.progress(1.0, "short")
    assert terminal.screen() == ["[########################] 100%  short"]


def test_nothing_is_left_of_the_bar(terminal):
    console = Console("test")
    for leave in (console.clear, lambda: console.say("result"), lambda: console.note("note")):
        console.progress(0.3, "working")
        leave()
    console.finish(0)
    assert terminal.screen() == ["note", ""]


def test_the_bar_stays_within_the_terminal(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    Console("test").progress(0.1, "x" * 100)
    assert len(terminal.screen()[0]) == 39


def test_the_bar_is_not_redrawn_more_often_than_one_can_see(terminal, monkeypatch):
    monkeypatch.setattr(module, "_REDRAW_S", 3600.0)
    console = Console("test")
    for step in range(100):
        console.progress(step / 100, "working")
    assert terminal.getvalue().count("\r") == 1


def test_no_bar_in_a_pipe(capsys):
    Console("test").progress(0.5, "working")
    assert capsys.readouterr() == ("", "")


def test_json_alone_on_stdout(capsys):
    console = Console("test", as_json=True)
    console.say("for people")
    console.error(ImageError("cannot use the image a.png"), "a.png", image="a.png")
    console.error(BackendError("the engine broke"), "b.png, seed 3", image="b.png", seed=3)
    console.error(OutputError("cannot write c.glb"), "c.png", input="c.png")
    console.error(OutputError("cannot write d.glb"))
    console.report["number"] = 3
    console.finish(2)
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "command": "test",
        "exit_code": 2,
        "number": 3,
        "errors": [
            {"type": "ImageError", "message": "cannot use the image a.png", "image": "a.png"},
            {
                "type": "BackendError",
                "message": "b.png, seed 3: the engine broke",
                "image": "b.png",
                "seed": 3,
            },
            {"type": "OutputError", "message": "cannot write c.glb", "input": "c.png"},
            {"type": "OutputError", "message": "cannot write d.glb"},
        ],
    }
    assert err.splitlines() == [
        "for people",
        "topos-rt: error: cannot use the image a.png",
        "topos-rt: error: b.png, seed 3: the engine broke",
        "topos-rt: error: cannot write c.glb",
        "topos-rt: error: cannot write d.glb",
    ]


def test_without_json_the_result_is_for_people(capsys):
    console = Console("test")
    console.say("for people")
    console.finish(0)
    assert capsys.readouterr() == ("for people\n", "")
