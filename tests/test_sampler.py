from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from topos_rt.errors import OptionError
from topos_rt.sampler import (
    PRESETS,
    SamplerSettings,
    check_seed,
    clean_estimate,
    guided,
    noise,
    resolve,
    sample,
    time_grid,
)
from topos_rt.solvers import Array, Step

OFFICIAL = Path(__file__).parent / "data" / "official"
SIGMA_MIN = 1e-5


@given(steps=st.integers(1, 200), shift=st.floats(1e-3, 1e3))
def test_grid(steps: int, shift: float) -> None:
    times = time_grid(steps, shift)
    assert len(times) == steps + 1 and times[0] == 1.0 and times[-1] == 0.0
    assert all(type(t) is float for t in times)
    assert (np.diff(np.float32(times)) < 0).all()
    for k, t in enumerate(times):
        equal = 1 - k / steps
        assert t == pytest.approx(shift * equal / (1 + (shift - 1) * equal), rel=1e-12, abs=1e-15)


def test_no_shift_means_equal_steps() -> None:
    assert time_grid(4) == (1.0, 0.75, 0.5, 0.25, 0.0)


@pytest.mark.parametrize("suffix", ["", "_strong"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_released_samplers_recorded_run(suffix: str, shift: float) -> None:
    """Grid, steps and clean estimates against the release, with the velocities its records imply."""
    record = load_file(OFFICIAL / f"sampler_io{suffix}.safetensors")
    name = f"rescale{shift:g}"
    times = time_grid(7, shift)
    assert np.array_equal(np.float32(times), record[f"{name}.t_seq"])
    clean = {t: np.float64(record[f"{name}.pred_x_0.{i}"]) for i, t in enumerate(times[:-1])}

    def velocity(x: Array, t: float) -> Array:
        v = ((1 - SIGMA_MIN) * np.float64(x) - clean[t]) / (SIGMA_MIN + (1 - SIGMA_MIN) * t)
        return v.astype(np.float32)

    settings = SamplerSettings(steps=7, guidance=3.0, shift=shift)
    for step in sample(velocity, record["noise"], settings):
        assert_close(step.x_next, record[f"{name}.pred_x_t.{step.index}"])
        assert_close(clean_estimate(step, SIGMA_MIN), record[f"{name}.pred_x_0.{step.index}"])
    assert_close(step.x_next, record[f"{name}.samples"])


def assert_close(got: np.ndarray, want: np.ndarray) -> None:
    assert got.dtype == np.float32
    assert np.linalg.norm(np.float64(got) - want) <= 3e-6 * np.linalg.norm(np.float64(want))


@given(t=st.floats(0.01, 1), sigma_min=st.floats(0, 0.1))
def test_the_clean_estimate_undoes_the_flows_path(t: float, sigma_min: float) -> None:
    x0, e = np.random.default_rng(1).standard_normal((2, 1, 4, 3))
    x_t = (1 - t) * x0 + (sigma_min + (1 - sigma_min) * t) * e
    v = (1 - sigma_min) * e - x0
    assert np.allclose(clean_estimate(Step(0, t, 0.0, x_t, v, x_t), sigma_min), x0, rtol=0, atol=1e-12)


def test_noise_is_that_of_every_machine() -> None:
    expected = np.float32(GOLDEN)
    assert np.array_equal(noise(0, (1, 2, 4)).ravel(), expected)
    assert noise(0, (1, 2, 4)).dtype == np.float32


def test_noise_is_standard_normal_and_differs_by_seed() -> None:
    one, other = noise(1, (1, 1513, 32)), noise(2, (1, 1513, 32))
    assert abs(float(one.mean())) < 0.02 and abs(float(one.std()) - 1) < 0.02
    assert abs(float((one * other).mean())) < 0.02
    assert np.array_equal(one, noise(1, (1, 1513, 32)))


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1, np.uint64(2**64 - 1), np.int32(5)])
def test_good_seeds(seed: Any) -> None:
    assert check_seed(seed) == int(seed) and type(check_seed(seed)) is int
    assert np.isfinite(noise(seed, (1, 2, 2))).all()


@pytest.mark.parametrize(
    "seed", [-1, 2**64, 10**400, 1.0, "1", None, True, np.bool_(True), np.float32(1), [1]]
)
def test_bad_seeds(seed: Any) -> None:
    with pytest.raises(OptionError, match=r"seed: got .*; expected a whole number from 0 to 2\*\*64 - 1"):
        noise(seed, (1, 2, 2))


def test_guidance() -> None:
    velocity = guided(lambda x, t: x * t, lambda x, t: x + t, 3.0)
    x = np.float32([[1, -2, 3]])
    assert np.allclose(velocity(x, 0.5), 4 * (x * 0.5) - 3 * (x + 0.5))
    assert velocity(x, 0.5).dtype == np.float32


def test_without_guidance_the_unconditional_velocity_is_not_evaluated() -> None:
    def never(x: Array, t: float) -> Array:
        raise AssertionError

    def conditional(x: Array, t: float) -> Array:
        return x

    assert guided(conditional, never, 0.0) is conditional
    assert guided(conditional, never, 0) is conditional


def test_presets() -> None:
    assert list(PRESETS) == ["reference", "balanced", "fast"]
    assert PRESETS["reference"] == SamplerSettings(steps=50, solver="euler", guidance=None, shift=1.0)
    assert PRESETS["reference"].steps > PRESETS["balanced"].steps > PRESETS["fast"].steps


def test_resolve_puts_values_in_place_of_the_presets() -> None:
    assert resolve("fast") == PRESETS["fast"]
    assert resolve("reference", steps=7, guidance=0, shift=3) == SamplerSettings(7, "euler", 0.0, 3.0)
    taken = resolve("fast", steps=np.int64(9), guidance=np.float32(0.5))  # type: ignore[arg-type]
    assert (type(taken.steps), type(taken.guidance), type(taken.shift)) == (int, float, float)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"preset": "balance"}, "unknown preset: got 'balance'; expected one of: .* did you mean 'balanced'"),
        ({"preset": None}, "unknown preset"),
        ({"solver": "eular"}, "unknown solver: got 'eular'; .*did you mean 'euler'"),
        ({"steps": 0}, "steps: got 0; expected a whole number from 1 to 1000"),
        ({"steps": -1}, "steps: got -1"),
        ({"steps": 10_001}, "steps: got 10001"),
        ({"steps": 2.5}, "steps: got 2.5"),
        ({"steps": True}, "steps: got True"),
        ({"steps": "5"}, "steps: got '5'"),
        ({"guidance": -0.1}, "guidance: got -0.1; expected a number from 0 to 1000"),
        ({"guidance": float("nan")}, "guidance: got nan"),
        ({"guidance": float("inf")}, "guidance: got inf"),
        ({"guidance": 10**400}, "guidance: got 1000"),
        ({"guidance": "3"}, "guidance: got '3'"),
        ({"guidance": True}, "guidance: got True"),
        ({"shift": 0}, "shift: got 0; expected a number from 0.001 to 1000"),
        ({"shift": -2.0}, "shift"),
        ({"shift": float("nan")}, "shift"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        resolve(**{"preset": "balanced", **options})


# The start of the stream of Philox seeded with 0, as NumPy has drawn it since 1.17.
GOLDEN = [-0.24822916, -0.026767015, -1.9444163, 0.524578, -0.14496511, 0.52039206, -1.0734491, -0.15108678]
