"""Load our networks with the official weights, and say how near their outputs must come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models import TOPOSVAE, TOPOSDiT
from topos_rt.head.hierarchy import Hierarchy

DATA = Path(__file__).parent.parent / "data" / "official"
META: dict[str, Any] = json.loads((DATA / "meta.json").read_text())
TOLERANCE = 3e-6
SETS = pytest.mark.parametrize("suffix", ["", "_strong"])  # suffixes of the two sets of weights


def relative_rms(got: torch.Tensor, want: torch.Tensor) -> float:
    assert got.shape == want.shape, (got.shape, want.shape)
    return float((got.double() - want.double()).norm() / want.double().norm())


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    assert relative_rms(got, want) <= TOLERANCE


def config_of(kind: str, *drop: str) -> dict[str, Any]:
    return {k: v for k, v in META[kind]["config"].items() if k not in drop}


def load_hierarchy() -> Hierarchy:
    template = np.load(DATA / "topology/template_vertices.npz")
    clusters = np.load(DATA / "topology/cluster.npz")
    return Hierarchy.build(
        template["vertices"],
        template["normals"],
        np.load(DATA / "topology/edges.npy"),
        [clusters[f"depth{i}"] for i in range(1, 9)],
    )


def load_dit(suffix: str) -> TOPOSDiT:
    model = TOPOSDiT(**config_of("dit", "num_head_channels", "use_fp16", "use_checkpoint"))
    model.load_state_dict(load_file(DATA / f"dit_state{suffix}.safetensors"), strict=True)
    return model.eval()


def load_vae(suffix: str, hierarchy: Hierarchy) -> TOPOSVAE:
    model = TOPOSVAE(hierarchy, **config_of("vae", "depth", "decoder_stages"))
    model.load_state_dict(load_file(DATA / f"vae_state{suffix}.safetensors"), strict=True)
    return model.eval()
