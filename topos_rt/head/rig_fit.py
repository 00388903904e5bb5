"""The fit of a rig, made on one head, to another head of its topology.

The offsets of a blendshape are rotated and scaled as the surface around them is between the two heads. The
frame that does this is the similarity (Umeyama 1991) that best maps a Gaussian neighbourhood, as in moving
least squares (Schaefer et al. 2006). Frames are computed at a few hundred nodes and blended between them
(embedded deformation, Sumner et al. 2007). Deformation transfer (Sumner and Popovic 2004) would solve a
sparse system for each shape to make such frames agree along the surface; smooth frames agree already. Two
corrections follow: parts such as eyeballs stay rigid, and vertices that a shape brings together on one head
also meet on the other. docs/rig.md has the formulas.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from topos_rt.errors import MeshInputError
from topos_rt.head.rig import BINDING_ARRAYS, Binding, Rig
from topos_rt.support.arrays import product
from topos_rt.support.native import native
from topos_rt.support.similarity import sphere_frame

# Fractions of the template's radius; on `mini` they are 12 mm and 11 mm.
_NEIGHBOURHOOD = 0.085  # standard deviation of the Gaussian that frames are fitted and blended with
_MEETING = 0.08  # standard deviation of the Gaussian that spreads the corrections at contacts
_NODES = 300
_STIFFNESS = 0.005  # pull of a frame towards that of the whole head, so that flat neighbourhoods have one
_RIGID = 0.1  # a part bends only where a rotation and a shift leave more than this fraction of its motion
_RIDGE = 0.2  # several contacts of one vertex may disagree, and the correction should be smooth


def fit_rig(rig: Rig, positions: np.ndarray) -> Rig:
    """Return the rig of a bundle, fitted to a head: joints regressed, blendshapes transferred, no binding.

    positions: [V,3] float, in any units, place and orientation, but not mirrored.
    A rig without binding is returned unchanged. Raises MeshInputError for positions of another topology.
    """
    binding = rig.binding
    positions = np.asarray(positions)
    if positions.shape != (rig.num_vertices, 3):
        raise MeshInputError(
            "the head to fit a rig to",
            got=f"shape {list(positions.shape)}",
            expected=f"[{rig.num_vertices}, 3], as the rig",
            fix="use the rig of the same bundle",
        )
    if binding is None:
        return rig
    fitter = _compiled(rig) if positions.dtype == np.float32 else None
    if fitter is not None:
        joints, delta = fitter.fit(np.ascontiguousarray(positions))
    else:
        joints, delta = _fitted(rig, binding, positions)
    return dataclasses.replace(rig, joint_positions=joints, shape_delta=delta, binding=None, source=rig)


def prepare_fit(rig: Rig) -> None:
    """Do what is the same for every head, and what the first fit would do otherwise, where it is compiled."""
    _compiled(rig)


@lru_cache(maxsize=4)
def _compiled(rig: Rig) -> Any | None:
    """Return the C library's fit of a rig, with all that is the same for every head, where it was built."""
    compiled, binding = native(), rig.binding
    if compiled is None or binding is None:
        return None
    shapes = {name: getattr(rig, name) for name in ("shape_index", "shape_delta", "shape_offsets")}
    return compiled.RigFitter(**shapes, **{name: getattr(binding, name) for name in BINDING_ARRAYS})


