"""The pictures of a head's texture as files, and what formats need to lay them on the head."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from topos_rt.formats.materials import MATERIALS, PICTURE, SAMPLER
from topos_rt.formats.options import ExportOptions
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.part_kit import PART_MATERIALS
from topos_rt.head.texture import FORMATS, MAX_SIDE, Texture
from topos_rt.head.topology import Topology
from topos_rt.support.pixels import square_pixels

_QUALITY = 92
MIME = {"jpg": "image/jpeg", "png": "image/png"}
NAMES = ("albedo", "orm", "normal")
_CONFIDENCE = "confidence"


def encoded(texture: Texture, names: Sequence[str] = NAMES) -> dict[str, tuple[str, bytes]]:
    """Return each of NAMES with the suffix and the bytes of its file. The same texture gives the same bytes.

    Normals are PNG, for JPEG's blocks would show in the light; the others are of the texture's format.
    """
    lossy = texture.format == "jpeg"
    return {name: _file(getattr(texture, name), lossy and name != "normal") for name in names}


def texture_tensors(texture: Texture) -> dict[str, np.ndarray]:
    """Return the pictures of a texture as files in arrays of bytes, and the confidence among them."""
    files = {name: data for name, (_, data) in encoded(texture).items()}
    files |= {_CONFIDENCE: _file(texture.confidence, False)[1]}
    return {name: np.frombuffer(data, np.uint8) for name, data in files.items()}


def texture_of(tensors: dict[str, np.ndarray], metadata: Any, format: Any) -> Texture:
    """Return the texture of which `texture_tensors` made arrays. Raises ValueError, KeyError or TypeError."""
    if set(tensors) != {*NAMES, _CONFIDENCE}:
        raise ValueError(f"texture of {', '.join(sorted(tensors))[:80] or 'no pictures'}")
    if format not in FORMATS or not isinstance(metadata, dict):
        raise ValueError(f"texture of format {str(format)[:20]}")
    pixels = {}
    for name, data in tensors.items():
        if data.dtype != np.uint8:
            raise ValueError(f"texture {name}, {data.dtype}")
        mode = "L" if name == _CONFIDENCE else "RGB"
        pixels[name] = square_pixels(data.tobytes(), ("JPEG", "PNG"), mode, (1, MAX_SIDE))
    return Texture(**pixels, metadata=metadata, format=format)


def _file(pixels: np.ndarray, lossy: bool) -> tuple[str, bytes]:
    file = io.BytesIO()
    if lossy:
        Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
        return "jpg", file.getvalue()
    # Without `optimize`, which takes five times as long for a twelfth of the bytes of a normal map.
    Image.fromarray(pixels).save(file, "PNG")
    return "png", file.getvalue()


def gltf_material(
    texture: Texture, name: str, view: Callable[[bytes], int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a glTF material with a texture, and the document's images, samplers and textures.

    view: takes a file's bytes into the buffer and returns the number of its view.
    """
    images = [
        {"name": part, "mimeType": MIME[suffix], "bufferView": view(data)}
        for part, (suffix, data) in encoded(texture).items()
    ]
    material = {
        "name": name,
        "pbrMetallicRoughness": {
            "baseColorTexture": {"index": 0},
            "metallicFactor": 0.0,
            "metallicRoughnessTexture": {"index": 1},
        },
        "occlusionTexture": {"index": 1},
        "normalTexture": {"index": 2},
    }
    return material, {
        "images": images,
        "samplers": [SAMPLER],
        "textures": [{"sampler": 0, "source": number} for number in range(len(images))],
    }


def tangents(
    positions: np.ndarray, normals: np.ndarray, uvs: np.ndarray, triangles: np.ndarray
) -> np.ndarray:
    """Return unit tangents and the bitangents' signs, [W,4] float32, as glTF's TANGENT has them.

    positions, normals: [W,3]. uvs: [W,2], v down, as in glTF. Triangles of mirrored UVs have a sign of their
    own. Source: Lengyel 2001, Computing Tangent Space Basis Vectors for an Arbitrary Mesh.
    """
    corner, at = positions[triangles].astype(np.float64), uvs[triangles].astype(np.float64)
    a, b = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    (s, t), (u, v) = (at[:, 1] - at[:, 0]).T, (at[:, 2] - at[:, 0]).T
    area = s * v - u * t
    scale = np.where(np.abs(area) < 1e-12, 0, 1 / np.where(area == 0, 1, area))[:, None]
    along, across = (a * v[:, None] - b * t[:, None]) * scale, (b * s[:, None] - a * u[:, None]) * scale
    size = np.abs(area)[:, None]
    sums = [np.zeros((len(positions), 3)), np.zeros((len(positions), 3))]
    for total, part in zip(sums, (along, across), strict=True):
        for ids in triangles.T:
            for axis in range(3):
                total[:, axis] += np.bincount(ids, (part * size)[:, axis], len(positions))
    normal = normals.astype(np.float64)
    tangent = sums[0] - normal * (normal * sums[0]).sum(1, keepdims=True)
    length = np.linalg.norm(tangent, axis=1, keepdims=True)
    # Where nothing says a direction, any that is perpendicular to the normal will do.
    helper = np.where(np.abs(normal[:, :1]) < 0.9, [[1.0, 0, 0]], [[0, 1.0, 0]])
    any_ = np.cross(normal, helper)
    any_ /= np.linalg.norm(any_, axis=1, keepdims=True)
    tangent = np.where(length > 1e-12, tangent / np.maximum(length, 1e-12), any_)
    # v counts down here, and glTF's bitangent goes where v falls.
    sign = np.where((np.cross(normal, tangent) * -sums[1]).sum(1) < 0, -1.0, 1.0)
    return np.concatenate([tangent, sign[:, None]], 1).astype(np.float32)


