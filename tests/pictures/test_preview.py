from __future__ import annotations

import dataclasses
from functools import lru_cache
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tests.meshes import ball, bundled_head, cube
from topos_rt.errors import OptionError
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.normals import vertex_normals
from topos_rt.head.topology import Topology
from topos_rt.pictures.preview import render_preview, render_view
from topos_rt.pictures.shading import Sitter


def moved(head: HeadMesh, positions: np.ndarray) -> HeadMesh:
    normals = vertex_normals(positions, head.triangles)
    return dataclasses.replace(head, positions=positions, normals=normals)


def with_nose(length: float = 0.1) -> HeadMesh:
    """Return a ball of radius 0.1 m with a spike forwards, along +Z."""
    head = ball()
    tip = (head.positions[:, 2] > 0.095)[:, None]
    return moved(head, np.where(tip, head.positions + np.float32([0, 0, length]), head.positions))


def sheet(polygon: list[int]) -> HeadMesh:
    corners = np.float32([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    return HeadMesh(corners, np.tile([0, 0, 1.0], (4, 1)), Topology.from_polygons(4, [polygon]))


def covered(picture: np.ndarray) -> np.ndarray:
    """Return where the picture differs from the backdrop: [H,W] bool."""
    return (picture != backdrop(*picture.shape[:2])).any(2)


@lru_cache
def backdrop(height: int, width: int) -> np.ndarray:
    """Return the picture of a polygon that faces away from the camera: the backdrop alone."""
    return render_view(sheet([3, 2, 1, 0]), size=(height, width))


def test_preview_is_a_png_of_three_views() -> None:
    picture = Image.open(BytesIO(render_preview(with_nose(), size=100)))
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (240, 100))
    views = np.split(np.abs(np.asarray(picture).astype(int) - backdrop(100, 240)).max(2) > 8, 3, axis=1)
    front, turned, profile = (view.sum(0) for view in views)  # covered pixels in each column
    # the nose points at the camera, then more and more to the left
    assert front[:40].sum() == pytest.approx(front[40:].sum(), rel=0.05)
    assert turned[:40].sum() < 0.9 * turned[40:].sum()
    assert profile[:40].sum() < 0.6 * profile[40:].sum()


def test_preview_says_how_the_head_was_made() -> None:
    head = dataclasses.replace(ball(), metadata={"weights": "random weights", "seed": 3})
    image = Image.open(BytesIO(render_preview(head, 32)))
    assert image.text == {"topos_rt.weights": "random weights", "topos_rt.seed": "3"}


def test_same_head_gives_same_picture() -> None:
    assert render_preview(cube(), size=64) == render_preview(cube(), size=64)


@pytest.mark.parametrize(("size", "shape"), [(50, (50, 50, 3)), ((40, 90), (40, 90, 3)), (16, (16, 16, 3))])
def test_size_of_a_view(size: int | tuple[int, int], shape: tuple[int, ...]) -> None:
    picture = render_view(cube(), size=size)
    assert picture.shape == shape and picture.dtype == np.uint8


@pytest.mark.parametrize("size", [0, -5, 15, 100_000, (64, 5000)])
def test_sizes_out_of_range_are_refused(size: int | tuple[int, int]) -> None:
    with pytest.raises(OptionError, match=r"picture size: got .*; expected 16 to 4096"):
        render_view(ball(), size=size)


def test_a_sheet_is_seen_from_its_front_only() -> None:
    flat = sheet([0, 1, 2, 3])
    assert covered(render_view(flat, size=50))[10:40, 10:40].all()
    assert not covered(render_view(flat, yaw=180, size=50)).any()


def test_the_head_fills_the_picture_and_stays_inside() -> None:
    for yaw in (0, -38, 90):
        seen = covered(render_view(with_nose(), yaw, size=(120, 100)))
        assert seen.mean() > 0.2
        assert not (seen[0].any() or seen[-1].any() or seen[:, 0].any() or seen[:, -1].any())


def test_yaw_turns_the_face_to_the_right_and_pitch_lifts_it() -> None:
    right = covered(render_view(with_nose(), yaw=90, size=100))
    assert right[:, 50:].sum() < 0.6 * right[:, :50].sum()
    up = covered(render_view(with_nose(), pitch=90, size=100))
    assert up[:50].sum() < 0.6 * up[50:].sum()


def test_outline_of_a_symmetric_head_is_symmetric_and_soft() -> None:
    picture = render_view(ball(), size=101)
    seen = covered(picture)
    assert (seen != seen[:, ::-1]).sum() <= 0.01 * seen.sum()
    # the first pixel of a row is a mixture of backdrop and clay
    row = picture[50].astype(int).sum(1)
    start = int(np.flatnonzero(seen[50])[0])
    steps = np.abs(np.diff(row[start - 2 : start + 4]))
    assert steps.max() < 0.95 * steps.sum()


def test_key_light_comes_from_the_upper_left() -> None:
    picture = render_view(ball(), size=100).astype(float).mean(2)
    assert picture[35:45, 30:40].mean() > 1.3 * picture[60:70, 60:70].mean()


def test_a_head_shadows_itself() -> None:
    """Behind a small ball, the surface of a large one sees less of the sky in front."""
    large, small = ball(), ball(12, 16, 0.04)
    both = joined(large, moved(small, small.positions + np.float32([0, 0, 0.15])))
    alone, shadowed = Sitter.of(large).visible, Sitter.of(both).visible
    face, back = int(np.argmax(large.positions[:, 2])), int(np.argmin(large.positions[:, 2]))
    assert shadowed[face].sum() < 0.8 * alone[face].sum()
    assert shadowed[back].sum() == pytest.approx(alone[back].sum(), rel=0.05)


def joined(one: HeadMesh, other: HeadMesh, eyes: bool = False) -> HeadMesh:
    count = len(one.positions)
    topologies = one.topology, other.topology
    topology = Topology(
        count + len(other.positions),
        np.concatenate([topology.polygon_sizes for topology in topologies]),
        np.concatenate([one.topology.polygon_vertices, other.topology.polygon_vertices + np.int32(count)]),
        regions={"eyes": np.arange(count + len(other.positions), dtype=np.int32)} if eyes else {},
    )
    positions = np.concatenate([one.positions, other.positions])
    return HeadMesh(positions, np.concatenate([one.normals, other.normals]), topology)


def test_a_ball_sees_the_half_of_the_sky_above_each_vertex() -> None:
    sitter = Sitter.of(ball())
    share = sitter.visible.mean(1)
    assert share.min() > 0.4 and share.max() < 0.6


def test_coarse_meshes_are_rounded() -> None:
    sitter = Sitter.of(ball(8, 10))
    assert len(sitter.triangles) == 4 * len(ball(8, 10).triangles)
    flat = np.linalg.norm(ball(8, 10).positions[ball(8, 10).topology.edges].mean(1), axis=1).mean() / 0.1
    radii = np.linalg.norm(sitter.positions[len(ball(8, 10).positions) :], axis=1)
    assert 1 - radii.mean() < 0.6 * (1 - flat)
    assert np.linalg.norm(sitter.normals, axis=1) == pytest.approx(1, abs=1e-5)


def test_eyes_have_iris_and_pupil() -> None:
    left = moved(ball(), ball().positions + np.float32([0.12, 0, 0]))
    right = moved(ball(), ball().positions - np.float32([0.12, 0, 0]))
    plain = render_view(joined(left, right), size=(100, 200))
    eyes = render_view(joined(left, right, eyes=True), size=(100, 200))
    for half in (np.s_[:, :100], np.s_[:, 100:]):
        seen = covered(plain)[half]
        pupil = seen & (eyes[half].max(2) < 50)
        assert 0.01 < pupil.sum() / seen.sum() < 0.08
        y, x = np.argwhere(pupil).mean(0)
        assert abs(y - 50) < 8 and abs(x - 50) < 20
        assert 0.15 < (seen & (eyes[half].mean(2) < plain[half].mean(2))).sum() / seen.sum() < 0.4


def test_awkward_meshes_are_drawn() -> None:
    flat = sheet([0, 1, 2, 3])
    lying = moved(flat, flat.positions[:, [0, 2, 1]] * np.float32([1, 1, -1e-4]))
    lonely = HeadMesh(
        np.vstack([cube().positions, [[9, 9, 9]]]),
        np.vstack([cube().normals, [[0, 1, 0]]]),
        Topology.from_polygons(9, cube().topology.polygon_vertices.reshape(-1, 4).tolist()),
    )
    for head in (flat, lying, lonely):
        for pitch in (0, 45, 90):
            assert render_view(head, 30, pitch, (32, 200)).shape == (32, 200, 3)


def test_the_bundled_head_is_drawn() -> None:
    seen = covered(render_view(bundled_head(), size=(200, 160)))
    assert seen.mean() > 0.3
