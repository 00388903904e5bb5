"""The reader of GLB files: one surface of everything that their scene shows."""

from __future__ import annotations

from pathlib import Path

from topos_rt.formats.damage import damage_refused
from topos_rt.formats.gltf_file import EXPECTED, GltfFile
from topos_rt.formats.gltf_scene import placed
from topos_rt.formats.limits import LIMITS, Limits, read_whole
from topos_rt.formats.mesh_file import MeshFile, Part, joined


def read_glb(path: Path, what: str, limits: Limits = LIMITS) -> MeshFile:
    """Read the surface that a GLB shows at rest, in metres with +Y up, as glTF has them.

    Quantized, sparse, skinned and morphed meshes are read as the specification says, and so are strips and
    fans. Draco and meshoptimizer need the extra `gltf`. Points and lines are left out.

    Raises MeshInputError for a file that is damaged, above the limits, without triangles, or in need of
    another extension; MissingExtraError for a compressed one without the extra; OSError.
    """
    data = read_whole(path, what, limits)
    with damage_refused(what, EXPECTED):
        found, notes = placed(GltfFile(data, what, limits))
        parts = [Part(part.positions, part.triangles, part.normals, part.uvs) for part in found]
        return joined(parts, what, notes)
