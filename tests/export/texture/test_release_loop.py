"""The released loop in PyTorch against what the release's own script made, with both versions of diffusers.

Each of its peculiarities is taken away once, which gives another map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests import needs

needs.module("diffusers")
from export.texture import release_loop, text_encoder
from export.texture.prompts import Instructions, read_instructions
from export.texture.release_loop import LoopSettings, ReleasedNetworks, paint, shift_exponent
from export.texture.text_encoder import SAME, TextEncoder, black_picture, dependence, seen_picture
from tests.export.texture.released import (
    BASE,
    GUIDANCE,
    LORA,
    PEOPLE,
    PROMPTS,
    SIDE,
    STEPS,
    VERSIONS,
    apart,
    made,
    picture,
)
from topos_rt.errors import BackendError, InputError
from topos_rt.texture.official.manifest import ScheduleSpec
from topos_rt.texture.official.schedule import network_time, run_times

SETTINGS = LoopSettings(STEPS, GUIDANCE, SIDE)
CLOSE = 1e-5  # of FP32, after a text encoder or four guided steps


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder.open(BASE, "cpu", torch.float32)


@pytest.fixture(scope="module")
def networks() -> ReleasedNetworks:
    return ReleasedNetworks.open(BASE, LORA, "cpu", torch.float32)


@pytest.fixture(autouse=True)
def _the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_loop, "noise", lambda seed, shape: made(VERSIONS[0])["start"].copy())


def stored(person: str, version: str = VERSIONS[0]) -> tuple[torch.Tensor, torch.Tensor]:
    both = (torch.from_numpy(made(version)[f"{person}.text.{k}"]) for k in range(2))
    return tuple(both)  # type: ignore[return-value]


def latents(
    networks: ReleasedNetworks,
    prompts: tuple[torch.Tensor, torch.Tensor],
    person: str,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the latent after every step, and the map."""
    seen, step = [], networks.scheduler.step

    def watched(*a: Any, **k: Any) -> Any:
        out = step(*a, **k)
        seen.append(out[0].numpy().copy())
        return out

    with monkeypatch.context() as patch:
        patch.setattr(networks.scheduler, "step", watched)
        return seen, paint(networks, prompts, picture(person), SETTINGS)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("person", PEOPLE)
