"""Skips: what can be installed fails in CI, and tests skip by tests/needs.py alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import needs

ROOT = Path(__file__).parent
SKIPS = {"skip", "skipif", "importorskip", "xfail", "SkipTest", "skipTest"}

MISSING: dict[str, tuple[Callable[[], Any], str]] = {
    "a tool": (lambda: needs.tool("a loom", None, "buy one"), "a loom was not found; fix: buy one"),
    "a package": (lambda: needs.module("weaving"), "no module weaving; fix: pip install"),
    "an npm package": (lambda: needs.node_package("loom"), "the npm package loom was not found; fix: run"),
    "a registry": (lambda: needs.packages("pip no-such-command"), "'pip no-such-command' failed"),
    "nvcc": (needs.nvcc, "nvcc was not found; fix: install the CUDA Toolkit"),
    "a compiler": (needs.compiler, "a C++ compiler was not found; fix: install g++"),
    "node": (lambda: needs.node_package("three"), "Node.js was not found; fix: install Node.js"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISSING)
@pytest.mark.parametrize("ci", [False, True])
def test_what_is_missing(case: str, ci: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ask, message = MISSING[case]
    if case in ("nvcc", "a compiler", "node"):
        monkeypatch.setenv("PATH", str(tmp_path))
    elif case == "an npm package":
        needs.node_package("gltf-validator")  # so that Node.js is there
    monkeypatch.setenv("CI", str(ci).lower())
    with pytest.raises(BaseException, match=re.escape(message)) as caught:
        ask()
    assert caught.type is (pytest.fail.Exception if ci else pytest.skip.Exception)


def test_what_is_there_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    assert needs.tool("a loom", "/bin/loom", "buy one") == "/bin/loom"
    assert needs.module("json").loads("1") == 1


@pytest.mark.parametrize("ci", ["", "true"])
def test_a_machine_of_another_kind_only_skips(ci: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", ci)
    needs.machine(True, "never")
    with pytest.raises(pytest.skip.Exception, match="there is no /dev/full"):
        needs.machine(False, "there is no /dev/full")


def skips(source: str) -> Iterator[str]:
    """Names of pytest or unittest in a source that skip tests or let them fail."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in SKIPS:
            value = node.value
            owner = value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")
            if owner in ("pytest", "mark", "unittest", "self"):
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and node.module in ("pytest", "unittest", "_pytest.outcomes"):
            yield from (alias.name for alias in node.names if alias.name in SKIPS)


@pytest.mark.parametrize(
    "source",
    [
        "pytest.skip('why')",
        "@pytest.mark.skipif(x, reason='why')\ndef f(): ...",
        "x = pytest.importorskip('torch')",
        "from pytest import importorskip",
        "(pytest.fail if ci else pytest.skip)('why')",
    ],
)
def test_skips_are_seen(source: str) -> None:
    assert list(skips(source))
    assert not list(skips("needs.machine(block.skip, why)"))


def test_tests_skip_by_what_they_need_alone() -> None:
    found = {path.relative_to(ROOT).as_posix(): list(skips(path.read_text())) for path in ROOT.rglob("*.py")}
    assert found.pop("needs.py") and found.pop("test_needs.py")  # so they are seen
    assert {path: names for path, names in found.items() if names} == {}
