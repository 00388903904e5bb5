"""The paths that heads are written to."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topos_rt.cli.outputs import Item, choose_format, output_paths
from topos_rt.errors import OptionError, OutputError

ONE = [Item("in/ann.jpg", 0)]
TWO = [Item("in/ann.jpg", 0), Item("in/bob.png", 0)]
SEEDS = [Item("in/ann.jpg", 3, numbered=True), Item("in/ann.jpg", 11, numbered=True)]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "in").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("out", "items", "expected"),
    [
        (None, ONE, ["ann.glb"]),
        (None, TWO, ["ann.glb", "bob.glb"]),
        (None, SEEDS, ["ann_seed3.glb", "ann_seed11.glb"]),
        (None, SEEDS[:1], ["ann_seed3.glb"]),
        ("head.glb", ONE, ["head.glb"]),
        ("new/deep/head.glb", ONE, ["new/deep/head.glb"]),
        ("there", ONE, ["there/ann.glb"]),
        ("new/", ONE, ["new/ann.glb"]),
        ("there", TWO, ["there/ann.glb", "there/bob.glb"]),
        ("new", TWO, ["new/ann.glb", "new/bob.glb"]),
        ("heads.v2", TWO, ["heads.v2/ann.glb", "heads.v2/bob.glb"]),
        ("new", SEEDS, ["new/ann_seed3.glb", "new/ann_seed11.glb"]),
        ("x_{stem}.glb", TWO, ["x_ann.glb", "x_bob.glb"]),
        ("{stem}/{seed}.glb", SEEDS, ["ann/3.glb", "ann/11.glb"]),
        ("{seed}.glb", ONE, ["0.glb"]),
        ("{0.__class__}{stem}.glb", ONE, ["{0.__class__}ann.glb"]),
    ],
)
def test_paths(out, items, expected):
    assert output_paths(out, items, "glb", "-o") == [Path(path) for path in expected]


@pytest.mark.parametrize(
    ("out", "items", "message"),
    [
        ("", ONE, "-o: got an empty name"),
        ("head.glb", TWO, "one file, head.glb, for 2 heads; expected a directory or a pattern"),
        ("head.glb", SEEDS, "fix: -o 'head_{stem}_{seed}.glb'"),
        ("{stem}.glb", SEEDS, "two heads would be written to ann.glb: got in/ann.jpg (seed 3) and"),
        ("{seed}.glb", TWO, "two heads would be written to 0.glb"),
        (None, [Item("a/ann.jpg", 0), Item("b/ann.png", 0)], "got a/ann.jpg (seed 0) and b/ann.png (seed 0)"),
        (None, [Item("ann.jpg", 0), Item("ann.jpg", 0)], "two heads would be written to ann.glb"),
        ("in/ann.jpg", ONE, "-o would overwrite an input: got in/ann.jpg"),
        ("there/../in/ann.jpg", ONE, "-o would overwrite an input"),
    ],
)
def test_refused(here, out, items, message):
    with pytest.raises(OptionError) as caught:
        output_paths(out, items, "glb", "-o")
    assert message in str(caught.value)
    assert sorted(p.name for p in here.rglob("*")) == ["in", "there"]


def test_a_place_that_cannot_be_written_is_found_at_once(here):
    (here / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="where a directory should be"):
        output_paths("file/", TWO, "glb", "-o")


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8, unique=True))
def test_every_seed_gets_a_file_of_its_own(seeds):
    items = [Item("ann.jpg", seed, numbered=True) for seed in seeds]
    assert len(set(output_paths("new", items, "glb", "-o"))) == len(seeds)


@pytest.mark.parametrize(
    ("out", "name", "several", "expected"),
    [
        (None, None, False, "glb"),
        (None, "obj", False, "obj"),
        ("head.obj", None, False, "obj"),
        ("HEAD.OBJ", None, False, "obj"),
        ("head.obj", "obj", False, "obj"),
        ("head", "obj", False, "obj"),
        ("head.v2", "obj", False, "obj"),
        ("new/", None, False, "glb"),
        ("there", None, True, "glb"),
        ("new", None, True, "glb"),
        ("new.v2", None, True, "glb"),
        ("new/{stem}.obj", None, True, "obj"),
    ],
)
def test_format(out, name, several, expected):
    assert choose_format(out, name, "glb", several) == expected


@pytest.mark.parametrize(
    ("out", "name", "several", "message"),
    [
        ("head.obj", "glb", False, "the output has two formats: got -o head.obj and --format glb"),
        ("head.xyz", None, False, "unknown output format: got 'xyz'"),
        ("head.gbl", None, False, "did you mean 'glb'?"),
        ("head", None, False, "no output format"),
        ("new/{stem}", None, True, "no output format"),
        (None, "xyz", False, "unknown output format"),
    ],
)
def test_unclear_format(out, name, several, message):
    with pytest.raises(OptionError) as caught:
        choose_format(out, name, "glb", several)
    assert message in str(caught.value)