def test_the_text_stream_is_the_releases(encoder: TextEncoder, person: str, version: str) -> None:
    told = read_instructions(PROMPTS)
    wanted = stored(person, version)
    assert apart(encoder.embed(told.prompt, seen_picture(picture(person), SIDE)), wanted[0]) < CLOSE
    assert apart(encoder.embed(told.negative_prompt, black_picture()), wanted[1]) < CLOSE


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("person", PEOPLE)
def test_every_step_is_the_releases(
    networks: ReleasedNetworks, person: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, pixels = latents(networks, stored(person, version), person, monkeypatch)
    for k, latent in enumerate(found):
        assert apart(latent, made(version)[f"{person}.latent.{k}"]) < CLOSE
    wanted = made(version)[f"{person}.map"]
    # Rounding down makes a step of one out of a difference of 1e-7.
    assert np.abs(pixels.astype(int) - wanted).max() <= 1 and (pixels != wanted).mean() < 0.01


def _portrait_twice(patch: pytest.MonkeyPatch) -> None:
    encode, first = ReleasedNetworks.encode, []
    patch.setattr(ReleasedNetworks, "encode", lambda self, p: (first.append(p), encode(self, first[0]))[1])


def _no_length(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(release_loop, "as_long_as", lambda mixed, conditional: mixed)


def _both_pictures_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(release_loop, "shift_exponent", lambda config, tokens: shift_exponent(config, 2 * tokens))


@pytest.mark.parametrize(
    "change", [_portrait_twice, _no_length, _both_pictures_count], ids=["black", "length", "mu"]
)
def test_without_a_peculiarity_the_steps_are_others(
    networks: ReleasedNetworks, change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch)
    found, _ = latents(networks, stored("astronaut"), "astronaut", monkeypatch)
    assert apart(found[-1], made(VERSIONS[0])[f"astronaut.latent.{STEPS - 1}"]) > 100 * CLOSE


def test_with_the_pictures_tokens_the_text_is_longer(
    encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = read_instructions(PROMPTS)
    text = encoder.embed(told.prompt, black_picture())
    monkeypatch.setattr(encoder.model.config, "image_token_id", -1)
    with pytest.raises(
        (ValueError, RuntimeError)
    ):  # then the encoder does not know where the picture goes, either
        encoder.embed(told.prompt, black_picture())
    assert text.shape[1] == stored("astronaut")[0].shape[1]  # 196 tokens less than the encoder saw


def test_fed_as_bytes_the_text_shows_the_portrait(encoder: TextEncoder) -> None:
    """The quirk: what the processor takes for bytes is within -1..1, so every portrait is nearly black."""
    told = read_instructions(PROMPTS)
    as_released = [encoder.embed(told.prompt, seen_picture(picture(p), SIDE)) for p in PEOPLE]
    properly = [encoder.embed(told.prompt, (seen_picture(picture(p), SIDE) + 1) * 127.5) for p in PEOPLE]
    assert apart(properly[0], properly[1]) > 10 * apart(as_released[0], as_released[1])
    assert apart(properly[0], stored("astronaut")[0]) > 100 * CLOSE


def test_dependence_is_measured_on_the_weights_given(
    encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = read_instructions(PROMPTS)
    pictures = [picture(person) for person in PEOPLE]
    found = dependence(encoder, told, pictures)
    assert 1e-5 < found.share < SAME  # these weights hardly look
    wanted = apart(*(encoder.embed(told.prompt, seen_picture(p)) for p in reversed(pictures)))
    assert found.share == pytest.approx(wanted, rel=1e-3)
    monkeypatch.setattr(text_encoder, "seen_picture", lambda p: (seen_picture(p) + 1) * 127.5)
    assert dependence(encoder, told, pictures).share > SAME
    with pytest.raises(InputError, match="got 1; expected two or more"):
        dependence(encoder, Instructions("a", "b"), pictures[:1])


def test_patches_are_those_of_the_processor(encoder: TextEncoder) -> None:
    """A picture of one colour each 14 pixels tells where every patch comes from."""
    rows = torch.arange(4.0).repeat_interleave(14)
    marked = (10 * rows[:, None] + rows[None]).expand(1, 3, -1, -1) * 255  # 56 x 56: 4 x 4 patches
    patches, grid = encoder.patches(marked)
    assert grid.tolist() == [[1, 4, 4]]
    mean, deviation = encoder.mean[0], encoder.deviation[0]
    order = (patches[:, 0] * deviation + mean).round().int().tolist()
    # Squares of 2 x 2 patches, which the encoder merges, one after another.
    assert order == [0, 1, 10, 11, 2, 3, 12, 13, 20, 21, 30, 31, 22, 23, 32, 33]
    assert patches.shape == (16, 3 * 2 * 14 * 14)


@pytest.mark.parametrize("steps", [2, 4, 50])
@pytest.mark.parametrize("tokens", [16, 4096])
def test_times_are_those_of_the_scheduler(tokens: int, steps: int) -> None:
    import diffusers

    numbers = {"base_image_seq_len": 256, "max_image_seq_len": 8192, "base_shift": 0.5, "max_shift": 0.9}
    spec = ScheduleSpec(**numbers, shift_terminal=0.02, rounding="bf16")  # type: ignore[arg-type]
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(
        **numbers, shift_terminal=0.02, use_dynamic_shifting=True, time_shift_type="exponential"
    )
    theirs.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=shift_exponent(theirs.config, tokens))
    found = run_times(spec, tokens, steps)
    assert np.array_equal(np.float32(found), theirs.sigmas.numpy())
    # What the release's transformer receives, in BF16 arithmetic.
    for time, theirs_time in zip(found, theirs.timesteps, strict=False):
        wanted = (theirs_time.expand(1).bfloat16() / 1000).float().numpy()
        assert np.array_equal(network_time(spec, time), wanted)


def test_nan_out_of_the_vae_is_one_line(networks: ReleasedNetworks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        ReleasedNetworks, "decode", lambda self, x, side: torch.full((1, 3, side, side), torch.nan)
    )
    with pytest.raises(BackendError, match="got NaN or infinite pixels"):
        paint(networks, stored("astronaut"), picture("astronaut"), LoopSettings(2, 1.0, SIDE))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError("none")])
def test_memory_that_runs_out_is_one_line(
    networks: ReleasedNetworks, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: ReleasedNetworks, picture: torch.Tensor) -> torch.Tensor:
        raise error

    monkeypatch.setattr(ReleasedNetworks, "encode", fails)
    with pytest.raises(BackendError, match=r"got no more memory .* fix: make a texture bundle"):
        paint(networks, stored("astronaut"), picture("astronaut"), SETTINGS)
