"""The runtime's sampler around the official DiT weights gives what the release's own sampler gives."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from models import TOPOSDiT
from models.dit import TIME_SCALE
from tests.export.parity import DATA, META, SETS, TOLERANCE, close, load_dit, relative_rms
from topos_rt.flow.sampling import clean_estimate, guided, sample
from topos_rt.flow.settings import SamplerSettings, time_grid
from topos_rt.flow.solvers import Step, Velocity
from topos_rt.support.arrays import Array

RELEASED = META["sampler"]


class OfficialField:
    """A `Field` that runs the network once for each half."""

    def __init__(self, dit: TOPOSDiT, cond: torch.Tensor, null: torch.Tensor) -> None:
        self.conditional, self._unconditional = velocity_of(dit, cond), velocity_of(dit, null)

    def guided(self, x: Array, t: float, w: float) -> tuple[Array, Array]:
        conditional, unconditional = self.conditional(x, t), self._unconditional(x, t)
        return (1 + w) * conditional - w * unconditional, conditional - unconditional


def velocity_of(dit: TOPOSDiT, cond: torch.Tensor) -> Velocity:
    """Drive the network as the runtime does: image tokens once, then one step after the other."""
    keys, values = dit.context(cond)

    def velocity(x: Array, t: float) -> Array:
        # As in the release, 1000 t is rounded to float32. Rounding t itself moves the strong set by 4e-6.
        time = torch.tensor([TIME_SCALE * t])
        return dit.step(torch.from_numpy(x), time, keys, values).numpy()

    return velocity


def run(suffix: str, guidance: float, shift: float) -> tuple[list[Step], dict[str, torch.Tensor]]:
    dit, io = load_dit(suffix), load_file(DATA / f"sampler_io{suffix}.safetensors")
    settings = SamplerSettings(RELEASED["steps"], guidance=guidance, shift=shift)
    with torch.no_grad():
        velocity = guided(OfficialField(dit, io["cond"], io["neg_cond"]), settings)
        return list(sample(velocity, io["noise"].numpy(), settings)), io


@SETS
@pytest.mark.parametrize("shift", RELEASED["rescale_t"])
@torch.no_grad()
def test_every_step_with_guidance(suffix: str, shift: float) -> None:
    steps, io = run(suffix, RELEASED["cfg_strength"], shift)
    name = f"rescale{shift:g}"
    assert time_grid(RELEASED["steps"], shift) == pytest.approx(io[f"{name}.t_seq"].tolist(), abs=1e-7)
    assert len(steps) == RELEASED["steps"]
    for i, step in enumerate(steps):
        close(torch.from_numpy(step.x_next), io[f"{name}.pred_x_t.{i}"])
        clean = clean_estimate(step, RELEASED["sigma_min"])
        close(torch.from_numpy(clean), io[f"{name}.pred_x_0.{i}"])
    close(torch.from_numpy(steps[-1].x_next), io[f"{name}.samples"])


@SETS
@torch.no_grad()
def test_without_guidance(suffix: str) -> None:
    steps, io = run(suffix, 0.0, 1.0)
    close(torch.from_numpy(steps[-1].x_next), io["cfg0_rescale1.samples"])


@torch.no_grad()
def test_plausible_mistakes_are_noticed() -> None:
    """The test notices guidance as others write it, v_uncond + w (v_cond - v_uncond), and a missing shift."""
    steps, io = run("", RELEASED["cfg_strength"] - 1, 1.0)
    assert relative_rms(torch.from_numpy(steps[-1].x_next), io["rescale1.samples"]) > 100 * TOLERANCE
    steps, io = run("", RELEASED["cfg_strength"], 1.0)
    assert relative_rms(torch.from_numpy(steps[-1].x_next), io["rescale3.samples"]) > 100 * TOLERANCE
