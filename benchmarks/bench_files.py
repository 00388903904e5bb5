"""Measure what becomes of the files of public bug reports, here and in an earlier checkout.

    python -m benchmarks.bench_files CASES [--against CHECKOUT] [--json benchmarks/results/files_mini.json]

CASES has the files by the names in MESHES and PICTURES, `ok.obj` (the surface of the meshes), `ref.png` (what
the pictures show) and `cloud_ok.ply`. Each checkout runs in a process of its own, on its own `topos_rt`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = 500
ROOT = Path(__file__).parents[1]
MESHES = (
    "glb_gltf_transform_quantize.glb", "glb_sparse_positions.glb", "glb_skinned_node_transform.glb",
    "glb_draco.glb", "glb_meshopt.glb", "glb_triangle_strip.glb", "ply_ascii_latin1_comment.ply",
    "ply_ascii_blank_line.ply", "ply_trailing_newline.ply", "ply_binary_mixed.ply", "obj_repeated_corner.obj",
    "stl_ascii_latin1.stl", "stl_truncated.stl",
)  # fmt: skip
ZERO_NORMALS = "p_some_zero_normals.ply"
PICTURES = ("icc_p3.png", "icc_gamma1.png", "rgba_opaque.png", "fully_transparent.png")


# An editable install finds its package before PYTHONPATH does.
_OWN = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'Redirect' not in type(f).__name__]; "


def outcome(call: Callable[[], Any]) -> dict[str, Any]:
    """Return what a call gives, or the error and the warnings that it tells."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found: dict[str, Any] = {"mm": round(float(call()), 4)}
        except Exception as error:  # noqa: BLE001 - earlier checkouts raise anything
            found = {"refused": str(getattr(error, "got", None) or error)[:160]}
    own = [str(entry.message) for entry in caught if entry.category.__module__.startswith("topos_rt")]
    return found | ({"warning": own[0][:160]} if own else {})


def child(cases: Path) -> dict[str, Any]:
    """Measure every case with the `topos_rt` of this process."""
    import topos_rt

    truth = topos_rt.read_scan(cases / "ok.obj")

    def mesh(name: str) -> float:
        found = topos_rt.compare(topos_rt.read_scan(cases / name), truth, samples=SAMPLES)
        return found.max_mm

    def apart(one: Any, other: Any) -> float:
        return 1e3 * float(np.linalg.norm(one.positions - other.positions, axis=1).mean())

    result: dict[str, Any] = {name: outcome(partial(mesh, name)) for name in MESHES}
    with topos_rt.HeadPipeline.open("mini", "onnxruntime") as pipe, tempfile.TemporaryDirectory() as folder:
        seen = pipe(cases / "ref.png")
        for name in PICTURES:
            result[name] = outcome(partial(lambda name: apart(pipe(cases / name), seen), name))
        sound = _head(pipe, cases / "cloud_ok.ply")
        result[ZERO_NORMALS] = outcome(lambda: apart(_head(pipe, cases / ZERO_NORMALS), sound))
        obj, ply = Path(folder, "head.obj"), Path(folder, "head.ply")
        seen.save(obj)
        seen.save(ply)
        right = _head(pipe, obj)
        result["ply"] = outcome(lambda: apart(_head(pipe, ply), right))
        for name, text in _variants(obj).items():
            path = Path(folder, f"{name}.obj")
            path.write_text(text)
            result[name] = outcome(partial(lambda path: apart(_head(pipe, path), right), path))
        z_up = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        scan = topos_rt.read_scan(obj)
        meshed, cloud = (scan.points, scan.normals, right), (seen.positions, seen.normals, seen)

        def turned_back(scan: tuple[Any, Any, Any], align: bool) -> float:
            points, normals, expected = scan
            found = pipe.retopologize(points @ z_up.T, normals @ z_up.T, align=align).positions @ z_up
            return 1e3 * float(np.linalg.norm(found - expected.positions, axis=1).mean())

        result["z_up"] = outcome(lambda: turned_back(meshed, False))
        result["z_up_cloud_aligned"] = outcome(lambda: turned_back(cloud, True))
        result["cube"] = outcome(lambda: apart(_head(pipe, ROOT / "tests/data/cube.obj"), right))
        millimetres = Path(folder, "mm.obj")
        millimetres.write_text(_scaled(obj, 1000))
        result["eval_in_mm"] = _evaluated(millimetres, obj)
    return result


def _head(pipe: Any, path: Path) -> Any:
    import topos_rt

    scan = topos_rt.read_scan(path)
    return pipe.retopologize(scan.points, scan.normals)


def _variants(path: Path) -> dict[str, str]:
    """Return the same surface with its triangles in another order, and with rounded coordinates."""
    lines = path.read_text().splitlines()
    vertices = [line for line in lines if line.startswith("v ")]
    faces = [re.sub(r"/\S*", "", line) for line in lines if line.startswith("f ")]
    order = np.random.default_rng(0).permutation(len(faces))

    def rounded(digits: int) -> list[str]:
        return [
            " ".join(["v", *(f"{float(word):.{digits}g}" for word in line.split()[1:4])]) for line in vertices
        ]

    return {
        "other_order": "\n".join([*vertices, *(faces[i] for i in order)]),
        "rounded_8": "\n".join([*rounded(8), *faces]),
        "rounded_6": "\n".join([*rounded(6), *faces]),
    }


def _scaled(path: Path, by: float) -> str:
    return "\n".join(
        " ".join(["v", *(f"{float(word) * by:.9g}" for word in line.split()[1:4])])
        if line.startswith("v ")
        else line
        for line in path.read_text().splitlines()
    )


def _evaluated(one: Path, other: Path) -> dict[str, Any]:
    """Return the CPU time and the words on stderr of `topos-rt eval`."""
    run = "from topos_rt.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", _OWN + run, "eval", str(one), str(other)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = {"warning": done.stderr.splitlines()[0][:160]} if done.stderr.strip() else {}
    return {"cpu_s": round(seconds, 1), "exit_code": done.returncode} | told


def measured(cases: Path, checkout: Path) -> dict[str, Any]:
    """Return the outcomes of all cases with the package of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    words = [str(cases.resolve()), "--child"]
    run = f"import runpy; sys.argv[1:] = {words!r}; runpy.run_path({__file__!r}, run_name='__main__')"
    command = [sys.executable, "-c", _OWN + run]
    done = subprocess.run(command, cwd=checkout, env=environment, stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main(words: list[str] | None = None) -> None:
    """Measure, and write the result if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_files", description=__doc__)
    parser.add_argument("cases", type=Path, help="the folder with the files")
    parser.add_argument("--against", type=Path, help="an earlier checkout")
    parser.add_argument("--json", type=Path, help="the file to write")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.child:
        print(json.dumps(child(arguments.cases)))
        return
    from benchmarks.report import write_result
    from topos_rt import Bundle, __version__
    from topos_rt.bench.work import model_facts

    now = measured(arguments.cases, ROOT)
    result = {"topos_rt": __version__, "model": model_facts(Bundle.open("mini")), "now": now}
    if arguments.against is not None:
        result["before"] = measured(arguments.cases, arguments.against)
    text = json.dumps(result, indent=1, ensure_ascii=False)
    print(text)
    if arguments.json is not None:
        write_result(arguments.json, result)


if __name__ == "__main__":
    main()
