"""Give a head its texture: the photograph's, or the base material's where there is nothing to take."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from topos_rt.errors import BundleError, FaceError, OptionError, choose
from topos_rt.faces.camera import Camera
from topos_rt.faces.face import HIDDEN_DEGREES, SMALL_PX, TURNED_DEGREES, Face
from topos_rt.faces.portrait import Portrait
from topos_rt.head.atlas import MASK_SIDE, Atlas, laid
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.texture import FORMATS, SIZES, Texture
from topos_rt.model.bundle import Bundle
from topos_rt.texture.blending import Blend
from topos_rt.texture.hair import DEFAULT
from topos_rt.texture.material import flat_normals, normals, orm
from topos_rt.texture.plan import Plan, plan_of
from topos_rt.texture.projection import Projection, finished, project

PROJECTED, BASE, OFFICIAL, NONE = "projected", "base", "official", "none"
KINDS = {
    PROJECTED: "the photograph, without its light, and the base material where it shows nothing",
    BASE: "the base material of every head",
    OFFICIAL: "what TOPOS-Texture paints, for those who have its weights",
    NONE: "no texture",
}
DEFAULT_SIZE = 1024
# Below this size of a face in pixels, the noise and blocks of JPEG look like relief.
_RELIEF_PX = 300
_SEEN, _MIRRORED = 0.6, 0.2  # confidence above which a cell counts as seen, and as mirrored


@dataclass(frozen=True)
class TextureChoice:
    """The texture that a head gets. Raises OptionError.

    kind: one of KINDS; None is "projected" where a face was seen, else "base", and "none" for models without
    an atlas. size: pixels along a side, one of 512, 1024, 2048. format: "jpeg" or "png", of colours in files.
    """

    kind: str | None = None
    size: int = DEFAULT_SIZE
    format: str = FORMATS[0]

    def __post_init__(self) -> None:
        if self.kind is not None:
            choose(self.kind, KINDS, "texture")
        if self.size not in SIZES or isinstance(self.size, bool):
            raise OptionError(
                "texture size", got=repr(self.size)[:40], expected=f"one of: {', '.join(map(str, SIZES))}"
            )
        choose(self.format, dict.fromkeys(FORMATS), "texture format")

    def makes(self, atlas: Atlas | None) -> bool:
        """Return whether heads get a texture."""
        return self.kind == OFFICIAL or (atlas is not None and self.kind != NONE)

    def check(self, portrait: Portrait | None, atlas: Atlas | None) -> None:
        """Raise BundleError or FaceError where a texture was asked for by name and cannot be made."""
        if self.kind in (PROJECTED, BASE) and atlas is None:
            raise BundleError(
                f"texture {self.kind!r}",
                got="a model without an atlas",
                expected="a bundle that has one",
                fix="run 'python -m export atlas BUNDLE', or ask for texture 'none'",
            )
        if self.kind == PROJECTED and portrait is not None and (reason := unusable(portrait.face)):
            raise FaceError(
                "texture 'projected'",
                got=reason,
                expected="a face that looks to the camera",
                fix="use another picture, or texture 'base'",
            )


def unusable(face: Face | None) -> str:
    """Return why a face cannot be projected, or ""."""
    if face is None:
        return "no face in the picture"
    if not len(face.landmarks) or abs(face.yaw) > HIDDEN_DEGREES:
        return f"a face turned by {abs(face.yaw):.0f} degrees"
    return ""


def with_texture(
    head: HeadMesh, portrait: Portrait | None, bundle: Bundle, choice: TextureChoice
) -> HeadMesh:
    """Return a head with the texture that was chosen; what could not be done is among its warnings.

    head: of the bundle's topology, with the pose that was fitted to the portrait. Raises the errors of
    `TextureChoice.check`.
    """
    atlas = bundle.atlas
    choice.check(portrait, atlas)
    if atlas is None or not choice.makes(atlas):
        return head
    plan = plan_of(bundle.topology, atlas, choice.size)
    reason = unusable(None if portrait is None else portrait.face)
    if not reason and not (isinstance(head.pose, Camera) and bundle.landmarks is not None):
        reason = "a face to which the head could not be fitted"
    if choice.kind == BASE or reason or portrait is None or bundle.landmarks is None:
        # Where somebody looked for a face and found none, the portrait's own warning has said so.
        said = choice.kind == BASE or (
            portrait is not None and portrait.face is None and bool(portrait.warnings)
        )
        told = [] if said else [f"the texture is the base material: {reason}"]
        return _dressed(head, bundle, base_texture(plan, atlas, choice), told)
    face = portrait.face
    assert face is not None
    made = project(
        dataclasses.replace(head, topology=bundle.topology, texture=None),
        portrait.picture,
        face.landmarks,
        bundle.landmarks,
        atlas,
        choice.size,
        tone_only=face.size < SMALL_PX,
    )
    return _dressed(head, bundle, _texture(plan, atlas, made, face, choice), list(made.notes))


def base_texture(plan: Plan, atlas: Atlas, choice: TextureChoice) -> Texture:
    """Return the texture of a head of which nothing is known."""
    high, wide = plan.skin.shape
    nothing = Blend(
        np.zeros((MASK_SIDE, MASK_SIDE, 3), np.float32),
        np.zeros((high // plan.step, wide // plan.step, 5), np.float32),
        np.zeros((MASK_SIDE, MASK_SIDE), np.float32),
    )
    image, none = np.zeros((high, wide, 4), np.float32), np.zeros(3, np.float32)
    albedo = finished(plan, atlas, nothing, image, np.array(DEFAULT, np.float32), none)
    nowhere = np.zeros((MASK_SIDE, MASK_SIDE), np.uint8)
    about = {"kind": BASE, "size": choice.size}
    return Texture(albedo, orm(plan, atlas), flat_normals(), nowhere, about, choice.format)


def _texture(plan: Plan, atlas: Atlas, made: Projection, face: Face, choice: TextureChoice) -> Texture:
    confidence = made.confidence
    relief = flat_normals() if face.size < _RELIEF_PX else normals(made.albedo, atlas, confidence)
    area = atlas.mask("face")
    about: dict[str, Any] = {
        "kind": PROJECTED,
        "size": choice.size,
        "seen": _share(area, confidence > _SEEN),
        "mirrored": _share(area, (confidence > _MIRRORED) & (confidence <= _SEEN)),
        "turned": abs(face.yaw) > TURNED_DEGREES,
        **made.facts,
    }
    sure = (np.clip(confidence, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Texture(made.albedo, orm(plan, atlas), relief, sure, about, choice.format)


def _share(area: np.ndarray, inside: np.ndarray) -> float:
    return round(float((area * inside).sum(dtype=np.float64) / area.sum(dtype=np.float64)), 3)


def _dressed(head: HeadMesh, bundle: Bundle, texture: Texture, told: list[str]) -> HeadMesh:
    atlas = bundle.atlas
    assert atlas is not None
    metadata = {**head.metadata, "texture": dict(texture.metadata)}
    if told:
        metadata["warnings"] = [*head.metadata.get("warnings", ()), *told]
    return dataclasses.replace(
        head, topology=laid(bundle.topology, atlas), texture=texture, metadata=metadata
    )
