"""`topos-rt texture`, and the texture options of `generate`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import topos_rt
from tests.meshes import ball, cube
from topos_rt.cli.main import main
from topos_rt.errors import MeshInputError, OptionError
from topos_rt.faces.finder import FaceFinder
from topos_rt.formats.mesh_reader import read_mesh
from topos_rt.head.mesh import HeadMesh
from topos_rt.model.bundle import Bundle
from topos_rt.texture.again import read_head, texture_head

EXAMPLES = Path(__file__).parents[2] / "examples"
ASTRONAUT = EXAMPLES / "astronaut.jpg"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head without a texture, in files."""
    folder = tmp_path_factory.mktemp("heads")
    path = folder / "head.glb"
    assert main(["generate", str(ASTRONAUT), "-o", str(path), "--preset", "fast", "--texture", "none"]) == 0
    read_head(path, Bundle.open("mini")).save(folder / "head.obj")
    return path


@pytest.fixture(scope="module")
def finder() -> Iterator[FaceFinder]:
    with FaceFinder.open() as opened:
        yield opened


@pytest.mark.parametrize("suffix", ["glb", "obj"])
def test_a_photograph_is_laid_on_a_head_made_before(
    plain: Path, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.glb"
    words = [
        "texture",
        str(plain.with_suffix(f".{suffix}")),
        str(ASTRONAUT),
        "-o",
        str(out),
        "--texture-size",
        "512",
    ]
    assert main([*words, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["heads"]
    assert told["metadata"]["texture"]["kind"] == "projected" and told["metadata"]["texture"]["size"] == 512
    apart = read_mesh(out).positions[:4538] - read_mesh(plain).positions[:4538]
    assert np.abs(apart).max() < 1e-6 and out.stat().st_size > plain.stat().st_size
    if suffix == "glb":  # how the head was made is kept
        assert told["metadata"]["preset"] == "fast" and told["metadata"]["model"] == "mini"


def test_a_textured_head_takes_another_photograph(plain: Path, tmp_path: Path, finder: FaceFinder) -> None:
    first = texture_head(plain, ASTRONAUT, texture_size=512, finder=finder)
    first.save(tmp_path / "a.glb")
    second = texture_head(tmp_path / "a.glb", EXAMPLES / "hopper.jpg", texture_size=512, finder=finder)
    assert second.texture.albedo.mean() != first.texture.albedo.mean()
    # A reader of skinned meshes blends joints, which rounds.
    assert np.abs(second.positions - first.positions).max() < 1e-6 and second.rig is not None
    assert isinstance(second.texture, topos_rt.Texture)


def test_the_help_says_that_the_photograph_may_show_somebody_else(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["texture", "--help"])
    assert "The photograph may show another person than the one whose head it is." in capsys.readouterr().out


def test_the_command_and_the_function_agree_with_generate(plain: Path, finder: FaceFinder) -> None:
    """A texture made afterwards is that of a head made with it, but for the rounding of normals."""
    with topos_rt.HeadPipeline.open("mini") as pipe:
        whole = pipe(ASTRONAUT, preset="fast", texture_size=512)
    after = texture_head(plain, ASTRONAUT, texture_size=512, finder=finder)
    assert np.abs(whole.texture.albedo.astype(int) - after.texture.albedo).max() <= 2


@pytest.mark.parametrize("kind", ["base", "projected"])
def test_generate_takes_texture_options(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.obj"
    words = ["generate", str(ASTRONAUT), "-o", str(out), "--preset", "fast", "--texture", kind]
    assert main([*words, "--texture-format", "png", "--texture-size", "512", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["heads"][0]["metadata"]["texture"]["kind"] == kind
    assert (tmp_path / "a_albedo.png").exists() and (tmp_path / "a.mtl").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--texture", "painted"], "texture"),
        (["--texture-size", "300"], "texture size: got 300; expected one of: 512, 1024, 2048"),
        (["--texture-format", "tga"], "texture format"),
    ],
)
def test_wrong_options_are_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(ASTRONAUT), "-o", str(tmp_path / "a.glb"), *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_a_picture_without_a_face_cannot_be_projected(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = tmp_path / "grey.png"
    from PIL import Image

    Image.new("RGB", (200, 200), (120, 110, 100)).save(grey)
    out = str(tmp_path / "a.glb")
    assert main(["texture", str(plain), str(grey), "-o", out]) == 2
    asked = ["generate", str(grey), "-o", out, "--no-face-check", "--preset", "fast"]
    assert main([*asked, "--texture", "projected"]) == 2
    for line in capsys.readouterr().err.strip().splitlines():
        assert "face" in line
    assert not Path(out).exists()
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["heads"][0]["metadata"]
    assert told["texture"]["kind"] == "base" and "no face" in told["warnings"][-1]


@pytest.mark.parametrize("head", [ball(), cube()])
def test_heads_of_another_topology_are_refused(head: HeadMesh, tmp_path: Path) -> None:
    path = tmp_path / "other.glb"
    head.save(path)
    with pytest.raises(MeshInputError, match=r"expected a head of the model, with 4,538 vertices"):
        texture_head(path, ASTRONAUT)
    with pytest.raises(MeshInputError, match="the head"):
        texture_head(head, ASTRONAUT)


def test_levels_of_detail_are_refused(plain: Path, tmp_path: Path) -> None:
    head = read_head(plain, Bundle.open("mini"))
    with pytest.raises(MeshInputError, match="rather than a level of detail"):
        texture_head(head.lod(1), ASTRONAUT)


def test_all_faces_at_once_are_refused(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OptionError, match="face"):
        texture_head(plain, ASTRONAUT, face="all")
    assert main(["texture", str(plain), str(ASTRONAUT), "-o", "a.glb", "--face", "all"]) == 2
    assert "--face" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["gltf", "head", "obj"])
def test_heads_of_other_formats(suffix: str, plain: Path, tmp_path: Path) -> None:
    bundle = Bundle.open("mini")
    head = read_head(plain, bundle)
    path = tmp_path / f"other.{suffix}"
    head.save(path)
    again = read_head(path, bundle)
    assert np.allclose(again.positions, head.positions, atol=1e-6)
    assert again.metadata == ({} if suffix == "obj" else head.metadata)
    made = texture_head(path, ASTRONAUT, texture_size=512)
    assert made.texture is not None and made.metadata["texture"]["kind"] == "projected"


def test_strange_metadata_of_a_file_are_left_alone(plain: Path, tmp_path: Path) -> None:
    from topos_rt.formats.gltf_reader import read_metadata

    path = tmp_path / "a.glb"
    path.write_bytes(plain.read_bytes().replace(b'"metadata":{', b'"metadatA":{'))
    assert read_metadata(path) == {} and read_metadata(plain)["model"] == "mini"
    made: Any = read_head(path, Bundle.open("mini"))
    assert made.metadata == {}
