"""State dicts are read in every format and layout that is taken, and refused in every other."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from export.release.checkpoints import DIT, VAE, merge_hetero_linear, read_state
from export.state_files import as_float32, load_into
from models import TOPOSDiT
from topos_rt.errors import InputError

STATE = {VAE.key: torch.arange(6.0).reshape(2, 3), "encoder.learns": torch.ones(4, 3)}
SMALL = {"in_channels": 4, "out_channels": 4, "model_channels": 16, "cond_channels": 8, "num_heads": 2}


def same(got: dict[str, Tensor], want: dict[str, Tensor] = STATE) -> bool:
    return got.keys() == want.keys() and all(torch.equal(got[k], v.float()) for k, v in want.items())


FORMATS: dict[str, Callable[[Path], Any]] = {
    "zip": lambda path: torch.save(STATE, path),
    "legacy": lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False),
    "compiled": lambda path: torch.save({f"_orig_mod.{k}": v for k, v in STATE.items()}, path),
    "snapshot": lambda path: torch.save({"model_dict": STATE, "epoch": 7}, path),
    "safetensors": lambda path: save_file(STATE, path),
    "float64": lambda path: torch.save({k: v.double() for k, v in STATE.items()}, path),
    "bfloat16": lambda path: torch.save({k: v.bfloat16() for k, v in STATE.items()}, path),
    "parameters": lambda path: torch.save({k: torch.nn.Parameter(v) for k, v in STATE.items()}, path),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_formats(kind: str, tmp_path: Path) -> None:
    FORMATS[kind](tmp_path / "file")
    state = read_state(tmp_path / "file", VAE)
    assert same(state)
    assert all(v.dtype == torch.float32 and not v.requires_grad for v in state.values())


class Attack:
    """Runs a command when it is unpickled the ordinary way."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"{sys.executable} -c \"open(r'{self.marker}', 'w')\"",)


