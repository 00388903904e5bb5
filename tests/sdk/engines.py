"""Plugins for engines, put together as for a project, and the meshes that they make with stand-ins."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests import needs
from tests.sdk import capi
from tests.sdk.capi import PORTRAIT
from tests.sdk.test_samples import SAMPLES

SEED = 3


def assembled(engine: str, built: Path, out: Path, **more: Path) -> Path:
    """Return the folder of an engine's plugin, as assemble.cmake puts it together."""
    cmake = needs.tool("CMake", shutil.which("cmake"), "install cmake")
    given = {"ENGINE": engine, "OUT": out, "LIBRARY": built / "sdk/libtopos_rt.so", **more}
    words = [f"-D{key}={value}" for key, value in given.items()]
    done = subprocess.run(
        [cmake, *words, "-P", str(SAMPLES / "assemble.cmake")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (root,) = out.iterdir()
    return root


def stand_in_headers(folder: Path, sources: list[Path], pattern: str, stand_in: str) -> None:
    """Write into folder/include every header that the pattern finds in sources: all include one stand-in."""
    for path in sources:
        for name in re.findall(pattern, path.read_text()):
            header = folder / "include" / name
            header.parent.mkdir(parents=True, exist_ok=True)
            header.write_text(f'#include "{stand_in}"\n')


def compile_cpp(standard: str, includes: list[Path], *words: object) -> None:
    """Run the C++ compiler, without a warning."""
    command = [needs.compiler(), f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-pthread"]
    command += [*(f"-I{path}" for path in includes), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def compiled(program: Path, standard: str, sources: list[Path], includes: list[Path], library: Path) -> Path:
    """Compile C++ with the library in a folder, and return the program."""
    compile_cpp(standard, includes, *sources, f"-L{library}", "-ltopos_rt", "-o", program)
    return program


def version() -> str:
    """Return the version that the header declares."""
    text = capi.HEADER.read_text()
    parts = (text.split(f"TOPOS_RT_VERSION_{part} ")[1].split()[0] for part in ("MAJOR", "MINOR", "PATCH"))
    return ".".join(parts)


def portrait(path: Path) -> Path:
    """Write the picture that every engine is given, as a PPM."""
    Image.open(PORTRAIT).convert("RGB").save(path)
    return path


@dataclass(frozen=True)
class Made:
    """The mesh that an engine's sample has made, and what the run printed."""

    told: dict[str, list[str]]  # the lines' rests by their first words
    positions: np.ndarray  # [W,3] and so on, in the engine's own axes
    normals: np.ndarray
    uvs: np.ndarray
    triangles: np.ndarray  # [F,3]
    shapes: dict[str, tuple[np.ndarray, np.ndarray]]  # offsets of positions and normals, [W,3] each
    rest: np.ndarray  # what an engine adds, float32
    path: Path  # the file of the mesh

    @property
    def lines(self) -> dict[str, str]:
        """The only line of each first word, or the last."""
        return {word: rests[-1] for word, rests in self.told.items()}


def ran(words: list[object], libraries: Path, folder: Path) -> Made:
    """Run a sample with what it takes last, the picture and the file of its mesh, and read what it made."""
    words = [*words, portrait(folder / "portrait.ppm"), folder / "mesh"]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries)}
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return read(done.stdout, folder / "mesh")


def read(printed: str, path: Path) -> Made:
    """Read the file of a run: four counts, then float32 and int32 as in Made."""
    told: dict[str, list[str]] = {}
    for line in filter(None, printed.splitlines()):
        word, _, rest_of_it = line.partition(" ")
        told.setdefault(word, []).append(rest_of_it)
    numbers = np.fromfile(path, "<i4")
    w, indices, shapes, _ = numbers[:4]
    sizes = [3 * w, 3 * w, 2 * w, indices, 6 * w * shapes]
    places, normals, uvs, triangles, moved, rest = np.split(numbers[4:], np.cumsum(sizes))
    (names,) = (line.split() for line in told["shapes"])
    assert len(names) == shapes
    by_shape = moved.view("<f4").reshape(shapes, 2, w, 3)
    return Made(
        told, places.view("<f4").reshape(w, 3), normals.view("<f4").reshape(w, 3),
        uvs.view("<f4").reshape(w, 2), triangles.reshape(-1, 3),
        {name: (one[0], one[1]) for name, one in zip(names, by_shape, strict=True)}, rest.view("<f4"), path,
    )  # fmt: skip


def same_as_the_library(
    made: Made, api: capi.Api, models: Callable[[str], Any], axes: int, unit: float, flags: int = 0
) -> None:
    """Assert that a sample's mesh is what the library writes for the same picture in an engine's axes."""
    model, _ = models("mini")
    pixels = np.asarray(Image.open(PORTRAIT).convert("RGB"))
    (head,) = capi.generate(api, model, capi.request([capi.image(pixels)], [SEED], crop=capi.CROP_AUTO))
    layout = capi.struct("layout", axes=axes, flags=flags)
    positions, normals = capi.vertices(api, model, head, layout)
    np.testing.assert_allclose(made.positions, positions, rtol=0, atol=1e-5 * unit)
    np.testing.assert_allclose(made.normals, normals, rtol=0, atol=2e-2)
    indices = np.empty_like(made.triangles, np.uint32)
    api.ok("write_indices", model, layout, 14, indices, indices.nbytes)
    np.testing.assert_array_equal(made.triangles, indices)
    offsets = np.empty_like(positions)
    for number, (name, (own, _)) in enumerate(made.shapes.items()):
        assert api.call("model_shape_name", model, number).decode() == name
        stream = capi.struct("stream", format=2, data=offsets.ctypes.data, capacity=offsets.nbytes)
        api.ok("write_shape", head, layout, number, 0, stream, None)
        np.testing.assert_allclose(own, offsets, rtol=0, atol=1e-5 * unit)
    assert len(made.shapes) == api.told("model_get_info", "model_info", model).num_shapes == 52
    api.call("head_release", head)
