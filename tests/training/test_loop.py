"""The training loop runs on a clock of our own: budgets, averages, bad batches, resuming."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training import loop
from training.loop import Budget, Metrics, load_weights, train
from training.muon import Muon

TICK = 1.0  # seconds between two looks at the clock
Step = Callable[[float], tuple[Tensor, Metrics]]


class Clock:
    """A stand-in for the module `time`, in which every look costs a second."""

    def __init__(self) -> None:
        self.now = 5000.0

    def monotonic(self) -> float:
        self.now += TICK
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "time", Clock())


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("offset", torch.ones(2))


def model(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    return Model()


def budget(seconds: float, **changes: float) -> Budget:
    settings = {"warmup_steps": 2, "evaluate_every_s": 12, "log_every_steps": 5} | changes
    return Budget(minutes=seconds / 60, learning_rate=0.1, matrix_rate=0.1, **settings)  # type: ignore[arg-type]


def pull_to_zero(module: Model, shares: list[float] | None = None) -> Step:
    def step(done: float) -> tuple[Tensor, Metrics]:
        if shares is not None:
            shares.append(done)
        loss = module.linear.weight.square().sum() + module.linear.bias.square().sum()
        return loss, {"size": float(loss.detach())}

    return step


def size(module: nn.Module) -> Metrics:
    return {"size": float(sum(p.detach().square().sum() for p in module.parameters()))}


def log_of(path: Path, name: str = "model") -> list[dict[str, float]]:
    return [json.loads(line) for line in (path / f"{name}.jsonl").read_text().splitlines()]


def checkpoint_of(path: Path) -> dict:
    return torch.load(path / "model.pt", weights_only=True)


def test_a_run_ends_with_its_budget(tmp_path: Path) -> None:
    module, shares = model(), []
    before = size(module)["size"]
    settings = budget(30.5, ema_decay=0.9)
    metrics = train("model", module, pull_to_zero(module, shares), size, settings, tmp_path / "new")
    assert len(shares) == 30
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(30 / 30.5)
    assert metrics == size(module)
    assert metrics["size"] < 0.8 * before


def test_the_files_it_writes(tmp_path: Path) -> None:
    module = model()
    train("model", module, pull_to_zero(module), size, budget(30.5), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.jsonl", "model.pt"]
    saved = checkpoint_of(tmp_path)
    assert set(saved) == {"module", "average", "optimisers", "elapsed", "step"}
    assert saved["step"] == 30
    assert saved["elapsed"] == pytest.approx(31)
    assert saved["module"].keys() == saved["average"].keys() == module.state_dict().keys()
    records = log_of(tmp_path)
    assert [r["step"] for r in records if "size" in r] == [5, 10, 15, 20, 25, 30]
    assert [r["step"] for r in records if "held_out.size" in r] == [12, 24, 30]
    assert [r["minutes"] for r in records if "held_out.size" in r] == [0.2, 0.4, 0.52]


def test_averages_are_evaluated_and_kept(tmp_path: Path) -> None:
    module, seen = model(), []

    def evaluate(current: nn.Module) -> Metrics:
        seen.append(current.linear.weight.clone())
        assert not current.training
        assert not torch.is_grad_enabled()
        return {}

    weights = [module.linear.weight.detach().clone()]
    inner = pull_to_zero(module)

    def step(done: float) -> tuple[Tensor, Metrics]:
        assert module.training
        weights.append(module.linear.weight.detach().clone())
        return inner(done)

    train("model", module, step, evaluate, budget(8.5, ema_decay=0.75), tmp_path)
    saved = checkpoint_of(tmp_path)
    expected = weights[0]
    for steps, later in enumerate([*weights[2:], saved["module"]["linear.weight"]]):
        decay = min(0.75, (1 + steps) / (10 + steps))  # so that the first weights are soon forgotten
        expected = decay * expected + (1 - decay) * later
    assert torch.allclose(saved["average"]["linear.weight"], expected, atol=1e-6)
    assert torch.equal(seen[-1], saved["average"]["linear.weight"])
    assert torch.equal(module.linear.weight, saved["average"]["linear.weight"])
    fresh = model(1)
    load_weights(fresh, tmp_path, "model")
    assert torch.equal(fresh.linear.weight, saved["average"]["linear.weight"])
    assert not torch.allclose(saved["module"]["linear.weight"], expected, atol=1e-3)


def test_training_goes_on_from_its_own_weights_after_an_evaluation(tmp_path: Path) -> None:
    """Looking at the average in between must not change what is learnt."""
    ends = []
    for every in (4.0, 1000.0):
        module = model()
        train("model", module, pull_to_zero(module), size, budget(20.5, evaluate_every_s=every), tmp_path)
        ends.append(checkpoint_of(tmp_path)["module"]["linear.weight"])
    assert torch.equal(*ends)


def test_resuming_continues(tmp_path: Path) -> None:
    module, shares = model(), []
    train("model", module, pull_to_zero(module), size, budget(10.5), tmp_path)
    first = checkpoint_of(tmp_path)
    again = model(seed=9)
    train("model", again, pull_to_zero(again, shares), size, budget(30.5), tmp_path, resume=True)
    second = checkpoint_of(tmp_path)
    assert first["step"] == 10
    assert second["step"] == 29  # setting out again costs one look at the clock
    assert second["elapsed"] == pytest.approx(31)
    assert shares[0] == pytest.approx(12 / 30.5)
    assert [r["step"] for r in log_of(tmp_path) if "held_out.size" in r][-1] == 29
    assert second.keys() == first.keys()
    assert second["optimisers"][1]["state"][0]["step"] == 29
    assert not torch.equal(*(run["optimisers"][0]["state"][0]["momentum"] for run in (first, second)))


def test_resuming_what_is_done_changes_nothing(tmp_path: Path) -> None:
    module = model()
    metrics = train("model", module, pull_to_zero(module), size, budget(10.5), tmp_path)
    first = checkpoint_of(tmp_path)
    again, shares = model(seed=9), []
    resumed = train("model", again, pull_to_zero(again, shares), size, budget(10.5), tmp_path, resume=True)
    assert resumed == metrics
    assert shares == []
    assert checkpoint_of(tmp_path)["step"] == first["step"]
    for part in ("module", "average"):
        for key, value in checkpoint_of(tmp_path)[part].items():
            assert torch.equal(value, first[part][key])


def test_without_resume_it_starts_anew(tmp_path: Path) -> None:
    for _ in range(2):
        module = model()
        train("model", module, pull_to_zero(module), size, budget(10.5), tmp_path)
        assert checkpoint_of(tmp_path)["step"] == 10


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_batch_that_is_not_finite_is_skipped(tmp_path: Path, bad: float) -> None:
    module, calls = model(), []
    inner = pull_to_zero(module)

    def step(done: float) -> tuple[Tensor, Metrics]:
        calls.append(done)
        loss, parts = inner(done)
        return (loss * bad, {"size": bad}) if len(calls) in (3, 4) else (loss, parts)

    metrics = train("model", module, step, size, budget(20.5), tmp_path)
    assert len(calls) == 20
    assert checkpoint_of(tmp_path)["step"] == 18
    assert math.isfinite(metrics["size"])
    for part in ("module", "average"):
        assert all(torch.isfinite(value).all() for value in checkpoint_of(tmp_path)[part].values())
    assert all(math.isfinite(r["size"]) for r in log_of(tmp_path) if "size" in r)


def test_only_bad_batches_still_end(tmp_path: Path) -> None:
    module = model()
    before = module.linear.weight.detach().clone()

    def never(_: float) -> tuple[Tensor, Metrics]:
        return module.linear.weight.sum() * math.nan, {}

    train("model", module, never, size, budget(10.5), tmp_path)
    assert checkpoint_of(tmp_path)["step"] == 0
    assert torch.equal(module.linear.weight, before)


def test_the_learning_rates_warm_up_hold_and_fall(tmp_path: Path) -> None:
    module, rates = model(), {"adam": [], "muon": []}

    def watch(kind: type[torch.optim.Optimizer], name: str, patch: pytest.MonkeyPatch) -> None:
        original = kind.step

        def watched(self: torch.optim.Optimizer, *args: object) -> object:
            rates[name].append(self.param_groups[0]["lr"])
            return original(self, *args)

        patch.setattr(kind, "step", watched)

    with pytest.MonkeyPatch.context() as patch:
        watch(torch.optim.AdamW, "adam", patch)
        watch(Muon, "muon", patch)
        settings = dataclasses.replace(budget(100.5, warmup_steps=10), matrix_rate=0.05)
        train("model", module, pull_to_zero(module), size, settings, tmp_path)
    used = rates["adam"]
    assert [2 * rate for rate in rates["muon"]] == pytest.approx(used)
    assert used[0] == pytest.approx(0.01)
    hold = int(100 * (1 - loop.COOLDOWN))
    assert used[10:hold] == [0.1] * (hold - 10)
    assert used[hold:] == sorted(used[hold:], reverse=True)
    assert used[-1] == pytest.approx(0.1 * (0.02 + 0.005 / loop.COOLDOWN), rel=0.05)


def test_matrices_between_the_ends_are_muon_s() -> None:
    module = nn.ModuleDict({"first": nn.Linear(3, 4), "inner": nn.Linear(4, 4), "norm": nn.LayerNorm(4)})
    muon, adam = loop._optimisers(module, budget(10), ("first",))
    assert muon.param_groups[0]["params"] == [module["inner"].weight]
    decaying, plain = adam.param_groups
    assert decaying["params"] == [module["first"].weight]
    assert len(plain["params"]) == 4
    assert (decaying["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)


def test_a_failed_save_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = model()
    train("model", module, pull_to_zero(module), size, budget(10.5), tmp_path)

    def full_disk(state: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        train("model", module, pull_to_zero(module), size, budget(30.5), tmp_path, resume=True)
    assert checkpoint_of(tmp_path)["step"] == 10
