""".gltf files with their buffers beside them: the surface of the .glb, and no file of anywhere else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.rig.gltf import read_character
from tests.formats.glb_ways import WAYS, as_floats, assert_same
from tests.formats.glbs import Glb
from tests.meshes import cube
from topos_rt.errors import MeshInputError
from topos_rt.formats.limits import Limits
from topos_rt.formats.mesh_file import MeshFile
from topos_rt.formats.mesh_reader import read_mesh


def written(folder: Path, glb: Glb, uri: str = "mesh.bin", **asset: Any) -> Path:
    """Write a GLB as .gltf and mesh.bin, whatever the URI says, and return the path of the .gltf."""
    buffers = glb.document.setdefault("buffers", [{}])
    buffers[0].setdefault("byteLength", len(glb.data))
    buffers[0].setdefault("uri", uri)
    glb.document["asset"] |= asset
    (folder / "mesh.bin").write_bytes(glb.data)
    path = folder / "mesh.gltf"
    path.write_text(json.dumps(glb.document))
    return path


def read(folder: Path, glb: Glb, uri: str = "mesh.bin", **asset: Any) -> MeshFile:
    return read_mesh(written(folder, glb, uri, **asset))


@pytest.mark.parametrize("make", WAYS.values(), ids=WAYS)
def test_the_surface_of_the_glb(make: Callable[[], Glb], tmp_path: Path) -> None:
    assert_same(read(tmp_path, make()))


def test_what_we_write_is_read_back(tmp_path: Path) -> None:
    head = cube(rig=True)
    for suffix in ("glb", "gltf"):
        head.save(tmp_path / f"head.{suffix}")
    glb, gltf = (read_mesh(tmp_path / f"head.{suffix}") for suffix in ("glb", "gltf"))
    np.testing.assert_array_equal(gltf.positions, glb.positions)
    characters = [read_character(tmp_path / f"head.{suffix}") for suffix in ("glb", "gltf")]
    assert characters[0].shape_names == characters[1].shape_names
    np.testing.assert_array_equal(characters[0].shapes, characters[1].shapes)


def test_a_glb_that_is_named_gltf(tmp_path: Path) -> None:
    (tmp_path / "mesh.gltf").write_bytes(as_floats().bytes())
    assert_same(read_mesh(tmp_path / "mesh.gltf"))


def test_names_are_percent_decoded_and_may_lie_below(tmp_path: Path) -> None:
    path = written(tmp_path, as_floats(), "parts/my%20mesh.bin")
    (tmp_path / "parts").mkdir()
    (tmp_path / "mesh.bin").rename(tmp_path / "parts" / "my mesh.bin")
    assert_same(read_mesh(path))


@pytest.mark.parametrize(
    "uri",
    [
        "../mesh.bin", "a/../../mesh.bin", "%2e%2e/mesh.bin", "..%5cmesh.bin", "/etc/hostname", "",
        "file:///etc/hostname", "http://localhost/mesh.bin", "C:/mesh.bin", "C%3a%5cmesh.bin", "mesh.bin%00",
        "%2fetc/hostname", "//localhost/mesh.bin",
    ],
)  # fmt: skip
def test_no_other_place_is_read(uri: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = written(tmp_path / "in", as_floats(), uri)
    (tmp_path / "mesh.bin").write_bytes(as_floats().data)
    with pytest.raises(MeshInputError, match=r"the buffer .*expected the name of a file beside the .gltf"):
        read_mesh(path)


def _link(folder: Path) -> None:
    (folder.parent / "secret").write_bytes((folder / "mesh.bin").read_bytes())
    (folder / "mesh.bin").unlink()
    (folder / "mesh.bin").symlink_to(folder.parent / "secret")


def _directory(folder: Path) -> None:
    (folder / "mesh.bin").unlink()
    (folder / "mesh.bin").mkdir()


def _pipe(folder: Path) -> None:
    (folder / "mesh.bin").unlink()
    os.mkfifo(folder / "mesh.bin")


def _cut(folder: Path) -> None:
    (folder / "mesh.bin").write_bytes((folder / "mesh.bin").read_bytes()[:-1])


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_link, "a link to elsewhere"),
        (_directory, "Is a directory|no regular file"),
        (_pipe, "no regular file"),
        (_cut, "a buffer that is longer than its data"),
        (lambda folder: (folder / "mesh.bin").unlink(), "which is missing; .*keep the two together"),
    ],
)
def test_what_lies_beside_is_a_whole_file(harm: Callable[[Path], object], told: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = written(tmp_path / "in", as_floats())
    harm(tmp_path / "in")
    with pytest.raises(MeshInputError, match=told):
        read_mesh(path)


def test_files_beside_count_for_the_limit(tmp_path: Path) -> None:
    glb = as_floats()
    path = written(tmp_path, glb)
    whole = path.stat().st_size + len(glb.data)
    assert_same(read_mesh(path, limits=Limits(file_bytes=whole)))
    with pytest.raises(MeshInputError, match="MiB"):
        read_mesh(path, limits=Limits(file_bytes=whole - 1))


def test_the_version_is_checked(tmp_path: Path) -> None:
    with pytest.raises(MeshInputError, match=r"version 1.0 of glTF; expected version 2"):
        read(tmp_path, as_floats(), version="1.0")


def test_a_glb_still_has_all_in_itself(tmp_path: Path) -> None:
    glb = as_floats()
    written(tmp_path, glb)
    (tmp_path / "mesh.glb").write_bytes(glb.bytes())
    with pytest.raises(MeshInputError, match="data outside of the file"):
        read_mesh(tmp_path / "mesh.glb")
