"""Read MakeHuman's assets: skins, and hair, brows, lashes and eyes that are bound to its base mesh.

The format of `.mhclo` is that of MakeHuman's `shared/proxy.py`: a vertex of the asset is a weighted mean of
three vertices of the base mesh, plus an offset whose axes scale with three distances on the base mesh.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from topos_rt.errors import OptionError
from training.pictures import textures

# What is kept out of training: the split `train` has nothing of these, and `held_out` nothing else.
HELD_OUT = {
    "skins": ("middleage_asian_female", "young_african_male"),
    "hair": ("braid01", "short02"),
    "eyebrows": ("eyebrow002", "eyebrow009", "eyebrow012"),
    "eyelashes": ("eyelashes03",),
    "eyes": ("green_eye", "lightblue_eye"),
}
SPLITS = ("train", "held_out")
_SIDES = {"skins": 2048, "hair": 1024, "eyebrows": 512, "eyelashes": 512, "eyes": 512}
_EYE_MESH = "high-poly"
_AXES = "xyz"


@dataclass(frozen=True)
class Garment:
    """A mesh bound to MakeHuman's base mesh."""

    name: str
    anchors: np.ndarray  # [n,3] int32, vertices of the base mesh
    weights: np.ndarray  # [n,3] float32
    offsets: np.ndarray  # [n,3] float32, in decimetres over the scale's reference
    scale_pairs: np.ndarray  # [3,2] int32, the two base vertices that measure x, y and z
    scale_lengths: np.ndarray  # [3] float32, their distance on the mesh for which the offsets are given
    triangles: np.ndarray  # [t,3] int32
    uvs: np.ndarray  # [t,3,2] float32
    texture: int  # the row in the textures, -1 for none of its own
    soft: np.ndarray  # [t] bool, whether the texture is less than opaque somewhere on a triangle

    def fitted(self, base: np.ndarray) -> np.ndarray:
        """Return the vertices [n,3] on a base mesh [B,3] (any unit), as MakeHuman fits clothes."""
        ends = base[self.scale_pairs]
        axis = np.arange(3)
        scale = np.abs(ends[axis, 0, axis] - ends[axis, 1, axis]) / self.scale_lengths
        placed = np.einsum("nkc,nk->nc", base[self.anchors], self.weights)
        return (placed + self.offsets * scale).astype(np.float32)


@dataclass(frozen=True)
class Library:
    """The assets of one split, and their textures."""

    skins: dict[str, int]  # the row in the textures
    irises: dict[str, int]
    hair: dict[str, Garment]
    eyebrows: dict[str, Garment]
    eyelashes: dict[str, Garment]
    eyes: Garment
    textures: textures.Textures
    means: (
        np.ndarray
    )  # [textures,3] float32, the mean logarithm of linear light: of the face, or of what is opaque

    @classmethod
    def load(cls, folder: Path, split: str) -> Library:
        """Read the assets of `split` from a folder with skins/, hair/, eyebrows/, eyelashes/ and eyes/.

        Raises OptionError where the folder lacks one of these.
        """
        images: list[np.ndarray] = []

        def add(path: Path | None, kind: str, name: str = "") -> int:
            images.append(_image(path, kind) if path else generated(name))
            return len(images) - 1

        def garments(kind: str) -> dict[str, Garment]:
            found = {}
            for name in names(folder, kind, split):
                garment = read_garment(folder / kind / name / f"{name}.mhclo")
                row = add(_picture(folder, kind, name), kind, name)
                found[name] = replace(garment, texture=row, soft=_soft(garment.uvs, images[row]))
            return found

        return cls(
            skins={n: add(folder / "skins" / f"{n}.png", "skins") for n in names(folder, "skins", split)},
            irises={n: add(folder / "eyes" / f"{n}.png", "eyes") for n in names(folder, "eyes", split)},
            hair=garments("hair"),
            eyebrows=garments("eyebrows"),
            eyelashes=garments("eyelashes"),
            eyes=_opaque(read_garment(folder / "eyes" / f"{_EYE_MESH}.mhclo")),
            textures=textures.pack(images),
            means=np.stack([_mean(image) for image in images]),
        )


def names(folder: Path, kind: str, split: str) -> list[str]:
    """Return the sorted names of the assets of a kind that belong to the split."""
    held = HELD_OUT[kind]
    if kind in ("skins", "eyes"):
        found = sorted(p.stem for p in (folder / kind).glob("*.png"))
    else:
        found = sorted(p.stem for p in (folder / kind).glob("*/*.mhclo"))
    chosen = [name for name in found if (name in held) == (split == "held_out")]
    if not chosen:
        raise OptionError(
            f"--makehuman {folder}: {kind}/ has nothing for the split {split}; "
            "expected the folder with MakeHuman's skins/, hair/, eyebrows/, eyelashes/ and eyes/"
        )
    return chosen


