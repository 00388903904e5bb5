"""What an engine pack is made of: the sections of a bundle and of the face bundle."""

from __future__ import annotations

import dataclasses
import hashlib
import math

import numpy as np

from topos_rt.engines.locations import locations
from topos_rt.errors import BundleError
from topos_rt.faces.bundle import NETWORKS, FaceBundle
from topos_rt.faces.expression import NAMES, POINTS
from topos_rt.faces.networks import networks_for
from topos_rt.faces.portrait import MIDDLE_CM, SIDE_CM
from topos_rt.flow.settings import DEFAULT_PRESET, PRESETS
from topos_rt.flow.solvers import SOLVERS
from topos_rt.formats.seams import split_seams
from topos_rt.head.atlas import Atlas, laid
from topos_rt.head.part_kit import PartKit
from topos_rt.head.skeleton import humanoid_joints
from topos_rt.head.topology import Topology
from topos_rt.model.bundle import Bundle
from topos_rt.model.evidence import EVIDENCE
from topos_rt.pack.container import Key, Value, in_order
from topos_rt.pack.licences import licences
from topos_rt.pack.memory import measured_memory
from topos_rt.pack.sections import ATLAS_MESH, GRAPHS, KINDS, TYPES
from topos_rt.support.strictjson import AGAIN

Contents = dict[Key, Value]
_NAN = math.nan


def contents(bundle: Bundle, faces: FaceBundle) -> Contents:
    """Return the sections of a verified bundle with a face bundle, which goes with every model.

    Raises BundleError for a bundle that a pack cannot hold.
    """
    made = _settings(bundle, faces) | _graphs(bundle) | _meshes(bundle) | _rig(bundle) | _parts(bundle.parts)
    made |= _atlas(bundle.topology, bundle.atlas) | _landmarks(bundle) | _faces(bundle, faces)
    shared = {key: value for key, value in made.items() if key[0] in _SHARED}
    made["topology_id", 0] = _digest(shared)
    return made | _shown(made)


def _shown(made: Contents) -> Contents:
    """Return what a product shows of a pack, or asks of it before loading: licences and measured memory."""
    about = made["about", 0]
    assert isinstance(about, tuple)
    texts = licences(about)
    shown: Contents = {("licence_names", 0): tuple(texts), ("licence_texts", 0): tuple(texts.values())}
    memory = measured_memory(made)
    return shown if memory is None else shown | {("memory", 0): memory}


# What heads with equal topology ids have in common, apart from shape and texture.
_SHARED = ("mesh_vertices", "mesh_source", "mesh_uvs", "mesh_triangles", "region_names", "region_offsets",
           "region_vertices", "joint_names", "joint_parents", "shape_names")  # fmt: skip


def _digest(sections: Contents) -> np.ndarray:
    total = hashlib.sha256()
    for name, index in in_order(sections):
        value = sections[name, index]
        data = "".join(f"{text}\0" for text in value).encode() if isinstance(value, tuple) else bytes(value)
        total.update(f"{name} {index} {len(data)}\n".encode() + data)
    return np.frombuffer(total.digest(), np.uint8)[None]


def _settings(bundle: Bundle, faces: FaceBundle) -> Contents:
    m, atlas, kit = bundle.manifest, bundle.atlas, bundle.parts
    evidence = sum(1 << number for number, name in enumerate(EVIDENCE) if name in (m.evidence or ()))
    sizes = (m.image.height, m.image.width, m.image.tokens, m.image.channels, m.latent.tokens,
             m.latent.channels, bundle.topology.num_vertices, evidence,
             list(PRESETS).index(DEFAULT_PRESET))  # fmt: skip
    open_temperature = _NAN if bundle.variation is None else bundle.variation.open_temperature
    numbers = (m.flow.sigma_min, m.flow.guidance, m.flow.temperature, m.frame.radius_m, open_temperature,
               SIDE_CM, *MIDDLE_CM.tolist(), 0.0 if atlas is None else atlas.mirror,
               _or_nan(m.residual_scale))  # fmt: skip
    about = (m.name, m.description, m.weights.origin, m.weights.licence, m.weights.kind,
             faces.manifest.licence, "" if atlas is None else atlas.source,
             "" if kit is None else kit.source)  # fmt: skip
    presets, solvers = PRESETS.values(), list(SOLVERS)
    made: Contents = {
        ("about", 0): about,
        ("sizes", 0): np.array([sizes], np.uint32),
        ("numbers", 0): np.array([numbers], np.float64),
        ("rotation", 0): m.frame.rotation,
        ("solver_names", 0): tuple(solvers),
        ("preset_names", 0): tuple(PRESETS),
        ("preset_counts", 0): np.array(
            [(p.steps, solvers.index(p.solver), p.reuse) for p in presets], np.uint32
        ),
        ("preset_numbers", 0): np.array(
            # Libraries that do not know `preset_times` refuse a preset without a shift.
            [
                (_or_nan(p.guidance), _NAN if p.times else p.shift, *p.interval, _or_nan(p.temperature))
                for p in presets
            ],
            np.float64,
        ),
    }
    for row, preset in enumerate(presets):
        if preset.times is not None:
            made["preset_times", row] = np.array(preset.times, np.float64)[:, None]
    if bundle.variation is not None:
        made["variation", 0] = bundle.variation.directions
    return made


def _or_nan(value: float | None) -> float:
    return _NAN if value is None else value


