"""`topos-rt generate`, on a small bundle with random weights and on the bundled model."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import topos_rt
from topos_rt import pipeline
from topos_rt.cli.main import main
from topos_rt.errors import BackendError
from topos_rt.head.mesh import HeadMesh
from topos_rt.model.networks import Networks
from topos_rt.pictures import preview
from topos_rt.support import files
from topos_rt.support.boundary import INTERRUPTED

pytestmark = pytest.mark.usefixtures("whole_pictures")

ROOT = Path(__file__).parents[2]


def portrait(path, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC).save(path)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory with two portraits and a broken one, outside of which nothing is written."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    portrait("ann.png", 1)
    portrait("bob.jpg", 2)
    Path("broken.png").write_bytes(Path("ann.png").read_bytes()[:-500])
    return directory


def made(directory="."):
    inputs = {"ann.png", "bob.jpg", "broken.png"}
    found = (path.relative_to(directory) for path in Path(directory).rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.name not in inputs)


@pytest.fixture
def run(tiny_bundle, capfd):
    def run(*words, json_too=False):
        where = ["--model", str(tiny_bundle), "--backend", "onnxruntime"]
        code = main(["generate", *words, *where] + ["--json"] * json_too)
        out, err = capfd.readouterr()
        return code, json.loads(out) if json_too else out.splitlines(), err.splitlines()

    return run


def test_the_shortest_form(run):
    code, out, err = run("ann.png")
    assert code == 0
    assert made() == ["ann.glb"]
    assert Path("ann.glb").read_bytes()[:4] == b"glTF"
    assert len(out) == 1
    assert re.fullmatch(r"ann\.glb  42 vertices, 80 triangles, seed 0, \d+\.\d\d s", out[0])
    assert err == [
        "model tiny: random weights: the shape means nothing",
        next(line for line in err if line.startswith("backend onnxruntime: asked for")),
    ]


def test_what_python_makes_is_what_the_command_writes(run, tiny_bundle):
    run("ann.png", "-o", "a.glb", "--seed", "5", "--preset", "fast", "--guidance", "2")
    head = topos_rt.generate("ann.png", model=tiny_bundle, seed=5, preset="fast", guidance=2.0)
    head.save("b.glb")
    assert Path("a.glb").read_bytes() == Path("b.glb").read_bytes()


def test_how_to_sample_is_passed_on(run, tiny_bundle):
    words = "--steps 6 --solver ab2 --shift 2 --guidance 1 --guidance-interval 0.2 0.9 --guidance-reuse 2"
    code, result, _ = run("ann.png", "-o", "a.glb", *words.split(), json_too=True)
    assert code == 0
    made = {"steps": 6, "solver": "ab2", "shift": 2.0, "guidance": 1.0, "interval": [0.2, 0.9], "reuse": 2}
    assert made.items() <= result["heads"][0]["metadata"].items()
    topos_rt.generate("ann.png", model=tiny_bundle, **made).save("b.glb")
    assert Path("a.glb").read_bytes() == Path("b.glb").read_bytes()


@pytest.mark.parametrize(
    "words, message",
    [
        ("--shift 0", "shift: got 0.0; expected a number from 0.001 to 1000"),
        ("--shift much", "got 'much'; expected a number"),
        ("--guidance-interval 0.9 0.2", "guidance interval: got [0.9, 0.2]; expected two numbers, 0 <= LO"),
        ("--guidance-interval nan 1", "guidance interval: got [nan, 1.0]"),
        ("--guidance-interval 0.2", "expected 2 arguments"),
        ("--guidance-reuse 0", "guidance reuse: got 0; expected a whole number from 1 to 1000"),
        ("--guidance-reuse 1.5", "got '1.5'; expected a whole number"),
        ("--threads 0", "argument --threads: got '0'; expected a whole number from 1 to 1,024"),
        ("--precision int4", "unknown precision: got 'int4'; expected one of: fp16, fp32, int8, fp8"),
    ],
)
def test_bad_ways_to_sample_and_load(run, monkeypatch, words, message):
    monkeypatch.setattr(pipeline, "HeadPipeline", None)  # would fail if it were opened
    code, _, err = run("ann.png", *words.split())
    assert (code, len(err)) == (2, 1)
    assert message in err[0]


def test_how_to_load_is_passed_on(run, monkeypatch):
    given = {}
    real = pipeline.HeadPipeline.open

    def opened(model, **options):
        given.update(options)
        return real(model, **options)

    monkeypatch.setattr(pipeline.HeadPipeline, "open", opened)
    assert run("ann.png", "--threads", "1", "--precision", "fp32")[0] == 0
    assert (given["threads"], given["precision"], given["backend"]) == (1, "fp32", "onnxruntime")


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(run):
    for out, seed in [("a.obj", "7"), ("b.obj", "7"), ("c.obj", "8")]:
        assert run("ann.png", "-o", out, "--seed", seed)[0] == 0
    assert Path("a.obj").read_bytes() == Path("b.obj").read_bytes() != Path("c.obj").read_bytes()


def test_images_and_seeds_in_one_go_equal_single_runs(run):
    assert run("ann.png", "bob.jpg", "-o", "many", "--seeds", "4,2", "--format", "obj")[0] == 0
    assert made() == [f"many/{name}_seed{seed}.obj" for name in ("ann", "bob") for seed in (2, 4)]
    for image, name in [("ann.png", "ann"), ("bob.jpg", "bob")]:
        for seed in ("2", "4"):
            run(image, "-o", "one.obj", "--seed", seed)
            assert Path("one.obj").read_bytes() == Path(f"many/{name}_seed{seed}.obj").read_bytes()


def test_options_reach_the_exporter(run):
    run("ann.png", "-o", "m.obj")
    run("ann.png", "-o", "cm.obj", "--units", "cm", "--up", "z")

    def vertices(name):
        rows = (line.split()[1:4] for line in Path(name).read_text().splitlines() if line.startswith("v "))
        return np.array([[float(number) for number in row] for row in rows])

    metres, centimetres = vertices("m.obj"), vertices("cm.obj")
    assert np.abs(centimetres[:, 2] - 100 * metres[:, 1]).max() < 1e-2  # up
    assert np.abs(centimetres[:, 1] + 100 * metres[:, 2]).max() < 1e-2  # the face looks along -Y


def test_no_rig_leaves_the_blendshapes_out(run):
    run("ann.png", "-o", "with.glb")
    run("ann.png", "-o", "without.glb", "--no-rig")
    assert b"jawOpen" in Path("with.glb").read_bytes()
    assert b"jawOpen" not in Path("without.glb").read_bytes()


def test_the_skeleton_and_the_blendshapes_that_were_asked_for(run):
    run("ann.png", "-o", "a.glb", "--skeleton", "compact", "--morphs", "jawOpen,viseme_sil", "--quantize")
    data = Path("a.glb").read_bytes()
    assert b'"targetNames":["jawOpen","viseme_sil"]' in data and b"KHR_mesh_quantization" in data
    assert run("ann.png", "-o", "b.glb", "--morphs", "none")[0] == 0
    assert b"targets" not in Path("b.glb").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--skeleton", "tiny"], "unknown skeleton: got 'tiny'; expected one of: full, compact"),
        (["--morphs", "jawOpen,"], "morphs: got 'jawOpen,'"),
        (["--morphs", "jawopen"], "unknown blendshape: got 'jawopen'; .*did you mean 'jawOpen'"),
        (["--morphs", "visemes"], "the blendshape viseme_PP: got a rig without"),
        (["--quantize", "-o", "a.ply"], "a quantized .ply"),
        (["--skeleton", "compact", "-o", "a.obj"], "skeleton and blendshapes of a .obj"),
        (["--format", "head", "--units", "cm"], "units and axes of a .head"),
    ],
)
def test_what_no_head_has_is_refused_before_the_first(run, decoding, words, message):
    decoding(1, BackendError("too late"))
    code, _, err = run("ann.png", *words)
    assert code == 2 and re.search(message, err[0])
    assert made() == [] and "too late" not in "".join(err)


def test_gltf_and_its_numbers(run):
    code, result, _ = run("ann.png", "-o", "new/head.gltf", json_too=True)
    assert code == 0 and made() == ["new/head.bin", "new/head.gltf"]
    told = result["heads"][0]
    assert told["files"] == ["new/head.bin", "new/head.gltf"] and told["output"] == "new/head.gltf"
    assert told["bytes"] == sum(Path(file).stat().st_size for file in told["files"])


def test_many_heads_share_a_base(run, tiny_bundle):
    code, result, _ = run("ann.png", "bob.jpg", "--format", "head", "-o", "many/", json_too=True)
    assert code == 0
    bases = [name for name in made("many") if name.endswith(".base")]
    assert len(bases) == 1 and set(made("many")) == {"ann.head", "bob.head", *bases}
    run("ann.png", "bob.jpg", "--format", "obj", "-o", "many/")
    for name, told in zip(("ann", "bob"), result["heads"], strict=True):
        head = HeadMesh.load(f"many/{name}.head")
        assert head.metadata == told["metadata"] and head.rig is not None
        head.save("again.obj")
        vertices, again = (
            [line for line in Path(path).read_text().splitlines() if line.startswith("v ")]
            for path in (f"many/{name}.obj", "again.obj")
        )
        assert vertices == again


def test_preview(run):
    code, out, _ = run("ann.png", "-o", "new/head.glb", "--preview", "new/head.png")
    assert code == 0
    assert made() == ["new/head.glb", "new/head.png"]
    assert out[1] == "new/head.png  preview"
    with Image.open("new/head.png") as picture:
        picture.load()
        assert np.ptp(np.asarray(picture.convert("L"))) > 50  # the picture is not empty


@pytest.fixture
def quick_preview(monkeypatch):
    monkeypatch.setattr(
        preview, "render_preview", lambda head, beside: b"a picture of " + head.positions.tobytes()
    )


def test_previews_of_several(run, quick_preview):
    assert run("ann.png", "bob.jpg", "-o", "new/", "--preview", "new/{stem}_view.png")[0] == 0
    assert made("new") == ["ann.glb", "ann_view.png", "bob.glb", "bob_view.png"]
    assert Path("new/ann_view.png").read_bytes() != Path("new/bob_view.png").read_bytes()


def test_json(run, quick_preview):
    code, result, _ = run("ann.png", "--seeds", "1,2", "--preview", "views/", json_too=True)
    assert (code, result["exit_code"], result["errors"], result["command"]) == (0, 0, [], "generate")
    assert result["model"] == "tiny"
    assert result["weights"] == "random weights: the shape means nothing"
    assert result["backend"] == "onnxruntime"
    assert [head["seed"] for head in result["heads"]] == [1, 2]
    first = result["heads"][0]
    assert first["output"] == "ann_seed1.glb"
    assert first["bytes"] == Path("ann_seed1.glb").stat().st_size
    assert first["preview"] == "views/ann_seed1.png"
    assert (first["format"], first["vertices"], first["triangles"]) == ("glb", 42, 80)
    assert first["metadata"]["steps"] == 12
    assert first["timings_s"]["total"] >= 0


def test_one_bad_image_does_not_lose_the_others(run):
    code, out, err = run("missing.png", "ann.png", "broken.png", "bob.jpg", "-o", "new")
    assert code == 2
    assert made() == ["new/ann.glb", "new/bob.glb"]
    assert [line.split()[0] for line in out] == ["new/ann.glb", "new/bob.glb"]
    errors = [line for line in err if line.startswith("topos-rt: error: ")]
    assert len(errors) == 2
    assert "missing.png: got no such file" in errors[0]
    assert "broken.png: got a damaged or truncated file" in errors[1]


def test_one_bad_image_in_json(run):
    code, result, _ = run("ann.png", "broken.png", json_too=True)
    assert (code, result["exit_code"]) == (2, 2)
    assert [head["image"] for head in result["heads"]] == ["ann.png"]
    assert [(error["type"], error["image"]) for error in result["errors"]] == [("ImageError", "broken.png")]


def test_debug_shows_the_traceback_of_each_error(run, decoding):
    decoding(1, BackendError("the engine broke"))
    _, out, err = run("ann.png", "missing.png", "bob.jpg", "--debug")
    assert err.count("Traceback (most recent call last):") >= 2
    assert any(line.startswith("topos_rt.errors.BackendError: the engine broke") for line in err)
    assert any(line.startswith("topos_rt.errors.ImageError: cannot use the image missing") for line in err)
    assert len(out) == 1
    assert not any("Traceback" in line for line in run("missing.png")[2])


def test_bad_images_are_found_before_the_model_is_loaded(run, monkeypatch):
    monkeypatch.setattr(pipeline, "HeadPipeline", None)  # would fail if it were opened
    code, _, err = run("missing.png", "also missing.png")
    assert code == 2
    assert len(err) == 2


def test_a_disk_that_is_full_for_one_output_does_not_lose_the_next(run, monkeypatch):
    real = files.write_atomic

    def write(path, data, *, parents=False):
        if "ann" in str(path):
            path = path.parent / ("x" * 300)
        real(path, data, parents=parents)

    monkeypatch.setattr(files, "write_atomic", write)
    code, _, err = run("ann.png", "bob.jpg")
    assert code == 2
    assert made() == ["bob.glb"]
    assert "File name too long" in err[0]


def test_a_failing_engine_is_our_failure(run, monkeypatch):
    def fail(*_args, **_kwargs):
        raise BackendError("the engine broke")

    monkeypatch.setattr(pipeline.HeadPipeline, "each", fail)
    code, out, err = run("ann.png")
    assert (code, out) == (1, [])
    assert err == ["topos-rt: error: ann.png: the engine broke"]
    assert made() == []


@pytest.fixture
def decoding(monkeypatch):
    """Return a function that makes the decoder raise in its n-th run."""

    def decoding(number, error):
        real, runs = Networks.decode, []

        def decode(self, latent):
            runs.append(latent)
            if len(runs) == number:
                raise error
            return real(self, latent)

        monkeypatch.setattr(Networks, "decode", decode)

    return decoding


def test_one_seed_that_fails_does_not_lose_the_others(run, decoding):
    decoding(2, BackendError("the engine broke"))
    code, result, err = run("ann.png", "bob.jpg", "--seeds", "7,8,9", "--format", "obj", json_too=True)
    assert code == 1
    seeds = {"ann": (7, 9), "bob": (7, 8, 9)}
    assert made() == [f"{name}_seed{seed}.obj" for name in seeds for seed in seeds[name]]
    (error,) = result["errors"]
    assert (error["image"], error["seed"]) == ("ann.png", 8)
    assert "topos-rt: error: ann.png, seed 8: the engine broke" in err
    alone = run("ann.png", "-o", "alone.obj", "--seed", "9")[0]
    assert alone == 0 and Path("alone.obj").read_bytes() == Path("ann_seed9.obj").read_bytes()


def test_what_was_made_before_an_interrupt_is_there(run, decoding):
    decoding(3, KeyboardInterrupt())
    code, result, _ = run("ann.png", "--seeds", "1,2,3", json_too=True)
    assert code == INTERRUPTED
    assert made() == ["ann_seed1.glb", "ann_seed2.glb"]
    assert [head["seed"] for head in result["heads"]] == [1, 2]


def test_a_broken_image_is_told_once_however_many_seeds(run):
    code, result, _ = run("broken.png", "--seeds", "1,2,3", json_too=True)
    assert (code, len(result["errors"])) == (2, 1)


@pytest.mark.parametrize(
    "name", ["a\nb", "\x1b[31mred", b"\xff".decode("utf-8", "surrogateescape"), "頭 – ä"]
)
def test_files_with_names_that_are_hard_to_print(run, name):
    portrait(f"{name}.png")
    code, out, _ = run(f"{name}.png")
    assert (code, len(out)) == (0, 1)
    assert out[0].isprintable()
    assert Path(f"{name}.glb").exists()
    code, _, err = run(f"no {name}.png")
    assert (code, len(err)) == (2, 1)
    assert err[0].isprintable()


def on_a_terminal(words):
    """Run the command with a terminal as stderr. Return what it shows, and its exit code."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "topos_rt", *words],
        stdout=subprocess.PIPE,
        stderr=slave,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # Linux says so when the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(master)
    return shown.decode(), process.communicate()[0].decode(), process.returncode


