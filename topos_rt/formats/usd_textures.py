"""The pictures of a texture in a USD stage: UsdUVTexture shaders that feed the UsdPreviewSurface.

Source: the UsdPreviewSurface specification.
"""

from __future__ import annotations

from typing import Any

from topos_rt.formats.textures import encoded
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
