"""The reader of GLB and glTF files: one surface of everything that their scene shows."""

from __future__ import annotations

from pathlib import Path

from topos_rt.formats.damage import damage_refused
from topos_rt.formats.gltf_file import EXPECTED, open_gltf
from topos_rt.formats.gltf_scene import placed
from topos_rt.formats.limits import LIMITS, Limits
from topos_rt.formats.mesh_file import MeshFile, Part, joined


def read_gltf(path: Path, what: str, limits: Limits = LIMITS) -> MeshFile:
    """Read the surface that a GLB, or a `.gltf` with the buffers beside it, shows at rest.

    Positions are in metres with +Y up, as glTF has them.

    Quantized, sparse, skinned and morphed meshes are read as the specification says, and so are strips and
    fans. Draco and meshoptimizer need the extra `gltf`. Points and lines are left out.

    Raises MeshInputError for a file that is damaged, above the limits, without triangles, or in need of
    another extension; MissingExtraError for a compressed one without the extra; OSError.
    """
    with damage_refused(what, EXPECTED):
        found, notes = placed(open_gltf(path, what, limits))
        parts = [Part(part.positions, part.triangles, part.normals, part.uvs) for part in found]
        return joined(parts, what, notes)
