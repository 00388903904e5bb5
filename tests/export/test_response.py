"""`python -m export response` on `mini`, and a pull on a random bundle of the official shape."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import random
from export.__main__ import main
from models import landmark_response as measured
from tests.export.test_random import PORTRAIT, SMALL
from tests.landmark_maps import landmark_map
from tests.landmark_worlds import SIZE, camera, face_of
from topos_rt import HeadPipeline
from topos_rt.errors import InputError
from topos_rt.faces.face import Face
from topos_rt.head.landmark_map import COUNT, LandmarkMap
from topos_rt.head.topology import Topology
from topos_rt.model.bundle import Bundle, write_manifest

SPREAD = 0.02  # of each number of a latent


@pytest.fixture(scope="module")
def official_shaped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random bundle with the release's networks in small, guidance, and some landmark map."""
    out = tmp_path_factory.mktemp("random") / "bundle"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(random.PRESETS, "official", lambda: SMALL)
        assert main(["random", "--preset", "official", "--seed", "4", "--out", str(out)]) == 0
    bundle = Bundle.open(out)
    landmark_map(bundle.topology).save(out / "landmarks.safetensors")
    write_manifest(out, dataclasses.replace(bundle.manifest, landmarks="landmarks.safetensors"))
    return out


def wide_map(head: np.ndarray, topology: Topology) -> LandmarkMap:
    """Return a map of triangles in front, with the outer corners of the eyes far apart, as on a face."""
    middles = head[topology.triangles].mean(1)
    front = np.argsort(-middles[:, 2])[:COUNT]
    across = np.argsort(middles[front, 0])
    order = np.delete(np.arange(COUNT), [33, 263])
    chosen = np.empty(COUNT, np.int64)
    chosen[33], chosen[263], chosen[order] = front[across[0]], front[across[-1]], front[across[1:-1]]
    return dataclasses.replace(landmark_map(topology), vertices=topology.triangles[chosen])


def test_a_model_of_the_official_shape_is_pulled(official_shaped: Path) -> None:
    """Random networks make no face, so the landmarks are those of a head that is near the one they make.

    It is made in one step, for the estimates of a random flow have nothing to do with each other.
    """
    options: dict[str, Any] = {"crop": "none", "face_check": False, "steps": 1, "texture": "none"}
    picture, draw = np.resize(PORTRAIT, (SIZE[1], SIZE[0], 3)), np.random.default_rng(0)
    bundle = Bundle.open(official_shaped)
    latents: list[np.ndarray] = []
    with HeadPipeline.open(bundle, "onnxruntime", threads=1) as pipe, pytest.MonkeyPatch.context() as patch:
        plain = pipe._networks.decode
        patch.setattr(pipe._networks, "decode", lambda latent: latents.append(latent) or plain(latent))
        head = pipe(picture, **options)
        assert head.metadata["guidance"] > 0
    wide_map(head.positions, bundle.topology).save(official_shaped / "landmarks.safetensors")
    write_manifest(official_shaped, bundle.manifest)
    bundle = Bundle.open(official_shaped)
    places, base = measured.landmark_map(bundle), latents[-1].ravel().astype(np.float64)
    with HeadPipeline.open(bundle, "onnxruntime", threads=1) as pipe:
        errors = SPREAD * draw.standard_normal((40, len(base)))

        def seen(error: np.ndarray, noise: float) -> tuple[np.ndarray, Face]:
            other = measured.positions(bundle, pipe._networks, base + error)
            return other, face_of(places.points(other), camera(8), draw.normal(0, noise, (468, 2)))

        found = [measured.residuals(bundle, *seen(error, 0.5), SIZE) for error in errors]
        response = measured.respond(bundle, pipe._networks, base, errors, [row for row in found if row])
        assert len(response.directions) == 20 and response.errors.yaws.tolist() == [90]
        assert "20 directions; landmarks err in " in measured.add_to(bundle, response)
        _, face = seen(SPREAD * 6 * draw.standard_normal(20) @ response.directions, 0.0)
    with HeadPipeline.open(official_shaped, "onnxruntime", threads=1) as pipe:
        off, on = (pipe(picture, face=face, landmark_pull=weight, **options) for weight in (0, 1))
        assert np.array_equal(off.positions, head.positions)
        assert on.metadata["pose"]["residual_percent"] < 0.8 * off.metadata["pose"]["residual_percent"]


