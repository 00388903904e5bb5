"""The results of benchmarks: what each says of itself, and the end of a benchmark's script."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from topos_rt.bench.machine import facts
from topos_rt.errors import ToposError
from topos_rt.support.files import check_writable, write_atomic


def report(measure: Callable[[], dict[str, Any]], path: Path | None) -> int:
    """Measure, and write the JSON if a path is given. Return the exit code.

    A path that cannot be written is found before anything is measured.
    """
    try:
        if path:
            check_writable(path, parents=True)
        result = measure()
        if path:
            write_result(path, result)
    except ToposError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result as JSON, with the command and the machine that made it where it does not name them."""
    own = result.get("machine") or {}
    whole = {"command": command(sys.argv), **result, "machine": facts() | own}
    write_atomic(path, (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode(), parents=True)


def command(words: Sequence[str]) -> str:
    """Return the command of a script's `sys.argv` as others can run it: of absolute paths the names alone."""
    script, *rest = words
    told = [os.path.basename(word) if os.path.isabs(word) else word for word in rest]
    return " ".join(["python -m", f"{Path(script).parent.name}.{Path(script).stem}", *told])
