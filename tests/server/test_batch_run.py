"""The leader of a batch, with workers in this process that die when they are told to."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.server.batch_pictures import WHOLE, check_once, files_of, folder, picture, rows_of, setup_of
from topos_rt.errors import BackendError, InputError, OptionError
from topos_rt.server.batch_crew import DIED, MADE, READY, REFUSED, Event
from topos_rt.server.batch_inputs import gather
from topos_rt.server.batch_run import Summary, Telling, run
from topos_rt.server.batch_work import Maker, Setup, Task

NAMES = ["00", "01", "02", "03", "04"]


class Scripted:
    """Two workers that take turns with one model, of which `dies` tells which end before they answer."""

    size, kind = 2, "scripted"

    def __init__(self, setup: Setup, header: str, dies: Callable[[Task], bool] = lambda task: False) -> None:
        self.given: list[Task] = []
        self.closed = False
        self._dies = dies
        self._maker = Maker(setup, header)
        self._events = deque([Event(1, READY, self._maker.open()), Event(2, READY, None)])
        self._next = 3

    def give(self, worker: int, task: Task) -> None:
        self.given.append(task)
        rows = self._maker.make(task)  # also where it dies: the files are there, and the answer is not
        if not self._dies(task):
            self._events.append(Event(worker, MADE, rows))
            return
        self._events.append(Event(worker, DIED, "its process was killed by SIGKILL"))
        self._events.append(Event(self._next, READY, None))
        self._next += 1

    def wait(self, seconds: float) -> list[Event]:
        return [self._events.popleft()]

    def close(self) -> None:
        self.closed = True
        self._maker.close()


class Batch:
    """A folder of five pictures, and runs over it."""

    def __init__(self, bundle: Path, directory: Path) -> None:
        self.folder, self.out = folder(directory / "in", len(NAMES)), directory / "out"
        self.setup = setup_of(bundle, self.out)
        self.crews: list[Scripted] = []
        self.told: list[str] = []

    def run(self, dies: Callable[[Task], bool] = lambda task: False, **more: Any) -> Summary:
        setup, seeds = more.pop("setup", self.setup), more.pop("seeds", (0,))
        telling = Telling(lambda row: None, lambda summary: None, self.told.append)

        def hire(setup: Setup, header: str) -> Scripted:
            self.crews.append(Scripted(setup, header, dies))
            return self.crews[-1]

        pictures = gather([str(self.folder)], self.out, "image")
        try:
            return run(setup, pictures, seeds, more.pop("hire", hire), telling, **more)
        finally:
            assert all(crew.closed for crew in self.crews)

    def given(self) -> Counter[str]:
        """Return how often each picture was given to a worker, by name."""
        return Counter(Path(task.input).stem for crew in self.crews for task in crew.given)


@pytest.fixture
def batch(tiny_bundle: Path, tmp_path: Path) -> Iterator[Batch]:
    yield Batch(tiny_bundle, tmp_path)


def test_each_picture_is_made_once(batch: Batch) -> None:
    summary = batch.run(seeds=(0, 7))
    check_once(batch.out, NAMES, (0, 7))
    assert batch.given() == dict.fromkeys(NAMES, 1)
    assert (summary.made, summary.failed, summary.skipped, summary.exit_code) == (10, 0, 0, 0)
    first = rows_of(batch.out)[1]
    assert first["input"] == str(batch.folder / "00.png") and first["seed"] == 7 and first["attempts"] == 1
    assert first["backend"] == "onnxruntime" and first["vertices"] == 42 and first["face"] is None
    assert first["bytes"] == (batch.out / "00_seed7.glb").stat().st_size
    assert {"vae_decoder", "writing"} <= dict(first["timings"]).keys()


def test_a_second_run_does_what_is_missing_and_nothing_else(batch: Batch) -> None:
    batch.run()
    before = {name: (batch.out / f"{name}_seed0.glb").stat().st_mtime_ns for name in NAMES}
    assert batch.run().skipped == 5 and len(batch.crews) == 1  # no worker was needed
    (batch.out / "01_seed0.glb").unlink()  # lost
    picture(batch.folder / "02.png", 99)  # changed
    picture(batch.folder / "05.png", 5)  # new
    summary = batch.run()
    assert [Path(task.input).stem for task in batch.crews[1].given] == ["01", "02", "05"]
    assert (summary.made, summary.skipped) == (3, 3)
    check_once(batch.out, [*NAMES, "05"])
    for name in ("00", "03", "04"):
        assert (batch.out / f"{name}_seed0.glb").stat().st_mtime_ns == before[name]


def test_more_seeds_are_made_beside_those_that_are_there(batch: Batch) -> None:
    batch.run()
    assert batch.run(seeds=(0, 1)).made == 5
    assert all(task.seeds == (1,) for task in batch.crews[1].given)
    check_once(batch.out, NAMES, (0, 1))


def test_a_worker_that_dies_costs_one_more_try(batch: Batch) -> None:
    summary = batch.run(lambda task: task.input.endswith("02.png") and task.attempt == 1)
    check_once(batch.out, NAMES)
    assert batch.given() == {**dict.fromkeys(NAMES, 1), "02": 2}
    assert (summary.made, summary.failed, summary.deaths, summary.exit_code) == (5, 0, 1, 0)
    assert [row["attempts"] for row in rows_of(batch.out)] == [1, 1, 2, 1, 1]
    reason = "its process was killed by SIGKILL"
    assert batch.told == [f"{batch.folder / '02.png'}: its worker died ({reason}); it is tried once more"]


def test_a_picture_that_kills_every_worker_costs_a_row(batch: Batch) -> None:
    summary = batch.run(lambda task: task.input.endswith("02.png"))
    assert batch.given() == {**dict.fromkeys(NAMES, 1), "02": 2}
    assert (summary.made, summary.failed, summary.deaths, summary.exit_code) == (4, 1, 2, 1)
    row = rows_of(batch.out)[2]
    assert (row["seed"], row["output"], row["attempts"], row["error_type"]) == (None, None, 2, "BackendError")
    assert row["error"].startswith("2 workers died over this picture: got its process was killed by SIGKILL")
    summary = batch.run()  # the next run tries it again
    check_once(batch.out, NAMES)
    assert (summary.made, summary.skipped) == (1, 4)


def test_a_bad_picture_costs_a_row(batch: Batch) -> None:
    (batch.folder / "01.png").write_bytes(b"no picture")
    (batch.folder / "03.png").unlink()
    (batch.folder / "03.png").symlink_to("gone.png")
    summary = batch.run(seeds=(0, 1))
    assert (summary.made, summary.failed, summary.exit_code) == (6, 2, 2)
    rows = rows_of(batch.out)
    assert [row["seed"] for row in rows] == [0, 1, None, 0, 1, None, 0, 1]
    assert "got a file of another kind" in rows[2]["error"] or "expected a PNG" in rows[2]["error"]
    assert "no such file" in rows[5]["error"] and rows[5]["error_type"] == "ImageError"
    picture(batch.folder / "01.png", 1)
    (batch.folder / "03.png").unlink()
    picture(batch.folder / "03.png", 3)
    assert batch.run(seeds=(0, 1)).exit_code == 0
    check_once(batch.out, NAMES, (0, 1))


def test_an_interruption_leaves_what_was_done(batch: Batch) -> None:
    def stop(task: Task) -> bool:
        if task.input.endswith("03.png"):
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        batch.run(stop)
    done = [row["output"] for row in rows_of(batch.out)]
    assert 1 <= len(done) <= 3
    assert batch.run().skipped == len(done)
    check_once(batch.out, NAMES)


def test_workers_that_never_get_ready_end_the_batch(batch: Batch) -> None:
    class Stillborn(Scripted):
        def wait(self, seconds: float) -> list[Event]:
            self._next += 1
            return [Event(self._next, DIED, "its process was killed by SIGKILL")]

    def hire(setup: Setup, header: str) -> Stillborn:
        batch.crews.append(Stillborn(setup, header))
        return batch.crews[-1]  # type: ignore[return-value]

    with pytest.raises(BackendError, match=r"3 workers died one after the other .*SIGKILL; fix: use fewer"):
        batch.run(hire=hire)
    assert rows_of(batch.out) == []


def test_a_worker_that_refuses_ends_the_batch(batch: Batch) -> None:
    class Refusing(Scripted):
        def wait(self, seconds: float) -> list[Event]:
            return [Event(1, REFUSED, InputError("the worker", got="another model"))]

    def hire(setup: Setup, header: str) -> Refusing:
        batch.crews.append(Refusing(setup, header))
        return batch.crews[-1]  # type: ignore[return-value]

    with pytest.raises(InputError, match="the worker: got another model"):
        batch.run(hire=hire)


def test_a_worker_knows_the_directory_and_the_model_of_its_batch(batch: Batch, own_bundle: Path) -> None:
    batch.run()
    header = batch.crews[0]._maker._header
    with pytest.raises(
        InputError, match=r"seen from .*: got No such file or directory; .* shared file system"
    ):
        Maker(dataclasses.replace(batch.setup, out=batch.out / "elsewhere"), header).open()
    with pytest.raises(InputError, match="got another directory"):
        Maker(batch.setup, header.replace("fast", "slow")).open()
    changed = dataclasses.replace(batch.setup, options={**WHOLE, "preset": "reference"})
    with pytest.raises(
        InputError, match="expected the package and the model that the batch was started with"
    ):
        Maker(changed, header).open()


def test_other_settings_are_refused_or_made_again(batch: Batch) -> None:
    batch.run()
    before = (batch.out / "00_seed0.glb").read_bytes()
    changed = dataclasses.replace(batch.setup, options={**WHOLE, "preset": "reference"})
    with pytest.raises(OptionError, match="got preset 'reference', was 'fast'"):
        batch.run(setup=changed)
    assert (batch.out / "00_seed0.glb").read_bytes() == before and len(rows_of(batch.out)) == 5
    assert batch.run(setup=changed, redo=True).made == 5
    check_once(batch.out, NAMES)
    assert (batch.out / "00_seed0.glb").read_bytes() != before


def test_what_killed_processes_have_begun_is_swept(batch: Batch) -> None:
    batch.run()
    left = batch.out / f".topos-rt-{'0' * 12}.tmp"
    left.write_bytes(b"half a head")
    batch.run()
    assert not left.exists() and len(files_of(batch.out)) == 5


def test_two_pictures_of_one_name_have_heads_of_their_own(batch: Batch) -> None:
    picture(batch.folder / "00.bmp", 50)
    picture(batch.folder / "sub" / "00.png", 51)
    batch.run()
    check_once(batch.out, ["00", "00.png", "01", "02", "03", "04", "sub/00"])
    heads = {(batch.out / f"{name}_seed0.glb").read_bytes() for name in ("00", "00.png", "sub/00")}
    assert len(heads) == 3


def test_previews_lie_beside_the_heads(batch: Batch) -> None:
    for name in NAMES[1:]:
        (batch.folder / f"{name}.png").unlink()
    batch.run(setup=dataclasses.replace(batch.setup, previews=True))
    row = rows_of(batch.out)[0]
    assert row["preview"] == "00_seed0.png"
    assert (batch.out / row["preview"]).read_bytes().startswith(b"\x89PNG")
    os.unlink(batch.out / "00_seed0.png")
    assert batch.run(setup=dataclasses.replace(batch.setup, previews=True)).made == 1


def test_a_head_that_cannot_be_written_costs_a_row(batch: Batch) -> None:
    (batch.out / "00_seed0.glb").mkdir(parents=True)
    summary = batch.run()
    assert (summary.made, summary.failed, summary.exit_code) == (4, 1, 2)
    row = rows_of(batch.out)[0]
    assert (row["seed"], row["output"], row["error_type"]) == (0, None, "OutputError")
    assert "got a directory" in row["error"]


def test_an_option_that_only_the_model_knows_is_refused_before_the_work(batch: Batch) -> None:
    with pytest.raises(OptionError):
        batch.run(setup=dataclasses.replace(batch.setup, lod=3))
    assert not batch.out.exists()


def test_all_faces_of_a_picture(tiny_bundle: Path, tmp_path: Path) -> None:
    examples = Path(__file__).parents[2] / "examples"
    with Image.open(examples / "hopper.jpg") as left, Image.open(examples / "astronaut.jpg") as right:
        pair = Image.new("RGB", (660, 330), (100, 100, 100))
        pair.paste(left, (0, 0))
        pair.paste(right, (400, 50))
    (tmp_path / "in").mkdir()
    pair.save(tmp_path / "in" / "pair.png")
    shutil.copy(examples / "hopper.jpg", tmp_path / "in")
    picture(tmp_path / "in" / "nobody.png")
    setup = dataclasses.replace(
        setup_of(tiny_bundle, tmp_path / "out"), options={"preset": "fast", "face": "all"}
    )
    telling = Telling(lambda row: None, lambda summary: None, lambda text: None)

    def summary(seeds: tuple[int, ...]) -> Summary:
        return run(setup, gather([str(tmp_path / "in")], setup.out, "image"), seeds, Scripted, telling)

    found = summary((0, 1))
    assert (found.made, found.failed, found.exit_code) == (6, 1, 2)
    names = [f"{name}_face{face}" for name, face in (("hopper", 1), ("pair", 1), ("pair", 2))]
    assert files_of(setup.out) == sorted(f"{name}_seed{seed}.glb" for name in names for seed in (0, 1))
    rows = rows_of(setup.out)
    assert [(Path(row["input"]).stem, row["face"], row["seed"]) for row in rows] == [
        ("hopper", 1, 0), ("hopper", 1, 1), ("nobody", None, None),
        ("pair", 1, 0), ("pair", 2, 0), ("pair", 1, 1), ("pair", 2, 1),
    ]  # fmt: skip
    assert rows[2]["error_type"] == "FaceError" and rows[2]["seconds"] > 0
    assert all(row["score"] > 0.5 and len(row["box"]) == 4 for row in rows if row["seed"] is not None)
    (setup.out / "pair_face2_seed1.glb").unlink()
    assert (found := summary((0, 1))).skipped == 3 and found.made == 2  # both faces of that seed
