"""The contract of the command line: exit codes, one line for each mistake, --json, nothing half-written."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import needs
from tests.sample_pictures import BAD_FILES, RGB, encode
from tests.support.test_files import System
from topos_rt import __version__
from topos_rt.cli import main as cli
from topos_rt.cli.main import COMMANDS, main
from topos_rt.support import files
from topos_rt.support.boundary import INTERRUPTED

pytestmark = pytest.mark.usefixtures("whole_pictures")

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory with one good portrait and one of each bad kind."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    Path("good.png").write_bytes(encode(RGB, "PNG"))
    Path("folder").mkdir()
    Path("bad").mkdir()
    for name, (data, _) in BAD_FILES.items():
        Path("bad", name).write_bytes(data)
    return directory


def everything(directory):
    return {path: path.read_bytes() if path.is_file() else None for path in directory.rglob("*")}


@pytest.fixture
def refused(here, tiny_bundle, capfd):
    """Run what must be refused: exit code 2, one line, no output, no files left. Return the line."""

    def refused(words, model=None):
        before = everything(here)
        words = [*words, "--model", str(model or tiny_bundle)] if words[:1] == ["generate"] else list(words)
        assert main(words) == 2
        out, err = capfd.readouterr()
        assert out == ""
        assert len(err.splitlines()) == 1
        assert err.startswith("topos-rt: error: ")
        # and the same as JSON: one object on stdout
        assert main([*words, "--json"]) == 2
        out, again = capfd.readouterr()
        result = json.loads(out)
        assert result["exit_code"] == 2
        if words[:1] in (["generate"], ["info"]):
            assert again == err
            assert [f"topos-rt: error: {error['message']}\n" for error in result["errors"]] == [err]
        assert everything(here) == before
        return err

    return refused


def words(text):
    return ["generate", *text.split()]


# ---- bad usage and bad input: exit code 2, one line ----


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the following arguments are required: IMAGE; fix: see 'topos-rt generate --help'"),
        ("good.png --preset fsat", "unknown preset: got 'fsat'; expected one of: reference, balanced, fast"),
        ("good.png --solver eular", "did you mean 'euler'?"),
        ("good.png --backend onnx", "unknown backend: got 'onnx'"),
        ("good.png --steps 0", "steps: got 0; expected a whole number from 1 to"),
        ("good.png --steps -3", "steps: got -3"),
        ("good.png --steps 1000000000", "steps: got 1000000000"),
        ("good.png --steps 2.5", "argument --steps: got '2.5'; expected a whole number"),
        ("good.png --steps", "argument --steps: expected one argument"),
        ("good.png --seed -1", "seed: got -1; expected a whole number from 0 to"),
        ("good.png --seed 18446744073709551616", "seed: got 18446744073709551616"),
        (f"good.png --seed {'9' * 5000}", "argument --seed: got '9999"),
        ("good.png --seed 1e3", "argument --seed: got '1e3'; expected a whole number"),
        ("good.png --seeds 1,,2", "argument --seeds: got '1,,2'; expected whole numbers with commas between"),
        ("good.png --seeds 1,1", "--seeds: got the same seed twice"),
        ("good.png --seeds 1,-1", "seed: got -1"),
        ("good.png --seed 1 --seeds 2", "argument --seeds: not allowed with argument --seed"),
        ("good.png --guidance nan", "guidance: got nan"),
        ("good.png --guidance -1", "guidance: got -1.0"),
        ("good.png --guidance inf", "guidance: got inf"),
        ("good.png --guidance strong", "argument --guidance: got 'strong'; expected a number"),
        ("good.png --format fbx", "unknown output format: got 'fbx'"),
        ("good.png --units mm", "unknown unit of length: got 'mm'; expected one of: m, cm"),
        ("good.png --units cm --format glb", "expected units m, up y"),
        ("good.png --up x", "unknown up axis: got 'x'; expected one of: y, z"),
        ("good.png --presets fast", "unrecognized arguments: --presets fast"),
        ("good.png --pre fast", "unrecognized arguments: --pre fast"),
        ("good.png -o head.xyz", "unknown output format: got 'xyz'"),
        ("good.png -o head", "no output format: got -o head, a name without suffix; expected one of: .glb,"),
        ("good.png -o head", "fix: add a suffix or --format, or write head/ for a directory"),
        ("good.png -o head.obj --format glb", "the output has two formats"),
        ("good.png -o good.png", "unknown output format: got 'png'"),
        ("good.png bad/empty -o head.glb", "one file, head.glb, for 2 heads"),
        ("good.png folder/good.jpg", "two heads would be written to good.glb"),
        ("good.png -o good.png/head.glb", "cannot write good.png/head.glb: got a file"),
        ("good.png -o /dev/full --format glb", "cannot write /dev/full: got a device or pipe"),
        ("good.png --preview view.jpg", "--preview: got 'view.jpg'; expected a name that ends in .png"),
        ("good.png --preview {stem}", "--preview: got '{stem}'; expected a name that ends in .png"),
        ("good.png --preview views.v2", "--preview: got 'views.v2'"),
        ("good.png --preview good.png", "--preview would overwrite an input: got good.png"),
        ("good.png --preview good.png/view.png", "cannot write good.png/view.png: got a file"),
        ("missing.png", "cannot use the image missing.png: got no such file; fix: check the path"),
        ("folder", "cannot use the image folder: got a directory; expected an image file"),
    ],
)
def test_bad_usage_and_input(refused, text, message):
    assert message in refused(words(text))


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_images(refused, case):
    assert BAD_FILES[case][1] in refused(["generate", f"bad/{case}"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            [],
            "no command: expected one of: generate, batch, texture, faces, retopologize, eval, metrics,"
            " serve, studio, build, pack, bench, info, doctor",
        ),
        (
            ["genrate"],
            "unknown command: got 'genrate'; expected one of: generate, batch, texture, faces, retopologize,"
            " eval, metrics, serve, studio, build, pack, bench, info, doctor; fix: did you",
        ),
        (["--fast"], "unrecognized arguments: --fast"),
        (["info", "nowhere"], "no such model: got 'nowhere'"),
        (["info", "good.png"], "good.png"),
        (["info", "folder"], "manifest.json"),
        (["info", "a", "b"], "unrecognized arguments: b"),
        (["doctor", "please"], "unrecognized arguments: please"),
    ],
)
def test_bad_commands(refused, line, message):
    assert message in refused(line)


def edit(change):
    def damage(bundle):
        path = bundle / "manifest.json"
        tree = json.loads(path.read_text())
        change(tree)
        path.write_text(json.dumps(tree))

    return damage


def flip_last_byte(bundle):
    path = bundle / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def escape(tree):
    tree["graphs"]["dit_step"] = "../dit_step.onnx"
    tree["files"]["../dit_step.onnx"] = tree["files"].pop("dit_step.onnx")


def link_outside(bundle):
    shutil.move(bundle / "dit_step.onnx", bundle.parent / "dit_step.onnx")
    (bundle / "dit_step.onnx").symlink_to(bundle.parent / "dit_step.onnx")


BAD_BUNDLES = {
    "bad hash": (flip_last_byte, "sha256 of bundle file weights.safetensors"),
    "truncated": (lambda b: (b / "dit_step.onnx").write_bytes(b""), "size of bundle file dit_step.onnx"),
    "missing file": (lambda b: (b / "dit_step.onnx").unlink(), "bundle file dit_step.onnx: got no such file"),
    "missing manifest": (lambda b: (b / "manifest.json").unlink(), "bundle file manifest.json"),
    "not json": (lambda b: (b / "manifest.json").write_text("{"), "manifest.json is not JSON"),
    "unknown key": (edit(lambda t: t.update(colour="red")), "manifest key 'colour': got an unknown key"),
    "missing key": (edit(lambda t: t.pop("latent")), "manifest key 'latent'"),
    "newer version": (edit(lambda t: t.update(version=10)), "manifest key 'version': got 10; expected 9"),
    "path escaping": (edit(escape), "'../dit_step.onnx'"),
    "link escaping": (link_outside, "bundle file dit_step.onnx: got a link"),
    "unlisted file": (lambda b: (b / "extra.bin").write_bytes(b"x"), "'extra.bin'"),
}


@pytest.mark.parametrize("case", BAD_BUNDLES)
def test_bad_bundles(refused, own_bundle, case):
    damage, message = BAD_BUNDLES[case]
    damage(own_bundle)
    assert message in refused(["generate", "good.png"], model=own_bundle)
    assert message in refused(["info", str(own_bundle)])


@pytest.mark.parametrize("call", ["open", "replace"])
def test_full_disk(refused, monkeypatch, call):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "os", System(**{call: full}))
    assert "cannot write good.glb: got No space left on device; fix: free some space" in refused(
        words("good.png")
    )


def test_unwritable_directory(refused, monkeypatch):
    Path("locked").mkdir(mode=0o555)
    if os.geteuid() == 0:  # root may write anywhere; let access(2) answer as it would for anyone else
        monkeypatch.setattr(
            files, "os", System(access=lambda path, mode: bool(os.stat(path).st_mode & 0o222))
        )
    assert "got no permission to write to" in refused(words("good.png -o locked/head.glb"))


# ---- failures that are ours, and interruptions ----


@pytest.fixture
def fails(monkeypatch):
    """Make `topos-rt info` raise."""

    def fails(error):
        def run(_arguments, _console):
            raise error

        monkeypatch.setattr(import_module("topos_rt.cli.info"), "run", run)

    return fails


def test_an_unexpected_error_is_one_line_with_a_hint(fails, capfd):
    fails(ZeroDivisionError("division\nby zero"))
    assert main(["info"]) == 1
    assert capfd.readouterr() == (
        "",
        "topos-rt: error: unexpected ZeroDivisionError: division by zero; "
        "fix: run it again with --debug for the traceback, and report it\n",
    )


def test_debug_shows_the_traceback(fails, capfd):
    fails(ZeroDivisionError("division by zero"))
    assert main(["info", "--debug"]) == 1
    err = capfd.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1] == "topos-rt: error: unexpected ZeroDivisionError: division by zero"


def test_an_interrupt(fails, capfd):
    fails(KeyboardInterrupt())
    assert main(["info"]) == INTERRUPTED == 130
    assert capfd.readouterr() == ("", "topos-rt: error: interrupted\n")


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), KeyboardInterrupt(), ImportError("no numpy")])
def test_json_is_one_object_whatever_happens(fails, capfd, error):
    fails(error)
    code = main(["info", "--json"])
    result = json.loads(capfd.readouterr().out)
    assert result["exit_code"] == code
    assert result["errors"][0]["type"] == type(error).__name__


def test_a_broken_installation_sends_the_user_to_the_doctor(fails, capfd):
    fails(ModuleNotFoundError("No module named 'numpy'"))
    assert main(["info"]) == 1
    assert "No module named 'numpy'; fix: run 'topos-rt doctor'" in capfd.readouterr().err


def process(*line, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "topos_rt", *line], env=environment, **options)


def test_a_reader_that_leaves_early_is_no_error():
    read, write = os.pipe()
    os.close(read)
    running = process("info", "--help", stdout=write)
    os.close(write)
    helped = running.communicate()[1]
    read, write = os.pipe()
    os.close(read)
    running = process("doctor", stdout=write)
    os.close(write)
    assert (helped, running.communicate()[1], running.returncode) == ("", "", 1)


def test_a_standard_output_that_is_full(tiny_bundle):
    needs.machine(Path("/dev/full").exists(), "there is no /dev/full")
    with open("/dev/full", "w") as full:
        running = process("info", str(tiny_bundle), "--json", stdout=full)
        err = running.communicate()[1]
    assert running.returncode == 2
    assert (
        err.splitlines()[-1]
        == "topos-rt: error: cannot write to standard output: got No space left on device"
    )


def test_a_terminal_that_cannot_print_a_character(tiny_bundle, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("PYTHONUTF8", "0")
    Path("ä.png").write_bytes(encode(RGB.resize((8, 8)), "PNG"))
    running = process("generate", "ä.png", "--model", str(tiny_bundle))
    out, err = running.communicate()
    assert (running.returncode, out) == (2, "")
    assert err.isascii()
    assert len(err.splitlines()) == 1


def test_decoder_warnings_do_not_reach_the_user(tiny_bundle):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\xff\xff\xff\xff\xff"
    Path("odd.jpg").write_bytes(encode(RGB, "JPEG", exif=exif))
    running = process("generate", "odd.jpg", "--model", str(tiny_bundle), "--json", "--no-face-check")
    out, err = running.communicate()
    assert running.returncode == 0
    assert json.loads(out)["errors"] == []
    assert "Warning" not in err


# ---- the command itself ----


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: topos-rt {name} ")
    assert "--json" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert all(f"  {name}  " in text and summary in text for name, (_, summary) in COMMANDS.items())


def test_the_help_of_generate_lists_what_the_tables_hold(capsys):
    from topos_rt.engines import BACKENDS
    from topos_rt.flow.settings import PRESETS
    from topos_rt.flow.solvers import SOLVERS
    from topos_rt.formats import EXPORTERS

    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    text = capsys.readouterr().out
    for table in (["auto", *BACKENDS], EXPORTERS, PRESETS, SOLVERS):
        assert "|".join(table) in text


def test_version(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert (left.value.code, capsys.readouterr().out) == (0, f"topos-rt {__version__}\n")


def test_dispatching_needs_only_the_standard_library():
    code = (
        "import sys; import topos_rt.cli.main; "
        "sys.exit(sorted({'numpy', 'PIL', 'onnxruntime'} & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_streams_that_are_no_files(monkeypatch, tiny_bundle):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert main(["info", str(tiny_bundle), "--json"]) == 0
    assert json.loads(sys.stdout.getvalue())["manifest"]["name"] == "tiny"


def test_arguments_of_the_process_are_the_default(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["topos-rt", "info", "nowhere"])
    assert cli.main() == 2
    assert "nowhere" in capfd.readouterr().err


def test_a_picture_in_the_size_of_the_model_and_larger(tiny_bundle):
    for side in (16, 32, 700):
        Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save("side.png")
        assert main(["generate", "side.png", "--model", str(tiny_bundle), "-o", f"{side}.glb"]) == 0