def _attack(marker: Path, path: Path, how: str) -> None:
    payload: dict[str, object] = {"x": Attack(marker)}
    if how.startswith("pickle"):
        path.write_bytes(pickle.dumps(payload, protocol=2 if how.endswith("2") else 4))
    else:
        torch.save({**STATE, **payload}, path, _use_new_zipfile_serialization=how == "zip")


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle 2", "pickle 4"])
@pytest.mark.parametrize("environment", [{}, {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}])
def test_malicious_pickle_is_refused_and_nothing_runs(
    how: str, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    marker, path = tmp_path / "it ran", tmp_path / "TOPOS-VAE.model.pth"
    _attack(marker, path, how)
    refusal = r"a pickle (that asks for \S+system|of more than tensors); nothing of it was run"
    with pytest.raises(InputError, match=refusal) as info:
        read_state(path, VAE)
    assert not marker.exists()
    assert "\n" not in str(info.value)
    # The attack works: opened the unsafe way, it runs.
    unsafe = f"import torch; torch.load(r'{path}', weights_only=False)"
    if how.startswith("pickle"):
        unsafe = f"import pickle, torch; pickle.load(open(r'{path}', 'rb'))"
    subprocess.run([sys.executable, "-c", unsafe], check=True)
    assert marker.exists()


def _zip(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _legacy(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


BAD = {
    "empty": (b"", "an empty file"),
    "truncated zip": (_zip(STATE)[:-200], "truncated"),
    "truncated legacy": (_legacy(STATE)[:-10], "damaged or truncated"),
    "half of legacy": (_legacy(STATE)[:60], "damaged|truncated"),
    "web page": (b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "text": (b"hello, this is no checkpoint at all", "damaged"),
    "list": (_zip([1, 2]), "list"),
    "nothing": (_zip({}), "nothing"),
    "number inside": (_zip({**STATE, "epoch": 3}), "int under the key 'epoch'"),
    "number as key": (_zip({**STATE, 3: STATE[VAE.key]}), "under the key 3"),
    "integers": (_zip({**STATE, "x": torch.arange(3)}), "torch.int64"),
    "sparse": (_zip({**STATE, "x": torch.eye(2).to_sparse()}), "dense|asks for"),
    "NaN": (_zip({**STATE, "x": torch.tensor([1.0, np.nan])}), "NaN or infinite"),
    "both prefixes": (_zip({**STATE, f"_orig_mod.{VAE.key}": STATE[VAE.key]}), "with and without"),
    "swapped": (_zip({DIT.key: torch.ones(2)}), "the checkpoint of TOPOS-DiT.*pass it as --dit"),
    "other network": (_zip({"conv1.weight": torch.ones(2)}), r"another network \(conv1.weight\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, tmp_path: Path) -> None:
    data, message = BAD[name]
    (tmp_path / "file.pth").write_bytes(data)
    with pytest.raises(InputError, match=message) as info:
        read_state(tmp_path / "file.pth", VAE)
    assert str(info.value).startswith("--vae ") and "\n" not in str(info.value)


def test_truncated_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "file.safetensors")
    data = (tmp_path / "file.safetensors").read_bytes()
    (tmp_path / "file.safetensors").write_bytes(data[:-8])
    with pytest.raises(InputError, match="damaged or truncated"):
        read_state(tmp_path / "file.safetensors", VAE)


@pytest.mark.parametrize("name", ["missing.pth", ".", "nul\0.pth"])
def test_no_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a readable file"):
        read_state(tmp_path / name, VAE)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2000), st.integers(0, 255))
def test_damaged_bytes_never_crash(tmp_path_factory: pytest.TempPathFactory, at: int, value: int) -> None:
    data = bytearray(_zip(STATE))
    data[at % len(data)] = value
    path = tmp_path_factory.mktemp("damaged") / "file.pth"
    path.write_bytes(bytes(data))
    try:
        read_state(path, VAE)
    except InputError as error:
        assert "\n" not in str(error)


def _dit(blocks: int = 1, latents: int = 5) -> TOPOSDiT:
    return TOPOSDiT(num_blocks=blocks, num_latents=latents, **SMALL)


def test_load_names_the_first_key_of_another_shape() -> None:
    state = _dit(latents=6).state_dict()
    with pytest.raises(
        InputError, match=r"--dit f: key pos_emb: got shape \[6, 16\]; expected \[5, 16\]; fix: x"
    ):
        load_into(_dit(), state, "--dit f", "x")


def test_load_lists_the_first_keys() -> None:
    state = _dit(blocks=2).state_dict()
    with pytest.raises(InputError, match=r"20 unexpected \(blocks\.1\.\S+, .* and 18 more\)") as info:
        load_into(_dit(blocks=1), state, "--dit f", "x")
    assert str(info.value).count("blocks.1.") == 2
    state = _dit(blocks=1).state_dict()
    del state["pos_emb"], state["out_layer.bias"]
    with pytest.raises(InputError, match=r"2 missing \(pos_emb, out_layer.bias\) and 1 unexpected \(y\)"):
        load_into(_dit(), {**state, "y": torch.ones(1)}, "--dit f", "x")


def test_tensors_that_would_take_more_memory_than_the_file_has_bytes() -> None:
    one = torch.zeros(1)
    assert as_float32({"a": one, "b": one[None], "c": one.T}, "--dit f", "x")["a"].shape == (1,)  # tied
    for state in ({"a": one.expand(1 << 40)}, {str(i): one.expand(3) for i in range(3)}):
        with pytest.raises(
            InputError, match=r"got tensors of [\d,]+ bytes made from 4; expected each number"
        ):
            as_float32(state, "--dit f", "x")


def test_load_takes_the_tensors_themselves() -> None:
    state, network = _dit().state_dict(), _dit()
    load_into(network, state, "", "")
    assert network.out_layer.weight.data_ptr() == state["out_layer.weight"].data_ptr()
    assert not any(p.requires_grad for p in network.parameters())


def test_hetero_linear_layouts() -> None:
    """Older libraries write a layer for each type, newer ones one weight for all types."""
    weight, bias = torch.randn(2, 3, 5), torch.randn(2, 5)
    new = {"a.lin.weight": weight, "a.lin.bias": bias, "b": torch.ones(1)}
    old = {f"a.lin.lins.{i}.weight": weight[i].T.contiguous() for i in (1, 0)}
    old |= {f"a.lin.lins.{i}.bias": bias[i] for i in (0, 1)} | {"b": torch.ones(1)}
    assert same(merge_hetero_linear(new), new)
    assert same(merge_hetero_linear(old), new)


def test_incomplete_hetero_linear_is_told_by_its_keys() -> None:
    part = {"a.lin.lins.1.weight": torch.ones(5, 3), "a.lin.lins.0.bias": torch.ones(5)}
    merged = merge_hetero_linear(part)
    assert set(merged) == {"a.lin.lins.1.weight", "a.lin.bias"}
