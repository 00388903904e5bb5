"""The end of a benchmark's script: its result as JSON, or one line that says what is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
            write_atomic(path, (json.dumps(result, indent=1) + "\n").encode(), parents=True)
    except ToposError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0
