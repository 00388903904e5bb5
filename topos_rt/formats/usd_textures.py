"""Materials of a USD stage: UsdUVTexture shaders of a texture's pictures that feed UsdPreviewSurfaces.

Source: the UsdPreviewSurface specification.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from topos_rt.formats.materials import MATERIALS, PICTURE, polygon_surfaces
from topos_rt.formats.textures import encoded
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.part_kit import PART_MATERIALS, SURFACES, PartKit
from topos_rt.head.texture import Texture

_SURFACE, _MATERIAL = "/head/skin/surface", "/head/skin"
# Input of the surface -> picture, output of its shader, colour space.
_INPUTS = {
    "diffuseColor": ("albedo", "rgb", "sRGB"),
    "occlusion": ("orm", "r", "raw"),
    "roughness": ("orm", "g", "raw"),
    "normal": ("normal", "rgb", "raw"),
}


def add_pictures(stage: Any, texture: Texture, beside: str) -> None:
    """Connect the head's material to the pictures that lie beside the file, named after `beside`."""
    from pxr import Gf, Sdf, UsdShade

    types = {
        "diffuseColor": Sdf.ValueTypeNames.Color3f,
        "occlusion": Sdf.ValueTypeNames.Float,
        "roughness": Sdf.ValueTypeNames.Float,
        "normal": Sdf.ValueTypeNames.Normal3f,
    }
    reader = UsdShade.Shader.Define(stage, f"{_MATERIAL}/uvs")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    uvs = reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    surface = UsdShade.Shader.Get(stage, _SURFACE)
    suffixes = {part: suffix for part, (suffix, _) in encoded(texture).items()}
    for name, (part, output, space) in _INPUTS.items():
        path = f"{_MATERIAL}/{part}"
        shader = UsdShade.Shader.Get(stage, path)
        if not shader:
            shader = UsdShade.Shader.Define(stage, path)
            shader.CreateIdAttr("UsdUVTexture")
            asset = Sdf.AssetPath(f"./{beside}_{part}.{suffixes[part]}")
            shader.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(asset)
            shader.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set(space)
            shader.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(uvs)
            if part == "normal":  # from 0..1 to -1..1
                shader.CreateInput("scale", Sdf.ValueTypeNames.Float4).Set(Gf.Vec4f(2, 2, 2, 1))
                shader.CreateInput("bias", Sdf.ValueTypeNames.Float4).Set(Gf.Vec4f(-1, -1, -1, 0))
        kind = Sdf.ValueTypeNames.Float3 if output == "rgb" else Sdf.ValueTypeNames.Float
        source = shader.CreateOutput(output, kind)
        surface.CreateInput(name, types[name]).ConnectToSource(source)


def add_materials(stage: Any, shape: Any, mesh: HeadMesh, kit: PartKit, beside: str | None) -> None:
    """Give eyes, mouth, teeth and lashes materials, and bind those of the head by subsets of its faces.

    The skin's is at /head/skin already. Without `beside`, which names pictures, colours stand in for them.
    """
    from pxr import Gf, Sdf, UsdGeom, UsdShade, Vt

    surface = polygon_surfaces(mesh, kit)
    used = [name for number, name in enumerate(SURFACES) if number in surface]
    for name in [name for name in MATERIALS if name in (*used[1:], *PART_MATERIALS)]:
        about = MATERIALS[name]
        material = UsdShade.Material.Define(stage, f"/head/{_path(name)}")
        shader = UsdShade.Shader.Define(stage, f"/head/{_path(name)}/surface")
        shader.CreateIdAttr("UsdPreviewSurface")
        shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).Set(Gf.Vec3f(*about.colour))
        shader.CreateInput("metallic", Sdf.ValueTypeNames.Float).Set(0.0)
        shader.CreateInput("roughness", Sdf.ValueTypeNames.Float).Set(about.roughness)
        material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
        picture = f"./{beside}_{PICTURE}.png" if name in PART_MATERIALS else None
        if name in SURFACES and mesh.texture is not None:
            picture = f"./{beside}_albedo.{encoded(mesh.texture, ['albedo'])['albedo'][0]}"
        if beside is not None and picture is not None:
            _add_picture(stage, f"/head/{_path(name)}", shader, picture, about.translucent)
    if len(used) < 2:
        return
    for name in used:
        faces = np.flatnonzero(surface == SURFACES.index(name)).astype(np.int32)
        subset = UsdGeom.Subset.CreateGeomSubset(
            shape, name, UsdGeom.Tokens.face, Vt.IntArray.FromNumpy(faces), "materialBind",
            UsdGeom.Tokens.partition,
        )  # fmt: skip
        bound = UsdShade.Material.Get(stage, f"/head/{_path(name)}")
        UsdShade.MaterialBindingAPI.Apply(subset.GetPrim()).Bind(bound)


def bind_material(stage: Any, shape: Any, name: str) -> None:
    """Bind one of the materials that `add_materials` makes to a mesh."""
    from pxr import UsdShade

    bound = UsdShade.Material.Get(stage, f"/head/{_path(name)}")
    UsdShade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(bound)


def _path(name: str) -> str:
    return name if name == "skin" else f"materials/{name}"


def _add_picture(stage: Any, path: str, surface: Any, file: str, opacity: bool) -> None:
    """Connect a surface's colour, and its opacity, to a picture."""
    from pxr import Sdf, UsdShade

    reader = UsdShade.Shader.Define(stage, f"{path}/uvs")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    uvs = reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    shader = UsdShade.Shader.Define(stage, f"{path}/albedo")
    shader.CreateIdAttr("UsdUVTexture")
    shader.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(Sdf.AssetPath(file))
    shader.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set("sRGB")
    shader.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(uvs)
    colour = shader.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
    surface.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).ConnectToSource(colour)
    if opacity:
        alpha = shader.CreateOutput("a", Sdf.ValueTypeNames.Float)
        surface.CreateInput("opacity", Sdf.ValueTypeNames.Float).ConnectToSource(alpha)
