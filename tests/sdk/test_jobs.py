"""Jobs of the C library: threads, steps, progress, cancellation, lifetimes, memory."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sample_pictures import smooth
from tests.sdk import capi
from tests.sdk.capi import PENDING, Handle, constants

ROOT = Path(__file__).parents[2]
PROGRESS = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)
FOREVER = 2**32 - 1
MANUAL = 1


@pytest.fixture(scope="module")
def model(api: capi.Api, rt: Handle, packs: Any) -> Iterator[Handle]:
    made = capi.load(api, rt, packs["mini"][1])
    yield made
    api.call("model_release", made)


@pytest.fixture(scope="module")
def image() -> Any:
    return capi.image(smooth(64, 48))


def submit(api: capi.Api, model: Handle, wanted: Any) -> Handle:
    return Handle(api.made("submit", model, wanted))


def taken(api: capi.Api, job: Handle, item: int = 0) -> Handle:
    head = ctypes.c_void_p()
    assert api.call("job_take_head", job, item, ctypes.byref(head)) == 0
    return Handle(head.value or 0)


def test_a_job_runs_on_a_thread_of_its_own(api: capi.Api, model: Handle, image: Any) -> None:
    wanted = capi.request([image], [3, 4], steps=3)
    job = submit(api, model, wanted)
    assert api.call("job_wait", job, FOREVER) == 0
    progress = api.told("job_poll", "progress", job)
    assert (progress.steps, progress.items, progress.stage) == (3, 2, b"done")
    one, two = taken(api, job), taken(api, job, 1)
    alone = capi.generate(api, model, capi.request([image], [4], steps=3))[0]
    assert capi.vertices(api, model, two)[0].tobytes() == capi.vertices(api, model, alone)[0].tobytes()
    assert capi.vertices(api, model, one)[0].tobytes() != capi.vertices(api, model, alone)[0].tobytes()
    seconds, names = ctypes.c_double(), []
    while name := api.call("job_timing", job, len(names), ctypes.byref(seconds)):
        names.append(name.decode())
        assert 0 < seconds.value < 600
    assert names == ["image", "evidence", "image_encoder", "dit_context", "dit_step", "vae_decoder", "rig"]
    assert (
        api.call("job_take_head", job, 2, ctypes.byref(ctypes.c_void_p())) == constants()["TOPOS_E_ARGUMENT"]
    )
    assert api.call("job_step", job) == constants()["TOPOS_E_STATE"]
    api.call("job_release", job)
    for head in (one, two, alone):  # heads outlive their job
        assert capi.vertices(api, model, head)[0].shape == (4538, 3)
        api.call("head_release", head)


def test_manual_steps_do_one_evaluation_at_most(api: capi.Api, model: Handle, image: Any) -> None:
    job = submit(api, model, capi.request([image], [1], MANUAL, steps=4))
    assert api.call("job_wait", job, 0) == constants()["TOPOS_E_STATE"]
    stages, steps = [], []
    while True:
        progress = api.told_status("job_poll", "progress", job)
        stages.append(progress.stage.decode())
        steps.append(progress.step)
        if api.call("job_step", job) != PENDING:
            break
    order = ["image", "evidence", "image_encoder", "dit_context", *["dit_step"] * 4, "vae_decoder", "rig"]
    assert stages == order and steps == [0, 0, 0, 0, 0, 1, 2, 3, 4, 4]
    assert api.call("job_step", job) == 0 and api.call("job_poll", job, None) == 0
    api.call("job_release", job)


def test_the_progress_callback_is_told_and_may_cancel(api: capi.Api, model: Handle, image: Any) -> None:
    seen: list[tuple[str, int]] = []
    stop_at = 100

    def told(_: Any, address: int) -> int:
        progress = ctypes.cast(address, ctypes.POINTER(capi.structs()["topos_progress"])).contents
        seen.append((progress.stage.decode(), progress.step))
        return int(len(seen) >= stop_at)

    callback = PROGRESS(told)
    wanted = capi.request([image], [1], steps=3, progress=ctypes.cast(callback, ctypes.c_void_p).value)
    (head,) = capi.generate(api, model, wanted)
    api.call("head_release", head)
    assert seen == [
        ("image", 0), ("evidence", 0), ("image_encoder", 0), ("dit_context", 0), ("dit_step", 0),
        ("dit_step", 1), ("dit_step", 2), ("vae_decoder", 3), ("rig", 3),
    ]  # fmt: skip
    for stop_at in range(1, len(seen) + 1):
        seen.clear()
        with pytest.raises(capi.CError, match="TOPOS_E_CANCELLED"):
            capi.generate(api, model, wanted)
        assert len(seen) == stop_at


def test_cancellation_is_quick_and_later_jobs_run(api: capi.Api, model: Handle, image: Any) -> None:
    jobs = [submit(api, model, capi.request([image], [1], steps=900)) for _ in range(3)]
    quick = submit(api, model, capi.request([image], [1], steps=1))
    while api.told_status("job_poll", "progress", jobs[0]).step < 2:
        time.sleep(0.001)
    assert api.call("job_poll", quick, None) == PENDING
    start = time.perf_counter()
    api.call("job_cancel", jobs[0])
    assert api.call("job_wait", jobs[0], FOREVER) == constants()["TOPOS_E_CANCELLED"]
    assert time.perf_counter() - start < 5  # 50 ms on an idle machine; this one is busy
    error = capi.struct("error")
    assert api.call("job_get_error", jobs[0], error) == error.status == constants()["TOPOS_E_CANCELLED"]
    assert b"cancelled" in error.message
    none = ctypes.c_void_p(1)
    assert api.call("job_take_head", jobs[0], 0, ctypes.byref(none)) == error.status and none.value is None
    for job in jobs:
        api.call("job_release", job)  # cancels those that wait or run
    assert api.call("job_wait", quick, FOREVER) == 0
    api.call("job_release", quick)


def test_a_job_that_waits_for_its_turn_is_cancelled_at_once(api: capi.Api, model: Handle, image: Any) -> None:
    first = submit(api, model, capi.request([image], [1], steps=1000))
    waiting = [submit(api, model, capi.request([image], [1], steps=1)) for _ in range(3)]
    for job in (waiting[1], waiting[0]):
        api.call("job_cancel", job)
        assert api.call("job_wait", job, FOREVER) == constants()["TOPOS_E_CANCELLED"]
        assert api.call("job_poll", first, None) == PENDING
    api.call("job_cancel", first)
    assert api.call("job_wait", waiting[2], FOREVER) == 0
    for job in (first, *waiting):
        api.call("job_release", job)


def test_waiting_ends_in_time(api: capi.Api, model: Handle, image: Any) -> None:
    job = submit(api, model, capi.request([image], [1], steps=900))
    assert api.call("job_wait", job, 20) == PENDING
    api.call("job_release", job)


def test_handles_may_be_released_in_any_order(api: capi.Api, ort: Path, packs: Any, image: Any) -> None:
    options = capi.struct("runtime_options", ort_library=str(ort).encode(), num_threads=1)
    made = Handle(api.made("runtime_create", options))
    model = capi.load(api, made, packs["tiny"][1])
    job = submit(api, model, capi.request([image], [1]))
    running = submit(api, model, capi.request([image], [2], steps=1000))
    api.call("runtime_release", made)
    api.call("model_retain", model)
    api.call("model_release", model)
    api.call("model_release", model)
    assert api.call("job_wait", job, FOREVER) == 0
    head = taken(api, job)
    api.call("job_release", running)
    api.call("job_release", job)
    out = np.empty(18, np.float32)
    assert api.call("head_get_latent", head, out, 17) == constants()["TOPOS_E_CAPACITY"]
    assert api.call("head_get_latent", head, out, 18) == 0 and out.std() > 0
    api.call("head_release", head)  # the last one waits for the thread of `running`


def test_many_threads_at_once(api: capi.Api, model: Handle, image: Any) -> None:
    expected = {}
    for seed in range(3):
        (head,) = capi.generate(api, model, capi.request([image], [seed], steps=1))
        expected[seed] = capi.vertices(api, model, head)[0].tobytes()
        api.call("head_release", head)
    wrong: list[int] = []

    def work(number: int) -> None:
        for seed in range(3):
            job = submit(api, model, capi.request([image], [seed], steps=1))
            while api.call("job_poll", job, None) == PENDING:
                time.sleep(0.001)
            head = taken(api, job)
            if capi.vertices(api, model, head)[0].tobytes() != expected[seed]:
                wrong.append(number)
            api.call("job_release", job)
            api.call("head_release", head)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


BAD = [
    ({"num_images": 0}, "images"), ({"images": None}, "images"), ({"num_images": 1 << 20}, "images"),
    ({"seeds": None}, "seeds"), ({"flags": 64}, "flags"), ({"set": 256}, "set"), ({"preset": 9}, "preset"),
    ({"set": 1, "steps": 0}, "steps"), ({"set": 1, "steps": 1001}, "steps"),
    ({"set": 2, "solver": 6}, "solver"), ({"set": 2, "solver": -1}, "solver"),
    ({"set": 4, "guidance": -1.0}, "guidance"), ({"set": 4, "guidance": float("nan")}, "guidance"),
    ({"set": 8, "shift": 0.0}, "shift"), ({"set": 16, "temperature": 2.5}, "temperature"),
    ({"set": 64, "reuse": 0}, "reuse"), ({"set": 128}, "times"), ({"num_latents": 1}, "latents"),
    ({"struct_size": 16}, "struct_size"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "word"), BAD, ids=str)
def test_bad_requests(change: dict[str, Any], word: str, api: capi.Api, model: Handle, image: Any) -> None:
    wanted = capi.request([image], [1])
    for name, value in change.items():
        setattr(wanted, name, value)
    with pytest.raises(capi.CError, match=word) as caught:
        submit(api, model, wanted)
    assert caught.value.name == "TOPOS_E_ARGUMENT" and "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"interval": (0.5, 0.2)}, "interval"), ({"interval": (-1, 0.2)}, "interval"),
        ({"times": [1.0]}, "times"), ({"times": [1, 0.5, 0.5, 0]}, "times"), ({"times": [1, 0.2]}, "times"),
        ({"times": [1, 0.5, 0], "steps": 3}, "steps"), ({"times": [1, 0.5, 0], "shift": 2.0}, "shift"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_settings(given: dict[str, Any], word: str, api: capi.Api, model: Handle, image: Any) -> None:
    with pytest.raises(capi.CError, match=word):
        submit(api, model, capi.request([image], [1], **given))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"format": 0, "orientation": 3}, "TOPOS_E_ARGUMENT"), ({"format": 9}, "TOPOS_E_ARGUMENT"),
        ({"data": None}, "TOPOS_E_ARGUMENT"), ({"data_size": 9215}, "TOPOS_E_ARGUMENT"),
        ({"width": 15}, "TOPOS_E_IMAGE"), ({"height": 0}, "TOPOS_E_IMAGE"),
        ({"width": 2**32 - 1, "height": 2**32 - 1}, "TOPOS_E_IMAGE"),
        ({"row_stride": 143}, "TOPOS_E_ARGUMENT"),
        ({"row_stride": -(2**31)}, "TOPOS_E_ARGUMENT"), ({"orientation": 9}, "TOPOS_E_ARGUMENT"),
        ({"struct_size": 4}, "TOPOS_E_ARGUMENT"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_images(change: dict[str, Any], name: str, api: capi.Api, model: Handle) -> None:
    image = capi.image(smooth(64, 48))
    for key, value in change.items():
        setattr(image, key, value)
    with pytest.raises(capi.CError) as caught:
        submit(api, model, capi.request([image], [1]))
    assert caught.value.name == name


def test_a_picture_that_is_fully_transparent(api: capi.Api, model: Handle) -> None:
    with pytest.raises(capi.CError, match="transparent") as caught:
        capi.generate(api, model, capi.request([capi.image(np.zeros((20, 20, 4), np.uint8))]))
    assert caught.value.name == "TOPOS_E_IMAGE"


def test_latents_that_are_not_finite_and_heads_that_are_not(api: capi.Api, model: Handle) -> None:
    latents = np.full((1, 167, 6), np.nan, np.float32)
    with pytest.raises(capi.CError, match="finite"):
        submit(api, model, capi.request([], [], latents=latents))
    latents[:] = 3e38
    with pytest.raises(capi.CError, match="TOPOS_E_NUMERIC"):
        capi.generate(api, model, capi.request([], [], latents=latents))


ALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)
FREE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)


class Counting:
    """An allocator that refuses the n-th allocation, and counts."""

    def __init__(self) -> None:
        self.fail_at = 0
        self.made = 0
        self.living: dict[int, Any] = {}
        self.alloc, self.free = ALLOC(self._alloc), FREE(self._free)

    def _alloc(self, _: Any, size: int, alignment: int) -> int | None:
        self.made += 1
        if self.made == self.fail_at:
            return None
        memory = ctypes.create_string_buffer(size + alignment)
        address = -(-ctypes.addressof(memory) // alignment) * alignment
        self.living[address] = (memory, size, alignment)
        return address

    def _free(self, _: Any, address: int, size: int, alignment: int) -> None:
        _, *known = self.living.pop(address)
        assert known == [size, alignment]

    def struct(self) -> Any:
        return capi.struct(
            "allocator",
            alloc=ctypes.cast(self.alloc, ctypes.c_void_p).value,
            free=ctypes.cast(self.free, ctypes.c_void_p).value,
        )


def test_every_allocation_may_fail_and_none_is_lost(api: capi.Api, ort: Path, packs: Any, image: Any) -> None:
    counting = Counting()
    given = counting.struct()
    with capi.runtime(api, ort, allocator=ctypes.addressof(given)) as made:

        def whole() -> None:
            model = capi.load(api, made, packs["tiny"][1])
            try:
                (head,) = capi.generate(api, model, capi.request([image], [1], steps=2))
                api.call("head_release", head)
            finally:
                api.call("model_release", model)

        whole()
        count, kept = counting.made, len(counting.living)
        assert count > 20
        info = api.told("runtime_get_info", "runtime_info", made)
        assert info.host_bytes == sum(size for _, size, _ in counting.living.values())
        assert info.host_bytes_peak > 10_000
        for number in range(1, count + 1):
            counting.made, counting.fail_at = 0, number
            with pytest.raises(capi.CError, match="TOPOS_E_MEMORY"):
                whole()
            assert len(counting.living) == kept, f"allocation {number} lost something"
        counting.fail_at = 0
        whole()
    assert not counting.living


def test_nothing_is_allocated_while_sampling(api: capi.Api, ort: Path, packs: Any, image: Any) -> None:
    counting = Counting()
    given = counting.struct()
    with capi.runtime(api, ort, allocator=ctypes.addressof(given)) as made:
        model = capi.load(api, made, packs["tiny"][1])
        job = submit(api, model, capi.request([image], [1], MANUAL, steps=5))
        while api.told_status("job_poll", "progress", job).stage != b"dit_step":
            api.call("job_step", job)
        before = counting.made
        while api.told_status("job_poll", "progress", job).stage == b"dit_step":
            api.call("job_step", job)
        assert counting.made == before
        api.call("job_release", job)
        api.call("model_release", model)


def test_threads_of_the_host(api: capi.Api, ort: Path, packs: Any, image: Any) -> None:
    create_type = ctypes.CFUNCTYPE(
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.CFUNCTYPE(None, ctypes.c_void_p),
        ctypes.c_void_p,
        ctypes.c_char_p,
    )
    join_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
    threads: list[threading.Thread] = []
    names: list[bytes] = []
    refuse = False

    def create(_: Any, run: Any, argument: int, name: bytes) -> int | None:
        if refuse:
            return None
        names.append(name)
        threads.append(threading.Thread(target=run, args=(argument,)))
        threads[-1].start()
        return len(threads)

    def join(_: Any, token: int) -> None:
        threads[token - 1].join()

    callbacks = create_type(create), join_type(join)
    given = capi.struct(
        "threads",
        create=ctypes.cast(callbacks[0], ctypes.c_void_p).value,
        join=ctypes.cast(callbacks[1], ctypes.c_void_p).value,
    )
    with capi.runtime(api, ort, threads=1) as plain:
        assert api.told("runtime_get_info", "runtime_info", plain).num_threads == 1
    options = capi.struct(
        "runtime_options", ort_library=str(ort).encode(), num_threads=1, threads=ctypes.addressof(given)
    )
    made = Handle(api.made("runtime_create", options))
    model = capi.load(api, made, packs["tiny"][1])
    job = submit(api, model, capi.request([image]))
    assert api.call("job_wait", job, FOREVER) == 0
    api.call("job_release", job)
    refuse = True
    with pytest.raises(capi.CError, match="threads"):
        submit(api, model, capi.request([image]))
    refuse = False
    job = submit(api, model, capi.request([image]))  # a refused one does not stop those after it
    assert api.call("job_wait", job, FOREVER) == 0
    for name, handle in (("job", job), ("model", model), ("runtime", made)):
        api.call(f"{name}_release", handle)
    assert names == [b"topos_rt job"] * 2 and not any(thread.is_alive() for thread in threads)


FORK = """
import ctypes, os, sys
from pathlib import Path
import numpy as np
from tests.sdk import capi
api, ort, pack = capi.Api(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3])
image = capi.image(np.full((20, 20, 3), 99, np.uint8))
with capi.runtime(api, ort) as rt:
    model = capi.load(api, rt, pack)
    child = os.fork()
    if child == 0:
        try:
            capi.generate(api, model, capi.request([image]))
        except capi.CError as error:
            os._exit(7 if error.name == "TOPOS_E_STATE" and "fork" in error.message else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    (head,) = capi.generate(api, model, capi.request([image]))
    api.call("head_release", head)
    api.call("model_release", model)
print("fine")
"""


def test_a_forked_process_is_told(api: capi.Api, ort: Path, packs: Any) -> None:
    words = [sys.executable, "-c", FORK, api.path, ort, packs["tiny"][1]]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=os.environ, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ("fine\n", "", 0)  # and nothing else is printed
