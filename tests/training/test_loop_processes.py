"""Two processes learn one set of weights from the batches of both."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from training.loop import Budget, Metrics, gathered, join, processes, rank, train

TARGETS = (1.0, 3.0)
SECONDS = 4


def _learn(number: int, port: int, directory: str) -> None:
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = str(port)
    torch.set_num_threads(1)
    join()
    assert rank() == number and processes() == 2
    rows = torch.arange(10, dtype=torch.float16).view(5, 2)
    assert torch.equal(gathered(rows.tensor_split(2)[number], (3, 2)), rows)
    # As convolutions leave it: the numbers of a row apart from each other in memory.
    maps = torch.arange(5 * 2 * 3 * 4.0).view(5, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    assert torch.equal(gathered(maps.tensor_split(2)[number], (3, 2)), maps)
    module = nn.Linear(1, 1)
    with torch.no_grad():
        module.weight.fill_(5.0)
        module.bias.zero_()
    steps = 0

    def step(done: float) -> tuple[Tensor, Metrics]:
        nonlocal steps
        steps += 1
        loss = (module.weight.sum() - TARGETS[number]).square() + module.bias.square().sum()
        return loss, {"loss": float(loss.detach())}

    budget = Budget(
        SECONDS / 60, 0.05, 0.5, warmup_steps=1, evaluate_every_s=1.0, weight_decay=0.0, ema_decay=0.5
    )
    train("model", module, step, lambda _: {"seen": 1.0}, budget, Path(directory) / str(number))
    torch.save({"weight": module.weight.detach(), "steps": steps}, Path(directory) / f"end{number}.pt")
    dist.destroy_process_group()


def test_two_processes_learn_one_set_of_weights(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_learn, (port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"end{n}.pt", weights_only=True) for n in (0, 1))
    assert first["steps"] == second["steps"] > 20
    # Both learn the mean of the targets; the first ends with its average, the other with its last weights.
    assert abs(float(first["weight"]) - 2.0) < 0.05
    assert abs(float(second["weight"]) - 2.0) < 0.05
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == ["model.jsonl", "model.pt"]
    assert not list((tmp_path / "1").iterdir())
