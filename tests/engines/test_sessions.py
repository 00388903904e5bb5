"""Optimised graphs on disk: they give the same bits, and a cache that is of no use costs only time."""

from __future__ import annotations

import json
import os
import shutil
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs
from tests.engines.test_contract import A, B, write_graph
from topos_rt import HeadPipeline
from topos_rt.engines import Engine, EngineOptions, backend
from topos_rt.engines import onnxruntime as ort
from topos_rt.engines.cache import EngineCacheWarning
from topos_rt.engines.sessions import ABOUT, GRAPH, WEIGHTS, SessionCache
from topos_rt.errors import BundleError
from topos_rt.model.bundle import Bundle
from topos_rt.model.sources import engine_source
from topos_rt.support.machine import cpu_kind, sha256_of

needs.machine(cpu_kind(), "the kind of processor cannot be told here, so nothing is kept")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sessions that were opened: "optimised", "saved" or "plain"."""
    found: list[str] = []
    real = ort.open_session

    def seen(
        path: Path, threads: int, optimised: bool = False, save_to: Path | None = None, **rest: Any
    ) -> Any:
        found.append("optimised" if optimised else "plain" if save_to is None else "saved")
        return real(path, threads, optimised, save_to, **rest)

    monkeypatch.setattr(ort, "open_session", seen)
    return found


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Engine]:
    graph = write_graph(tmp_path / "g.onnx")

    def loaded(defer: bool = False, root: Path = tmp_path) -> Engine:
        options = EngineOptions(1, cache=root, hashes={graph: sha256_of(graph)}, defer=defer)
        return backend("onnxruntime").load(graph, options)

    return loaded


def entry(root: Path) -> Path:
    (found,) = (root / "sessions").iterdir()
    return found


def check(engine: Engine) -> None:
    with engine:
        assert np.array_equal(engine.run({"a": A, "b": B})["sum"], A + B)


def test_the_second_time_nothing_is_optimised(load: Any, opened: list[str], tmp_path: Path) -> None:
    check(load())
    assert {file.name for file in entry(tmp_path).iterdir()} == {GRAPH, WEIGHTS, ABOUT}
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "sessions").stat().st_mode) == 0o700
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(load())
    assert opened == ["saved", "optimised"]


@pytest.mark.parametrize("graph", ["dit_step", "vae_encoder"])
def test_an_optimised_graph_gives_the_same_bits(graph: str, opened: list[str], tmp_path: Path) -> None:
    chosen, draw, made = backend("onnxruntime"), np.random.default_rng(0), []
    source = engine_source(Bundle.open("mini"), graph, chosen, EngineOptions(2, cache=tmp_path))
    feeds: dict[str, Any] = {}
    for _ in range(2):
        with chosen.load(*source) as engine:
            feeds = feeds or {
                name: draw.standard_normal(spec.shape).astype(np.float32)
                for name, spec in engine.inputs.items()
            }
            made.append(engine.run(feeds))
    assert opened == ["saved", "optimised"]
    assert all(np.array_equal(made[0][name], made[1][name]) for name in made[0])


def test_a_graph_may_be_opened_at_its_first_run(load: Any, opened: list[str]) -> None:
    check(load(defer=True))  # it is not there yet, and has to be opened to be known
    assert opened == ["saved"]
    engine = load(defer=True)
    assert opened == ["saved"] and engine.inputs["a"].shape == (2, 3)
    check(engine)
    assert opened == ["saved", "optimised"]


def test_a_deferred_graph_that_is_gone_is_made_anew(load: Any, opened: list[str], tmp_path: Path) -> None:
    check(load())
    engine = load(defer=True)
    shutil.rmtree(entry(tmp_path))
    check(engine)
    assert opened == ["saved", "saved"] and entry(tmp_path)


def test_a_deferred_graph_without_its_files_says_so(load: Any, tmp_path: Path) -> None:
    check(load())
    engine = load(defer=True)
    shutil.rmtree(entry(tmp_path))
    (tmp_path / "g.onnx").unlink()
    with pytest.raises(BundleError, match="files that have changed since the model was opened"):
        engine.run({"a": A, "b": B})


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def forge(path: Path) -> None:
    about = json.loads(path.read_text())
    about["outputs"].reverse()
    path.write_text(json.dumps(about))


DAMAGE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "graph cut short": (GRAPH, cut),
    "graph altered": (GRAPH, flip),
    "graph missing": (GRAPH, Path.unlink),
    "weights longer": (WEIGHTS, lambda path: path.write_bytes(path.read_bytes() + b"0") and None),
    "weights missing": (WEIGHTS, Path.unlink),
    "about cut short": (ABOUT, lambda path: path.write_bytes(path.read_bytes()[:40]) and None),
    "about forged": (ABOUT, forge),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_made_anew(load: Any, opened: list[str], tmp_path: Path, damage: str) -> None:
    check(load())
    name, change = DAMAGE[damage]
    change(entry(tmp_path) / name)
    with pytest.warns(EngineCacheWarning, match="not used"):
        check(load())
    check(load())
    assert opened == ["saved", "saved", "optimised"]


def test_a_missing_about_is_an_entry_that_was_never_finished(
    load: Any, opened: list[str], tmp_path: Path
) -> None:
    check(load())
    (entry(tmp_path) / ABOUT).unlink()
    check(load())
    check(load())
    assert opened == ["saved", "saved", "optimised"]


def test_a_cache_that_cannot_be_made(load: Any, opened: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    check(load(root=tmp_path / "file"))
    assert opened == ["plain"]


def test_a_read_only_cache_is_used_and_not_written(
    load: Any, opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(load())
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "sessions").rglob("*")}

    def refuse(*_: Any, **__: Any) -> None:  # permissions do not bind root, who may run this
        raise OSError(30, "Read-only file system")

    for name in ("utime", "rename", "mkdir"):
        monkeypatch.setattr(os, name, refuse)
    check(load())
    check(load(root=tmp_path / "other"))
    assert opened == ["saved", "optimised", "plain"]
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "sessions").rglob("*")}


def test_a_cache_that_others_may_write_to_is_not_used(load: Any, opened: list[str], tmp_path: Path) -> None:
    needs.machine(os.name == "posix", "modes of files are those of POSIX")
    check(load())
    (tmp_path / "sessions").chmod(0o777)
    with pytest.warns(EngineCacheWarning, match="others may write to it"):
        check(load())
    assert opened == ["saved", "plain"]


def test_entries_of_another_key_are_told_of_once(
    opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = [write_graph(tmp_path / f"g{number}.onnx") for number in range(3)]

    def check_all() -> None:
        for graph in graphs:
            options = EngineOptions(1, cache=tmp_path, hashes={graph: sha256_of(graph)})
            check(backend("onnxruntime").load(graph, options))

    check_all()
    monkeypatch.setenv("TOPOS_RT_CACHE_KEY", str(tmp_path / "another_key"))
    with pytest.warns(EngineCacheWarning) as told:
        check_all()
    assert len([w for w in told if issubclass(w.category, EngineCacheWarning)]) == 1
    check_all()
    assert opened == ["saved"] * 6 + ["optimised"] * 3


def test_files_that_nobody_verified_are_not_kept(tmp_path: Path, opened: list[str]) -> None:
    graph = write_graph(tmp_path / "g.onnx")
    check(backend("onnxruntime").load(graph, EngineOptions(1, cache=tmp_path)))
    assert opened == ["plain"] and not (tmp_path / "sessions").exists()


def test_the_least_recently_used_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("topos_rt.engines.sessions.LIMIT_BYTES", 0)
    cache = SessionCache(tmp_path, limit_bytes=0)
    monkeypatch.setattr(ort, "SessionCache", lambda root: cache)
    for number in range(2):
        graph = write_graph(tmp_path / f"g{number}.onnx")
        options = EngineOptions(1, cache=tmp_path, hashes={graph: sha256_of(graph)})
        check(backend("onnxruntime").load(graph, options))
        assert entry(tmp_path).name.startswith(f"g{number}-")


def test_a_head_opens_only_what_it_needs(opened: list[str], tmp_path: Path) -> None:
    heads = []
    for _ in range(2):
        with HeadPipeline.open("mini", "onnxruntime", 1, cache=tmp_path) as pipe:
            heads.append(pipe(Path(__file__).parents[2] / "examples" / "astronaut.jpg", texture="none"))
    assert np.array_equal(heads[0].positions, heads[1].positions)
    assert "plain" not in opened
    # The detector, landmarks, expression; encoder, modulation, context and step; the decoder if not compiled.
    assert opened.count("optimised") in (7, 8) and opened.count("saved") in (9, 10)
