"""Modules are imported by statements, which import-linter sees; names in strings stand only in tables."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from topos_rt.engines import BACKENDS

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "topos_rt").rglob("*.py"))
# File -> the table in it that names modules of this package.
TABLES = {
    "topos_rt/__init__.py": "_MODULES",
    "topos_rt/cli/main.py": "COMMANDS",
    "topos_rt/engines/__init__.py": "BACKENDS",
}
# Files that start a module of this package in a new process.
STARTERS = {"topos_rt/bench/cold.py"}
# The names of file formats, which look like modules.
FORMATS = {"topos_rt.bench"}
# Files that import what may be missing: a backend's package, those that the doctor examines, and our compiled
# kernels and passes, which are no source that import-linter could see.
OPTIONAL = {
    "topos_rt/cli/doctor.py",
    "topos_rt/engines/tensorrt/backend.py",
    "topos_rt/gpu/ops.py",
    "topos_rt/support/native.py",
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_module(name: str) -> bool:
    """Return whether a string names a module here: "topos_rt.engines.onnxruntime", "topos_rt.x:object"."""
    parts = name.partition(":")[0].split(".")
    if parts[0] != "topos_rt" or len(parts) < 2 or not all(parts) or name in FORMATS:
        return False
    place = ROOT.joinpath(*parts)
    return place.with_suffix(".py").is_file() or place.is_dir()


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_are_named_in_strings_only_in_tables(path: Path) -> None:
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if node.body and isinstance(node.body[0], ast.Expr)
    }
    strings = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    if any(is_module(text) for text in strings):
        assert name_of(path) in TABLES.keys() | STARTERS


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_are_imported_by_name_only_from_tables(path: Path) -> None:
    calls = {
        node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
    }
    if calls & {"import_module", "__import__", "find_spec"}:
        assert name_of(path) in TABLES.keys() | OPTIONAL


@pytest.mark.parametrize("path", TABLES)
def test_the_tables_are_there(path: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    names = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    assert TABLES[path] in names


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_above_engines_compares_the_names_of_backends(path: Path) -> None:
    if path.is_relative_to(ROOT / "topos_rt" / "engines"):
        return
    compared = [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Compare | ast.Match)
    ]
    strings = {
        inner.value for node in compared for inner in ast.walk(node) if isinstance(inner, ast.Constant)
    }
    names = {inner.id for node in compared for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    assert not strings & BACKENDS.keys()
    assert not names & {"BACKENDS", "BUILDERS"}
