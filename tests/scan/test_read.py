"""Scans from every kind of file, their size and facing, and one clear line for each bad one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from tests.meshes import ball
from topos_rt.errors import MeshInputError, OptionError
from topos_rt.formats.limits import Limits
from topos_rt.scan.read import SUFFIXES, read_scan

HEAD = ball(radius=0.12)


def mesh(positions: np.ndarray = HEAD.positions, triangles: np.ndarray = HEAD.triangles) -> Any:
    return trimesh.Trimesh(positions, triangles, process=False)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The same ball in every format, and as clouds."""
    points = trimesh.sample.sample_surface(mesh(), 3000, seed=1)[0]
    for suffix in (".obj", ".glb", ".off", ".ply", ".stl"):
        mesh().export(tmp_path / f"ball{suffix}")
    for name, data in mesh().export(file_type="gltf").items():
        (tmp_path / ("ball.gltf" if name.endswith(".gltf") else name)).write_bytes(data)
    np.savez(tmp_path / "ball.npz", points=points)
    trimesh.PointCloud(points).export(tmp_path / "cloud.ply")
    return {path.name: path for path in tmp_path.iterdir() if path.suffix != ".bin"}


def test_every_format_gives_the_surface_and_outward_normals(files: dict[str, Path]) -> None:
    assert {path.suffix for path in files.values()} == set(SUFFIXES)
    for name, path in files.items():
        scan = read_scan(path, count=2000)
        assert scan.points.shape == scan.normals.shape == (2000, 3), name
        radii = np.linalg.norm(scan.points, axis=1)
        assert radii.min() > 0.117 and radii.max() < 0.1201, name
        cosines = (scan.normals * scan.points).sum(1) / radii
        assert cosines.min() > 0.9, name
        assert scan.surface.is_cloud == (name in ("ball.npz", "cloud.ply"))
        estimated = any("estimated" in note for note in scan.notes)
        assert estimated == scan.surface.is_cloud and not scan.warnings
        assert np.array_equal(scan.points, read_scan(path, count=2000).points)


def test_trimesh_objects_and_point_clouds_are_taken() -> None:
    assert not read_scan(mesh()).surface.is_cloud
    assert not read_scan(trimesh.Scene([mesh(), mesh(HEAD.positions + 1)])).surface.is_cloud
    assert read_scan(trimesh.PointCloud(HEAD.positions)).surface.is_cloud
    with pytest.raises(MeshInputError, match="NaN"):
        read_scan(trimesh.PointCloud(np.where(HEAD.positions > 0.11, np.nan, HEAD.positions)))


def test_what_faces_inwards_is_turned_and_said(tmp_path: Path) -> None:
    scan = read_scan(mesh(triangles=HEAD.triangles[:, ::-1]))
    assert (scan.normals * scan.points).sum() > 0
    assert any("inwards" in note for note in scan.notes)
    np.savez(tmp_path / "cloud.npz", points=HEAD.positions, normals=-5 * HEAD.normals)
    scan = read_scan(tmp_path / "cloud.npz")
    assert (scan.normals * scan.points).sum(1).min() > 0 and any("inwards" in note for note in scan.notes)
    np.savez(tmp_path / "cloud.npz", points=HEAD.positions, normals=HEAD.normals)
    assert read_scan(tmp_path / "cloud.npz").notes == ()


def test_only_normals_without_length_are_estimated_and_said(tmp_path: Path) -> None:
    normals = 3 * HEAD.normals.copy()
    normals[5:400:7] = 0
    np.savez(tmp_path / "cloud.npz", points=HEAD.positions, normals=normals)
    scan = read_scan(tmp_path / "cloud.npz")
    assert scan.notes == (f"57 of {len(normals)} normals have no length: these are estimated",)
    expected = {
        tuple(point): normal for point, normal in zip(HEAD.positions.tolist(), HEAD.normals, strict=True)
    }
    told = np.array([expected[tuple(point)] for point in scan.points.tolist()])
    cosines = (scan.normals * told).sum(1)
    assert np.count_nonzero(cosines < 1 - 1e-6) <= 57
    assert cosines.min() > 0.95
    np.savez(tmp_path / "cloud.npz", points=HEAD.positions, normals=0 * normals)
    scan = read_scan(tmp_path / "cloud.npz")
    assert scan.notes[0] == "the normals have no length" and "estimated" in scan.notes[1]
    assert (scan.normals * scan.points).sum(1).min() > 0


