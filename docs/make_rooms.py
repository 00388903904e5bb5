"""Write the map of rooms into CONTRIBUTING.md from the rooms' docstrings: `python docs/make_rooms.py`."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from pages import ROOT, Tables, rewrite, table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = ROOT / "CONTRIBUTING.md"
PACKAGE = ROOT / "topos_rt"


@lru_cache
def layers() -> list[list[str]]:
    """Return the rooms that exist, the highest layer first, with the rooms of a layer in one list."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rule = next(contract["layers"] for contract in contracts if contract.get("containers") == ["topos_rt"])
    names = [re.findall(r"\b[a-z]\w*", line) for line in rule]  # not __main__
    return [found for layer in names if (found := [name for name in layer if _main_file(name).is_file()])]


def rooms() -> list[str]:
    """Return the rooms in the order of `layers`."""
    return [room for layer in layers() for room in layer]


def imports() -> dict[str, set[str]]:
    """Return room -> the rooms that its files import, in functions too, but not under TYPE_CHECKING."""
    found: dict[str, set[str]] = {room: set() for room in rooms()}
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room in found:
            found[room] |= {name for name in _imported(ast.parse(path.read_text())) if name in found}
    return {room: names - {room} for room, names in found.items()}


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
        return
    if isinstance(node, ast.ImportFrom):
        module = str(node.module).split(".")
        if module[0] == "topos_rt":
            yield from module[1:2] or (alias.name for alias in node.names)
    for child in ast.iter_child_nodes(node):
        yield from _imported(child)


def _main_file(room: str) -> Path:
    path = PACKAGE / room
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _place(room: str) -> str:
    path = PACKAGE / room
    return f"{room}/" if path.is_dir() else f"{room}.py"


def _map() -> str:
    rows = []
    for room in rooms():
        text = ast.get_docstring(ast.parse(_main_file(room).read_text()))
        assert text, f"{room} has no docstring"
        rows.append([f"`topos_rt/{_place(room)}`", " ".join(text.split("\n\n")[0].split())])
    return table(["room", "what is in it"], rows)


TABLES: Tables = {"rooms": _map}

if __name__ == "__main__":
    rewrite(PAGE, TABLES)
