"""The inputs of a batch: what is found, what it is called, and what is refused."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import needs

needs.module("pyarrow")

import pyarrow as arrow
import pyarrow.parquet
import pytest

from tests.server.batch_pictures import picture
from topos_rt.errors import ImageError, InputError, OptionError, ToposError
from topos_rt.server import batch_reader
from topos_rt.server.batch_inputs import Picture, gather, unique_names

TABLES_OF_NO_USE = sorted((Path(__file__).parent / "tables").iterdir())
PNG = b"\x89PNG and so on"


def found(
    inputs: list[str | Path], out: str | Path = "out", column: str = "image"
) -> list[tuple[Picture, str]]:
    pictures = gather([str(each) for each in inputs], Path(out), column)
    every = [picture for group in pictures for picture in group]
    assert len(every) == sum(map(len, pictures))
    return list(unique_names(every, {}))


def names(*inputs: str | Path, **more: Any) -> list[str]:
    return [name for _, name in found(list(inputs), **more)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with some pictures in folders."""
    monkeypatch.chdir(tmp_path)
    for name in ("in/ann.png", "in/ann.JPG", "in/b/ann.png", "in/b/c/zoe.webp", "other/ann.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(PNG)
    for name in ("in/notes.txt", "in/.hidden.png", "in/.thumbs/ann.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(PNG)
    return tmp_path


def table(path: str, /, **columns: Any) -> str:
    arrow.parquet.write_table(arrow.table(columns), path, row_group_size=3)
    return path


def test_a_folder_keeps_its_paths_and_no_name_is_given_twice() -> None:
    assert names("in") == ["ann", "ann.png", "b/ann", "b/c/zoe"]
    assert names("in/") == names("./in")


def test_several_inputs_have_the_names_of_their_folders() -> None:
    assert names("in/b", "other", "in/ann.png") == ["b/ann", "b/c/zoe", "other/ann", "ann"]


def test_a_pattern_is_seen_from_its_first_wildcard() -> None:
    assert names("in/**/*.png") == ["ann", "b/ann"]
    assert names("*/ann.png") == ["in/ann", "other/ann"]
    Path("a[1].png").write_bytes(PNG)
    assert names("a[1].png") == ["a[1]"]  # a file of that name, and no pattern


def test_a_picture_that_is_named_twice_is_made_once() -> None:
    assert names("in/b", "in/b/ann.png", "in/b/*.png") == ["b/ann", "b/c/zoe"]


def test_heads_among_the_pictures_are_left_out() -> None:
    picture(Path("in/heads/ann_seed0.png"))
    assert (
        names("in", out="in/heads") == names("in/**/*.[pwJ]*", out="in/heads") == names("in", out="in/heads/")
    )
    assert "heads/ann_seed0" in names("in")


def test_names_are_unique_whatever_is_there() -> None:
    wanted = ["ann.png", "ANN.png", "ann.png.jpg", "ann_2.gif", "ann.jpg", "ann.jpg"]
    pictures = [Picture(f"/{number}", name) for number, name in enumerate(wanted)]
    made = [name for _, name in unique_names(pictures, {})]
    assert made == ["ann", "ANN.png", "ann.png.jpg", "ann_2", "ann.jpg", "ann.jpg_2"]
    assert len({name.casefold() for name in made}) == len(wanted)


def test_names_of_earlier_runs_are_kept() -> None:
    pictures = [Picture("/new", "ann.bmp"), Picture("/old", "ann.png"), Picture("/late", "bob.png")]
    known = {"/old": "ann", "/gone": "bob"}
    assert [name for _, name in unique_names(pictures, known)] == ["ann.bmp", "ann", "bob.png"]


def test_a_stamp_tells_a_changed_picture() -> None:
    before = found(["in/ann.png"])[0][0]
    assert before == found(["in/ann.png"])[0][0] and before.stamp
    os.utime("in/ann.png", (1, 1))
    assert found(["in/ann.png"])[0][0].stamp != before.stamp


def test_a_table_of_paths() -> None:
    paths = [
        "in/ann.png",
        "in/b/ann.png",
        str(Path("other/ann.png").absolute()),
        "in/../other/ann.png",
        "gone.png",
    ]
    rows = found([table("t.parquet", path=paths)], column="path")
    assert [name for _, name in rows] == [
        "in/ann",
        "in/b/ann",
        "ann",
        "gone",
    ]  # the fourth is the third again
    assert rows[0][0].input == str(Path("in/ann.png").absolute())
    assert [bool(picture.stamp) for picture, _ in rows] == [True, True, True, False]


TABLES: dict[str, Callable[[list[bytes]], Any]] = {
    "binary": lambda data: data,
    "large": lambda data: arrow.array(data, arrow.large_binary()),
    "as Hugging Face has it": lambda data: [{"bytes": each, "path": "../../x.png"} for each in data],
    "dictionary": lambda data: arrow.array(data).dictionary_encode(),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_of_pictures(kind: str) -> None:
    data = [PNG + bytes([number]) for number in range(40)]
    rows = found([table("faces.parquet", image=TABLES[kind](data), other=list(range(40)))])
    assert [picture.source for picture, _ in rows] == data
    path = Path("faces.parquet").absolute()
    assert (rows[7][0].input, rows[7][1]) == (f"{path}#7", "faces/000007")
    assert len({picture.stamp for picture, _ in rows}) == 1


def test_cells_that_are_no_pictures_cost_a_row_each() -> None:
    rows = found([table("t.parquet", image=[None, "", "https://a.org/x.png", "a\0b", "in/ann.png"])])
    faults = [str(picture.fault) for picture, _ in rows]
    assert [fault.partition("; ")[0] for fault in faults[:2]] == [
        f"{Path('t.parquet').absolute()}#0: got nothing",
        f"{Path('t.parquet').absolute()}#1: got nothing",
    ]
    assert "got a URL" in faults[2] and "NUL" in faults[3] and faults[4] == "None"
    assert all(isinstance(picture.fault, ImageError) for picture, _ in rows[:4])


def test_a_table_that_is_damaged_further_on_keeps_the_rows_before_it() -> None:
    path = Path(table("t.parquet", image=[os.urandom(4096) for _ in range(12)]))
    data = bytearray(path.read_bytes())
    about = arrow.parquet.ParquetFile(path).metadata.row_group(2).column(0)
    start = about.dictionary_page_offset or about.data_page_offset
    data[start : start + 64] = bytes(64)
    path.write_bytes(data)
    rows = [picture for picture, _ in found_loosely(str(path))]
    assert len(rows) < 12 and all(picture.fault is None for picture in rows[:-1])
    assert re.search(r"after \d+ of 12 rows: got .*; expected a whole parquet file", str(rows[-1].fault))


def found_loosely(path: str) -> list[tuple[Picture, str]]:
    return list(unique_names([each for group in gather([path], Path("out"), "image") for each in group], {}))


def test_a_picture_of_a_table_is_not_larger_than_any_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_reader, "MAX_BYTES", 10)
    path = table("t.parquet", image=[b"x" * 10, b"x" * 11])
    ((good, large),) = batch_reader._cells(batch_reader.library(), path, "image")
    assert good == b"x" * 10 and "got 11 bytes; expected at most 10" in str(large)


def test_a_row_group_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_reader, "_LARGEST_GROUP", 10_000)
    path = table("t.parquet", image=[os.urandom(9000), os.urandom(9000)], other=["x" * 50_000, "y"])
    with pytest.raises(InputError, match=r"row group 0 of .*; fix: write it with smaller row groups"):
        list(batch_reader._count(batch_reader.library(), path, "image"))
    assert list(batch_reader._count(batch_reader.library(), table("t.parquet", image=["a"]), "image")) == [1]


def test_a_reader_that_dies_costs_the_rest_of_its_table() -> None:
    rows = [os.urandom(100_000) for _ in range(64)]
    paths = [table(name, image=rows) for name in ("a.parquet", "b.parquet")]
    pictures = gather(paths, Path("out"), "image")
    first = []
    for each in pictures[0]:
        first.append(each)
        for process in multiprocessing.active_children():
            if process.name == "topos-rt-tables":
                process.kill()
    assert 1 < len(first) < 64 and all(each.fault is None for each in first[:-1])
    assert "got damage that ended its reader; expected a readable parquet file" in str(first[-1].fault)
    assert [each.source for each in pictures[1]] == rows  # another one reads on


@pytest.mark.parametrize("path", TABLES_OF_NO_USE, ids=lambda path: path.name)
def test_tables_that_ended_pyarrow(path: Path) -> None:
    """Whatever becomes of them, this process goes on, and says which table it was."""
    try:
        rows = [each for group in gather([str(path)], Path("out"), "image") for each in group]
    except InputError as error:
        assert path.name in str(error)
    else:
        assert rows[-1].fault is not None


def test_a_pattern_of_tables() -> None:
    for name in ("s/00.parquet", "s/01.parquet"):
        Path("s").mkdir(exist_ok=True)
        table(name, image=[PNG, PNG])
    Path("s/x.png").write_bytes(PNG)
    assert names("s/*") == ["x", "00/000000", "00/000001", "01/000000", "01/000001"]


BAD: dict[str, tuple[Callable[[], list[str]], type[ToposError], str]] = {
    "nothing there": (lambda: ["gone"], InputError, "the input gone: got nothing there"),
    "no such table": (lambda: ["gone.parquet"], InputError, "got No such file"),
    "a pattern of nothing": (lambda: ["in/*.tga"], InputError, "got no file that fits"),
    "an empty folder": (lambda: [made("empty")], InputError, "empty: got no picture; expected files"),
    "standard input": (lambda: ["-"], OptionError, "fix: for one picture, see topos-rt generate"),
    "no name": (lambda: [""], OptionError, "got no path"),
    "a URL": (lambda: ["s3://bucket/photos"], InputError, "got a URL"),
    "heads into the pictures": (lambda: ["in", "out"], OptionError, "-o: got out, in which the input"),
    "pictures among heads": (lambda: ["in", "out/a.png"], OptionError, "expected no input in it"),
    "a pattern among heads": (lambda: ["out/*.png"], OptionError, "expected no input in it"),
    "no column": (
        lambda: [table("t.parquet", images=["a"], label=[1])],
        OptionError,
        r"has no column 'image': got the columns images, label; .* fix: did you mean 'images'",
    ),
    "a column of numbers": (
        lambda: [table("t.parquet", image=[1, 2])],
        OptionError,
        r"the column 'image' of the table .*: got int64; expected text \(paths\), binary",
    ),
    "a table without rows": (
        lambda: [table("t.parquet", image=arrow.array([], arrow.string()))],
        InputError,
        "got no rows",
    ),
    "no table": (lambda: [written("t.parquet", b"PAR1 not really")], InputError, "a readable parquet file"),
    "half a table": (lambda: [half(table("t.parquet", image=["a"]))], InputError, "a readable parquet file"),
    "an empty table": (lambda: [written("t.parquet", b"")], InputError, "a readable parquet file"),
    "a folder called a table": (lambda: [made("t.parquet")], InputError, "got no picture"),
}  # fmt: skip


def made(name: str) -> str:
    Path(name).mkdir()
    return name


def written(name: str, data: bytes) -> str:
    Path(name).write_bytes(data)
    return name


def half(name: str) -> str:
    return written(name, Path(name).read_bytes()[:-40])


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(case: str) -> None:
    inputs, kind, message = BAD[case]
    Path("out").mkdir()
    picture(Path("out/a.png"))
    with pytest.raises(kind, match=message) as caught:
        found(list(inputs()))
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("/c"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"the folder .*/in/b/c: got Permission denied"):
        names("in")
