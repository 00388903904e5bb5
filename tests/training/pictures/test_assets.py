"""MakeHuman's garments are fitted by its own rule, and nothing that is kept aside is seen in training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import needs

needs.module("numba")
from topos_rt.errors import OptionError
from training.pictures.assets import HELD_OUT, SPLITS, generated, names, read_garment

BASE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 2.0]], np.float32)
BINDING = """# a comment
x_scale 0 1 0.5
y_scale 0 2 1.0
z_scale 0 3 1.0
material none
verts 0
2
0 1 2 0.25 0.25 0.5 0.1 0.2 0.3
1 2 3 1 0 0 0 0 0
"""
SHAPE = "v 0 0 0\nv 0 0 0\nv 0 0 0\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n"


def garment_at(folder: Path, binding: str = BINDING) -> Path:
    (folder / "hat.obj").write_text(SHAPE)
    (folder / "hat.mhclo").write_text(binding)
    return folder / "hat.mhclo"


def test_a_garment_follows_three_vertices_and_scales_its_offset(tmp_path: Path) -> None:
    garment = read_garment(garment_at(tmp_path))
    # offsets are multiplied by the distances 1, 1 and 2 over 0.5, 1 and 1
    assert garment.fitted(BASE) == pytest.approx(
        np.array([[0, 1, 0], [0.25 + 0.1 * 2, 0.5 + 0.2, 0.3 * 2], [1, 0, 0]]), abs=1e-6
    )
    assert garment.fitted(3 * BASE) == pytest.approx(3 * garment.fitted(BASE), abs=1e-6)
    assert garment.triangles.tolist() == [[0, 1, 2]]
    assert garment.uvs.tolist() == [[[0, 0], [1, 0], [0, 1]]]


def test_a_binding_of_another_mesh_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"binds 2 vertices, but its \.obj has 3"):
        read_garment(garment_at(tmp_path, BINDING.rpartition("1 2 3")[0]))


def a_folder(at: Path) -> Path:
    for kind, held in HELD_OUT.items():
        for name in (*held, "other01", "other02"):
            if kind in ("skins", "eyes"):
                (at / kind).mkdir(exist_ok=True)
                Image.new("RGB", (2, 2)).save(at / kind / f"{name}.png")
            else:
                (at / kind / name).mkdir(parents=True)
                (at / kind / name / f"{name}.mhclo").write_text(BINDING)
    return at


def test_splits_share_nothing_and_lose_nothing(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    for kind, held in HELD_OUT.items():
        train, held_out = (set(names(folder, kind, split)) for split in SPLITS)
        assert not train & held_out
        assert held_out == set(held)
        assert train == {"other01", "other02"}


@pytest.mark.parametrize("kind", HELD_OUT)
def test_an_empty_folder_says_what_it_lacks(tmp_path: Path, kind: str) -> None:
    with pytest.raises(OptionError, match=f"{kind}/ has nothing for the split train"):
        names(tmp_path, kind, "train")


def test_generated_curls_have_holes_and_strands_have_none() -> None:
    curls, strands = generated("afro01"), generated("bob01")
    assert 0.2 < (curls[..., 3] > 150).mean() < 0.9
    assert (strands[..., 3] == 255).all()
    # strands run along v, which is down in the texture
    grey = strands[..., 0].astype(float)
    assert np.abs(np.diff(grey, axis=0)).mean() < 0.3 * np.abs(np.diff(grey, axis=1)).mean()
