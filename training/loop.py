"""The training loop of both networks: a time budget, a schedule, checkpoints to resume from, a JSON log."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.muon import Muon

COOLDOWN = 0.75  # share of the budget during which the learning rates fall
Metrics = dict[str, float]
Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Budget:
    """The length of a run and its rates."""

    minutes: float
    learning_rate: float  # of Adam
    matrix_rate: float  # of Muon
    warmup_steps: int = 100
    evaluate_every_s: float = 600.0
    log_every_steps: int = 50
    weight_decay: float = 0.01
    ema_decay: float = 0.995  # at most, of the averaged weights, which are evaluated and kept


def train(
    name: str,
    module: Model,
    step: Callable[[float], tuple[Tensor, Metrics]],
    evaluate: Callable[[Model], Metrics],
    budget: Budget,
    directory: Path,
    resume: bool = False,
    ends: tuple[str, ...] = (),
) -> Metrics:
    """Train until the budget is spent, and return the last held-out metrics.

    step: takes the share of the budget that is spent, and returns a batch's loss and its parts.
    ends: prefixes of the names of the first and last layers. Adam trains their weights and all vectors; Muon,
    which needs less than half of Adam's steps here, trains the matrices between them.

    The learning rates hold, then fall to nothing over the last part of the *time* budget, so that a run ends
    annealed on any machine. The loop writes `<name>.pt` (weights, their average, optimisers, elapsed time),
    from which `resume` goes on, and `<name>.jsonl`. Under torchrun every process learns from batches of its
    own, all take the same steps, and only the first one returns metrics.
    """
    first = rank() == 0  # the process that keeps the time, evaluates, logs and saves
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint, log = directory / f"{name}.pt", directory / f"{name}.jsonl"
    optimisers = _optimisers(module, budget, ends)
    rates = [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]
    average = _copy(module)
    state: dict[str, Any] = {"step": 0, "elapsed": 0.0}
    if resume and checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        module.load_state_dict(saved["module"])
        for optimiser, its in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(its)
        state = {"step": saved["step"], "elapsed": saved["elapsed"]}
        average = saved["average"]
    started = time.monotonic() - state["elapsed"]
    sums: Metrics = {}
    counted = 0
    next_evaluation = state["elapsed"] + budget.evaluate_every_s
    metrics: Metrics = {}
    while True:
        elapsed = _agreed(time.monotonic() - started)
        done = min(1.0, elapsed / (60 * budget.minutes))
        warm = min(1.0, (state["step"] + 1) / budget.warmup_steps)
        share = warm * min(1.0, 0.02 + (1 - done) / COOLDOWN)
        groups = (group for optimiser in optimisers for group in optimiser.param_groups)
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * share
        if done < 1:
            module.train()
            module.zero_grad(set_to_none=True)
            loss, parts = step(done)
            loss.backward()
            _average_gradients(module)
            norm = nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            if not torch.isfinite(norm):  # skip the batch: a bad one must not end a long run
                continue
            for optimiser in optimisers:
                optimiser.step()
            # A young average must not hold on to the weights that training began with.
            decay = min(budget.ema_decay, (1 + state["step"]) / (10 + state["step"]))
            for key, value in module.state_dict().items():
                average[key].lerp_(value, 1 - decay)
            state["step"] += 1
            for key, value in parts.items():
                sums[key] = sums.get(key, 0.0) + float(value)
            counted += 1
            if first and counted == budget.log_every_steps:
                _log(log, state["step"], elapsed, {k: v / counted for k, v in sums.items()})
                sums, counted = {}, 0
        if not first and done >= 1:
            return metrics
        if first and (done >= 1 or elapsed >= next_evaluation):
            module.eval()
            current = _copy(module)
            module.load_state_dict(average)
            with torch.no_grad():
                metrics = evaluate(module)
            _log(log, state["step"], elapsed, {f"held_out.{k}": v for k, v in metrics.items()})
            _save(
                checkpoint,
                {
                    "module": current,
                    "average": average,
                    "elapsed": elapsed,
                    "step": state["step"],
                    "optimisers": [o.state_dict() for o in optimisers],
                },
            )
            if done >= 1:
                return metrics
            module.load_state_dict(current)
            next_evaluation = elapsed + budget.evaluate_every_s


def join() -> None:
    """Take part in a run of several processes, if torchrun started this one."""
    if "RANK" in os.environ:
        dist.init_process_group("gloo")


@contextlib.contextmanager
def bfloat16(x: Tensor) -> Iterator[None]:
    """Compute in bf16 on the device of x, with plain attention.

    On a CPU that is twice as fast as the backward pass of the fused attention kernel.
    """
    with sdpa_kernel(SDPBackend.MATH), torch.autocast(x.device.type, torch.bfloat16):
        yield


def batch_seed(resumed: bool) -> torch.Generator:
    """Return what a process draws its batches with, other ones where a run goes on than when it began."""
    return torch.Generator().manual_seed(3 + rank() + 1000 * resumed)


def rank() -> int:
    """Return the number of this process among those that train together."""
    return dist.get_rank() if dist.is_initialized() else 0


def processes() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gathered(part: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the rows that all processes have, in the order of their numbers.

    part: those of this process; counts: how many each has.
    """
    if processes() == 1:
        return part
    part = part.contiguous()  # what is sent is memory, and convolutions leave it in another order
    parts = [
        part if i == rank() else part.new_empty(count, *part.shape[1:]) for i, count in enumerate(counts)
    ]
    for i, its in enumerate(parts):
        dist.broadcast(its, i)
    return torch.cat(parts)


