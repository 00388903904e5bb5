"""Half-edge collapses are checked on meshes small enough to see, and `export lods` on a whole bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.__main__ import main
from export.lods import make_lods
from tests.meshes import ball
from topos_rt.head.topology import Topology
from topos_rt.model.bundle import Bundle


def sheet(side: int = 9, seam: bool = False) -> tuple[Topology, np.ndarray]:
    """Return a flat grid of quads, with a UV seam down its middle column if `seam`."""
    ids = np.arange(side * side).reshape(side, side)
    y, x = np.divmod(np.arange(side * side), side)
    positions = np.stack([x, y, 0 * x], 1) / (side - 1)
    quads = [
        [ids[r, c], ids[r, c + 1], ids[r + 1, c + 1], ids[r + 1, c]]
        for r in range(side - 1)
        for c in range(side - 1)
    ]
    middle = side // 2
    uvs = np.concatenate([positions[:, :2], positions[:, :2] + [2, 0]])
    shift = [side * side if seam and c >= middle else 0 for _ in range(side - 1) for c in range(side - 1)]
    corners = [[corner + s for corner in quad] for quad, s in zip(quads, shift, strict=True)]
    return Topology.from_polygons(side * side, quads, uvs, corners), positions


def corners_in_use(topology: Topology) -> int:
    return len(np.unique(topology.triangles))


def test_a_flat_sheet_keeps_its_outline_and_its_area() -> None:
    topology, positions = sheet()
    (lod,) = make_lods(topology, positions[None], (0.4,))
    assert len(lod.triangles) == pytest.approx(0.4 * len(topology.triangles), abs=2)
    edge = (positions == 0).any(1) & (positions[:, 2] == 0) | (positions == 1).any(1)
    border = np.flatnonzero((positions[:, :2] % 1 == 0).any(1) & edge)
    assert set(border.tolist()) <= set(lod.vertices.tolist())
    a, b, c = (positions[lod.vertices][lod.triangles[:, i]] for i in range(3))
    areas = np.cross(b - a, c - a)[:, 2] / 2
    assert (areas > 0).all() and areas.sum() == pytest.approx(1)


def test_a_uv_seam_stays_where_it_is() -> None:
    topology, positions = sheet(13, seam=True)
    (lod,) = make_lods(topology, positions[None], (0.3,))
    assert len(lod.triangles) < 0.5 * len(topology.triangles)
    used = topology.uvs[lod.triangle_uvs]
    left = used[..., 0].max(1) <= 1
    assert (left | (used[..., 0].min(1) >= 2)).all()  # no triangle has corners in both charts
    places = positions[lod.vertices][lod.triangles][..., :2]
    assert np.allclose(np.where(left[:, None, None], used, used - [2, 0]), places)
    assert (places[left][..., 0].max() <= 0.5) and (places[~left][..., 0].min() >= 0.5)


def test_a_ball_stays_a_ball_and_bumps_keep_their_vertices() -> None:
    head = ball(rings=24, segments=32, radius=1.0)
    levels = make_lods(head.topology, head.positions[None].astype(float))
    shares = [len(lod.triangles) / len(head.triangles) for lod in levels]
    assert shares == pytest.approx([0.5, 0.25], abs=0.01)
    for lod in levels:
        sides = np.sort(lod.triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1)
        edges, counts = np.unique(sides, axis=0, return_counts=True)
        assert (counts == 2).all()  # closed
        assert len(lod.vertices) - len(edges) + len(lod.triangles) == 2  # and of one piece without holes
        points = head.positions[lod.vertices].astype(float)
        a, b, c = (points[lod.triangles[:, i]] for i in range(3))
        assert ((np.cross(b - a, c - a) * (a + b + c)).sum(1) > 0).all()
    # With a second head that has a bump, more vertices stay where the bump is.
    top = head.positions[:, 1] > 0.8
    bump = head.positions.astype(float)
    bump[top] *= 1 + 0.15 * np.random.default_rng(0).random((top.sum(), 1))
    (plain,) = make_lods(head.topology, head.positions[None].astype(float), (0.25,))
    (bumpy,) = make_lods(head.topology, np.stack([head.positions, bump]), (0.25,))
    assert top[bumpy.vertices].sum() > top[plain.vertices].sum()


def test_the_same_input_gives_the_same_levels_and_the_impossible_ends() -> None:
    topology, positions = sheet()
    one, again = (make_lods(topology, positions[None], (0.5, 0.25)) for _ in range(2))
    assert all(np.array_equal(a.triangles, b.triangles) for a, b in zip(one, again, strict=True))
    (least,) = make_lods(topology, positions[None], (0.0,))
    assert len(least.triangles) >= 30  # the 32 corners of the outline stay


def test_a_bundle_gets_levels_and_stays_sound(own_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Bundle.open(own_bundle).topology.lods == ()
    assert main(["lods", str(own_bundle)]) == 0
    told = capsys.readouterr().out
    bundle = Bundle.open(own_bundle)
    assert len(bundle.topology.lods) == 2 and told.count("vertices") == 2
    assert bundle.topology.lod(1).num_vertices < bundle.topology.num_vertices
    assert main(["lods", str(own_bundle / "nowhere")]) == 2