def vertex_colours(mesh: HeadMesh) -> np.ndarray | None:
    """Return the texture's colours at the vertices, [V,3] uint8 sRGB; None without a texture.

    A vertex on a seam takes the colour of its first corner.
    """
    if mesh.texture is None:
        return None
    return picture_colours(mesh.texture.albedo, first_uvs(mesh.topology))


def picture_colours(pixels: np.ndarray, uvs: np.ndarray) -> np.ndarray:
    """Return the colours [n,3] uint8 sRGB of a picture [S,S,3 or 4] at UVs [n,2], origin bottom left."""
    x, y = np.clip(np.stack([uvs[:, 0], 1 - uvs[:, 1]]) * len(pixels), 0, len(pixels) - 1).astype(int)
    colours: np.ndarray = pixels[y, x, :3]
    return colours


def first_uvs(topology: Topology) -> np.ndarray:
    """Return the UVs of the first polygon corner that uses each vertex, [V,2]; zero for unused ones."""
    found = np.zeros((topology.num_vertices, 2), np.float32)
    found[topology.polygon_vertices[::-1]] = topology.uvs[topology.polygon_uvs[::-1]]
    return found


def files_beside(mesh: HeadMesh, options: ExportOptions) -> dict[str, bytes]:
    """Return the pictures of a head by the names that a file of `options.beside` gives them."""
    if options.beside is None:
        return {}
    found = {}
    if mesh.texture is not None:
        files = encoded(mesh.texture).items()
        found = {f"{options.beside}_{part}.{suffix}": data for part, (suffix, data) in files}
    parts = options.parts_of(mesh)
    if parts is not None:
        found[f"{options.beside}_{PICTURE}.png"] = parts.kit.picture.tobytes()
    return found


def mtl_beside(mesh: HeadMesh, options: ExportOptions) -> dict[str, bytes]:
    """Return the pictures and the material library (.mtl) that an OBJ file refers to.

    Its maps of roughness and normals are those that most readers know (`map_Pr`, `norm`).
    """
    pictures = files_beside(mesh, options)
    if not pictures:
        return {}
    skin, own = _SKIN_LINES, {}
    if mesh.texture is not None:
        names = dict(zip(NAMES, pictures, strict=False))
        skin = [*skin, f"map_Kd {names['albedo']}", f"norm {names['normal']}"]
        skin += [f"map_Pr {_roughness_name(names)}"]
        roughness = io.BytesIO()
        Image.fromarray(mesh.texture.orm[..., 1]).save(roughness, "PNG", optimize=True)
        del pictures[names["orm"]]
        own = {_roughness_name(names): roughness.getvalue()}
    lines = list(skin)
    if options.parts_of(mesh) is not None:
        if mesh.texture is None:
            lines[2] = f"Kd {_numbers(MATERIALS['skin'].colour)}"
        for name in list(MATERIALS)[1:]:
            lines += ["", *_mtl(name, names["albedo"] if mesh.texture is not None else None, options.beside)]
    return {**pictures, **own, f"{options.beside}.mtl": ("\n".join(lines) + "\n").encode("utf-8")}


_SKIN_LINES = [
    "newmtl skin",
    "Ka 0 0 0",
    "Kd 1 1 1",
    "Ks 0.04 0.04 0.04",
    "Ns 40",
    "Pr 0.55",
    "Pm 0",
    "illum 2",
]


def _mtl(name: str, albedo: str | None, beside: str | None) -> list[str]:
    """Return a material; albedo: the picture of the head's colours, if there is one.

    The exponent of Blinn and Phong's reflection is that of the same roughness (Karis 2013, 2 / r^4 - 2).
    """
    about = MATERIALS[name]
    picture = f"{beside}_{PICTURE}.png" if name in PART_MATERIALS else albedo
    exponent = min(1000.0, max(1.0, 2 / about.roughness**4 - 2))
    lines = [
        f"newmtl {name}",
        "Ka 0 0 0",
        f"Kd {_numbers(about.colour) if picture is None else '1 1 1'}",
        "Ks 0.04 0.04 0.04",
        f"Ns {exponent:.0f}",
        f"Pr {about.roughness:g}",
        "Pm 0",
        "illum 2",
    ]
    lines += [] if picture is None else [f"map_Kd {picture}"]
    return [*lines, f"map_d {picture}"] if about.translucent else lines


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _roughness_name(names: dict[str, str]) -> str:
    return names["orm"].rpartition("_orm.")[0] + "_roughness.png"