@pytest.mark.parametrize(
    "scale, units, advice",
    [
        (1, "m", None),
        (1000, "mm", None),
        (100, "cm", None),
        (4, "m", None),
        (0.2, "m", None),
        (1000, "m", "--input-units mm would make it 0.24 m"),
        (100, "m", "--input-units cm would make"),
        (1, "mm", "--input-units m would make it 0.24 m"),
        (0.01, "m", "2.4e-03 m across|0.0024 m across"),
        (1e5, "m", "2.4e\\+04 m across"),
    ],
)
def test_a_size_that_is_no_heads_is_warned_of_with_the_unit_that_fits(
    scale: float, units: str, advice: str | None
) -> None:
    scan = read_scan(mesh(HEAD.positions * scale), units=units)
    metres = {"m": 1, "cm": 0.01, "mm": 0.001}[units]
    assert np.ptp(scan.points, axis=0).max() == pytest.approx(0.24 * scale * metres, rel=0.02)
    assert len(scan.warnings) == (advice is not None)
    if advice:
        import re

        assert re.search(advice, scan.warnings[0])


def test_open_nonmanifold_multipart_and_degenerate_meshes_are_taken() -> None:
    open_ = HEAD.triangles[HEAD.positions[HEAD.triangles][:, :, 1].min(1) > -0.08]
    fin = np.concatenate([HEAD.triangles, [[0, 1, 200], [0, 1, 300], [5, 5, 5]]])
    parts = np.concatenate([HEAD.triangles, HEAD.triangles + len(HEAD.positions)])
    for triangles, positions in (
        (open_, HEAD.positions),
        (fin[:-1], HEAD.positions),
        (parts, np.concatenate([HEAD.positions, HEAD.positions * 0.5])),
    ):
        scan = read_scan(mesh(positions, triangles), count=500)
        assert np.isfinite(scan.points).all() and np.allclose(np.linalg.norm(scan.normals, axis=1), 1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"units": "inch"}, "unknown unit of length"),
        ({"count": 15}, "number of points: got 15; expected a whole number from 16 to 50,000,000"),
        ({"count": 50_000_001}, "number of points"),
        ({"count": 1e3}, "number of points: got 1000.0"),
        ({"count": True}, "number of points: got True"),
        ({"seed": -1}, "seed: got -1"),
    ],
)
def test_bad_options(files: dict[str, Path], options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        read_scan(next(iter(files.values())), **options)


def test_bad_files(tmp_path: Path) -> None:
    (tmp_path / "empty.ply").touch()
    (tmp_path / "scan.fbx").write_text("x")
    (tmp_path / "scan").write_text("x")
    (tmp_path / "folder.ply").mkdir()
    (tmp_path / "text.stl").write_text("solid nothing\nendsolid nothing\n")
    np.savez(tmp_path / "few.npz", points=np.eye(3))
    np.savez(tmp_path / "same.npz", points=np.ones((30, 3)))
    expected = {
        "missing.ply": "no such file; fix: check the path",
        "empty.ply": "an empty file",
        "folder.ply": "a directory",
        "scan.fbx": r"ends in \.fbx; expected a \.obj, \.glb, \.gltf, \.off, \.ply, \.stl or \.npz",
        "scan": "a name without a suffix",
        "text.stl": "text.stl",
        "few.npz": "got 3 points; expected 16 or more",
        "same.npz": "the same point each time",
        "nul\0.ply": "null byte|NUL",
        "x" * 300 + ".ply": "File name too long",
    }
    for name, message in expected.items():
        with pytest.raises(MeshInputError, match=message):
            read_scan(tmp_path / name)
    with pytest.raises(OptionError, match="unknown unit of length: got 'inch'"):
        read_scan(mesh(), units="inch")
    with pytest.raises(MeshInputError, match="triangles without area"):
        read_scan(mesh(np.eye(3)[[0, 0, 0]], np.array([[0, 1, 2]])))


def test_too_many_triangles_are_refused_or_read_as_points(tmp_path: Path) -> None:
    mesh().export(tmp_path / "ball.ply")
    mesh().export(tmp_path / "ball.stl")
    mesh().export(tmp_path / "ball.obj")
    limits = Limits(triangles=100)
    scan = read_scan(tmp_path / "ball.ply", limits=limits)
    assert scan.surface.is_cloud and any("only the vertices" in note for note in scan.notes)
    for name in ("ball.stl", "ball.obj"):
        with pytest.raises(MeshInputError, match="triangles; expected at most 100"):
            read_scan(tmp_path / name, limits=limits)
