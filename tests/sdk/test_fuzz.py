"""The fuzz target of the C library's packs: its corpus, and a short run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs
from tests.sdk.conftest import ROOT, headers
from tests.sdk.test_packs import resealed
from topos_rt.faces.bundle import FaceBundle
from topos_rt.model.bundle import Bundle
from topos_rt.pack.container import packed
from topos_rt.pack.contents import contents
from topos_rt.pack.sections import MEMORY

RUNS = 20_000  # sdk/README.md tells of a longer run
# Networks are not looked at by the fake backend, and would be most of a seed.
_NETWORKS = ("graph", "graph_fp16", "weights", "face_graph")


def seeds(bundle: Path) -> dict[str, bytes]:
    """Return packs from which damage starts: a sound one, and some that are cut or changed."""
    sections = contents(Bundle.open(bundle), FaceBundle.open())
    small = {key: b"x" if key[0] in _NETWORKS else value for key, value in sections.items()}
    small["licence_texts", 0] = tuple("x" for _ in sections["licence_names", 0])
    small["memory", 0] = np.full((1, len(MEMORY)), 1e6)
    sound = packed(small)
    other = bytearray(sound)
    other[len(other) // 2] ^= 0xFF
    return {
        "sound": sound,
        "short": sound[: len(sound) * 3 // 4],
        "header": sound[:64],
        "resealed": resealed(other),
    }


@pytest.mark.slow
def test_damaged_packs_are_refused_or_used(packs: Any, tmp_path: Path) -> None:
    clang = needs.tool("clang++", shutil.which("clang++"), "apt-get install clang libclang-rt-14-dev")
    folder, corpus, found = tmp_path / "build", tmp_path / "corpus", tmp_path / "found"
    for made in (corpus, found):
        made.mkdir()
    for name in ("tiny", "seeing"):
        for kind, data in seeds(packs[name][0]).items():
            (corpus / f"{name}-{kind}").write_bytes(data)
    words = [
        "-S", str(ROOT), "-B", str(folder), "-DTOPOS_SDK=ON", f"-DTOPOS_ORT_INCLUDE_DIR={headers()}",
        "-DTOPOS_SDK_FUZZ=ON", f"-DCMAKE_CXX_COMPILER={clang}", "-DCMAKE_C_COMPILER=clang",
    ]  # fmt: skip
    for arguments in (words, ["--build", str(folder), "--target", "pack_fuzz"]):
        done = subprocess.run(["cmake", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    kept = ROOT / "tests/fuzz/corpus/sdk_pack"
    run = [str(folder / "sdk/fuzz/pack_fuzz"), f"-runs={RUNS}", "-seed=1", f"-artifact_prefix={found}/"]
    folders = [str(corpus), *([str(kept)] if kept.is_dir() else [])]
    done = subprocess.run([*run, *folders], capture_output=True, text=True, env=os.environ, timeout=1800)
    assert done.returncode == 0, done.stderr[-4000:]
    assert not list(found.iterdir())
