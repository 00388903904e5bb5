"""GLB: compressed by Draco or meshoptimizer, it is decoded where a package does it, and never believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import needs
from tests.formats.glb_ways import POINTS, STEP, TRIANGLES, read, surface
from tests.formats.glbs import Glb
from topos_rt.errors import MeshInputError, MissingExtraError
from topos_rt.formats import gltf_codecs


def draco_bytes(extra: str = "KHR_draco_mesh_compression") -> Glb:
    packer = needs.module("DracoPy")
    glb = Glb()
    data = packer.encode(POINTS, TRIANGLES.astype(np.uint32), quantization_bits=16)
    position = glb.accessor(componentType=5126, count=len(POINTS), type="VEC3")
    corners = glb.accessor(componentType=5123, count=TRIANGLES.size, type="SCALAR")
    packed = {"bufferView": glb.view(data), "attributes": {"POSITION": 0}}
    glb.mesh({"attributes": {"POSITION": position}, "indices": corners, "extensions": {extra: packed}})
    glb.document["extensionsRequired"] = [extra]
    return glb


def test_draco(tmp_path: Path) -> None:
    mesh = read(tmp_path, draco_bytes())
    tree = np.linalg.norm(mesh.positions[:, None] - POINTS[None], axis=2)
    assert tree.min(1).max() < 2e-5 and tree.min(0).max() < 2e-5
    same = tree.argmin(1)[mesh.topology.triangles]
    assert np.array_equal(surface(POINTS, same), surface(POINTS, TRIANGLES))


def test_draco_data_is_not_believed(tmp_path: Path) -> None:
    glb = draco_bytes()
    glb.document["accessors"][0]["count"] -= 1
    with pytest.raises(MeshInputError, match=r"vertices and \d+ triangles where"):
        read(tmp_path, glb)
    for place, byte in ((5, 1), (7, 0), (10, 0x80), (30, 0xFF), (60, 0xFF)):
        glb = draco_bytes()
        glb.data[place] = byte
        try:
            read(tmp_path, glb)
        except MeshInputError as error:
            assert "damaged contents" in str(error) or "finite" in str(error)


def meshopt_bytes(mode: str = "TRIANGLES", extension: str = "EXT_meshopt_compression") -> Glb:
    packer = needs.module("meshoptimizer")
    glb = Glb()
    rows = np.zeros((len(POINTS), 4), "<i2")
    rows[:, :3] = np.rint(POINTS / 0.25 * 32767)
    corners = np.ascontiguousarray(TRIANGLES.ravel(), np.uint32)
    encode = {"TRIANGLES": packer.encode_index_buffer, "INDICES": packer.encode_index_sequence}[mode]
    parts = (
        (packer.encode_vertex_buffer(rows.view("<f4"), len(rows), 8), "ATTRIBUTES", len(rows), 8),
        (encode(corners, len(corners), len(POINTS)), mode, len(corners), 2),
    )
    for data, kind, count, stride in parts:
        number = glb.view(bytes(data))
        packed = dict(glb.document["bufferViews"][number]) | {
            "mode": kind,
            "count": count,
            "byteStride": stride,
        }
        glb.document["bufferViews"][number] = {
            "buffer": 1,
            "byteLength": count * stride,
            "extensions": {extension: packed},
        } | ({"byteStride": stride} if kind == "ATTRIBUTES" else {})
    position = glb.accessor(componentType=5122, count=len(rows), type="VEC3", normalized=True, bufferView=0)
    index = glb.accessor(componentType=5123, count=len(corners), type="SCALAR", bufferView=1)
    glb.mesh({"attributes": {"POSITION": position}, "indices": index})
    glb.document["buffers"] = [{}, {"byteLength": len(rows) * 8 + len(corners) * 2}]
    glb.document["nodes"][0]["scale"] = [0.25] * 3
    glb.document["extensionsRequired"] = [extension, "KHR_mesh_quantization"]
    return glb


@pytest.mark.parametrize("mode", ["TRIANGLES", "INDICES"])
@pytest.mark.parametrize("extension", ["EXT_meshopt_compression", "KHR_meshopt_compression"])
def test_meshopt(mode: str, extension: str, tmp_path: Path) -> None:
    mesh = read(tmp_path, meshopt_bytes(mode, extension))
    assert np.abs(mesh.positions - POINTS).max() < 2 * STEP
    assert np.array_equal(surface(POINTS, mesh.topology.triangles), surface(POINTS, TRIANGLES))


def test_meshopt_data_is_not_believed(tmp_path: Path) -> None:
    glb = meshopt_bytes()
    packed = glb.document["bufferViews"][0]["extensions"]["EXT_meshopt_compression"]
    packed["count"] = 10**9
    with pytest.raises(MeshInputError, match="what it unpacks to: got 7629 MiB; expected at most 512 MiB"):
        read(tmp_path, glb)
    for key, value in (("byteStride", 6), ("mode", "WHOLE"), ("filter", "OCTAHEDRON"), ("byteLength", 9)):
        glb = meshopt_bytes()
        glb.document["bufferViews"][0]["extensions"]["EXT_meshopt_compression"][key] = value
        with pytest.raises(MeshInputError, match="damaged contents"):
            read(tmp_path, glb)


@pytest.mark.parametrize(
    ("package", "make", "name"),
    [
        ("DracoPy", draco_bytes, "KHR_draco_mesh_compression"),
        ("meshoptimizer", meshopt_bytes, "EXT_meshopt_compression"),
    ],
)
def test_without_the_package_the_extension_is_named(
    package: str, make: Callable[[], Glb], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    glb = make()
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{name} needs .*pip install 'topos-rt\[gltf\]'"):
        read(tmp_path, glb)


def test_filters_of_meshopt_are_undone() -> None:
    packer = needs.module("meshoptimizer")
    # An exponential filter: mantissa in 24 bits, exponent in 8: 3 × 2^-2.
    stored = np.array([[3 | ((-2 & 0xFF) << 24)] * 3], "<u4").view("<f4")
    data = bytes(packer.encode_vertex_buffer(stored, 1, 12))
    packed = {"count": 1, "byteStride": 12, "mode": "ATTRIBUTES", "filter": "EXPONENTIAL"}
    found = np.frombuffer(gltf_codecs.unpack_meshopt(data, packed, "the file"), "<f4")
    assert found.tolist() == [0.75] * 3
