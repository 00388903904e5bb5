"""Time the renderer of training pictures, by part, and against other rasterisers.

    python -m benchmarks.bench_pictures --makehuman DIR --json benchmarks/results/training_pictures_cpu.json

Parts are in milliseconds of processor time per picture, since other work on the machine stretches the clock;
pictures a second are by the clock, beside the machine's load. The other rasterisers draw the same triangles:
`topos_rt.pictures.raster` in NumPy, and OpenGL through EGL, where the package `moderngl` and a driver are.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import report
from topos_rt import __version__
from topos_rt.pictures import raster as package
from training.pictures import people
from training.pictures.camera import Camera
from training.pictures.picture import Studio
from training.pictures.raster import HAIR_CUT, Looks, Mesh, rasterize
from training.pictures.scene import light_up
from training.render import SEEDS, open_studio

PICTURES, WARM_UP = 120, 20
_SHADERS = (
    """
#version 330
in vec4 place; in vec3 normal; in vec2 uv; out vec3 n; out vec2 t;
void main() { gl_Position = place; n = normal; t = uv; }
""",
    """
#version 330
uniform sampler2D skin; in vec3 n; in vec2 t; out vec4 colour;
void main() { colour = texture(skin, t) * (0.3 + max(dot(normalize(n), vec3(0.3, 0.4, 0.87)), 0.0)); }
""",
)


def measure(makehuman: Path) -> dict[str, Any]:
    """Return all timings."""
    studio = open_studio(makehuman, "train")
    drawn = _people(studio, PICTURES + WARM_UP)
    _take(studio, drawn[:WARM_UP])
    studio.seconds.clear()
    clock, busy = time.perf_counter(), time.process_time()
    _take(studio, drawn[WARM_UP:])
    clock, busy = time.perf_counter() - clock, time.process_time() - busy
    parts = {name: round(1000 * value / PICTURES, 2) for name, value in studio.seconds.items()}
    return {
        "model": None,
        "version": __version__,
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": [round(x, 1) for x in os.getloadavg()],
        "pictures": PICTURES,
        "cpu_ms_by_part": parts,
        "cpu_ms": round(1000 * busy / PICTURES, 1),
        "pictures_per_cpu_second": round(PICTURES / busy, 1),
        "pictures_per_second": {"1 process": round(PICTURES / clock, 1), "2 processes": _two(makehuman)},
        "people_ms": round(1000 * _best(lambda: _people(studio, 100)) / 100, 2),
        "rasterisers_ms": _rasterisers(studio),
    }


def _people(studio: Studio, count: int) -> list[people.Person]:
    stage = studio.stage
    return people.draw(stage.body, stage.fields, stage.library, count, np.random.default_rng(SEEDS["train"]))


def _take(studio: Studio, drawn: list[people.Person]) -> None:
    for i, person in enumerate(drawn):
        studio.take(person, np.random.default_rng(i))


def _two(makehuman: Path) -> float:
    """Return the pictures a second of two processes, counted from when both are ready."""
    context = get_context("spawn")
    ready, ends = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_worker, args=(makehuman, ready, ends)) for _ in range(2)]
    for worker in workers:
        worker.start()
    spans = [ends.get() for _ in workers]
    for worker in workers:
        worker.join()
    return round(2 * PICTURES / (max(end for _, end in spans) - min(start for start, _ in spans)), 1)


def _worker(makehuman: Path, ready: Any, ends: Any) -> None:
    studio = open_studio(makehuman, "train")
    drawn = _people(studio, PICTURES + WARM_UP)
    _take(studio, drawn[:WARM_UP])
    ready.wait()
    start = time.time()
    _take(studio, drawn[WARM_UP:])
    ends.put((start, time.time()))


def _best(call: Callable[[], object], times: int = 5) -> float:
    """Return the least processor time of a few calls, in seconds."""
    found = []
    for _ in range(times):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


class _Kept(Studio):
    """A studio that keeps what it has drawn last."""

    drawn: tuple[Mesh, Looks, Any, Camera]

    def light(self, mesh: Mesh, looks: Looks, lights: Any, camera: Camera) -> None:
        self.drawn = mesh, looks, lights, camera
        super().light(mesh, looks, lights, camera)


def _rasterisers(studio: Studio) -> dict[str, Any]:
    """Time the same triangles, at the same supersampled size, in three rasterisers."""
    kept = _Kept(studio.stage)
    _take(kept, _people(studio, 3))
    mesh, looks, lights, camera = kept.drawn
    screen, size = camera.screen(mesh.points, 2), kept.canvas.size
    buffers = kept.canvas.buffers

    def numba() -> None:
        rasterize(screen, mesh, looks, HAIR_CUT, buffers.ids, buffers.inverse)

    return {
        "triangles": len(mesh.triangles),
        "samples": size * size,
        "numba, visibility": round(1000 * _best(numba), 1),
        "numba, light": round(
            1000 * _best(lambda: light_up(mesh, looks, screen, lights, camera.distance, kept.canvas)), 1
        ),
        "NumPy, visibility": round(
            1000 * _best(lambda: package.rasterize(screen, mesh.triangles, size, size, cull=False)), 1
        ),
        "EGL, one texture and one light": _egl_ms(mesh, looks, screen, size),
    }


def _egl_ms(mesh: Mesh, looks: Looks, screen: np.ndarray, size: int) -> float | None:
    """Time OpenGL from arrays to pixels in memory, by the clock, since its driver has threads of its own."""
    try:
        import moderngl
    except ModuleNotFoundError:
        return None
    options: dict[str, Any] = {"standalone": True, "backend": "egl"}
    context = moderngl.create_context(**options)
    program = context.program(*_SHADERS)
    first, height, width = looks.table[looks.textures[0]]
    pixels = looks.texels[first : first + height * width * 4]
    texture = context.texture((int(width), int(height)), 4, pixels.tobytes())
    frame = context.framebuffer([context.texture((size, size), 4)], context.depth_renderbuffer((size, size)))
    x, y, z = screen.T
    place = np.stack([x / size * 2 - 1, 1 - y / size * 2, z / 4 * 2 - 1, np.ones_like(z)], 1)
    corners = mesh.triangles.ravel()
    rows = np.concatenate([place[corners], mesh.normals[corners], mesh.uvs.reshape(-1, 2)], 1).astype("f4")

    def draw() -> None:
        buffer = context.buffer(rows.tobytes())
        array = context.vertex_array(program, [(buffer, "4f 3f 2f", "place", "normal", "uv")])
        frame.use()
        context.enable(moderngl.DEPTH_TEST)
        frame.clear()
        texture.use()
        array.render()
        frame.read(components=4)
        buffer.release()

    found = []
    for _ in range(5):
        start = time.perf_counter()
        draw()
        found.append(time.perf_counter() - start)
    return round(1000 * min(found), 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--makehuman", type=Path, required=True, help="the folder with MakeHuman's assets")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    return report(lambda: measure(args.makehuman), args.json)


if __name__ == "__main__":
    raise SystemExit(main())
