"""A head drawn again in the pose, expression and light of its photograph, against the photograph."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.texture_truth import shaded
from topos_rt.faces.camera import Camera
from topos_rt.faces.face import Face
from topos_rt.gpu.texture_reference import CHROMA, HIGHEST, LOWEST, harmonics
from topos_rt.head.atlas import MASK_SIDE
from topos_rt.head.mesh import HeadMesh
from topos_rt.metrics import FeatureNetwork, lpips, psnr, ssim
from topos_rt.model.bundle import Bundle
from topos_rt.pictures.colour import LINEAR, to_srgb_bytes
from topos_rt.texture.plan import plan_of
from topos_rt.texture.projection import project

_SIDE = 512  # of the texture
_MARGIN = 0.15  # around the landmarks, of their larger extent
_COVERED = 0.99


def against_photograph(
    bundle: Bundle, head: HeadMesh, picture: Image.Image, face: Face, network: FeatureNetwork | None
) -> dict[str, Any]:
    """Return PSNR, SSIM and, with a network, LPIPS of the face of a head that was fitted to a photograph.

    The skin is lit by the light that was fitted, and each channel gets the one gain that fits the photograph
    best within the mask, because a texture leaves exposure and white balance out. The mask is the area of the
    face that the drawing shows; beyond it both pictures are the photograph. "flat" is the base material
    treated in the same way: what shape, pose and light give without a texture.
    """
    atlas, points = bundle.atlas, bundle.landmarks
    assert atlas is not None and points is not None and isinstance(head.pose, Camera)
    plain = dataclasses.replace(head, topology=bundle.topology, texture=None)
    made = project(plain, picture, face.landmarks, points, atlas, _SIDE)
    shown = plain.posed(head.expression)
    photograph, camera = _cut(picture, face, head.pose)
    size = photograph.shape[:2]

    def light(normals: np.ndarray) -> np.ndarray:
        log = harmonics(normals) @ made.light
        mean = log.mean(1, keepdims=True)
        lit: np.ndarray = np.exp(np.clip(mean + CHROMA * (log - mean), LOWEST, HIGHEST))
        return lit

    area = np.kron(atlas.mask("face"), np.ones((_SIDE // MASK_SIDE,) * 2))[..., None].repeat(3, 2)
    inside = shaded(shown, atlas.uvs, area, camera, lambda normals: np.ones((len(normals), 3)), size)
    mask = (inside[0][..., 0] > _COVERED) & (inside[1] > _COVERED)
    found: dict[str, Any] = {"pixels": int(mask.sum())}
    albedos = {"": LINEAR[made.albedo], "flat_": plan_of(bundle.topology, atlas, _SIDE).base}
    for prefix, albedo in albedos.items():
        drawn = shaded(shown, atlas.uvs, albedo, camera, light, size)[0]
        true = LINEAR[photograph][mask]
        gain = (drawn[mask] * true).sum(0) / np.maximum((drawn[mask] ** 2).sum(0), 1e-9)
        again = photograph.copy()
        again[mask] = to_srgb_bytes(np.clip(drawn * gain, 0, 1))[mask]
        found[f"{prefix}psnr"] = round(psnr(again, photograph, mask), 3)
        found[f"{prefix}ssim"] = round(ssim(again, photograph, mask), 4)
        if network is not None:
            maps = [network.maps(Image.fromarray(each)) for each in (again, photograph)]
            found[f"{prefix}lpips"] = round(lpips(*maps), 4)
    return found


def _cut(picture: Image.Image, face: Face, camera: Camera) -> tuple[np.ndarray, Camera]:
    """Return the part of a picture around a face, [h,w,3] uint8, and the camera that sees that part."""
    low, high = face.landmarks[:, :2].min(0), face.landmarks[:, :2].max(0)
    room = _MARGIN * float((high - low).max())
    left, top = np.maximum(np.floor(low - room), 0).astype(int)
    right, bottom = np.minimum(np.ceil(high + room), picture.size).astype(int)
    part = np.asarray(picture.convert("RGB").crop((left, top, right, bottom)))
    x, y = camera.centre
    return part, dataclasses.replace(camera, centre=(x - float(left), y - float(top)))
