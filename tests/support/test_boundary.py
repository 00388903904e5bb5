"""The boundary: whatever ends a program becomes an exit code and one line, never a raw traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs
from topos_rt.errors import BackendError, MissingExtraError, OptionError, OutputError
from topos_rt.support.boundary import EXTRAS, ending

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
ENDINGS: dict[str, tuple[BaseException, int, str]] = {
    "input": (OptionError("steps", got=0), 2, "steps: got 0"),
    "output": (OutputError("cannot write x"), 2, "cannot write x"),
    "engine": (BackendError("an engine failed"), 1, "an engine failed"),
    "interrupt": (KeyboardInterrupt(), 130, "interrupted"),
    "memory": (MemoryError("Unable to allocate 9 GiB"), 1, "not enough memory: Unable to allocate 9 GiB;"),
    "an extra": (ModuleNotFoundError("", name="scipy.spatial"), 2, "fix: pip install 'topos-rt[mesh]'"),
    "our own mistake": (ValueError("why\x1b[2J"), 1, r"unexpected ValueError: why\x1b[2J; fix: run"),
    "a broken package": (ImportError("no symbol"), 1, "unexpected ImportError: no symbol; fix: run"),
    "a long message": (ValueError("x" * 10_000), 1, "x…"),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDINGS)
def test_endings(case: str) -> None:
    error, code, told = ENDINGS[case]
    found = ending(error, "topos-rt", debug=False)
    assert (found.code, told in found.message) == (code, True), found
    assert "\n" not in found.message and "\x1b" not in found.message and len(found.message) < 400


def test_a_removed_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    found = ending(FileNotFoundError(2, "No such file or directory"), "topos-rt", debug=False)
    assert found.code == 2 and "got one that was removed; fix: change to another directory" in found.message


def test_the_extras_are_those_of_the_package() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    distributions = {
        "cuda": "cuda-python",
        "fast_simplification": "fast-simplification",
        "onnx_ir": "onnx-ir",
        "prometheus_client": "prometheus-client",
        "pxr": "usd-core",
        "python_multipart": "python-multipart",
        "skimage": "scikit-image",
        "tensorrt_rtx": "tensorrt-rtx",
        "yaml": "pyyaml",
    }
    for module, extra in EXTRAS.items():
        listed = [re.split(r"[<>=]", line)[0] for line in extras[extra]]
        assert distributions.get(module, module) in listed, module
    assert "python -m x" in str(MissingExtraError.needs("python -m x", "mesh"))


def program(
    words: list[str], missing: str | None = None, tmp_path: Path | None = None, script: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program where the module `missing` cannot be found, or where `script` runs before it."""
    environment = dict(os.environ)
    if tmp_path is not None:
        lines = [script]
        if missing:
            lines += [
                "import sys",
                "class Finder:",
                "    def find_spec(self, name, *_):",
                f"        if name == {missing!r}:",
                "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)",
                "sys.meta_path.insert(0, Finder())",
            ]
        (tmp_path / "sitecustomize.py").write_text("\n".join(lines))
        environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )


PROGRAMS = {
    "export": (["-m", "export", "flops", "mini"], "onnx", "export"),
    "training": (["-m", "training.evaluate", "--help"], "torch", "export"),
    "benchmarks": (["-m", "benchmarks.bench_precision", "--help"], "onnx", "export"),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_a_missing_extra_is_named(case: str, tmp_path: Path) -> None:
    words, missing, extra = PROGRAMS[case]
    if case == "export":
        needs.module("torch")  # it would be missed first
    done = program(words, missing, tmp_path)
    assert done.returncode == 2
    line = f"error: python -m {case}: the module {missing} needs an optional dependency; fix: pip install "
    assert done.stderr == f"{line}'topos-rt[{extra}]'\n"
    assert done.stdout == ""


FAILING = "import topos_rt.model.bundle as b\ndef fail(*_, **__): raise {}\nb.Bundle.open = fail"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        ("b.BundleError('bad bundle', got='x' * 9999)", 2, "bad bundle: got x"),
        (
            "ZeroDivisionError('a mistake')",
            1,
            "unexpected ZeroDivisionError: a mistake; fix: run it again with",
        ),
        ("KeyboardInterrupt", 130, "interrupted"),
        ("MemoryError", 1, "not enough memory; fix: close other programs"),
    ],
)
def test_what_a_program_raises(error: str, code: int, line: str, tmp_path: Path) -> None:
    words = ["-m", "benchmarks.bench_write", "--json", "nowhere/x/y.json"]
    script = FAILING.format(error) + "\nimport topos_rt.support.files as f\nf.check_writable = fail"
    done = program(words, None, tmp_path, script)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (code, 1, ""), done.stderr
    assert done.stderr.startswith(f"error: {line}") and len(done.stderr) < 400
    if code == 1:
        told = program([*words, "--debug"], None, tmp_path, script).stderr
        assert "Traceback (most recent call last)" in told and told.splitlines()[-1].startswith("error: ")


def test_the_packages_are_imported_as_ever() -> None:
    words = ["-c", "import sys, export, training, benchmarks; print(sys.excepthook is sys.__excepthook__)"]
    assert program(words).stdout.strip() == "True"


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams(closed: str, tmp_path: Path) -> None:
    """No file that is opened later gets the number of a closed stream, into which others may print."""
    script = (
        "import os, sys; from topos_rt.cli.main import main; code = main(['info', 'nothing']); "
        "fd = os.open('x', os.O_CREAT | os.O_RDWR); assert fd > 2; sys.exit(code)"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, script],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    if "2>" not in closed:
        assert done.stderr.startswith("topos-rt: error: no such model") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("stream", [1, 2])
@pytest.mark.parametrize("words", [["info", "mini"], ["info", "nothing"], ["info", "mini", "--json"]])
def test_a_full_or_closed_stream_never_changes_the_outcome_to_a_traceback(
    words: list[str], stream: int
) -> None:
    for kind in ("full", "pipe"):
        if kind == "full":
            target = os.open("/dev/full", os.O_WRONLY)
        else:
            reader, target = os.pipe()
            os.close(reader)
        streams = {1: subprocess.PIPE, 2: subprocess.PIPE} | {stream: target}
        done = subprocess.run(
            [sys.executable, "-m", "topos_rt", *words],
            stdout=streams[1],
            stderr=streams[2],
            text=True,
            check=False,
        )
        os.close(target)
        sound = 2 if "nothing" in words else 0
        broken = {"full": 2, "pipe": 1}[kind] if stream == 1 and sound == 0 else sound
        if stream == 1 and sound == 2 and "--json" not in words:
            broken = 2  # nothing goes to stdout
        assert done.returncode == broken, (kind, done)
        assert "Traceback" not in (done.stderr or "")
        assert "--json" in words or (done.stderr or "").count("\n") <= 1
