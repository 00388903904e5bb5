"""The face stage on training pictures: what is kept of each, and what comes back from the files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.evidence import NAMES
from models.face_trunk import FEATURES, FaceTrunk
from topos_rt.faces.evidence import evidence
from topos_rt.faces.finder import FaceFinder
from topos_rt.faces.portrait import FaceChoice, portraits
from topos_rt.model.evidence import EVIDENCE
from training import evidence as stage
from training.pictures import shards
from training.pictures.camera import Camera
from training.surface_points import SurfacePoints

CAMERA = Camera(np.eye(3), np.zeros(3), 1.0, 300.0, np.array([128.0, 128.0]))
PORTRAIT = Path(__file__).parents[2] / "examples" / "hopper.jpg"


def jpeg(picture: Image.Image) -> np.ndarray:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=95)
    return np.frombuffer(buffer.getvalue(), np.uint8)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.open(PORTRAIT).convert("RGB").resize((256, 256))


@pytest.fixture(scope="module")
def folder(picture: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One shard: a wall, and a person twice; three people, of whom the first is the wall's."""
    files = [jpeg(Image.new("RGB", (256, 256), (90, 120, 80))), jpeg(picture), jpeg(picture)]
    heads = np.arange(3 * 4 * 3).reshape(3, 4, 3).astype(np.int16)
    n = len(files)
    shard = shards.Shard(
        jpeg=np.concatenate(files),
        jpeg_ends=np.cumsum([len(f) for f in files]),
        heads=heads,
        origins=np.zeros((3, 3), np.float32),
        person=np.array([0, 2, 2], np.int32),
        weights=np.zeros((n, 52), np.float16),
        camera=np.stack([CAMERA.numbers()] * n),
        visible=np.zeros((n, 1), np.uint8),
        looks=np.zeros((n, 6), np.int16),
        skin_share=np.zeros(n, np.float16),
        worn=np.zeros(n, np.uint32),
        age=np.zeros(n, np.float16),
        female=np.zeros(n, bool),
    )
    out = tmp_path_factory.mktemp("pictures")
    for number in range(2):
        shards.save(shards.path_of(out, number), shard)
    return out


@pytest.fixture(scope="module")
def seen(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evidence")
    everything = SurfacePoints(np.arange(4), np.zeros((52, 4, 3), np.float32))
    stage._start(everything)
    for path in sorted(folder.glob("shard_*.npz")):
        stage._see((path, out / path.name))
    return out


def test_pictures_without_a_face_have_no_row(seen: Path) -> None:
    with np.load(seen / "shard_00000.npz", allow_pickle=False) as arrays:
        assert arrays["picture"].tolist() == [1, 2] and arrays["person"].tolist() == [2, 2]
        assert arrays["crop"].shape == (2, 128, 128, 3) and arrays["places"].shape == (2, 4, 3)
        for name in NAMES:
            assert arrays[name].shape == (2, *EVIDENCE[name][1:]), name
            assert arrays[name].dtype == (np.uint8 if name == "aligned" else np.float32), name


def test_it_is_what_a_pipeline_gives_its_model(seen: Path, folder: Path) -> None:
    picture = Image.open(io.BytesIO(shards.load(folder / "shard_00000.npz").picture(1))).convert("RGB")
    with FaceFinder.open(threads=1) as finder:
        (portrait,) = portraits(picture, "", finder, FaceChoice())
        wanted = evidence(NAMES, portrait.picture, portrait.face, finder)
    with np.load(seen / "shard_00000.npz", allow_pickle=False) as arrays:
        for name, values in wanted.items():
            made = arrays[name][0] / (255 if name == "aligned" else 1)
            assert made == pytest.approx(values[0], abs=1e-5), name
        assert np.array_equal(arrays["crop"][0], np.asarray(portrait.shown(128)))


def test_people_of_several_shards_keep_their_heads(seen: Path, folder: Path) -> None:
    opened = stage.Evidence.open(folder, seen)
    assert opened.person.tolist() == [2, 2, 5, 5] and len(opened.heads) == 6 and opened.missed == 2
    assert np.array_equal(opened.heads[5], opened.heads[2])
    found = stage.seen_by(FaceTrunk(), opened)
    assert found.features.shape == (4, *FEATURES) and found.features.dtype == torch.float16
    assert stage.rows_of(found, torch.tensor([1])).features.dtype == torch.float32
