"""Keep pictures as shards: one `.npz` for the pictures of a hundred people, and a manifest beside them.

A shard holds no Python objects, and every array can be read without the code that made it:

    jpeg        [bytes] uint8, the JPEG files one after the other; `jpeg_ends` [n] int64, where each one ends
    heads       [m,V,3] int16, neutral heads in UNIT metres from `origins` [m,3] float32
    person      [n] int32, the picture's row in `heads`
    weights     [n,52] float16, facial actions in the order of the manifest's `actions`
    camera      [n,16] float32, see `training.pictures.camera.Camera.from_numbers`
    visible     [n,ceil(V/8)] uint8, a bit for each vertex of the head (numpy.packbits)
    looks       [n,6] int16, rows in the manifest's `names`: two skins, iris, brows, lashes, hair
    skin_share  [n] float16, the share of the second skin
    worn        [n] uint32, a bit for each of the manifest's `worn`
    age, female [n] float16 and bool
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from topos_rt.errors import OptionError
from topos_rt.support.files import write_atomic
from training.pictures.camera import Camera
from training.pictures.people import Person
from training.pictures.picture import Picture

FORMAT = 1
UNIT = 1e-5  # metres
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What all shards of a folder share."""

    format: int
    split: str
    seed: int
    size: int  # pixels along a side
    vertices: int
    people_per_shard: int
    pictures_per_person: int
    actions: tuple[str, ...]
    names: tuple[str, ...]  # assets, and "shaved", "bald" and "curls"
    worn: tuple[str, ...]
    anny: str  # the version of the package

    @property
    def pictures_per_shard(self) -> int:
        return self.people_per_shard * self.pictures_per_person

    def save(self, folder: Path) -> None:
        """Write the manifest, or raise OptionError where the folder has another one."""
        path = folder / MANIFEST
        text = json.dumps(asdict(self), indent=1) + "\n"
        if path.exists() and path.read_text("utf-8") != text:
            raise OptionError(
                f"--out {folder} holds shards of another run ({MANIFEST} differs); expected an empty folder, "
                "or the same split, seed, assets and version of anny; fix: name another folder"
            )
        write_atomic(path, text.encode(), parents=True)

    @classmethod
    def open(cls, folder: Path) -> Manifest:
        """Read the manifest of a folder."""
        try:
            found = json.loads((folder / MANIFEST).read_text("utf-8"))
        except FileNotFoundError:
            raise OptionError(
                f"{folder} has no {MANIFEST}; expected a folder that `python -m training.render` has written"
            ) from None
        if found.get("format") != FORMAT:
            raise OptionError(f"{folder / MANIFEST} has format {found.get('format')}; expected {FORMAT}")
        known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
        return cls(**known)


class Shard(NamedTuple):
    """The arrays of one shard, as the module describes them."""

    jpeg: np.ndarray
    jpeg_ends: np.ndarray
    heads: np.ndarray
    origins: np.ndarray
    person: np.ndarray
    weights: np.ndarray
    camera: np.ndarray
    visible: np.ndarray
    looks: np.ndarray
    skin_share: np.ndarray
    worn: np.ndarray
    age: np.ndarray
    female: np.ndarray

    def picture(self, i: int) -> bytes:
        """Return the i-th JPEG."""
        start = int(self.jpeg_ends[i - 1]) if i else 0
        return self.jpeg[start : int(self.jpeg_ends[i])].tobytes()

    def neutral_heads(self) -> np.ndarray:
        """Return the neutral heads [m,V,3] float32 in metres, on the axes that the cameras know."""
        return (self.heads * np.float32(UNIT) + self.origins[:, None]).astype(np.float32)

    def seen(self) -> np.ndarray:
        """Return which vertices of the head are seen, [n,V] bool."""
        return np.unpackbits(self.visible, axis=1, count=self.heads.shape[1]).astype(bool)

    def camera_of(self, i: int) -> Camera:
        """Return the camera of the i-th picture."""
        return Camera.from_numbers(self.camera[i])


def path_of(folder: Path, number: int) -> Path:
    """Return where shard `number` is kept."""
    return folder / f"shard_{number:05d}.npz"


def load(path: Path) -> Shard:
    """Read a shard."""
    with np.load(path, allow_pickle=False) as arrays:
        return Shard(**{name: arrays[name] for name in Shard._fields})


def pack(
    manifest: Manifest, heads: np.ndarray, people: list[Person], pictures: list[tuple[int, Picture]]
) -> Shard:
    """Make a shard of the neutral heads [m,V,3] (metres) of people, and pictures with their person's row."""
    place = {name: i for i, name in enumerate(manifest.names)}
    origins = ((heads.min(1) + heads.max(1)) / 2).astype(np.float32)
    offsets = np.round((heads - origins[:, None]) / UNIT)
    assert np.abs(offsets).max() < 2**15, "a head is smaller than 0.6 m"
    of = [people[row] for row, _ in pictures]
    taken = [picture for _, picture in pictures]
    files = [np.frombuffer(p.jpeg, np.uint8) for p in taken]
    looks = [[*q.skins, q.iris, q.brows, q.lashes, p.hair] for q, p in zip(of, taken, strict=True)]
    return Shard(
        np.concatenate(files),
        np.cumsum([len(f) for f in files], dtype=np.int64),
        offsets.astype(np.int16),
        origins,
        np.array([row for row, _ in pictures], np.int32),
        np.array([p.weights for p in taken], np.float16),
        np.array([p.camera.numbers() for p in taken], np.float32),
        np.packbits([p.visible for p in taken], axis=1),
        np.array([[place[name] for name in row] for row in looks], np.int16),
        np.array([q.skin_share for q in of], np.float16),
        np.array([sum(1 << manifest.worn.index(w) for w in p.worn) for p in taken], np.uint32),
        np.array([q.age for q in of], np.float16),
        np.array([q.female for q in of], bool),
    )


def save(path: Path, shard: Shard) -> None:
    """Write a shard beside its place, then rename it: a shard that is there is whole."""
    buffer = io.BytesIO()
    np.savez(buffer, **shard._asdict())
    write_atomic(path, buffer.getvalue(), parents=True)
