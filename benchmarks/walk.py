"""Count the files and rooms that a call goes through: how far a reader must jump who follows it.

    python -m benchmarks.walk [--json FILE]

Both calls are made twice on `mini`, and the second is counted. A change is a call, or a return, from one file
of `topos_rt` to another; a room is a folder of `topos_rt`, or a file beside the folders. The room `support`
and `errors.py`, which any room may use as it uses NumPy, do not count as rooms.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import topos_rt
from benchmarks.report import write_result

PACKAGE = Path(topos_rt.__file__).parent
SHARED = {"support", "errors.py"}
PORTRAIT = Path(__file__).parents[1] / "examples" / "astronaut.jpg"


def walked(call: Callable[[], Any]) -> list[str]:
    """Return the files of the package in the order in which control passes through them."""
    files: list[str] = []

    def note(frame: FrameType | None) -> None:
        path = Path(frame.f_code.co_filename) if frame is not None else Path()
        if path.is_relative_to(PACKAGE):
            name = path.relative_to(PACKAGE).as_posix()
            if not files or files[-1] != name:
                files.append(name)

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            note(frame)
        elif event == "return":
            note(frame.f_back)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return files


def counted(files: list[str]) -> dict[str, Any]:
    """Return how many files and rooms there are, and how often control passes from one to the next."""
    rooms = [room for name in files if (room := name.partition("/")[0]) not in SHARED]
    room_changes = sum(before != after for before, after in itertools.pairwise(rooms))
    return {
        "files": len(set(files)),
        "file_changes": len(files) - 1,
        "rooms": len(set(rooms)),
        "room_changes": room_changes,
        "through": sorted(set(files)),
    }


def measure() -> dict[str, Any]:
    """Return the counts of `pipe(image)` and of `pipe.retopologize`, both warm."""
    with topos_rt.HeadPipeline.open("mini", "onnxruntime") as pipe:
        head = pipe(PORTRAIT)
        pipe.retopologize(head.positions, head.normals)
        return {
            "pipe(image)": counted(walked(lambda: pipe(PORTRAIT))),
            "retopologize": counted(walked(lambda: pipe.retopologize(head.positions, head.normals))),
        }


def main(words: list[str] | None = None) -> None:
    """Count and print, and write the counts if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.walk", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts")
    arguments = parser.parse_args(words)
    found = measure()
    for name, row in found.items():
        print(f"{name}: {row['files']} files, {row['file_changes']} changes", end="; ")
        print(f"{row['rooms']} rooms, {row['room_changes']} changes")
    if arguments.json is not None:
        write_result(arguments.json, {"model": None, **found})  # the way is the same for all weights


if __name__ == "__main__":
    main()
