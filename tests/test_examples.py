"""The scripts and the notebook of examples/ run, and do what they say."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from tests import needs
from tests.sample_pictures import RGB, encode
from topos_rt import HeadMesh, HeadPipeline
from topos_rt.formats.mesh_reader import read_mesh

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOK = EXAMPLES / "tour.ipynb"
ASTRONAUT, HOPPER = EXAMPLES / "astronaut.jpg", EXAMPLES / "hopper.jpg"


def run(name: str, folder: Path, *words: object) -> tuple[int, str, str]:
    command = [sys.executable, str(EXAMPLES / name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=600)
    return done.returncode, done.stdout, done.stderr


def test_the_scripts_are_short_and_say_how_to_run_them() -> None:
    assert len(SCRIPTS) >= 5
    for path in SCRIPTS:
        text = path.read_text()
        assert len(text.splitlines()) <= 40, path.name
        assert f"python examples/{path.name}" in (ast.get_docstring(ast.parse(text)) or "")


def test_a_first_head_which_is_then_a_scan(tmp_path: Path) -> None:
    code, out, err = run("first_head.py", tmp_path, HOPPER, "head.ply")
    assert code == 0 and out.startswith("head.ply: 4,"), err
    with Image.open(tmp_path / "head.png") as picture:
        assert picture.size == (768, 320)
    needs.module("scipy")
    code, out, err = run("scan_to_head.py", tmp_path, "head.ply", "again.glb")
    assert code == 0 and "points became 4,538 vertices" in out, err
    assert len(read_mesh(tmp_path / "again.glb").positions) >= 4538
    # A head of the model is laid over itself, teeth included, which no surface of the model reaches.
    assert float(out.split(" mm apart")[0].split()[-1]) < 3.0


def test_many_heads(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    code, out, err = run("many_heads.py", tmp_path, "out", "broken.png", ASTRONAUT)
    assert code == 2 and out.startswith("001_astronaut: "), err
    assert err.startswith("error: cannot use the image broken.png: got a file that is not a picture")
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    assert page.count("<figure>") == 1 and 'src="001_astronaut.png"' in page
    assert HeadMesh.load(tmp_path / "out" / "001_astronaut.head").rig is not None


def test_expressions(tmp_path: Path) -> None:
    code, out, err = run("expressions.py", tmp_path, "made")
    assert code == 0 and out == "3 expressions and rigged.glb are in made\n", err
    names = {path.name for path in (tmp_path / "made").iterdir()}
    assert {"portrait.glb", "surprise.glb", "wink.glb", "aa.png", "rigged.glb"} <= names
    data = (tmp_path / "made" / "rigged.glb").read_bytes()
    assert b"viseme_aa" in data and b"eyeBlinkLeft" in data
    assert b"eyeBlinkLeft" not in (tmp_path / "made" / "wink.glb").read_bytes()


def test_a_worker(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    code, out, err = run("async_worker.py", tmp_path, ".", "broken.png", ASTRONAUT)
    assert code == 0, err
    first, second = out.splitlines()
    assert first.startswith("broken.png: ImageError(") and second == "astronaut.jpg: done"
    assert (tmp_path / "astronaut.glb").read_bytes()[:4] == b"glTF"


# ---- asynchronous use ----

PNG = encode(RGB, "PNG")


@pytest.fixture(scope="module")
def worker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("async_worker", EXAMPLES / "async_worker.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Held:
    """A pipeline that stays in its first stage until it is told to go on, and says how a call ended."""

    def __init__(self, pipe: HeadPipeline) -> None:
        self.pipe, self.begun, self.go_on = pipe, threading.Event(), threading.Event()
        self.ended: list[str] = []

    def __call__(self, picture: bytes, **options: Any) -> HeadMesh:
        inner = options.pop("callback")

        def callback(progress: Any) -> Any:
            self.begun.set()
            assert self.go_on.wait(60)
            return inner(progress)

        try:
            return self.pipe(picture, callback=callback, **options)
        except Exception as error:
            self.ended.append(type(error).__name__)
            raise


def test_heads_of_threads_are_those_of_calls(worker: ModuleType, tiny_pipe: HeadPipeline) -> None:
    async def four() -> list[bytes]:
        places = asyncio.Semaphore(2)
        return await asyncio.gather(*(worker.glb_of(tiny_pipe, PNG, places, 60) for _ in range(4)))

    assert set(asyncio.run(four())) == {tiny_pipe(PNG, preset="fast").to_bytes("glb")}


@pytest.mark.parametrize("how", ["deadline", "cancelled"])
def test_the_work_of_a_request_that_is_gone_stops(
    worker: ModuleType, tiny_pipe: HeadPipeline, how: str
) -> None:
    held = Held(tiny_pipe)

    async def request() -> None:
        seconds = 0.01 if how == "deadline" else 60
        task = asyncio.create_task(worker.glb_of(held, PNG, asyncio.Semaphore(1), seconds))
        assert await asyncio.to_thread(held.begun.wait, 60)
        if how == "cancelled":
            task.cancel()
        kind = asyncio.TimeoutError if how == "deadline" else asyncio.CancelledError
        try:
            with pytest.raises(kind):
                await task
        finally:
            held.go_on.set()

    started = time.monotonic()
    asyncio.run(request())  # which waits for the thread
    assert held.ended == ["Cancelled"] and time.monotonic() - started < 60
    assert len(tiny_pipe(PNG, steps=1).positions) == 42  # the pipeline is as good as before


# ---- the notebook ----

# Runs the cells as Jupyter does, as far as they are plain Python, and shows what the last line of each is.
RUNNER = """
import ast, json, sys
names, shown = {"__name__": "__main__"}, []
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, cell["id"], "exec"), names)
        value = None if last is None else eval(compile(ast.Expression(last.value), cell["id"], "eval"), names)
        picture = getattr(value, "_repr_png_", lambda: None)()
        shown += [cell["id"]] if picture and picture[:4] == b"\\x89PNG" else []
print("shown:", *shown)
"""


def test_the_notebook_runs(tmp_path: Path) -> None:
    needs.module("trimesh")
    before = sorted(EXAMPLES.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(NOTEBOOK)],
        capture_output=True,
        text=True,
        check=False,
        cwd=EXAMPLES,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert "(4538, 3) float32 metres" in out and "step 8: 0.00 mm from the head" in out
    assert "bytes of GLB" in out and "got a URL" in out and "no face was found" in out
    assert out.splitlines()[-1] == "shown: head pose"
    assert sorted(EXAMPLES.iterdir()) == before


def test_the_notebook_is_clean() -> None:
    book = json.loads(NOTEBOOK.read_text("utf-8"))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in book["cells"]}) == len(book["cells"])
    for cell in book["cells"]:
        assert "".join(cell["source"]).strip()
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
