"""What C# declares is what the header declares: structs, enumerations and functions."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk import capi
from tests.sdk.test_samples import SAMPLES, mono, offsets, snake

Lines = dict[str, dict[str, list[str]]]


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    """What Layouts.cs tells: kind -> name -> the rest of the line."""
    out = tmp_path_factory.mktemp("layouts") / "Layouts.exe"
    sources = [*(SAMPLES / "csharp").glob("ToposRt*.cs"), Path(__file__).parent / "csharp/Layouts.cs"]
    told = subprocess.run([str(word) for word in [*mono(sources, out), out]], capture_output=True, check=True)
    lines: Lines = {"struct": {}, "enum": {}, "function": {}}
    for line in told.stdout.decode().splitlines():
        kind, name, *rest = line.split()
        lines[kind][name] = rest
    return lines


def test_structs(declared: Lines) -> None:
    theirs = capi.structs()
    assert {f"topos_{snake(name)}" for name in declared["struct"]} == set(theirs)
    for name, (size, *pairs) in declared["struct"].items():
        wanted = theirs[f"topos_{snake(name)}"]
        assert int(size) == ctypes.sizeof(wanted), name
        own = {snake(field): int(place) for field, place in zip(pairs[::2], pairs[1::2], strict=True)}
        assert own == {field: place for field, (place, _) in offsets(wanted).items()}, name


def enumerations() -> Iterator[dict[str, int]]:
    """Yield those of the header, without underscores in their names."""
    for body in re.findall(r"\benum\s*{([^}]*)}", capi.header()):
        found = re.findall(r"TOPOS_(\w+)\s*=\s*(-?\d+)u?", body)
        yield {name.replace("_", ""): int(value) for name, value in found}


# What stands before the names in C, after TOPOS_; nothing for the enumerations that are not here.
PREFIXES = {
    "Status": "E?", "PixelFormat": "PIXELS", "Crop": "CROP", "Solver": "SOLVER", "Axes": "AXES",
    "SourceFlags": "SOURCE", "LoadFlags": "LOAD", "RequestFlags": "REQUEST", "LayoutFlags": "LAYOUT",
    "ExportFlags": "EXPORT", "Settings": "SET", "TextureKind": "TEXTURE", "Map": "MAP",
    "TexelsFlags": "TEXELS", "FeatureFlags": "FEATURE",
}  # fmt: skip


def test_enumerations(declared: Lines) -> None:
    all_of_them = list(enumerations())
    for name, pairs in declared["enum"].items():
        own = {key.upper(): int(value) for key, value in zip(pairs[::2], pairs[1::2], strict=True)}
        if name.endswith("Flags") or name == "Settings":
            assert own.pop("NONE") == 0
        prefix = re.compile(f"^({PREFIXES.get(name, '')})")
        alike = [{prefix.sub("", key): value for key, value in each.items()} for each in all_of_them]
        assert own in alike, (name, own)


def test_functions(declared: Lines) -> None:
    wanted = {}
    found = re.findall(r"TOPOS_API\s+([\w\s*]+?)TOPOS_CALL\s+(topos_\w+)\(([^;]*)\);", capi.header())
    for returns, name, arguments in found:
        words = [] if arguments.strip() == "void" else arguments.split(",")
        sizes = [0 if returns.strip() == "void" else size(returns), *map(size, words)]
        wanted[name] = list(map(str, sizes))
    assert len(wanted) > 30 and declared["function"] == wanted


def size(declaration: str) -> int:
    """Return the bytes of an argument, or of what a function returns."""
    wide = "*" in declaration or "_callback" in declaration or "uint64_t" in declaration
    return 8 if wide else 4
