"""What counts as a kernel that only moves numbers."""

from __future__ import annotations

import pytest

from benchmarks.step_traffic import _only_moves, _reads_context
from topos_rt.engines.tensorrt.layers import BuiltLayer, BuiltTensor

KERNELS = {
    "__myl_MoveReshTran_myl0_7": True,
    "__myl_CastSlicCastReshMove_myl0_19": True,
    "__myl_SqrtMaxMinDivCastTran_myl0_4": False,
    "__myl_ReshCastAdd_myl0_9": False,
    "_gemm_mha_v2_myl0_6": False,
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_that_only_move(name: str) -> None:
    keys = BuiltTensor("keys", (2, 3), "Half")
    layer = BuiltLayer(name, "kgen", (keys,), (), (), frozenset())
    assert _only_moves(layer) == KERNELS[name] and _reads_context(layer)
    assert not _only_moves(BuiltLayer(name, "gemm", (), (), (keys,), frozenset()))
    assert not _reads_context(BuiltLayer(name, "kgen", (), (keys,), (keys,), frozenset()))
