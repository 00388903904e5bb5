"""The kinds of sections that an engine pack may have: numbers, element types and widths.

`sdk/src/pack_format.h` has the same numbers; a test compares them. A number is never given a second meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

TEXT, BYTES = "text", "bytes"
# Element type -> its number in a file, and what NumPy calls it. "text" is UTF-8 strings that each end with a
# zero byte, one for each row; "bytes" is a file within the file, of one row.
TYPES: Mapping[str, tuple[int, str]] = {
    "u8": (1, "|u1"),
    "u16": (2, "<u2"),
    "i32": (3, "<i4"),
    "u32": (4, "<u4"),
    "f16": (5, "<f2"),
    "f32": (6, "<f4"),
    "f64": (7, "<f8"),
    TEXT: (8, "|u1"),
    BYTES: (9, "|u1"),
}
ANY = 0  # columns that the contents decide


@dataclass(frozen=True)
class Kind:
    """What one kind of section holds: rows of `columns` elements."""

    number: int
    type: str  # key of TYPES
    columns: int
    meaning: str

    @property
    def item(self) -> int:
        """The size of one element in bytes."""
        return int(np.dtype(TYPES[self.type][1]).itemsize)


# What the rows of "about" are, and the columns of "sizes" and "numbers", in their order.
ABOUT = ("name", "description", "origin of the weights", "licence of the weights", "kind of the weights",
         "licence of the face networks", "source of the atlas", "source of the parts")  # fmt: skip
SIZES = ("image height", "image width", "tokens", "token channels", "latent tokens", "latent channels",
         "vertices", "evidence: bit k for name k of `topos_rt.model.evidence.EVIDENCE`",
         "the default preset")  # fmt: skip
NUMBERS = ("sigma_min", "guidance", "temperature", "radius, metres",
           "open temperature; NaN without variation",
           "side of a portrait, centimetres", "its middle, x", "y", "z", "atlas mirror",
           "residual scale; NaN where the image encoder gives no estimate")  # fmt: skip
# Bytes: of the process's own memory after a warm head, without and with a cache of optimised graphs, and of a
# job in flight.
MEMORY = ("private", "private with a cache", "of a job")
# The ONNX graphs in the order of their sections' indices; the encoder of points stays in Python.
GRAPHS = ("image_encoder", "dit_modulation", "dit_context", "dit_step", "dit_step_guided", "vae_decoder")
# Meshes: index = level of detail + ATLAS_MESH where the UVs are the atlas's, which textured heads have.
ATLAS_MESH = 16

KINDS: Mapping[str, Kind] = {
    "about": Kind(1, TEXT, 1, "; ".join(ABOUT)),
    "sizes": Kind(2, "u32", len(SIZES), "one row: " + "; ".join(SIZES)),
    "numbers": Kind(3, "f64", len(NUMBERS), "one row: " + "; ".join(NUMBERS)),
    "rotation": Kind(4, "f32", 3, "rows of the rotation from the networks' frame to +Y up, facing +Z"),
    "topology_id": Kind(5, "u8", 32, "one row: SHA-256 of what all heads share, see below"),
    "solver_names": Kind(6, TEXT, 1, "the solvers; their rows are their numbers"),
    "preset_names": Kind(7, TEXT, 1, "the presets"),
    "preset_counts": Kind(8, "u32", 3, "of each preset: steps, solver, reuse"),
    "preset_numbers": Kind(9, "f64", 5, "guidance, shift, interval (2), temperature; NaN: elsewhere"),
    "variation": Kind(10, "f32", ANY, "directions of the flattened latent that pictures leave open"),
    "memory": Kind(11, "f64", len(MEMORY), "measured, one row, bytes: " + "; ".join(MEMORY)),
    "licence_names": Kind(12, TEXT, 1, "SPDX's names of all licences of the pack, and of the C library"),
    "licence_texts": Kind(13, TEXT, 1, "their texts"),
    "preset_times": Kind(14, "f64", 1, "the time grid of a preset without a shift; the index is its row"),
    "graph": Kind(20, BYTES, 1, "an ONNX graph in FP32; the index is that of GRAPHS"),
    "graph_fp16": Kind(21, BYTES, 1, "the same with FP16 operands"),
    "graph_locations": Kind(22, TEXT, 1, "the name that each graph has for its file of weights, or nothing"),
    "graph_fp16_locations": Kind(23, TEXT, 1, "the same of graph_fp16"),
    "graph_weights": Kind(24, "i32", 2, "index of each graph's weights, FP32 and FP16; -1: in the graph"),
    "weights": Kind(25, BYTES, 1, "a file of weights, as the graphs name it; each is stored once"),
    "mesh_vertices": Kind(30, "u32", 1, "one row: V, the vertices of a level without copies for seams"),
    "mesh_source": Kind(31, "i32", 1, "which vertex of level 0 each of the W with copies stands for"),
    "mesh_uvs": Kind(32, "f32", 2, "their UVs, origin bottom left; no rows without UVs"),
    "mesh_triangles": Kind(33, "i32", 3, "triangles of the W vertices, counter-clockwise"),
    "mesh_surfaces": Kind(34, "u8", 1, "of each triangle: 0 skin, 1 eyes, 2 mouth; only with parts"),
    "mesh_shade": Kind(35, "u8", 1, "vertex grey of the W vertices inside mouth and eyes; only with parts"),
    "region_names": Kind(36, TEXT, 1, "named regions of the topology"),
    "region_offsets": Kind(37, "i32", 1, "where each region begins in region_vertices, and the end"),
    "region_vertices": Kind(38, "i32", 1, "vertices of the regions"),
    "mesh_parts": Kind(39, "u8", 1, "of the W vertices: which of `topos_rt.head.atlas.PARTS`; only of 16"),
    "joint_names": Kind(40, TEXT, 1, "joints, parents first"),
    "joint_humanoid": Kind(41, TEXT, 1, "what VRM calls each joint, or nothing"),
    "joint_parents": Kind(42, "i32", 1, "-1 for a root"),
    "joint_positions": Kind(43, "f32", 3, "metres, on the head that the rig was made on"),
    "skin_joints": Kind(44, "u16", 4, "of each vertex of the topology"),
    "skin_weights": Kind(45, "f32", 4, "rows sum to one"),
    "shape_names": Kind(46, TEXT, 1, "blendshapes"),
    "shape_index": Kind(47, "i32", 1, "the vertices that they move, rising within a shape"),
    "shape_delta": Kind(48, "f32", 3, "by how much, metres"),
    "shape_offsets": Kind(49, "i32", 1, "where each shape begins in shape_index, and the end"),
    "bind_template": Kind(50, "f32", 3, "the head that the rig was made on"),
    "bind_joint_index": Kind(51, "i32", 1, "see `topos_rt.head.rig.Binding`"),
    "bind_joint_weight": Kind(52, "f32", 1, "the same"),
    "bind_joint_offsets": Kind(53, "i32", 1, "the same"),
    "bind_contact_pairs": Kind(54, "i32", 2, "the same"),
    "bind_contact_offsets": Kind(55, "i32", 1, "the same"),
    "bind_parts": Kind(56, "u8", 1, "the same"),
    "part_anchors": Kind(60, "i32", ANY, "teeth and lashes, see `topos_rt.head.part_kit.PartKit`"),
    "part_weights": Kind(61, "f16", ANY, "the same"),
    "part_pieces": Kind(62, "u8", 1, "the same"),
    "part_holders": Kind(63, "i32", 1, "the same"),
    "part_quads": Kind(64, "u16", 4, "the same"),
    "part_uvs": Kind(65, "f32", 2, "the same"),
    "part_rest": Kind(66, "f32", 3, "the same"),
    "part_motions": Kind(67, "f32", 12, "the same"),
    "part_motion_pieces": Kind(68, "u8", 1, "the same"),
    "part_motion_shapes": Kind(69, TEXT, 1, "the same"),
    "part_surfaces": Kind(70, "u8", 1, "the same"),
    "part_head_shade": Kind(71, "u8", 1, "the same"),
    "part_shade": Kind(72, "u8", 1, "the same"),
    "part_picture": Kind(73, BYTES, 1, "a square RGBA PNG"),
    "atlas_uvs": Kind(80, "f32", 2, "how textures lie on heads, see `topos_rt.head.atlas.Atlas`"),
    "atlas_parts": Kind(81, "u8", 1, "the same"),
    "atlas_landmark_uvs": Kind(82, "f32", 2, "the same"),
    "atlas_masks": Kind(83, "u8", ANY, "areas of the skin, one a row, 256 x 256"),
    "atlas_warp": Kind(85, "f16", ANY, "the same as `Atlas.warp`"),
    "atlas_warp_vertices": Kind(86, "i32", 1, "the same"),
    "atlas_warp_landmarks": Kind(87, "i32", 1, "the same"),
    "atlas_base": Kind(88, "u8", 3, "the base material's colours in sRGB: S x S pixels from the top"),
    "atlas_sides": Kind(89, "i32", 2, "polygon sides of level 0, lower vertex first, rising"),
    "landmark_vertices": Kind(90, "i32", 3, "see `topos_rt.head.landmark_map.LandmarkMap`"),
    "landmark_weights": Kind(91, "f32", 3, "the same"),
    "landmark_noise": Kind(92, "f32", 1, "the same"),
    "landmark_mirrored": Kind(93, "i32", 1, "the same"),
    "landmark_irises": Kind(94, "i32", 1, "the same"),
    "face_graph": Kind(100, BYTES, 1, "0 detector, 1 landmarks, 2 expression, 3 identity"),
    "face_positions": Kind(101, "f32", 3, "the canonical face, see `topos_rt.faces.bundle.CanonicalFace`"),
    "face_weights": Kind(102, "f32", 1, "the same"),
    "face_triangles": Kind(103, "i32", 3, "the same"),
    "face_mirrored": Kind(104, "i32", 1, "the same"),
    "score_names": Kind(105, TEXT, 1, "the scores of the expression network"),
    "score_points": Kind(106, "i32", 1, "the landmarks that it takes"),
}  # fmt: skip
assert len({kind.number for kind in KINDS.values()}) == len(KINDS)
