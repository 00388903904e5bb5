"""The files that a kept head can be fetched as."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from topos_rt.errors import MeshInputError, OptionError
from topos_rt.formats import EXPORTERS, files_of
from topos_rt.formats.options import ExportOptions
from topos_rt.formats.textures import encoded
from topos_rt.head.mesh import HeadMesh

PREVIEW_PX = 320  # the height of a preview: larger ones take seconds
_ZIP = "application/zip"
_MOST_TEXT = 2000
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of members, so that a head gives the same bytes


@dataclass(frozen=True)
class Kind:
    """A way to write a head. suffix: of the file that a client saves."""

    media_type: str
    suffix: str
    write: Callable[[HeadMesh, ExportOptions], bytes]
    about: str


def _zipped(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def _one(format: str) -> Callable[[HeadMesh, ExportOptions], bytes]:
    return lambda head, options: EXPORTERS[format](head, options)


def _several(format: str) -> Callable[[HeadMesh, ExportOptions], bytes]:
    def write(head: HeadMesh, options: ExportOptions) -> bytes:
        files = files_of(head, format, options, f"head.{format}")
        return _zipped({path.name: data for path, data in reversed(files.items())})

    return write


def _textures(head: HeadMesh, options: ExportOptions) -> bytes:
    if head.texture is None:
        raise MeshInputError("the textures", got="a head without texture", fix="make it with another texture")
    names = ("albedo", "orm", "normal", "confidence")
    return _zipped(
        {f"{name}.{suffix}": data for name, (suffix, data) in encoded(head.texture, names).items()}
    )


def _picture(head: HeadMesh, options: ExportOptions) -> bytes:
    return head.preview(PREVIEW_PX)


# The end of a link -> how the file is made. The order is that of the links of a head.
KINDS: dict[str, Kind] = {
    "glb": Kind("model/gltf-binary", "glb", _one("glb"), "glTF binary, with rig and textures inside"),
    "gltf": Kind("model/gltf+json", "gltf", _one("gltf"), "glTF with its numbers inside"),
    "usd": Kind(_ZIP, "usd.zip", _several("usd"), "a zip of a .usd and its textures"),
    "obj": Kind(_ZIP, "obj.zip", _several("obj"), "a zip of an .obj, its .mtl and textures"),
    "ply": Kind("application/octet-stream", "ply", _one("ply"), "PLY with colours"),
    "head": Kind("application/octet-stream", "head", _one("head"), "what HeadMesh.load reads"),
    "textures": Kind(_ZIP, "textures.zip", _textures, "a zip of the texture's pictures"),
    "png": Kind("image/png", "png", _picture, "a preview: front, three quarters and profile"),
}


class FileOptions(BaseModel):
    """How a file is written: the query of its address."""

    model_config = ConfigDict(extra="forbid")

    lod: int = Field(0, ge=0, le=9, description="level of detail; 0 is the whole head")
    expression: str = Field(
        "neutral", max_length=_MOST_TEXT, description="photograph, or NAME:WEIGHT,…: posed, and without rig"
    )
    morphs: str = Field("all", max_length=_MOST_TEXT, description="as --morphs of topos-rt generate")
    units: str = Field("m", max_length=2, description="m or cm")
    up: str = Field("y", max_length=1, description="y or z")
    rig: bool = True
    parts: bool = Field(True, description="teeth and lashes")
    quantize: bool = False

    def export(self) -> ExportOptions:
        names = ("units", "up", "rig", "morphs", "quantize", "parts")
        return ExportOptions(**{name: getattr(self, name) for name in names})


AS_MADE = FileOptions.model_validate({})


def written(head: HeadMesh, kind: str, options: FileOptions) -> bytes:
    """Return a head as a file: at a level of detail and, with an expression, posed and without a rig.

    Raises OptionError for a level or blendshape that it does not have, MissingExtraError for a format whose
    package is not installed.
    """
    export = options.export()
    expression = expression_of(options.expression, head)
    if expression is not None:
        head = head.posed(expression)
    head = head.lod(options.lod)
    if not options.parts:
        head = dataclasses.replace(head, parts=None)
    return KINDS[kind].write(head, export)


def kinds_of(head: HeadMesh) -> list[str]:
    """Return the kinds of files that there are of a head."""
    return [kind for kind in KINDS if kind != "textures" or head.texture is not None]


def expression_of(text: str, head: HeadMesh) -> dict[str, float] | None:
    """Return what "photograph" or "jawOpen:0.5,…" stands for; "neutral" is none.

    Raises OptionError.
    """
    if text in ("", "neutral"):
        return None
    if text == "photograph":
        return dict(head.expression)
    weights: dict[str, float] = {}
    for part in text.split(","):
        shape, _, number = part.partition(":")
        try:
            weights[shape.strip()] = float(number)
        except ValueError:
            raise OptionError(
                "expression", got=repr(part)[:40], expected="photograph, neutral, or NAME:WEIGHT,…"
            ) from None
    return weights