def _fitted(rig: Rig, binding: Binding, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return joints [J,3] and offsets [K,3]. The compiled fit sums in float64 where this has float32."""
    centre = positions.mean(0, dtype=np.float64)  # float32 would lose the shape of a head far from the origin
    head = (positions - centre).astype(np.float32)
    ready = _prepared(rig)
    frames = ready.warp.frames(head)
    at_vertices = product(ready.warp.blend, frames.reshape(len(frames), 9)).reshape(-1, 3, 3)
    delta = np.einsum("kij,kj->ki", at_vertices[rig.shape_index], rig.shape_delta)
    for piece in ready.pieces:
        delta[piece.entries] = piece.moved(head, frames)
    for meeting in ready.meetings:
        delta[meeting.entries] += meeting.missing(head, at_vertices, delta[meeting.entries])
    return binding.joints(head) + centre, delta


class _Warp:
    """The frames from the template to a head. What depends on the template alone is computed once."""

    def __init__(self, template: np.ndarray, skin: np.ndarray, sigma: float) -> None:
        """Prepare the frames.

        template: [V,3] float64, centred. skin: [V] bool, the vertices that frames are fitted to. sigma: the
        standard deviation of the neighbourhoods.
        """
        self.sigma = sigma
        self.nodes = template[_spread(template, np.flatnonzero(skin), _NODES)]
        weights = np.exp(self._exponents(template).T) * skin
        weights /= weights.sum(1, keepdims=True)
        self._means = product(weights, template)
        squares = product(weights, (template**2).sum(1)[:, None])[:, 0] - (self._means**2).sum(1)
        self._variance = np.maximum(squares, 1e-12)  # [n] trace of each neighbourhood's covariance
        self._weights = weights.astype(np.float32)
        self._template = template.astype(np.float32)
        self._own_size = _size(template[skin])
        self._skin = skin
        self.blend = self.blend_at(template)

    def blend_at(self, points: np.ndarray) -> np.ndarray:
        """Return the weights of the nodes at points [p,3]: [p,n] float32."""
        exponents = self._exponents(points)
        shares = np.exp(exponents - exponents.max(1, keepdims=True))  # a far point takes its nearest node
        return (shares / shares.sum(1, keepdims=True)).astype(np.float32)

    def frames(self, head: np.ndarray) -> np.ndarray:
        """Return the similarities at the nodes from the template to a centred head [V,3]: [n,3,3] float32."""
        products = (head[:, :, None] * self._template[:, None, :]).reshape(-1, 9)
        sums = product(self._weights, np.concatenate([head, products], 1)).astype(np.float64)
        scale = _size(head[self._skin]) / self._own_size
        covariance = sums[:, 3:].reshape(-1, 3, 3) - sums[:, :3, None] * self._means[:, None, :]
        overall = _rotations(covariance.sum(0)[None])[0]
        covariance += (_STIFFNESS * scale * self._variance)[:, None, None] * overall
        turns = _rotations(covariance)
        stretch = (turns * covariance).sum((1, 2)) / (self._variance * (1 + 3 * _STIFFNESS))
        return (turns * stretch[:, None, None]).astype(np.float32)

    def _exponents(self, points: np.ndarray) -> np.ndarray:
        """Return the exponents of the Gaussians around the nodes at points [p,3]: [p,n]."""
        # |p - q|^2 by a product, which is fast: the first head of a process waits for this
        squared = (points**2).sum(1)[:, None] + (self.nodes**2).sum(1) - 2 * points @ self.nodes.T
        return squared / (-2 * self.sigma**2)


@dataclass(frozen=True, eq=False)
class _Piece:
    """How one shape moves one rigid part: a rotation about its centre, a shift, and a remainder."""

    entries: np.ndarray  # [e] rows of the rig's shape_delta
    vertices: np.ndarray  # [e] vertex ids
    members: np.ndarray  # vertex ids of the whole part
    share: np.ndarray  # [n] float32 weights of the nodes at the part's centre
    turn: np.ndarray  # [3,3]
    shift: np.ndarray  # [3]
    rest: np.ndarray  # [e,3]

    def moved(self, head: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Return the offsets [e,3] of the entries on a head."""
        frame = np.einsum("n,nij->ij", self.share, frames).astype(np.float64)
        axes = _rotations(frame[None])[0]
        turn = axes @ self.turn @ axes.T
        arms = head[self.vertices] - head[self.members].mean(0)
        return arms @ (turn - np.eye(3)).T + (self.shift + self.rest) @ frame.T


@dataclass(frozen=True, eq=False)
class _Meeting:
    """The contacts of one shape, and how their corrections are spread over the vertices that it moves."""

    entries: slice  # of the rig's shape_delta
    pairs: np.ndarray  # [c,2] vertex ids
    places: np.ndarray  # [c,2] places of the vertices in the entries; -1 where the shape does not move one
    gaps: np.ndarray  # [c,3] from the second vertex to the first, on the template with the shape set
    shares: np.ndarray  # [c,2] each vertex's part of a correction, in proportion to its own motion
    spread: np.ndarray  # [e,2c] float32

    def missing(self, head: np.ndarray, frames: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """Return the correction [e,3] of the offsets `delta` [e,3]. frames: [V,3,3]."""
        ends = head[self.pairs] + np.concatenate([delta, np.zeros((1, 3))])[self.places]
        wanted = np.einsum("cij,cj->ci", frames[self.pairs].mean(1), self.gaps)
        lacking = wanted - (ends[:, 0] - ends[:, 1])
        targets = self.shares[:, :, None] * np.stack([lacking, -lacking], 1)
        return product(self.spread, targets.reshape(-1, 3))


@dataclass(frozen=True, eq=False)
class _Prepared:
    """The parts of a fit that are the same for every head."""

    warp: _Warp
    pieces: list[_Piece]
    meetings: list[_Meeting]


@lru_cache(maxsize=4)
def _prepared(rig: Rig) -> _Prepared:
    assert rig.binding is not None
    template = rig.binding.template.astype(np.float64)
    radius = sphere_frame(template)[1]
    template -= template.mean(0)
    warp = _Warp(template, rig.binding.parts == 0, _NEIGHBOURHOOD * radius)
    pieces, meetings = [], []
    contacts = rig.binding.contact_offsets
    for shape in range(len(rig.shape_names)):
        part = slice(*rig.shape_offsets[shape : shape + 2])
        pieces += _pieces(rig, template, warp, part)
        pairs = rig.binding.contact_pairs[slice(*contacts[shape : shape + 2])]
        if len(pairs):
            meetings.append(_meeting(rig, template, part, pairs, _MEETING * radius))
    return _Prepared(warp, pieces, meetings)


def _pieces(rig: Rig, template: np.ndarray, warp: _Warp, shape: slice) -> list[_Piece]:
    """Return the pieces of one shape. shape: its entries in the rig's shape_delta."""
    assert rig.binding is not None
    labels = rig.binding.parts[rig.shape_index[shape]]
    pieces = []
    for label in sorted({*labels[labels > 0].tolist()}):  # np.unique would load numpy.ma
        entries = np.flatnonzero(labels == label) + shape.start
        vertices, delta = rig.shape_index[entries], rig.shape_delta[entries].astype(np.float64)
        members = np.flatnonzero(rig.binding.parts == label)
        middle = template[members].mean(0)
        arms, shift = template[vertices] - middle, delta.mean(0)
        own = arms - arms.mean(0)
        turn = _rotations(product((own + delta - shift).T, own)[None])[0] if len(entries) > 3 else np.eye(3)
        turned = arms @ (turn - np.eye(3)).T
        shift = (delta - turned).mean(0)
        rest = delta - turned - shift
        if np.linalg.norm(rest) < _RIGID * np.linalg.norm(delta):
            rest = np.zeros_like(rest)
        share = warp.blend_at(middle[None])[0]
        pieces.append(_Piece(entries, vertices, members, share, turn, shift, rest))
    return pieces


def _meeting(rig: Rig, template: np.ndarray, shape: slice, pairs: np.ndarray, sigma: float) -> _Meeting:
    vertices, delta = rig.shape_index[shape], rig.shape_delta[shape].astype(np.float64)
    found = np.clip(np.searchsorted(vertices, pairs), 0, max(len(vertices) - 1, 0))
    places = np.where(vertices[found] == pairs, found, -1)
    moved = np.concatenate([delta, np.zeros((1, 3))])
    ends = template[pairs] + moved[places]
    lengths = np.linalg.norm(moved, axis=1)
    ways = lengths[places]
    shares = ways / np.maximum(ways.sum(1, keepdims=True), 1e-12)
    # a correction fades where the shape itself does, and far from every contact
    nodes, amount = template[pairs.ravel()], lengths / max(float(lengths.max()), 1e-12)

    def kernel(points: np.ndarray, amounts: np.ndarray) -> np.ndarray:
        squared = ((points[:, None] - nodes[None]) ** 2).sum(2)
        return amounts[:, None] * np.exp(-squared / (2 * sigma**2))

    # ridge regression: kernel coefficients whose field has the wanted values at the ends
    at_ends, at_all = kernel(nodes, amount[places.ravel()]), kernel(template[vertices], amount[:-1])
    inverse = _inverse(product(at_ends.T, at_ends) + _RIDGE * np.eye(len(nodes)))
    spread = product(at_all, product(inverse, at_ends.T))
    return _Meeting(shape, pairs, places, ends[:, 0] - ends[:, 1], shares, spread.astype(np.float32))


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse of a symmetric positive definite matrix [n,n], by Gauss-Jordan elimination.

    Unlike LAPACK, this rounds alike whatever the number of threads; it needs no pivots for such a matrix.
    """
    matrix = matrix.copy()
    for k in range(len(matrix)):
        pivot, row, column = matrix[k, k], matrix[k].copy(), matrix[:, k].copy()
        matrix -= column[:, None] * (row / pivot)
        matrix[k], matrix[:, k] = row / pivot, -column / pivot
        matrix[k, k] = 1 / pivot
    return matrix


def _spread(points: np.ndarray, ids: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of the vertices `ids`, chosen by farthest-point sampling."""
    chosen = [int(ids[0])]
    away = np.linalg.norm(points[ids] - points[chosen[0]], axis=1)
    while len(chosen) < min(count, len(ids)) and away.max() > 0:
        chosen.append(int(ids[away.argmax()]))
        away = np.minimum(away, np.linalg.norm(points[ids] - points[chosen[-1]], axis=1))
    return np.array(chosen)


def _size(points: np.ndarray) -> float:
    """Return the root mean square distance of points [n,3] from their mean."""
    return float(np.sqrt(points.var(0).sum()))


def _rotations(matrices: np.ndarray) -> np.ndarray:
    """Return the rotations nearest to matrices [n,3,3] (Kabsch)."""
    left, _, right = np.linalg.svd(matrices)
    left[:, :, 2] *= np.sign(np.linalg.det(left @ right))[:, None]
    return left @ right
