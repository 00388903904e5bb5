"""What goes over the wire: the options of requests and the bodies of answers."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from topos_rt.flow.settings import (
    MAX_GUIDANCE,
    MAX_LANDMARK_PULL,
    MAX_SHIFT,
    MAX_STEPS,
    MAX_TEMPERATURE,
    SEED_END,
)
from topos_rt.jobs import PresetName, SolverName, TextureFormat
from topos_rt.scan.settings import DEFAULT_PASSES
from topos_rt.server.settings import MOST_HEADS

_MOST_PASSES = 8


def _listed(value: Any) -> Any:
    """Return text with commas between, as a form has it, as a list; a JSON list in text, too."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value.split(",") if isinstance(value, str) and value else value


def _face(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def _crop(value: Any) -> Any:
    return value if value in ("auto", "none") else _listed(value)


Seed = Annotated[int, Field(ge=0, lt=SEED_END)]
_Number = Annotated[int, Field(ge=0, lt=10**6)]
_Pixel = Annotated[int, Field(ge=0, le=10**6)]


# Not .gltf, which names other files.
ScanFormat = Literal["obj", "glb", "off", "ply", "stl", "npz"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class NoOptions(_Strict):
    """A request without options."""


class Options(_Strict):
    """How heads are made of a picture. None keeps the preset's value, or the model's."""

    preset: PresetName = Field("balanced", description="trades time for accuracy")
    steps: int | None = Field(None, ge=1, le=MAX_STEPS, description="sampling steps")
    solver: SolverName | None = Field(None, description="the method that takes a step")
    guidance: float | None = Field(
        None, ge=0, le=MAX_GUIDANCE, description="how strictly to follow the picture"
    )
    shift: float | None = Field(
        None, ge=0.001, le=MAX_SHIFT, description="above 1: more steps near the noise"
    )
    interval: Annotated[list[float] | None, BeforeValidator(_listed)] = Field(
        None, min_length=2, max_length=2, description="lo and hi, the times at which guidance acts"
    )
    reuse: int | None = Field(
        None, ge=1, le=MAX_STEPS, description="recompute guidance at every reuse-th step"
    )
    temperature: float | None = Field(None, ge=0, le=MAX_TEMPERATURE, description="scale of the first noise")
    landmark_pull: float | None = Field(
        None, ge=0, le=MAX_LANDMARK_PULL, description="how much the landmarks count"
    )
    seeds: Annotated[list[Seed], BeforeValidator(_listed)] = Field(
        [0], min_length=1, max_length=MOST_HEADS, description="one head is made for each"
    )
    face: Annotated[_Number | Literal["largest", "all"], BeforeValidator(_face)] = Field(
        "largest", description="which face: its number in /v1/faces, from 0, the largest, or all"
    )
    crop: Annotated[Literal["auto", "none"] | list[_Pixel], BeforeValidator(_crop)] = Field(
        "auto", description="x, y, width and height in the upright picture; auto; or none: the whole picture"
    )
    face_check: bool = Field(True, description="false takes pictures without a face, too")
    texture: Literal["projected", "base", "none"] | None = Field(
        None, description="what the skin shows; null: the photograph"
    )
    texture_size: Literal[512, 1024, 2048] = Field(1024, description="pixels along a side")
    texture_format: TextureFormat = "jpeg"

    def sampling(self) -> dict[str, Any]:
        names = ("preset", "steps", "solver", "guidance", "shift", "interval", "reuse", "temperature")
        return {name: getattr(self, name) for name in (*names, "landmark_pull")}

    def call(self) -> dict[str, Any]:
        """Return the keywords of a pipeline's call, without seed and callback."""
        names = ("face", "crop", "face_check", "texture", "texture_size", "texture_format")
        return self.sampling() | {name: getattr(self, name) for name in names}


class ScanOptions(_Strict):
    """How a head is laid over a scan."""

    format: ScanFormat | None = Field(None, description="what the scan is; null: as its file name says")
    units: Literal["m", "cm", "mm"] = "m"
    align: bool = Field(False, description="find the orientation first")
    passes: int = Field(DEFAULT_PASSES, ge=1, le=_MOST_PASSES)
    seed: Seed | None = Field(None, description="null: the mean of the posterior")


class Face(BaseModel):
    box: list[float] = Field(description="x, y, width and height, pixels of the upright picture")
    size_px: float
    confidence: float
    yaw: float = Field(description="degrees; positive turns the face to the right of the picture")
    pitch: float
    roll: float
    warnings: list[str]
    landmarks: list[list[float]] = Field(description="478 times x, y and z in pixels; [] in profile")
    expression: dict[str, float] = Field(description="ARKit's names, 0 to 1")


class Faces(BaseModel):
    width: int
    height: int
    faces: list[Face] = Field(description="the largest first; [] where there is nobody")


class Head(BaseModel):
    id: str
    seed: int | None
    face: dict[str, Any] | None = Field(description="the face that it was made of, without landmarks")
    expression: dict[str, float] = Field(description="its weights in the photograph; files are neutral")
    vertices: int
    links: dict[str, str] = Field(description="format: where to fetch it")
    warnings: list[str]
    timings: dict[str, float] = Field(description="seconds of each stage, and their total")
    metadata: dict[str, Any]
    expires: float = Field(description="Unix time from which it is gone")


class Heads(BaseModel):
    heads: list[Head]


class Preset(BaseModel):
    name: str
    steps: int


class Model(BaseModel):
    name: str
    weights: str = Field(description="where the weights come from")
    loaded: bool
    backend: str
    presets: list[Preset]
    vertices: int
    shapes: list[str] = Field(description="the names of its blendshapes")
    lods: int = Field(description="levels of detail: 0 to lods - 1")
    texture: bool
    topology: str


class Models(BaseModel):
    models: list[Model]


class Health(BaseModel):
    status: Literal["ok"]
    version: str


class Ready(BaseModel):
    status: Literal["ready"]
    waiting: int
    running: int


class ProblemBody(BaseModel):
    """RFC 9457, with what was found, what was expected, and what to do."""

    type: str
    title: str
    status: int
    detail: str
    got: str | None
    expected: str | None
    fix: str | None
