"""The Unreal plugin compiles, and makes its mesh, with stand-ins for Unreal's types.

tests/sdk/unreal/ has the stand-ins, written by hand; no Unreal is here.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sdk import capi, engines, regions
from tests.sdk.test_samples import mono

STAND_INS = Path(__file__).parent / "unreal"


@pytest.fixture(scope="module")
def plugin(built: Path, ort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engines.assembled("unreal", built, tmp_path_factory.mktemp("unreal"), ORT=ort)


def headers(plugin: Path, folder: Path) -> list[Path]:
    """Return the folders of the module's headers and of those that stand in for Unreal's."""
    source = plugin / "Source/ToposRt"
    own = "|".join(path.name for path in [*source.glob("Public/*.h"), Path("topos_rt.h")])
    files = [*source.rglob("*.h"), *source.rglob("*.cpp")]
    engines.stand_in_headers(folder, files, rf'#include "((?!(?:{own})").+)"', "Unreal.h")
    library = plugin / "Source/ThirdParty/topos_rt/include"
    return [STAND_INS, folder / "include", source / "Public", library]


@pytest.fixture(scope="module")
def made(
    plugin: Path, packs: dict[str, tuple[Path, Path]], tmp_path_factory: pytest.TempPathFactory
) -> engines.Made:
    folder = tmp_path_factory.mktemp("run")
    sources = [*plugin.glob("Source/ToposRt/Private/*.cpp"), STAND_INS / "Run.cpp"]
    binaries = plugin / "Binaries/ThirdParty/topos_rt/Linux"
    program = engines.compiled(folder / "run", "c++20", sources, headers(plugin, folder), binaries)
    return engines.ran([program, packs["mini"][1]], binaries, folder)


def test_the_mesh_is_the_librarys(made: engines.Made, api: capi.Api, models: Callable[[str], Any]) -> None:
    engines.same_as_the_library(made, api, models, axes=2, unit=100.0)
    assert made.uvs.min() >= 0 and made.uvs.max() <= 1


def test_axes_and_handedness(made: engines.Made) -> None:
    regions.check(regions.UNREAL, made.positions, made.normals, made.triangles)


def test_blendshapes_move_what_their_names_say(made: engines.Made) -> None:
    regions.check_shapes(regions.UNREAL, made.positions, made.shapes)


def test_nodes_and_components(made: engines.Made) -> None:
    """Previews come before the head, a second head draws over the first, and failures are told once."""
    first, second, unread, cancelled = (list(map(int, told.split())) for told in made.told["node"])
    for previews, *rest in (first, second):
        assert previews >= 2 and rest == [1, 0, 1, 1]  # done, not failed, kept, and let go
    assert unread == [0, 0, 1, 1, 1] and cancelled[1:] == [0, 1, 1, 1]
    assert "cannot be read as a picture" in made.told["failure"][0]
    assert made.told["failure"][1].startswith("TOPOS_E_CANCELLED ")
    assert made.lines["again"] == "1 created 1"
    assert made.lines["many"] == "1 0"  # many shapes are one drawing, and an unknown one says so


def test_the_module_compiles_for_windows(plugin: Path, tmp_path: Path) -> None:
    module = plugin / "Source/ToposRt/Private/ToposRtModule.cpp"
    words = ["-fsyntax-only", "-DPLATFORM_WINDOWS=1", module]
    engines.compile_cpp("c++20", headers(plugin, tmp_path), *words)


def test_the_rules_name_files_that_are_there(plugin: Path, tmp_path: Path) -> None:
    program = tmp_path / "Rules.exe"
    runner = mono([plugin / "Source/ToposRt/ToposRt.Build.cs", STAND_INS / "UnrealBuildTool.cs"], program)
    for system in ("Linux", "Win64"):
        words = list(map(str, [*runner, program, plugin, system]))
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        files = list(map(Path, done.stdout.split()))
        assert len(files) == (5 if system == "Linux" else 4)
        if system == "Linux":
            assert all(path.exists() for path in files), files
    manifest = json.loads((plugin / "ToposRt.uplugin").read_text())
    assert [module["Name"] for module in manifest["Modules"]] == ["ToposRt"]
    assert manifest["VersionName"] == engines.version()
