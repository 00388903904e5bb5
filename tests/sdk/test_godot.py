"""The Godot extension compiles, and makes its mesh, with stand-ins for godot-cpp's types.

tests/sdk/godot/ has the stand-ins, written by hand; no Godot and no godot-cpp are here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sdk import capi, engines, regions

STAND_INS = Path(__file__).parent / "godot"
NORMALIZED = 0


@pytest.fixture(scope="module")
def extension(built: Path, ort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engines.assembled("godot", built, tmp_path_factory.mktemp("godot"), ORT=ort)


@pytest.fixture(scope="module")
def stored(
    extension: Path, packs: dict[str, tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> engines.Made:
    """What the extension hands to Godot."""
    folder = tmp_path_factory.mktemp("run")
    sources = [*extension.glob("src/*.cpp"), STAND_INS / "Run.cpp"]
    engines.stand_in_headers(folder, [*extension.glob("src/*.*")], r"#include <(g.+)>", "Godot.h")
    program = engines.compiled(
        folder / "run", "c++17", sources,
        [STAND_INS, folder / "include", extension / "src", extension / "include"], extension / "bin/linux",
    )  # fmt: skip
    return engines.ran([program, packs["mini"][1]], extension / "bin/linux", folder)


@pytest.fixture(scope="module")
def made(stored: engines.Made) -> engines.Made:
    """The same with what Godot adds for a blend shape at 1: it takes the place of the head."""
    assert int(stored.lines["mode"]) == NORMALIZED
    shapes = {
        name: (places - stored.positions, ways - stored.normals)
        for name, (places, ways) in stored.shapes.items()
    }
    return dataclasses.replace(stored, shapes=shapes)


def test_the_mesh_is_the_librarys(made: engines.Made, api: capi.Api, models: Callable[[str], Any]) -> None:
    engines.same_as_the_library(made, api, models, capi.constants()["TOPOS_AXES_GODOT"], unit=1.0)
    assert made.uvs.min() >= 0 and made.uvs.max() <= 1


def test_axes_and_handedness(made: engines.Made) -> None:
    regions.check(regions.GODOT, made.positions, made.normals, made.triangles)


def test_blendshapes_move_what_their_names_say(stored: engines.Made, made: engines.Made) -> None:
    regions.check_shapes(regions.GODOT, made.positions, made.shapes)
    for _, normals in stored.shapes.values():  # Godot keeps directions alone
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-3)


def test_signals_and_failures(made: engines.Made) -> None:
    assert made.told["signal"] == ["preview", "finished", "failed"]
    unread, head, cancelled = (list(map(int, told.split())) for told in made.told["node"])
    assert unread == [0, 0, 1, 0] and made.told["failure"][0].startswith("TOPOS_E_IO pack nowhere.topos")
    assert head[0] >= 2 and head[1:] == [1, 0, 0]
    assert cancelled == [1, 0, 0, 0] and made.lines["left"] == "0 shapes, 1 surface"
    assert made.lines["empty"] == "1"


def test_its_files_agree(extension: Path) -> None:
    """What the .gdextension names is what the sources, SConstruct and assemble.cmake make."""
    text = (extension / "topos_rt.gdextension").read_text()
    symbol = re.search(r'entry_symbol = "(\w+)"', text)
    assert symbol and f" {symbol[1]}(" in (extension / "src/register_types.cpp").read_text()
    named = re.findall(r'"res://addons/topos_rt/(bin/linux/.+?)"', text)
    recipe = (extension / "SConstruct").read_text()
    assert named[0] == "bin/linux/libtopos_rt_godot.so" and "/libtopos_rt_godot{" in recipe
    assert all((extension / path).is_file() for path in named[1:]) and len(named) == 3
    compile(recipe, "SConstruct", "exec")