def test_moves_are_the_slopes_of_the_decoder(official_shaped: Path) -> None:
    bundle = Bundle.open(official_shaped)
    places, latent = measured.landmark_map(bundle), bundle.manifest.latent
    size = latent.tokens * latent.channels
    draw = np.random.default_rng(1)
    base, direction = 0.2 * draw.standard_normal(size), draw.standard_normal((1, size)) / np.sqrt(size)
    with HeadPipeline.open(bundle, "onnxruntime", threads=1) as pipe:
        found = measured.moves(bundle, pipe._networks, base, direction, np.array([0.5]))[0]
        before, rest, after = (
            places.points(
                measured.positions(bundle, pipe._networks, base + step * direction[0]).astype(np.float64)
            )
            for step in (-0.5, 0, 0.5)
        )
    slope = after - before
    # What is left out of the slope is a similarity: shifts, turns and a change of size of the points.
    around = rest - rest.mean(0)
    free = [np.tile(axis, (468, 1)) for axis in np.eye(3)]
    free += [np.cross(axis, around) for axis in np.eye(3)] + [around]
    basis = np.stack([part.ravel() for part in free], 1)
    out = (slope - found).ravel()
    left = out - basis @ np.linalg.lstsq(basis, out, rcond=None)[0]
    assert np.abs(left).max() < 1e-6 * np.abs(slope).max()
    assert np.abs(basis.T @ found.ravel()).max() < 1e-6 * np.abs(basis.T @ slope.ravel()).max()


def test_principal_directions_are_those_of_the_errors() -> None:
    draw = np.random.default_rng(2)
    truth = np.linalg.qr(draw.standard_normal((30, 3)))[0].T
    errors = (draw.standard_normal((400, 3)) * [5, 3, 1]) @ truth
    directions, spreads = measured.principal(errors, 8)
    assert len(directions) == 3  # the rest is zero
    assert np.abs(directions @ truth.T) == pytest.approx(np.eye(3), abs=0.15)
    assert spreads == pytest.approx([5, 3, 1], rel=0.1)
    assert len(measured.principal(errors[:4], 8)[0]) == 2  # half as many as errors


@pytest.mark.slow
def test_the_command_gives_mini_a_response(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mini"
    shutil.copytree(Bundle.open("mini", verify=False).path, path)
    assert main(["response", str(path), "--heads", "32"]) == 0
    assert f"{path / measured.FILE}: 16 directions" in capsys.readouterr().out
    bundle = Bundle.open(path)
    response, rest = bundle.landmark_response, bundle.landmarks
    assert response is not None and rest is not None
    sizes = np.sqrt((response.moves**2).sum(2).mean(1)) * response.spreads
    assert 1e-4 < sizes.max() < 2e-2  # metres that the landmarks move for a spread
    assert response.errors.noise.min() >= 0.003 and response.errors.noise.max() < 0.2


def test_bundles_without_a_map_and_too_few_heads_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mini"
    shutil.copytree(Bundle.open("mini", verify=False).path, path)
    assert main(["response", str(path), "--heads", "31"]) == 2
    assert "--heads: got 31; expected 32 or more" in capsys.readouterr().err
    write_manifest(path, dataclasses.replace(Bundle.open(path).manifest, landmarks=None))
    before = {file.name: file.stat().st_size for file in path.iterdir()}
    assert main(["response", str(path)]) == 2
    assert f"the bundle {path}: got no landmark map; expected one; fix: python -m export landmarks" in (
        capsys.readouterr().err
    )
    assert {file.name: file.stat().st_size for file in path.iterdir()} == before
    with pytest.raises(InputError, match="residuals of landmarks: got 0; expected 24 or more"):
        bundle = Bundle.open("mini", verify=False)
        with HeadPipeline.open(bundle, "onnxruntime", threads=1) as pipe:
            zero = np.zeros(bundle.manifest.latent.tokens * bundle.manifest.latent.channels)
            measured.respond(bundle, pipe._networks, zero, np.eye(4, len(zero)), [])
