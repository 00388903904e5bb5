"""Atlases: what they hold, what they refuse, and that `mini` has one that is sound."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.texture.portraits import atlas, bundle, plan
from topos_rt.errors import BundleError, MeshInputError
from topos_rt.head.atlas import MASK_SIDE, MASKS, PARTS, Atlas, facts, in_part, laid
from topos_rt.support.tensorfile import read_tensors, write_tensors


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    atlas().save(tmp_path / "a.safetensors")
    again = Atlas.load(tmp_path / "a.safetensors")
    for field in dataclasses.fields(Atlas):
        own, other = getattr(atlas(), field.name), getattr(again, field.name)
        assert np.array_equal(own, other), field.name
    assert "CC0" in again.source


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("uvs", lambda v: v + 1, "atlas uvs: got points outside"),
        ("uvs", lambda v: v[:, :1], "atlas uvs: got shape"),
        ("uvs", lambda v: np.where(v == v.max(), np.nan, v), "atlas uvs"),
        ("parts", lambda v: v + 20, "atlas parts: got 2"),
        ("parts", lambda v: v[:-1], "atlas parts: got shape"),
        ("landmark_uvs", lambda v: v[:9], "atlas landmark_uvs"),
        ("masks", lambda v: v[:-1], "atlas masks"),
        ("mirror", lambda v: 3.0, "atlas mirror: got 3"),
        ("mirror", lambda v: float("nan"), "atlas mirror"),
        ("warp", lambda v: v[1:], "atlas warp: got shape"),
        ("warp", lambda v: np.full_like(v, np.inf), "atlas warp"),
        ("warp_landmarks", lambda v: v + 468, "atlas warp_landmarks"),
        ("warp_vertices", lambda v: -v - 1, "atlas warp_vertices"),
    ],
)
def test_parts_that_do_not_fit_are_refused(name: str, value: Any, message: str) -> None:
    changed = {name: value(getattr(atlas(), name))}
    with pytest.raises(MeshInputError, match=message):
        dataclasses.replace(atlas(), **changed)


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    atlas().save(path)
    tensors, metadata = read_tensors(path)
    for without in ("uvs", "warp"):
        write_tensors(path, {name: v for name, v in tensors.items() if name != without}, metadata)
        with pytest.raises(BundleError, match="atlas file"):
            Atlas.load(path)
    write_tensors(path, tensors, metadata | {"masks": "lips"})
    with pytest.raises(BundleError, match="masks: lips"):
        Atlas.load(path)
    write_tensors(path, tensors, metadata | {"mirror": "one"})
    with pytest.raises(BundleError, match="no valid"):
        Atlas.load(path)
    write_tensors(path, tensors | {"uvs": tensors["uvs"] * 2}, metadata)
    with pytest.raises(BundleError, match="no valid"):
        Atlas.load(path)


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", bytes(range(200))])
def test_a_damaged_picture_is_one_error(data: bytes) -> None:
    broken = dataclasses.replace(atlas(), albedo=np.frombuffer(data, np.uint8))
    with pytest.raises(BundleError, match="atlas albedo"):
        _ = broken.base


def test_most_of_the_texels_are_the_faces_own() -> None:
    """The face of MakeHuman's own UVs has 138 of 1,024 texels from brows to chin."""
    brow, chin = atlas().landmark_uvs[[105, 152], 1] * 1024
    assert brow - chin > 400
    assert (atlas().mask("face") > 0.5).sum() > 0.22 * MASK_SIDE**2


def test_no_two_triangles_share_texels() -> None:
    """What is laid over another would be painted over; a pair of texels at rims is rounding."""
    found = plan(1024)
    topology = laid(bundle().topology, atlas())
    corners = atlas().uvs[topology.triangle_uvs].astype(float) * 1024
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    total = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2
    from topos_rt.pictures.raster import rasterize

    screen = np.stack(
        [atlas().uvs[:, 0] * 1024, (1 - atlas().uvs[:, 1]) * 1024, np.ones(len(atlas().uvs))], 1
    )
    covered = np.count_nonzero(rasterize(screen, topology.triangle_uvs, 1024, 1024, cull=False)[0] >= 0)
    assert total == pytest.approx(covered, rel=0.01) and found.side == 1024


def test_every_part_is_there() -> None:
    counts = facts(atlas())
    assert set(counts) == set(PARTS) and min(counts.values()) > 0
    whole = sum(in_part(bundle().topology, atlas(), name).sum() for name in PARTS)
    assert whole == len(bundle().topology.triangles)


def test_areas_are_symmetric_and_in_their_place() -> None:
    for name in MASKS:
        area = atlas().mask(name)
        assert 0.001 < area.mean() < 0.4, name
        assert np.abs(area - area[:, ::-1]).mean() < 0.005, name
    eyes, lips, scalp = (
        np.argwhere(atlas().mask(name) > 0.5).mean(0)[0] for name in ("eyes", "lips", "scalp")
    )
    assert scalp < eyes < lips


def test_laying_is_done_once() -> None:
    topology = laid(bundle().topology, atlas())
    assert topology is laid(bundle().topology, atlas())
    assert np.array_equal(topology.triangles, bundle().topology.triangles)
    assert np.array_equal(topology.lod(1).triangles, bundle().topology.lod(1).triangles)