def add_up(values: Tensor) -> None:
    """Replace values by their sum over all processes."""
    if dist.is_initialized():
        dist.all_reduce(values)


def shared(values: Tensor) -> Tensor:
    """Return the first process's values."""
    values = values.clone()
    if dist.is_initialized():
        dist.broadcast(values, 0)
    return values


def _agreed(seconds: float) -> float:
    """Return the first process's time, because all must take the same number of steps."""
    return float(shared(torch.tensor([seconds], dtype=torch.float64)))


def _average_gradients(module: nn.Module) -> None:
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    together = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(together)
    together /= dist.get_world_size()
    for gradient, mean in zip(gradients, together.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def _optimisers(module: nn.Module, budget: Budget, ends: tuple[str, ...]) -> list[torch.optim.Optimizer]:
    """Make Muon for the inner matrices and Adam for the rest; only matrices decay."""
    matrices: list[nn.Parameter] = []
    decaying: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not name.endswith("weight") or parameter.dim() < 2:
            plain.append(parameter)
        elif name.startswith(ends):
            decaying.append(parameter)
        else:
            matrices.append(parameter)
    adam = torch.optim.AdamW(
        [{"params": decaying, "weight_decay": budget.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=budget.learning_rate,
        betas=(0.9, 0.98),
    )
    return [Muon(matrices, budget.matrix_rate, weight_decay=budget.weight_decay), adam]


def arguments(
    about: str | None, *, minutes: float, batch: int, learning_rate: float, matrix_rate: float
) -> argparse.ArgumentParser:
    """Return a parser of the options that both loops have, with the loop's own defaults.

    about: the docstring of the loop's module, whose first line describes the command.
    """
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    parser.add_argument("--matrix-rate", type=float, default=matrix_rate, help="Muon's learning rate")
    parser.add_argument("--resume", action="store_true")
    return parser


def add_compile(parser: argparse.ArgumentParser) -> None:
    """Add the option `--compile`, for the loops whose networks gain by it."""
    text = "compile the networks, which needs a C++ compiler; a step takes a quarter less time"
    parser.add_argument("--compile", action="store_true", help=text)


def load_weights(module: nn.Module, directory: Path, name: str, prefix: str = "") -> None:
    """Load the averaged weights of a finished or interrupted run: those whose names begin with the prefix."""
    saved = torch.load(directory / f"{name}.pt", weights_only=True)["average"]
    module.load_state_dict({k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)})


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def _log(path: Path, step: int, elapsed: float, values: Metrics) -> None:
    rounded = {name: float(f"{value:.5g}") for name, value in values.items()}
    record = {"step": step, "minutes": round(elapsed / 60, 2)} | rounded
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
    print(json.dumps(record), file=sys.stderr, flush=True)


def _save(path: Path, state: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)
