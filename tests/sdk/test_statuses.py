"""Every status of the C library is reached, by what a program does wrong or what is wrong around it."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sample_pictures import smooth
from tests.sdk import capi
from tests.sdk.capi import Handle
from topos_rt.faces.bundle import FaceBundle
from topos_rt.model.bundle import Bundle
from topos_rt.pack.container import packed
from topos_rt.pack.contents import contents


@dataclass
class World:
    api: capi.Api
    rt: Handle
    model: Handle
    pack: Path
    mini: Path
    bundle: Path
    folder: Path

    def load(self, path: Path, **options: Any) -> None:
        self.api.call("model_release", capi.load(self.api, self.rt, path, **options))

    def request(self, **given: Any) -> Any:
        return capi.request([capi.image(smooth(64, 48))], [1], **given)

    def made(self, **given: Any) -> None:
        capi.generate(self.api, self.model, self.request(**given))

    def status(self, name: str, *arguments: Any) -> None:
        """Raise CError for a status other than TOPOS_OK, as functions without an error return it."""
        if status := self.api.call(name, *arguments):
            raise capi.CError(status)

    def job(self, flags: int = 1) -> Handle:
        return Handle(self.api.made("submit", self.model, self.request(flags=flags, steps=900)))


def _pending(w: World) -> None:
    job = w.job()
    try:
        w.status("job_step", job)
    finally:
        w.api.call("job_release", job)


def _cancelled(w: World) -> None:
    job = w.job(0)
    w.api.call("job_cancel", job)
    try:
        w.status("job_wait", job, 2**32 - 1)
    finally:
        w.api.call("job_release", job)


def _state(w: World) -> None:
    job = w.job(0)
    try:
        w.status("job_step", job)
    finally:
        w.api.call("job_release", job)


def _capacity(w: World) -> None:
    (head,) = capi.generate(w.api, w.model, w.request())
    try:
        w.status("head_get_latent", head, np.empty(1, np.float32), 1)
    finally:
        w.api.call("head_release", head)


def _pack(w: World) -> None:
    path = w.folder / "short.topos"
    path.write_bytes(w.pack.read_bytes()[:-1])
    w.load(path)


def _backend(w: World) -> None:
    sound = contents(Bundle.open(w.bundle), FaceBundle.open())
    path = w.folder / "graph.topos"
    path.write_bytes(packed(sound | {("graph", 0): b"no graph"}))
    w.load(path)


def _numeric(w: World) -> None:
    latents = np.full((1, 167, 6), 3e38, np.float32)
    model = capi.load(w.api, w.rt, w.mini)
    try:
        capi.generate(w.api, model, capi.request([], [], latents=latents))
    finally:
        w.api.call("model_release", model)


def _image(w: World) -> None:
    capi.generate(w.api, w.model, capi.request([capi.image(np.zeros((20, 20, 4), np.uint8))]))


def _unavailable(w: World) -> None:
    w.api.made("runtime_create", capi.struct("runtime_options", ort_library=b"/nowhere/x.so"))


REACHED: dict[str, Callable[[World], None]] = {
    "TOPOS_OK": lambda w: w.made(),
    "TOPOS_PENDING": _pending,
    "TOPOS_E_ARGUMENT": lambda w: w.made(steps=0),
    "TOPOS_E_IMAGE": _image,
    "TOPOS_E_PACK": _pack,
    "TOPOS_E_IO": lambda w: w.load(w.folder / "missing.topos"),
    "TOPOS_E_BACKEND": _backend,
    "TOPOS_E_UNAVAILABLE": _unavailable,
    "TOPOS_E_UNSUPPORTED": lambda w: w.load(w.pack, backend=77),
    "TOPOS_E_CANCELLED": _cancelled,
    "TOPOS_E_MEMORY": lambda w: w.load(w.pack, host_budget=1000),
    "TOPOS_E_CAPACITY": _capacity,
    "TOPOS_E_NUMERIC": _numeric,
    "TOPOS_E_STATE": _state,
}
INTERNAL = "TOPOS_E_INTERNAL"  # sdk/tests/exercise.cpp: an allocator that throws


def test_none_is_left_out() -> None:
    names = {name for name in capi.constants() if name.startswith("TOPOS_E_")}
    assert names | {"TOPOS_OK", "TOPOS_PENDING"} == {*REACHED, INTERNAL}


@pytest.mark.parametrize("name", REACHED)
def test_each_is_reached(name: str, api: capi.Api, rt: Handle, packs: Any, tmp_path: Path) -> None:
    bundle, pack = packs["tiny"]
    model = capi.load(api, rt, pack)
    try:
        REACHED[name](World(api, rt, model, pack, packs["mini"][1], bundle, tmp_path))
        found = "TOPOS_OK"
    except capi.CError as error:
        found = error.name
    finally:
        api.call("model_release", model)
    assert found == name


def test_an_allocator_that_throws_is_an_internal_error_and_loses_nothing(built: Path, packs: Any) -> None:
    """Its allocator refuses, or throws at, every allocation in turn."""
    words = [built / "sdk/tests/exercise", packs["tiny"][1]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=os.environ)
    assert (done.stdout, done.stderr, done.returncode) == ("0 failures\n", "", 0)


def test_a_status_of_no_meaning_has_a_name(api: capi.Api) -> None:
    api.lib.topos_status_name.argtypes = [ctypes.c_int32]
    assert api.lib.topos_status_name(-99) == b"(unknown status)"
