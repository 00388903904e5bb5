"""Batches on a Ray cluster of two nodes, on this machine."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.server.batch_pictures import Together, check_once, folder, rows_of, setup_of
from topos_rt.errors import InputError, OptionError
from topos_rt.server.batch_inputs import gather
from topos_rt.server.batch_ray import Actors
from topos_rt.server.batch_run import Summary, Telling, run
from topos_rt.server.batch_work import Setup

pytestmark = pytest.mark.slow
needs.machine(importlib.util.find_spec("ray"), "no Ray; fix: pip install -c constraints.txt -e '.[ray]'")

COUNT = 12
NAMES = [f"{number:02d}" for number in range(COUNT)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core each, so that each can have one worker."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster_utils = needs.module("ray.cluster_utils")
    memory = {"num_cpus": 1, "object_store_memory": 100 << 20}
    made = cluster_utils.Cluster(True, head_node_args={**memory, "include_dashboard": False})
    made.add_node(**memory)
    yield made
    made.shutdown()


class TogetherActors(Together, Actors):
    pass


class Batch:
    """A batch on the cluster, of which a test may kill what it likes."""

    def __init__(self, cluster: Any, bundle: Path, directory: Path) -> None:
        self.address, self.folder = cluster.address, folder(directory / "in", COUNT)
        self.setup = setup_of(bundle, directory / "out")
        self.told: list[str] = []
        self.rows: list[dict[str, Any]] = []

    def run(self, meddle: Any = lambda summary: None) -> Summary:
        telling = Telling(self.rows.append, meddle, self.told.append)

        def hire(setup: Setup, header: str) -> TogetherActors:
            return TogetherActors(setup, header, self.address)

        pictures = gather([str(self.folder)], self.setup.out, "image")
        return run(self.setup, pictures, (0, 1), hire, telling)


@pytest.fixture
def batch(cluster: Any, tiny_bundle: Path, tmp_path: Path) -> Batch:
    return Batch(cluster, tiny_bundle, tmp_path)


def test_a_worker_killed_in_the_middle(batch: Batch) -> None:
    seen: list[int] = []

    def kill(summary: Summary) -> None:
        if summary.made >= 4 and not seen:
            seen.append(int(batch.rows[-1]["worker"].rpartition(":")[2]))
            os.kill(seen[0], signal.SIGKILL)

    summary = batch.run(kill)
    assert seen and summary.deaths == 1
    assert (summary.made, summary.failed) == (2 * COUNT, 0)
    check_once(batch.setup.out, NAMES, (0, 1))
    rows = rows_of(batch.setup.out)
    assert {row["attempts"] for row in rows} <= {1, 2}
    assert len({row["worker"] for row in rows}) >= 2


def test_a_run_that_was_interrupted_goes_on(batch: Batch) -> None:
    def stop(summary: Summary) -> None:
        if summary.made >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch.run(stop)
    done = len(rows_of(batch.setup.out))
    assert 4 <= done < 2 * COUNT
    summary = batch.run()
    assert (summary.skipped, summary.made) == (done, 2 * COUNT - done)
    check_once(batch.setup.out, NAMES, (0, 1))


def test_a_bad_picture_costs_a_row(batch: Batch) -> None:
    (batch.folder / "03.png").write_bytes(b"no picture")
    summary = batch.run()
    assert (summary.made, summary.failed, summary.exit_code, summary.deaths) == (2 * COUNT - 2, 1, 2, 0)
    (row,) = [row for row in rows_of(batch.setup.out) if row["error"]]
    assert row["error_type"] == "ImageError" and row["input"].endswith("03.png")


def test_a_worker_that_refuses_says_why(batch: Batch, own_bundle: Path) -> None:
    batch.setup = setup_of(own_bundle, batch.setup.out)

    def hire(setup: Setup, header: str) -> Actors:
        (own_bundle / "dit_step.onnx").write_bytes(b"other bytes")  # as on a node with another copy
        return Actors(setup, header, batch.address)

    pictures = gather([str(batch.folder)], batch.setup.out, "image")
    telling = Telling(lambda row: None, lambda summary: None, batch.told.append)
    with pytest.raises(InputError, match=r"dit_step\.onnx"):
        run(batch.setup, pictures, (0,), hire, telling)


def test_more_threads_than_the_cluster_has(batch: Batch) -> None:
    setup = setup_of(Path(batch.setup.model), batch.setup.out)
    setup.engines["threads"] = 64  # type: ignore[index]
    with pytest.raises(
        OptionError, match="--threads: got 64; expected at most 2, the cores of the Ray cluster"
    ):
        Actors(setup, "", batch.address)


def test_a_machine_that_is_lost(cluster: Any, batch: Batch) -> None:
    third, lost = cluster.add_node(num_cpus=1, object_store_memory=100 << 20), []

    def lose(summary: Summary) -> None:
        if summary.made >= 6 and not lost:
            lost.append(third)
            cluster.remove_node(third, allow_graceful=False)

    try:
        summary = batch.run(lose)
    finally:
        if not lost:
            cluster.remove_node(third)
    assert lost and summary.ready >= 3 and (summary.made, summary.failed) == (2 * COUNT, 0)
    check_once(batch.setup.out, NAMES, (0, 1))
