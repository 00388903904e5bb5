"""Bundles that are changed or replaced are whole whenever the process dies; see also tests/faults/."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs

needs.module("torch")

from topos_rt.errors import OutputError
from topos_rt.model.bundle import Bundle

# `python -m export lods`, which dies at the given call of os.replace or os.rename.
DYING = """
import os, sys
from export.__main__ import main
at, calls = int(sys.argv[1]), []
def dying(real):
    def call(*arguments):
        calls.append(1)
        if len(calls) == at:
            os._exit(9)
        real(*arguments)
    return call
os.replace, os.rename = dying(os.replace), dying(os.rename)
sys.exit(main(["lods", sys.argv[2]]))
"""


def test_levels_of_detail_are_added_whole_or_not_at_all(own_bundle: Path) -> None:
    codes = []
    for at in range(1, 10):
        words = [sys.executable, "-c", DYING, str(at), str(own_bundle)]
        codes.append(subprocess.run(words, capture_output=True, check=False).returncode)
        Bundle.open(own_bundle)
        if codes[-1] != 9:
            break
    assert codes[-1] == 0 and codes.count(9) >= 4
    assert len(Bundle.open(own_bundle).topology.lods) == 2
    names = {p.name for p in own_bundle.parent.iterdir() if own_bundle.name in p.name}
    assert names <= {own_bundle.name, f".{own_bundle.name}.topos-rt-lock"}


def test_a_file_where_the_bundle_should_go_is_one_clear_line(tmp_path: Path) -> None:
    from export.bundle_writer import write_bundle

    (tmp_path / "b").write_bytes(b"mine")
    with pytest.raises(OutputError, match="got a file; expected a directory"):
        write_bundle(None, tmp_path / "b", {})  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == ["b"]
