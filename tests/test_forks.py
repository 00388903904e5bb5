"""Processes that fork, by any start method, with an open pipeline: nothing hangs, and all works."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import needs
from topos_rt.errors import BundleError, InputError
from topos_rt.model.networks import Networks
from topos_rt.pipeline import HeadPipeline

needs.machine(hasattr(os, "fork"), "this system does not fork")

IMAGE = np.full((64, 64, 3), 128, np.uint8)
PATIENCE_S = 60  # a child that is not done by then hangs
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    pytest.mark.usefixtures("whole_pictures"),
]


def code_of(child: Callable[[], object]) -> int | str:
    """Return the exit code of a forked process that runs `child`: 5 if it raises nothing."""
    pid = os.fork()
    if pid == 0:
        code = 6
        try:
            child()
            code = 5
        finally:
            os._exit(code)
    return waited(pid)


def waited(pid: int) -> int | str:
    start = time.monotonic()
    while time.monotonic() - start < PATIENCE_S:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return "it hangs"


@pytest.fixture
def pipe(own_bundle: Path) -> HeadPipeline:
    return HeadPipeline.open(own_bundle, "onnxruntime", threads=3)


def same(pipe: HeadPipeline, want: np.ndarray) -> None:
    assert pipe(IMAGE).positions.tobytes() == want.tobytes()


def drop(pipe: HeadPipeline) -> None:
    pipe._networks._engines = None
    gc.collect()


CHILDREN: dict[str, Callable[[HeadPipeline, np.ndarray], object]] = {
    "closes": lambda pipe, want: pipe.close(),
    "drops it": lambda pipe, want: drop(pipe),
    "uses it": same,
    "uses and closes it": lambda pipe, want: (same(pipe, want), pipe.close(), pipe.close()),
    "opens its own": lambda pipe, want: same(HeadPipeline.open(pipe.bundle, "onnxruntime", 2), want),
    "forks again": lambda pipe, want: check(code_of(lambda: (same(pipe, want), pipe.close())) == 5),
    "uses it, then forks again": lambda pipe, want: (
        same(pipe, want),
        check(code_of(lambda: (same(pipe, want), pipe.close())) == 5),
        pipe.close(),
    ),
}


def check(fine: bool) -> None:
    assert fine


@pytest.mark.parametrize("case", CHILDREN)
def test_a_forked_process(pipe: HeadPipeline, case: str) -> None:
    want = pipe(IMAGE).positions
    assert code_of(lambda: CHILDREN[case](pipe, want)) == 5
    same(pipe, want)  # the parent's is untouched
    pipe.close()


EXITING = """
import os, sys
import numpy as np
from topos_rt.pipeline import HeadPipeline
pipe = HeadPipeline.open(sys.argv[1], "onnxruntime", threads=3)
grey, whole = np.full((64, 64, 3), 128, np.uint8), {"crop": "none", "face_check": False}
head = pipe(grey, **whole)
pipe.find_faces(grey)
pid = os.fork()
if pid == 0:
    if sys.argv[2] == "used":
        pipe(grey, **whole)
        pipe.find_faces(grey)
    sys.exit(5)
print(pid, flush=True)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("how", ["used", "unused"])
def test_a_forked_process_exits(tiny_bundle: Path, how: str) -> None:
    """The process is a fresh one, so that it imports onnxruntime as our code does."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    words = [sys.executable, "-c", EXITING, str(tiny_bundle), how]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.kill(child, 9)
            raise
        assert process.stdout.read().strip() == "5"


def test_no_telemetry(tmp_path: Path) -> None:
    script = (
        "import topos_rt.engines.onnxruntime as o; o.library(); import os; print(os.environ.get(o.TELEMETRY))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    environment["HOME"] = str(tmp_path)
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "None"  # the variable is not left behind
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_lock_that_another_thread_held(pipe: HeadPipeline) -> None:
    want, held, done = pipe(IMAGE).positions, threading.Event(), threading.Event()

    def hold() -> None:
        with pipe._networks._lock:
            held.set()
            done.wait(PATIENCE_S)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(PATIENCE_S)
    assert code_of(lambda: (same(pipe, want), pipe.close())) == 5
    done.set()
    thread.join()


def test_files_that_have_changed_since(pipe: HeadPipeline) -> None:
    path = pipe.bundle.path / "weights.safetensors"

    def child() -> None:
        os.utime(path, (1, 1))
        with pytest.raises(BundleError, match="files that have changed since the model was opened"):
            pipe(IMAGE)

    assert code_of(child) == 5


def test_a_pipeline_on_a_gpu_says_so(pipe: HeadPipeline) -> None:
    networks: Networks = pipe._networks
    networks._on_device = True

    def child() -> None:
        for _ in range(2):
            with pytest.raises(
                InputError, match=r"got a process that was forked .* fix: open it in the child"
            ):
                pipe(IMAGE)
            pipe.close()

    assert code_of(child) == 5


PIPE: HeadPipeline | None = None


def head_of(seed: int) -> bytes:
    """Make a head in a worker, with the parent's pipeline where it was inherited."""
    pipe = PIPE or HeadPipeline.open(os.environ["BUNDLE_OF_A_TEST"], "onnxruntime", threads=2)
    return pipe(IMAGE, seed=seed, crop="none", face_check=False).positions.tobytes()


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_multiprocessing(pipe: HeadPipeline, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "PIPE", pipe)
    monkeypatch.setenv("BUNDLE_OF_A_TEST", str(pipe.bundle.path))
    want = [pipe(IMAGE, seed=seed).positions.tobytes() for seed in range(4)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map_async(head_of, range(4)).get(PATIENCE_S) == want
        pool.close()
        pool.join()
