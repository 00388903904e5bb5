from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from topos_rt.engines import cache as engine_cache
from topos_rt.engines import trust
from topos_rt.engines.cache import (
    BuildReport,
    EngineCache,
    EngineCacheWarning,
    EngineKey,
    Found,
    Sidecar,
    default_root,
)
from topos_rt.errors import OutputError

KEY = EngineKey(
    "dit_step.onnx", "a" * 64, {"w.bin": "b" * 64}, "tensorrt-rtx", "1.6.1", "portable", "fp16", 1
)
BUILD = BuildReport(1.5, {"fp16": {"MATRIX_MULTIPLY": 3}}, {"odd": "CONVOLUTION"}, {"weights": 7})
PLAN = bytes(range(256)) * 4


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


def kept(cache: EngineCache, key: EngineKey = KEY, plan: bytes = PLAN) -> EngineKey:
    cache.store(key, plan, BUILD)
    return key


def another(**values: Any) -> EngineKey:
    return dataclasses.replace(KEY, **values)


def test_what_is_stored_is_found(cache: EngineCache) -> None:
    assert cache.find(KEY) == "not built before"
    assert not cache.directory.exists()
    kept(cache)
    assert cache.find(KEY) == Found(PLAN, BUILD)
    assert EngineCache(cache.directory.parent).find(KEY) == Found(PLAN, BUILD)
    assert {path.suffix for path in cache.directory.iterdir()} == {".plan", ".json"}
    assert cache.directory.stat().st_mode & 0o077 == 0


def test_a_graph_of_another_name_but_the_same_content_shares(cache: EngineCache) -> None:
    kept(cache)
    assert another(graph="copy.onnx").digest == KEY.digest


REASONS: dict[str, tuple[dict[str, Any], str]] = {
    "graph": ({"graph_sha256": "c" * 64}, "built before, but from another graph"),
    "weights": ({"weights": {"w.bin": "d" * 64}}, "built before, but with other weights"),
    "backend": ({"backend": "tensorrt"}, "built before, but by tensorrt-rtx"),
    "version": ({"backend_version": "1.7.1"}, "built before, but by version 1.6.1 and this is 1.7.1"),
    "GPU": ({"compute_capability": "9.0"}, "built before, but for compute capability portable, not 9.0"),
    "precision": ({"precision": "fp32"}, "built before, but in fp16"),
    "recipe": ({"recipe": 2}, "built before, but by another version of topos-rt"),
    "two things": ({"precision": "fp32", "weights": {}}, "built before, but with other weights, in fp16"),
    "name": ({"graph": "vae_decoder.onnx", "graph_sha256": "c" * 64}, "not built before"),
}


@pytest.mark.parametrize("case", REASONS)
def test_a_miss_says_why(cache: EngineCache, case: str) -> None:
    values, reason = REASONS[case]
    kept(cache)
    assert cache.find(another(**values)) == reason


def test_the_nearest_entry_explains(cache: EngineCache) -> None:
    kept(cache, another(precision="fp32", backend_version="1.5", recipe=0))
    kept(cache, another(backend_version="1.6.0"))
    assert cache.find(KEY) == "built before, but by version 1.6.0 and this is 1.6.1"


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    tree = json.loads(path.read_text())
    edit(tree)
    path.write_text(json.dumps(tree))


