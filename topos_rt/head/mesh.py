"""What the pipeline returns: a `HeadMesh`, with the `Rig` that animates it.

Both are float32, metres, +Y up, facing +Z, right-handed, with counter-clockwise front faces.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from topos_rt.errors import MeshInputError, OptionError
from topos_rt.head import outputs
from topos_rt.head.normals import vertex_normals
from topos_rt.head.outputs import SaveOptions
from topos_rt.head.parts import Parts, check_part_rig
from topos_rt.head.rig import Rig, reduced_rig
from topos_rt.head.texture import Texture
from topos_rt.head.topology import Topology
from topos_rt.support.arrays import Floats, Ints
from topos_rt.support.checks import first, frozen, plain_json, require, require_finite, require_shape
from topos_rt.support.streams import Writable

if TYPE_CHECKING:
    from typing_extensions import Unpack

_UNIT_TOLERANCE = 1e-3
_SHOWN_PX = 320  # the height of the picture of a head in a notebook


@dataclass(frozen=True, eq=False)
class HeadMesh:
    """One head. Vertex i is the same point of the head in every HeadMesh of a topology.

    `metadata` says how the head was made (seed, steps, solver, model, note on the weights) as JSON values; it
    goes into exported files. `timings` (seconds per stage) does not, so that a seed gives the same bytes.

    Raises MeshInputError for wrong shapes or types, NaN or infinite values, normals that are not of unit
    length, positions without extent, a rig of another topology, or metadata that JSON cannot hold.
    """

    positions: Floats  # [V,3] float32, metres, +Y up, facing +Z
    normals: Floats  # [V,3] float32, unit length
    topology: Topology
    rig: Rig | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    # What the portrait showed; files hold it only as far as `metadata` does.
    face: Any = None  # the `topos_rt.Face` that the head was made from
    pose: Any = None  # the `topos_rt.Camera` that shows the head as the portrait does
    expression: Mapping[str, float] = field(
        default_factory=dict
    )  # its weights, for `posed`; the head is neutral
    texture: Texture | None = None  # lies on the topology's UVs
    parts: Parts | None = None  # teeth and lashes beside the topology's vertices, in the same place and pose

    def __post_init__(self) -> None:
        vertices = self.topology.num_vertices
        for name in ("positions", "normals"):
            object.__setattr__(self, name, frozen(getattr(self, name), np.float32, name))
            require_shape(getattr(self, name), (vertices, 3), name)
            require_finite(getattr(self, name), name)
        extent = np.ptp(self.positions, axis=0)
        require(bool(extent.any()), "positions", "the same point for every vertex", "a surface")
        lengths = np.linalg.norm(self.normals, axis=1)
        unit = np.abs(lengths - 1) <= _UNIT_TOLERANCE
        require(
            unit.all(),
            "normals",
            f"one of length {first(lengths, ~unit)}",
            "unit length",
            "use topos_rt.head.normals.unit_vectors or vertex_normals",
        )
        if self.rig is not None and self.rig.num_vertices != vertices:
            raise MeshInputError(
                "the rig",
                got=f"{self.rig.num_vertices} vertices",
                expected=f"{vertices}, as in the topology",
                fix="use the same bundle's rig",
            )
        if self.texture is not None and not self.topology.has_uvs:
            raise MeshInputError(
                "the texture", got="a topology without UVs", expected="one that it can lie on"
            )
        check_part_rig(self.parts, self.rig)
        object.__setattr__(self, "metadata", plain_json(self.metadata, "metadata"))
        object.__setattr__(self, "expression", {name: float(w) for name, w in self.expression.items()})
        object.__setattr__(self, "timings", {name: float(seconds) for name, seconds in self.timings.items()})

    def __repr__(self) -> str:
        rig = f"{len(self.rig.shape_names)} blendshapes" if self.rig else "no rig"
        return f"<HeadMesh: {len(self.positions)} vertices, {len(self.triangles)} triangles, {rig}>"

    @property
    def triangles(self) -> Ints:
        """The vertex ids of the triangles, [F,3] int32, counter-clockwise; those of the topology."""
        return self.topology.triangles

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest corner [3], metres, of the axis-aligned box around the head."""
        return self.positions.min(0), self.positions.max(0)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return writable copies of the head's arrays, by name.

        positions, normals [V,3] and uvs [U,2] float32; triangles and triangle_uvs [F,3] int32. The head's own
        arrays are read-only: a library that takes arrays by DLPack refuses them or may write to them anyway.
        These copies can be handed over as they are: `torch.from_dlpack(head.arrays()["positions"])`.
        """
        parts = {
            "positions": self.positions,
            "normals": self.normals,
            "triangles": self.triangles,
            "uvs": self.topology.uvs,
            "triangle_uvs": self.topology.triangle_uvs,
        }
        return {name: np.array(values, order="C") for name, values in parts.items()}

    def posed(
        self,
        shapes: Mapping[str, float],
        turns: None = None,
        *,
        degrees: Mapping[str, Sequence[float]] | None = None,
    ) -> HeadMesh:
        """Return the head with blendshapes set and joints turned, with new normals and without a rig.

        shapes: name -> weight, such as {"jawOpen": 0.7}; 0 is at rest, 1 is the whole shape.
        degrees: joint -> rotation vector [3], degrees about the head's axes; the joint's children follow.
        turns: what took radians before; it is refused.

        Raises MeshInputError for a head without a rig, unknown names, or numbers that are not finite,
        OptionError for `turns`.
        """
        from topos_rt.head.pose import posed_positions

        if turns is not None:
            raise OptionError(
                "posed",
                got="turns, which were in radians",
                expected="degrees={joint: rotation vector}, as every angle of topos_rt is in degrees",
                fix="posed(shapes, degrees={joint: numpy.degrees(turn)})",
            )
        if self.rig is None:
            raise MeshInputError(
                "pose", got="a head without rig", expected="one with a rig", fix="keep its rig"
            )
        positions = posed_positions(self.positions, self.rig, shapes, degrees or {})
        normals = vertex_normals(positions, self.triangles)
        parts = None if self.parts is None else self.parts.posed(shapes, degrees or {})
        return dataclasses.replace(
            self, positions=positions, normals=normals, rig=None, expression={}, parts=parts
        )

    def with_rig(self, *, skeleton: str = "full", morphs: str | Sequence[str] = "all") -> HeadMesh:
        """Return the head with the rig that `save` writes with these arguments, so that it can be posed.

        head.with_rig(morphs="visemes").posed({"viseme_aa": 1.0}) says "ah".

        Raises MeshInputError for a head without a rig, OptionError for unknown names.
        """
        from topos_rt.head.skeleton import with_skeleton
        from topos_rt.head.visemes import with_morphs

        parts = self.parts

        if self.rig is None:
            raise MeshInputError(
                "rig", got="a head without rig", expected="one with a rig", fix="keep its rig"
            )
        rig = with_morphs(with_skeleton(self.rig, skeleton), morphs)
        if parts is not None:
            parts = dataclasses.replace(parts, rig=parts.rig_for(rig, morphs))
        return dataclasses.replace(self, rig=rig, parts=parts)

    def lod(self, level: int) -> HeadMesh:
        """Return the head at a level of detail: 1 has half the triangles, 2 a quarter; 0 is the head itself.

        Its vertices are a subset of this head's, the same for every head of the topology, with the normals of
        the full surface. Rig and UVs are reduced with them, teeth and lashes stay as they are, and the
        metadata names the level.

        Raises OptionError for a level that the topology does not have, and for a reduced head.
        """
        if "lod" in self.metadata and level:
            raise OptionError(
                "level of detail",
                got=f"{level!r} of a head at level {self.metadata['lod']}",
                expected="the full head",
                fix="take each level from that",
            )
        topology = self.topology.lod(level)
        if level == 0:
            return self
        vertices = self.topology.lods[level - 1].vertices
        return dataclasses.replace(
            self,
            positions=self.positions[vertices],
            normals=self.normals[vertices],
            topology=topology,
            rig=None if self.rig is None else reduced_rig(self.rig, vertices),
            parts=None if self.parts is None else self.parts.at_level(self.topology, level),
            metadata={**self.metadata, "lod": level},
        )

    def save(
        self, path: str | PathLike[str] | Writable, format: str | None = None, **options: Unpack[SaveOptions]
    ) -> None:
        """Write the head to a file, whole or not at all. Its pictures lie beside an OBJ or USD file.

        path: its suffix names the format unless `format` does ("glb", "gltf", "head", "obj", "ply", "usd",
        "usda"). A .gltf has its numbers in a .bin beside it, and a .head what it shares with other heads in a
        .base; `load` reads it. An open binary file takes what `to_bytes` returns; it needs a format, and is
        neither flushed nor closed.
        units: "m" (the default) or "cm". up: "y" (facing +Z) or "z" (facing -Y). glTF takes only "m" and "y".
        rig: False leaves skeleton, skin and blendshapes out of the formats that have them (glTF, USD).
        skeleton: "full", or "compact" for the joints that hold vertices alone, below one root.
        morphs: the blendshapes: "all" of the head, "arkit", "visemes", "none", or names, in a sequence or
        with commas between.
        quantize: store 16-bit numbers where they fit (KHR_mesh_quantization; glTF alone).
        parts: False leaves out teeth and lashes, and gives the head one material.

        Raises OptionError for an unknown format or option, MissingExtraError where the format needs a package
        that is not installed, OutputError when the file cannot be written.
        """
        outputs.save(self, path, format, options)

    def to_bytes(self, format: str, **options: Unpack[SaveOptions]) -> bytes:
        """Return the head as the bytes of one file, those that `save` writes. Options are those of `save`.

        format: "glb" and "ply" are always one file; "gltf" and "head" come whole, with what `save` puts
        beside them inside; "obj", "usd" and "usda" are one file only without texture and parts.

        Raises OptionError for an unknown format or option, and for a format that would take several files,
        MissingExtraError where it needs a package that is not installed.
        """
        return outputs.to_bytes(self, format, options)

    def preview(self, size: int = 640, beside: np.ndarray | None = None) -> bytes:
        """Return front, three-quarter and profile views as the bytes of a PNG: `topos_rt.render_preview`.

        size: height in pixels; the picture is 2.4 times as wide. beside: [size,width,3] uint8, a picture to
        the left of the views. Raises OptionError for a size out of range, or a picture of another height.
        """
        return outputs.preview(self, size, beside)

    def _repr_png_(self) -> bytes:
        """Show the head where a notebook displays its value."""
        return self.preview(_SHOWN_PX)

    def to_trimesh(self) -> Any:
        """Return a `trimesh.Trimesh`: metres, +Y up, with UVs, material and the pictures of the texture.

        Vertices 0 .. V-1 are the head's, in order; copies along UV seams follow, as in a GLB. It is made with
        `process=False`, since trimesh would merge and reorder them. Rig, teeth and lashes are left out, and
        `metadata` is the head's.

        Raises MissingExtraError where trimesh is not installed: pip install 'topos-rt[trimesh]'.
        """
        return outputs.to_trimesh(self)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> HeadMesh:
        """Read a .head file, see `topos_rt.formats.head_files.read_head`. Raises MeshInputError."""
        return outputs.read(path)
