"""The texture stage: what is chosen, what is refused, and what heads and their metadata then hold."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.texture.portraits import atlas, bundle, plan, sample, textured
from topos_rt.errors import BundleError, FaceError, MeshInputError, OptionError
from topos_rt.faces.portrait import Portrait
from topos_rt.gpu import texture_ops
from topos_rt.head.texture import Texture
from topos_rt.model.bundle import Bundle, write_manifest
from topos_rt.pictures.preview import render_view
from topos_rt.texture.again import texture_head
from topos_rt.texture.stage import TextureChoice, with_texture


def blank(portrait: Portrait) -> Portrait:
    return Portrait(portrait.picture, None, "none")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"kind": "painted"}, "texture"),
        ({"size": 500}, "texture size: got 500; expected one of: 512, 1024, 2048"),
        ({"size": "1024"}, "texture size"),
        ({"size": True}, "texture size"),
        ({"format": "tga"}, "texture format"),
    ],
)
def test_unknown_choices_are_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TextureChoice(**choice)


@pytest.mark.parametrize("size", [512, 1024, 2048])
def test_every_size(size: int) -> None:
    head = textured(sample(), size)
    assert head.texture.albedo.shape == (size, size, 3) and head.metadata["texture"]["size"] == size


def test_sizes_show_the_same_skin() -> None:
    small, large = (textured(sample(), size).texture.albedo.astype(float) for size in (512, 1024))
    halved = large.reshape(512, 2, 512, 2, 3).mean((1, 3))
    assert np.abs(small - halved).mean() < 4


def test_the_same_photograph_gives_the_same_bytes() -> None:
    one, other = textured(sample("tan", "key")), textured(sample("tan", "key"))
    for name in ("albedo", "orm", "normal", "confidence"):
        assert np.array_equal(getattr(one.texture, name), getattr(other.texture, name)), name


def test_without_the_compiled_passes_the_texture_is_the_same_but_for_rounding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = textured(sample("tan", "key")).texture.albedo.astype(int)
    monkeypatch.setattr(texture_ops, "native", lambda: None)
    pure = textured(sample("tan", "key")).texture.albedo.astype(int)
    assert np.abs(here - pure).max() <= 13 and np.mean(here != pure) < 0.01


def test_no_texture_leaves_the_head_as_it_is() -> None:
    found = sample()
    assert with_texture(found.head, found.portrait, bundle(), TextureChoice("none")) is found.head


def test_the_base_material_needs_no_face() -> None:
    found = sample()
    head = with_texture(found.head, blank(found.portrait), bundle(), TextureChoice("base", 512))
    assert head.metadata["texture"] == {"kind": "base", "size": 512} and "warnings" not in head.metadata
    assert not head.texture.confidence.any()
    area = np.kron(atlas().mask("scalp"), np.ones((2, 2))) > 0.9
    skin = np.kron(atlas().mask("detail"), np.ones((2, 2))) > 0.9
    assert head.texture.albedo[area].mean() < 0.6 * head.texture.albedo[skin].mean()  # cropped hair


def test_without_a_face_the_default_is_the_base_material_with_a_warning() -> None:
    found = sample()
    head = with_texture(found.head, blank(found.portrait), bundle(), TextureChoice())
    assert head.metadata["texture"]["kind"] == "base"
    assert head.metadata["warnings"] == ["the texture is the base material: no face in the picture"]
    with pytest.raises(FaceError, match="texture 'projected': got no face in the picture"):
        with_texture(found.head, blank(found.portrait), bundle(), TextureChoice("projected"))


def test_a_missing_face_is_told_once() -> None:
    found = sample()
    told = dataclasses.replace(blank(found.portrait), warnings=("no face was found",))
    head = with_texture(found.head, told, bundle(), TextureChoice())
    assert head.metadata["texture"]["kind"] == "base" and "warnings" not in head.metadata


def test_a_head_that_could_not_be_fitted_gets_the_base_material() -> None:
    found = sample()
    head = with_texture(dataclasses.replace(found.head, pose=None), found.portrait, bundle(), TextureChoice())
    assert "could not be fitted" in head.metadata["warnings"][-1]


@pytest.fixture
def old_bundle(own_bundle: Path) -> Bundle:
    """A bundle of the time before atlases."""
    opened = Bundle.open(own_bundle)
    write_manifest(own_bundle, dataclasses.replace(opened.manifest, atlas=None))
    return Bundle.open(own_bundle)


def test_a_bundle_without_an_atlas(old_bundle: Bundle) -> None:
    found = sample()
    assert with_texture(found.head, found.portrait, old_bundle, TextureChoice()) is found.head
    for kind in ("projected", "base"):
        with pytest.raises(BundleError, match=r"without an atlas.*fix: run 'python -m export atlas BUNDLE'"):
            with_texture(found.head, found.portrait, old_bundle, TextureChoice(kind))


def test_laying_a_photograph_on_a_head_needs_an_atlas(old_bundle: Bundle) -> None:
    found = sample()
    with pytest.raises(BundleError, match="texture 'projected': got a model without an atlas"):
        texture_head(found.head, found.portrait.picture, model=old_bundle)


def test_confidence_tells_seen_mirrored_and_made_up() -> None:
    head = textured(sample("light", "flat", 38.0))
    confidence = head.texture.confidence
    face = atlas().mask("face") > 0.8
    half = confidence.shape[1] // 2
    sides = [confidence[:, :half][face[:, :half]].mean(), confidence[:, half:][face[:, half:]].mean()]
    assert max(sides) > 1.4 * min(sides)
    assert not confidence[:40].any() and not confidence[220:].any()  # the back of the head, the mouth


def test_levels_of_detail_poses_and_copies_keep_the_texture() -> None:
    head = textured(sample())
    assert head.lod(1).texture is head.texture and head.lod(2).topology.has_uvs
    assert head.posed({"jawOpen": 0.5}).texture is head.texture
    assert json.dumps(head.metadata)


def test_the_preview_shows_the_texture() -> None:
    head = textured(sample("dark"))
    pictures = [
        render_view(one, size=96).astype(int) for one in (head, dataclasses.replace(head, texture=None))
    ]
    assert pictures[0][48, 48].sum() < 0.7 * pictures[1][48, 48].sum()


def test_a_texture_refuses_what_is_none() -> None:
    good = textured(sample()).texture
    for name, value in (
        ("albedo", good.albedo[:9]),
        ("albedo", good.albedo.astype(np.float32)),
        ("orm", good.orm[..., :2]),
        ("confidence", good.orm),
        ("normal", np.zeros((0, 0, 3), np.uint8)),
    ):
        with pytest.raises(MeshInputError, match=f"texture {name}"):
            dataclasses.replace(good, **{name: value})
    with pytest.raises(OptionError, match="texture format"):
        dataclasses.replace(good, format="tga")
    assert isinstance(good, Texture) and not good.albedo.flags.writeable


def test_a_head_without_uvs_takes_no_texture() -> None:
    from tests.meshes import ball

    with pytest.raises(MeshInputError, match="the texture: got a topology without UVs"):
        dataclasses.replace(ball(), texture=textured(sample()).texture)


def test_the_plan_is_made_once() -> None:
    assert plan() is plan()