def of_another_engine(path: Path) -> None:
    """Write a genuine sidecar for the key of another engine, as two keys with the same stem would."""
    said = dataclasses.replace(Sidecar.load(path), key=another(backend_version="1.5"))
    said = dataclasses.replace(said, digest=trust.digest(path.stem, said.signed_part()))
    path.write_text(json.dumps(dataclasses.asdict(said)))


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path, Path], Any], str]] = {
    "one bit": (lambda plan, _: flipped(plan), "its plan is damaged"),
    "cut short": (lambda plan, _: plan.write_bytes(PLAN[:-1]), "its plan has 1023 bytes, not 1024"),
    "empty": (lambda plan, _: plan.write_bytes(b""), "its plan has 0 bytes"),
    "no plan": (lambda plan, _: plan.unlink(), "its plan is missing"),
    "another's plan": (lambda plan, _: plan.write_bytes(b"x" * 1024), "its plan is damaged"),
    "sidecar cut short": (lambda _, side: side.write_text(side.read_text()[:90]), "not one of ours"),
    "sidecar of something else": (lambda _, side: side.write_text('{"a": 1}'), "an unknown key"),
    "sidecar of a later format": (
        lambda _, side: change(side, lambda tree: tree.update(format="topos_rt.engine/3")),
        "the format 'topos_rt.engine/3'",
    ),
    "sidecar of another engine": (lambda _, side: of_another_engine(side), "that of another engine"),
    "sidecar too large": (lambda _, side: side.write_text(" " * (1 << 20) + "{}"), "not one of ours"),
    "sidecar a directory": (lambda _, side: (side.unlink(), side.mkdir()), "Is a directory"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_what_is_damaged_or_foreign_is_told_once_and_never_used(cache: EngineCache, case: str) -> None:
    damage, told = DAMAGE[case]
    kept(cache)
    damage(cache.directory / f"{KEY.stem}.plan", cache.directory / f"{KEY.stem}.json")
    with pytest.warns(EngineCacheWarning, match="it is built anew") as caught:
        assert told in str(cache.find(KEY))
    assert len(caught) == 1 and told in str(caught[0].message)
    if case == "sidecar a directory":
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.find(KEY) == "not built before"
        kept(cache)
        assert cache.find(KEY) == Found(PLAN, BUILD)


def test_a_plan_without_a_sidecar_is_not_used(cache: EngineCache) -> None:
    """A process that is killed between the two writes leaves such a plan behind."""
    kept(cache)
    (cache.directory / f"{KEY.stem}.json").unlink()
    assert cache.find(KEY) == "not built before"
    (entry,) = cache.entries()
    assert entry.key is None and entry.bytes == len(PLAN) and "json: No such file" in str(entry.fault)


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    keys = [kept(cache, another(graph=f"g{i}.onnx", graph_sha256=f"{i}" * 64)) for i in range(3)]
    cache = EngineCache(tmp_path, limit_bytes=int(3.5 * cache.entries()[0].bytes))
    for age, key in enumerate(reversed(keys)):
        for path in cache.directory.glob(f"{key.stem}*"):
            os.utime(path, (1e9 - age, 1e9 - age))
    assert isinstance(cache.find(keys[0]), Found)  # used now, though it is the oldest
    kept(cache)
    assert [isinstance(cache.find(key), Found) for key in (*keys, KEY)] == [True, False, True, True]
    big = kept(cache, another(precision="fp32"), bytes(9000))  # larger than the limit, but stored
    assert isinstance(cache.find(big), Found)
    assert [entry.bytes for entry in cache.entries()][1:] == []


def test_another_process_may_trim_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = EngineCache(tmp_path, limit_bytes=1)
    kept(cache, another(graph_sha256="e" * 64))
    entries = EngineCache.entries

    def then_gone(self: EngineCache) -> list[Any]:
        found = entries(self)
        monkeypatch.setattr(EngineCache, "entries", entries)
        for path in self.directory.iterdir():
            if KEY.stem not in path.name:
                path.unlink()
        return found

    monkeypatch.setattr(EngineCache, "entries", then_gone)
    kept(cache)
    assert isinstance(cache.find(KEY), Found)


def test_a_directory_that_goes_meanwhile(cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = EngineCache.entries

    def then_gone(self: EngineCache) -> list[Any]:
        shutil.rmtree(self.directory)
        return entries(self)

    monkeypatch.setattr(EngineCache, "entries", then_gone)
    kept(cache)
    monkeypatch.undo()
    assert cache.find(KEY) == "not built before"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_what_cannot_be_read_now_may_be_later(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Such an error says nothing about the engine, which took minutes to build and therefore stays."""
    kept(cache)

    def fail(path: Path) -> Any:
        raise OSError(number, os.strerror(number))  # as read() raises it, without a file name

    with monkeypatch.context() as patch:
        patch.setattr(Sidecar, "load", fail)
        with pytest.warns(EngineCacheWarning, match=os.strerror(number)):
            assert cache.find(KEY) == os.strerror(number)
        (entry,) = cache.entries()
        assert entry.key is None and os.strerror(number) in str(entry.fault)
    assert isinstance(cache.find(KEY), Found)


@pytest.mark.parametrize("error", [TimeoutError("mine"), BrokenPipeError("mine"), KeyboardInterrupt()])
def test_what_the_callback_raises_ends_the_wait(cache: EngineCache, error: BaseException) -> None:
    def waiting() -> None:
        raise error

    with cache.lock(KEY), pytest.raises(type(error)) as caught, cache.lock(KEY, waiting):
        raise AssertionError("held twice")
    assert caught.value is error


def test_leftovers_of_killed_processes_go(cache: EngineCache) -> None:
    kept(cache)
    old, new = (cache.directory / f".topos-rt-{digit * 12}.tmp" for digit in "01")
    for path in (old, new):
        path.write_bytes(b"")
    os.utime(old, (1, 1))
    kept(cache, another(precision="fp32"))
    assert (old.exists(), new.exists()) == (False, True)


def test_entries_and_clear(cache: EngineCache) -> None:
    kept(cache)
    cache.runtime_cache(KEY, "sm89").write_bytes(b"12345")
    kept(cache, another(graph="b.onnx", graph_sha256="e" * 64))
    mine = cache.directory / "notes.txt"
    mine.write_text("the user's own")
    first, second = cache.entries()
    assert {entry.key.graph for entry in (first, second) if entry.key} == {"dit_step.onnx", "b.onnx"}
    assert first.fault is None and abs(first.last_used - time.time()) < 60
    sizes = sum(path.stat().st_size for path in cache.directory.iterdir() if path != mine)
    assert first.bytes + second.bytes == sizes
    assert cache.clear() == sizes
    assert cache.entries() == [] and list(cache.directory.iterdir()) == [mine]


def test_a_sidecar_says_all_that_the_engine_depends_on(cache: EngineCache) -> None:
    kept(cache)
    said = Sidecar.load(cache.directory / f"{KEY.stem}.json")
    assert said.key == KEY and said.build == BUILD
    assert said.plan.bytes == len(PLAN)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOPOS_RT_CACHE", str(tmp_path))
    assert default_root() == tmp_path and EngineCache().directory == tmp_path / "engines"
    monkeypatch.delenv("TOPOS_RT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_root().name == "topos-rt"
    assert EngineCache(tmp_path / "named").directory == tmp_path / "named" / "engines"


UNWRITABLE: dict[str, Callable[[Path], Any]] = {
    "a file": lambda path: path.write_text(""),
    "inside a file": lambda path: path.parent.write_text(""),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_a_cache_that_cannot_be_written_to(tmp_path: Path, case: str) -> None:
    root = tmp_path / "a" / "b"
    if case == "a file":
        root.parent.mkdir()
    UNWRITABLE[case](root)
    cache = EngineCache(root)
    for call in (cache.check_writable, lambda: cache.store(KEY, PLAN, BUILD)):
        with pytest.raises(OutputError, match=r"cannot write to the engine cache .* fix: .* TOPOS_RT_CACHE"):
            call()
    with cache.lock(KEY):
        assert isinstance(cache.find(KEY), str)
    assert (cache.entries(), cache.clear()) == ([], 0)


def test_a_full_disk(cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes, **options: Any) -> None:
        raise OutputError(f"cannot write {path}", got="No space left on device")

    monkeypatch.setattr(engine_cache, "write_atomic", full)
    with pytest.raises(OutputError, match="No space left"):
        cache.store(KEY, PLAN, BUILD)


def test_the_lock_is_exclusive(tmp_path: Path) -> None:
    cache, waits = EngineCache(tmp_path), []

    def waiting() -> None:
        waits.append(1)
        raise TimeoutError("enough")

    with (
        cache.lock(KEY),
        pytest.raises(TimeoutError, match="enough"),
        EngineCache(tmp_path).lock(KEY, waiting),
    ):
        raise AssertionError("held twice")
    assert waits == [1]
    with cache.lock(KEY, waiting):  # it was released
        assert cache.entries() == []  # a lock is not an entry


def count(path: Path, times: int) -> None:
    """Add one to a number in a file again and again, which is right only under a lock."""
    for _ in range(times):
        with EngineCache(path.parent).lock(KEY):
            number = int(path.read_text())
            time.sleep(0.001)
            path.write_text(str(number + 1))


def test_the_lock_holds_between_processes(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("0")
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=count, args=(path, 25)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert path.read_text() == "50"


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    worker = spawn.Process(target=die_holding, args=(tmp_path,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 3
    with EngineCache(tmp_path).lock(KEY):
        pass


def die_holding(root: Path) -> None:
    with EngineCache(root).lock(KEY):
        os._exit(3)
