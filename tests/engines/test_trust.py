"""The engine cache: what other users could have written is never loaded, and it is said why."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import re
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from tests.engines.test_engine_cache import BUILD, KEY, PLAN, kept
from topos_rt.engines import trust
from topos_rt.engines.cache import EngineCache, EngineCacheWarning, Found, default_root
from topos_rt.errors import OutputError

needs.machine(hasattr(os, "geteuid"), "this system has no owners of files")


class Owners:
    """The os module, whose files at or below some places belong to another user."""

    def __init__(self, *places: Path) -> None:
        self._places = [str(place) for place in places]

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def geteuid(self) -> int:
        return 1000

    def owned(self, path: str, status: os.stat_result) -> os.stat_result:
        values = list(status)
        values[stat.ST_UID] = 1001 if any(path.startswith(place) for place in self._places) else 1000
        return os.stat_result(values)

    def fstat(self, descriptor: int) -> os.stat_result:
        return self.owned(os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor))


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


def files(cache: EngineCache) -> dict[str, Path]:
    return {suffix: cache.directory / f"{KEY.stem}.{suffix}" for suffix in ("plan", "json")}


def refused(cache: EngineCache, reason: str) -> None:
    """Check that the entry is not used, with one warning that says why."""
    with pytest.warns(EngineCacheWarning, match=re.escape(reason)) as caught:
        assert reason in str(cache.find(KEY))
    assert len(caught) == 1


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_may_write_to(cache: EngineCache, mode: int) -> None:
    kept(cache)
    cache.directory.chmod(mode)
    refused(cache, "others may write to it (mode ")
    for call in (cache.check_writable, lambda: cache.store(KEY, PLAN, BUILD)):
        with pytest.raises(OutputError, match=r"not safe to use: got others may write .* fix: name another"):
            call()
    with cache.lock(KEY):  # nobody's lock is taken there; each builds for itself
        pass
    assert not list(cache.directory.glob("*.lock"))


@pytest.mark.parametrize("suffix", ["plan", "json"])
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_to(cache: EngineCache, suffix: str, mode: int) -> None:
    kept(cache)
    files(cache)[suffix].chmod(mode)
    refused(cache, "others may write to it (mode ")
    assert files(cache)[suffix].exists()


@pytest.mark.parametrize("suffix", ["plan", "json"])
def test_a_file_of_another_user(cache: EngineCache, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(cache)
    monkeypatch.setattr(trust, "os", Owners(files(cache)[suffix]))
    refused(cache, "it belongs to another user, 1001")


def test_a_directory_of_another_user(cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(cache)
    owners = Owners(cache.directory)
    monkeypatch.setattr(trust, "os", owners)
    stat_of = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **k: owners.owned(str(path), stat_of(path, **k)))
    refused(cache, "it belongs to another user, 1001")


def test_files_of_root_are_trusted() -> None:
    status = os.stat_result((0o100644, 0, 0, 1, 0, 0, 0, 0, 0, 0))
    assert trust.fault(status) is None


@pytest.mark.parametrize("suffix", ["plan", "json"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_no_link_is_followed_and_no_pipe_waited_for(cache: EngineCache, suffix: str, kind: str) -> None:
    kept(cache)
    path = files(cache)[suffix]
    if kind == "link":
        path.rename(cache.directory.parent / "elsewhere")
        path.symlink_to(cache.directory.parent / "elsewhere")
        refused(cache, "it is a symbolic link")
    else:
        path.unlink()
        os.mkfifo(path, 0o600)
        refused(cache, "it is a device or pipe")


def forged(tree: dict[str, Any]) -> None:
    """Change a sidecar as somebody would who can write to the cache but has no key."""
    tree["plan"] = {"bytes": 4, "sha256": "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589"}


FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another plan": forged,
    "no digest": lambda tree: tree.update(digest=""),
    "another digest": lambda tree: tree.update(digest="0" * 64),
    "a digest of other characters": lambda tree: tree.update(digest="é" * 64),
    "another build": lambda tree: tree["build"].update(seconds=2.0),
    "another time": lambda tree: tree.update(created="1999-01-01T00:00:00Z"),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_a_forged_entry(cache: EngineCache, case: str) -> None:
    kept(cache)
    path = files(cache)["json"]
    tree = json.loads(path.read_text())
    FORGERIES[case](tree)
    path.write_text(json.dumps(tree))
    if case == "another plan":
        files(cache)["plan"].write_bytes(b"abcd")
    refused(cache, "its digest was not made with the key of this user")
    assert "its digest" in str(cache.entries()[0].fault)


def test_an_entry_under_another_name(cache: EngineCache) -> None:
    """A genuine entry must not stand for another: engines of an older library version may have faults."""
    other = kept(cache, dataclasses.replace(KEY, backend_version="1.5"), b"old")
    for suffix, path in files(cache).items():
        (cache.directory / f"{other.stem}.{suffix}").rename(path)
    refused(cache, "its digest was not made with the key of this user")


def test_an_entry_of_another_key(cache: EngineCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(cache)
    monkeypatch.setenv(trust.KEY_ENVIRONMENT, str(tmp_path / "another"))
    refused(cache, "there is no key to verify it with")
    trust.digest("", b"")  # makes the key
    refused(cache, "its digest was not made with the key of this user")
    assert all(path.exists() for path in files(cache).values())
    kept(cache)
    assert cache.find(KEY) == Found(PLAN, BUILD)


def test_what_is_written_is_private(cache: EngineCache) -> None:
    old = os.umask(0)
    try:
        kept(cache)
        trust.write_signed(cache.runtime_cache(KEY, "sm89"), b"kernels")
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in cache.directory.iterdir()} == {0o600}
    assert cache.directory.stat().st_mode & 0o777 == 0o700
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.find(KEY) == Found(PLAN, BUILD)


def test_signed_files(tmp_path: Path) -> None:
    path = tmp_path / "a.jit"
    trust.write_signed(path, b"kernels")
    assert trust.read_signed(path) == b"kernels"
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(trust.Untrusted):
            trust.read_signed(path)
        path.write_bytes(data[:place])
        with pytest.raises(trust.Untrusted):
            trust.read_signed(path)
    path.write_bytes(data)
    path.rename(tmp_path / "b.jit")
    with pytest.raises(trust.Untrusted, match="its digest was not made"):
        trust.read_signed(tmp_path / "b.jit")


def test_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "state" / "key"
    monkeypatch.setenv(trust.KEY_ENVIRONMENT, str(key))
    first = trust.digest("a", b"x")
    assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_bytes()) == 32
    assert os.listdir(key.parent) == ["key"]
    assert trust.digest("a", b"x") == first != trust.digest("b", b"x")
    key.chmod(0o660)
    with pytest.raises(OutputError, match=r"others may write to it .* fix: set TOPOS_RT_CACHE_KEY"):
        trust.digest("a", b"x")
    key.chmod(0o600)
    key.write_bytes(b"short")
    with pytest.raises(OutputError, match="got 5 bytes; fix: remove it"):
        trust.digest("a", b"x")


def make_key(start: Any, digests: Any) -> None:
    start.wait()
    digests.put(trust.digest("a", b"x"))


def test_two_processes_make_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trust.KEY_ENVIRONMENT, str(tmp_path / "state" / "key"))
    spawn = multiprocessing.get_context("spawn")
    start, digests = spawn.Event(), spawn.Queue()
    workers = [spawn.Process(target=make_key, args=(start, digests)) for _ in range(3)]
    for worker in workers:
        worker.start()
    start.set()
    assert len({digests.get(timeout=60) for _ in workers}) == 1
    for worker in workers:
        worker.join(60)


def test_no_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    for name in ("user_state_path", "user_cache_path"):
        monkeypatch.setattr(platformdirs, name, lambda *_, **__: Path("~/somewhere"))
    monkeypatch.delenv(trust.KEY_ENVIRONMENT)
    monkeypatch.delenv("TOPOS_RT_CACHE", raising=False)
    with pytest.raises(OutputError, match="the engine cache: got no home directory; fix: set TOPOS_RT_CACHE"):
        default_root()
    with pytest.raises(OutputError, match="got no home directory; fix: set TOPOS_RT_CACHE_KEY"):
        trust.digest("a", b"x")