def read_garment(path: Path) -> Garment:
    """Read a `.mhclo` and the `.obj` of the same name beside it; it has no texture yet."""
    pairs, lengths, rows = np.zeros((3, 2), np.int32), np.ones(3), []
    bound = False
    for line in path.read_text("utf-8").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0].endswith("_scale"):
            axis = _AXES.index(words[0][0])
            pairs[axis], lengths[axis] = (int(words[1]), int(words[2])), float(words[3])
        elif words[0] == "verts":
            bound = True
        elif bound and words[0].isdigit():
            rows.append(
                [float(w) for w in words] if len(words) >= 9 else [float(words[0])] * 3 + [1] + [0] * 5
            )
    table = np.array(rows)
    corners, uvs, count = _read_obj(path.with_suffix(".obj"))
    if len(table) != count:
        raise OptionError(f"{path} binds {len(table)} vertices, but its .obj has {count}; fetch both again")
    return Garment(
        path.stem,
        table[:, :3].astype(np.int32),
        table[:, 3:6].astype(np.float32),
        table[:, 6:9].astype(np.float32),
        pairs,
        lengths.astype(np.float32),
        corners,
        uvs,
        -1,
        np.zeros(len(corners), bool),
    )


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Return triangles [t,3], their texture coordinates [t,3,2] and the number of vertices."""
    count, places, corners = 0, [(0.0, 0.0)], []
    for line in path.read_text("utf-8").splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            count += 1
        elif words[0] == "vt":
            places.append((float(words[1]), float(words[2])))
        elif words[0] == "f":
            ring = [[int(n or 0) for n in (w + "/0").split("/")[:2]] for w in words[1:]]
            corners += [(ring[0], ring[i], ring[i + 1]) for i in range(1, len(ring) - 1)]
    table = np.array(corners)
    return (table[..., 0] - 1).astype(np.int32), np.array(places, np.float32)[table[..., 1]], count


def _picture(folder: Path, kind: str, name: str) -> Path | None:
    found = sorted((folder / kind / name).glob("*.png"))
    return found[0] if found else None


def _image(path: Path, kind: str) -> np.ndarray:
    rgba = textures.read(path, _SIDES[kind])
    if kind == "skins":
        # a skin has no alpha; what is outside its charts is black
        rgba = textures.spread(rgba, rgba[..., :3].max(-1) > 24, reach=40)
    return rgba


def _mean(image: np.ndarray) -> np.ndarray:
    side = len(image)
    if side == _SIDES["skins"]:
        # cheeks, nose and forehead lie here in MakeHuman's atlas
        image = image[int(0.42 * side) : int(0.62 * side), int(0.82 * side) : int(0.95 * side)]
    texels = image.reshape(-1, 4)
    chosen = texels[texels[:, 3] > 150]
    return textures.LOG_LINEAR[(chosen if len(chosen) else texels)[:, :3]].mean(0)


def generated(name: str) -> np.ndarray:
    """Make a texture [h,w,4] uint8 for hair that comes without one: curls for afros, else strands along v."""
    side = _SIDES["hair"] // 2
    rng = np.random.default_rng(0)
    noise = rng.random((side, side))
    if name.startswith("afro"):
        soft = ndimage.gaussian_filter(noise, 2.2, mode="wrap")
        curl = (soft - soft.min()) / np.ptp(soft)
        alpha = np.clip((curl - 0.42) * 9 + 0.5, 0, 1)
    else:
        curl = ndimage.gaussian_filter(noise, (90, 1.3), mode="wrap")
        curl = (curl - curl.min()) / np.ptp(curl)
        alpha = np.ones_like(curl)
    shade = (40 + 110 * curl)[..., None].repeat(3, 2)
    return np.concatenate([shade, 255 * alpha[..., None]], 2).astype(np.uint8)


def _opaque(eyes: Garment) -> Garment:
    """Leave out the cornea, which is mapped to the transparent disc of the eye textures."""
    clear = np.hypot(eyes.uvs[..., 0] - 0.94, eyes.uvs[..., 1] - 0.06).max(1) < 0.08
    kept = eyes.triangles[~clear]
    return replace(eyes, triangles=kept, uvs=eyes.uvs[~clear], soft=np.zeros(len(kept), bool))


def _soft(uvs: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return which triangles have a texel of little alpha at one of 21 places."""
    steps = np.array([(i, j, 5 - i - j) for i in range(6) for j in range(6 - i)]) / 5
    places = np.einsum("sk,tkc->tsc", steps, uvs)
    side = len(image)
    column = (places[..., 0] * side).astype(int) % side
    row = ((1 - places[..., 1]) * side).astype(int) % side
    return image[row, column, 3].min(1) < 255 * 0.9
