"""The bundled model, end to end: what the README promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from topos_rt import Bundle, HeadMesh, HeadPipeline
from topos_rt.formats import EXPORTERS, ExportOptions
from training.digests import digests

ROOT = Path(__file__).parents[1]
PORTRAITS = sorted((ROOT / "examples").glob("*.jpg"))


@pytest.fixture(scope="module")
def pipe() -> Iterator[HeadPipeline]:
    with HeadPipeline.open("mini", threads=2) as pipe:
        yield pipe


@pytest.fixture(scope="module")
def heads(pipe: HeadPipeline) -> dict[tuple[str, int], HeadMesh]:
    return {(path.stem, seed): pipe(path, seed=seed) for path in PORTRAITS for seed in (0, 1)}


def apart_mm(a: HeadMesh, b: HeadMesh) -> float:
    return float(np.linalg.norm(a.positions - b.positions, axis=1).mean() * 1000)


def test_another_portrait_matters_more_than_another_seed(heads: dict[tuple[str, int], HeadMesh]) -> None:
    assert len(PORTRAITS) >= 2
    first, second = (path.stem for path in PORTRAITS[:2])
    portrait, seed = apart_mm(heads[first, 0], heads[second, 0]), apart_mm(heads[first, 0], heads[first, 1])
    assert portrait > seed > 0


@pytest.mark.parametrize("suffix", EXPORTERS)
def test_the_same_seed_gives_the_same_bytes(
    pipe: HeadPipeline, heads: dict[tuple[str, int], HeadMesh], suffix: str
) -> None:
    again = pipe(PORTRAITS[0], seed=0)
    first = heads[PORTRAITS[0].stem, 0]
    assert EXPORTERS[suffix](again, ExportOptions()) == EXPORTERS[suffix](first, ExportOptions())


def test_heads_are_head_sized_and_face_forward(heads: dict[tuple[str, int], HeadMesh]) -> None:
    for head in heads.values():
        low, high = head.bounds
        assert 0.2 < (high - low)[1] < 0.32 and 0.12 < (high - low)[0] < 0.24  # height and width in metres
        eyes = head.positions[head.topology.regions["eyes"]].mean(0)
        assert eyes[2] > 0.03 and abs(eyes[0]) < 0.02  # in front of the middle, between left and right


def test_stream_ends_at_the_head_of_a_call(pipe: HeadPipeline) -> None:
    *previews, last = pipe.stream(PORTRAITS[0], seed=0, steps=4)
    assert np.array_equal(last.positions, pipe(PORTRAITS[0], seed=0, steps=4).positions)
    errors = [apart_mm(preview, last) for preview in previews]
    assert errors[-1] < errors[0]


def test_a_head_survives_retopology(pipe: HeadPipeline, heads: dict[tuple[str, int], HeadMesh]) -> None:
    """A head laid over its own vertices comes out close to them: encoder, frames and decoder agree."""
    head = heads[PORTRAITS[0].stem, 0]
    back = pipe.retopologize(head.positions, head.normals)
    far = np.linalg.norm(head.positions - head.positions.mean(0), axis=1).mean() * 1000
    assert apart_mm(back, head) < far / 10


def test_the_rig_and_the_metadata_travel(heads: dict[tuple[str, int], HeadMesh]) -> None:
    head = heads[PORTRAITS[0].stem, 0]
    assert head.rig is not None and {"jawOpen", "eyeBlinkLeft"} < set(head.rig.shape_names)
    assert "synthetic" in head.metadata["weights"]


def test_the_decoder_by_name_makes_the_same_head(heads: dict[tuple[str, int], HeadMesh]) -> None:
    with HeadPipeline.open("mini", threads=2, decoder="numpy") as other:
        made = other(PORTRAITS[0], seed=0)
    assert apart_mm(made, heads[PORTRAITS[0].stem, 0]) < 1e-3


def test_the_quoted_numbers_were_measured_on_these_weights() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "mini_quality.json").read_text())
    bundle = Bundle.open("mini")
    assert results["model"]["sha256"] in digests(bundle)
    card = (bundle.path / "MODEL_CARD.md").read_text()
    for name in ("mean_head", "reference", "balanced", "fast"):
        assert f"| {results[name]['whole_mm']:.2f} | {results[name]['face_mm']:.2f} |" in card


def test_the_bundle_stays_small() -> None:
    """The limit of the repository and of the wheel: 33 MB for the model, without what it does not need.

    The landmark map and response, the atlas of its topology, with the base material, and the parts are apart:
    heads are made without them. So is the face stage, which is a bundle of its own.
    """
    manifest = Bundle.open("mini").manifest
    assert manifest.atlas is not None and manifest.landmarks is not None and manifest.parts is not None
    assert manifest.landmark_response is not None
    apart = {manifest.atlas, manifest.landmarks, manifest.landmark_response, manifest.parts}
    sizes = {name: info.bytes for name, info in manifest.files.items()}
    assert sum(size for name, size in sizes.items() if name not in apart) <= 33_000_000
    assert sum(sizes[name] for name in apart) <= 5_000_000
    assert sizes[manifest.parts] <= 150_000