def test_a_progress_bar_on_a_terminal_only(run, tiny_bundle):
    words = ["generate", "ann.png", "-o", "a.glb", "--model", str(tiny_bundle), "--crop", "none"]
    words.append("--no-face-check")
    shown, out, code = on_a_terminal(words)
    assert code == 0
    assert "%  loading" in shown
    assert out.startswith("a.glb  42 vertices")
    assert "\x1b" not in shown
    last = shown.replace("\r\n", "\n").split("\r")[-1]  # the bar is gone before anything else is written
    assert last.startswith("model tiny")
    _, _, err = run("ann.png")
    assert not any("%" in line or "\r" in line for line in err)


# ---- the bundled model ----


@pytest.fixture(scope="session")
def example():
    examples = sorted((ROOT / "examples").glob("*.jpg"))
    assert examples, "examples/ has no portrait"
    return str(examples[0])


def in_a_process(*words):
    return subprocess.run(
        [sys.executable, "-m", "topos_rt", *words],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_portrait_to_head_end_to_end(example):
    words = ("generate", example, "-o", "out/head.glb", "--preview", "out/head.png", "--json")
    done = in_a_process(*words)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["model"] == "mini"
    assert made() == ["out/head.glb", "out/head.png"]
    assert result["heads"][0]["vertices"] == 4538
    first = Path("out/head.glb").read_bytes()
    assert in_a_process(*words).returncode == 0
    assert Path("out/head.glb").read_bytes() == first  # the same seed gives the same bytes in another process


def test_two_portraits_give_two_heads(example):
    other = str(ROOT / "examples" / "hopper.jpg")
    done = in_a_process("generate", example, other, "-o", "out", "--format", "obj")
    assert done.returncode == 0, done.stderr
    assert len({path.read_bytes() for path in Path("out").glob("*.obj")}) == 2