def _graphs(bundle: Bundle) -> Contents:
    """Return the graphs, and each file of weights once."""
    made: Contents = {}
    files: list[str] = []
    used = np.full((len(GRAPHS), 2), -1, np.int32)
    forms = ["fp32"] if bundle.manifest.graphs_fp16 is None else ["fp32", "fp16"]
    for column, form in enumerate(forms):
        kind, found = "graph" if form == "fp32" else "graph_fp16", []
        for number, graph in enumerate(GRAPHS):
            path = bundle.graph(graph, form)
            data, weights = path.read_bytes(), bundle.weights(path)
            found.append(next(iter(locations(data)), ""))  # a bundle's graph names one file at most
            made[kind, number] = data
            if weights is not None:
                name = weights.relative_to(bundle.path).as_posix()
                files += [] if name in files else [name]
                used[number, column] = files.index(name)
        made[f"{kind}_locations", 0] = tuple(found)
    made["graph_weights", 0] = used
    made |= {("weights", number): (bundle.path / name).read_bytes() for number, name in enumerate(files)}
    return made


def _meshes(bundle: Bundle) -> Contents:
    topology, atlas = bundle.topology, bundle.atlas
    made = _levels(topology, bundle.parts, 0)
    if atlas is not None:
        made |= _levels(laid(topology, atlas), bundle.parts, ATLAS_MESH)
    names = tuple(topology.regions)
    ids = [np.asarray(topology.regions[name], np.int32) for name in names]
    made["region_names", 0] = names
    made["region_offsets", 0] = np.cumsum([0, *map(len, ids)]).astype(np.int32)
    made["region_vertices", 0] = np.concatenate([np.zeros(0, np.int32), *ids])
    return made


def _levels(topology: Topology, kit: PartKit | None, first: int) -> Contents:
    if len(topology.lods) >= ATLAS_MESH:
        got = f"{len(topology.lods)} levels of detail"
        raise BundleError("topology to pack", got=got, expected=f"less than {ATLAS_MESH}", fix=AGAIN)
    made: Contents = {}
    for level in range(len(topology.lods) + 1):
        own, index = topology.lod(level), first + level
        split = split_seams(own)
        source = topology.lods[level - 1].vertices[split.source] if level else split.source
        made["mesh_vertices", index] = np.array([own.num_vertices], np.uint32)
        made["mesh_source", index] = source.astype(np.int32)
        made["mesh_uvs", index] = split.uvs
        made["mesh_triangles", index] = split.triangles
        if kit is not None and len(kit.surfaces) == len(topology.uvs) and topology.has_uvs:
            uvs = topology.lods[level - 1].triangle_uvs if level else topology.triangle_uvs
            made["mesh_surfaces", index] = kit.surfaces[uvs[:, 0]]
            made["mesh_shade", index] = kit.head_shade[source]
    return made


def _rig(bundle: Bundle) -> Contents:
    rig = bundle.rig
    if rig is None:
        return {}
    named = {joint: key for key, joint in humanoid_joints(rig.joint_names).items()}
    made: Contents = {
        ("joint_names", 0): rig.joint_names,
        ("joint_humanoid", 0): tuple(named.get(joint, "") for joint in rig.joint_names),
        ("shape_names", 0): rig.shape_names,
    }
    arrays = ("joint_parents", "joint_positions", "skin_joints", "skin_weights", "shape_index", "shape_delta",
              "shape_offsets")  # fmt: skip
    made |= {(name, 0): getattr(rig, name) for name in arrays}
    if rig.binding is not None:
        names = [field.name for field in dataclasses.fields(rig.binding)]
        made |= {(f"bind_{name}", 0): getattr(rig.binding, name) for name in names}
    return made


def _parts(kit: PartKit | None) -> Contents:
    if kit is None:
        return {}
    made: Contents = {(f"part_{name}", 0): value for name, value in kit.to_tensors().items()}
    return made | {("part_picture", 0): kit.picture.tobytes(), ("part_motion_shapes", 0): kit.motion_shapes}


def _atlas(topology: Topology, atlas: Atlas | None) -> Contents:
    if atlas is None:
        return {}
    own = laid(topology, atlas)
    split = split_seams(own)
    parts = np.zeros(len(split.source), np.uint8)
    parts[split.triangles] = atlas.parts[own.triangle_uvs]
    edges = topology.edges
    names = ("uvs", "parts", "landmark_uvs", "masks", "warp", "warp_vertices", "warp_landmarks")
    made: Contents = {(f"atlas_{name}", 0): getattr(atlas, name) for name in names}
    made["mesh_parts", ATLAS_MESH] = parts
    made["atlas_base", 0] = np.ascontiguousarray(atlas.base.reshape(-1, 3))
    made["atlas_sides", 0] = edges[edges[:, 0] < edges[:, 1]].astype(np.int32)
    return made


def _landmarks(bundle: Bundle) -> Contents:
    found = bundle.landmarks
    if found is None:
        return {}
    names = ("vertices", "weights", "noise", "mirrored", "irises")
    return {(f"landmark_{name}", 0): getattr(found, name) for name in names}


def _faces(bundle: Bundle, faces: FaceBundle) -> Contents:
    wanted = networks_for(bundle.manifest.evidence)
    made: Contents = {("face_graph", NETWORKS.index(name)): faces.graph(name).read_bytes() for name in wanted}
    for name in ("positions", "weights", "triangles", "mirrored"):
        array, kind = getattr(faces.canonical, name), KINDS[f"face_{name}"]
        made[f"face_{name}", 0] = array.astype(np.dtype(TYPES[kind.type][1]))
    made["score_names", 0] = NAMES
    made["score_points", 0] = np.array(POINTS, np.int32)
    return made
