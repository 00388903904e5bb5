"""Sums over the neighbours of a fixed graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from topos_rt.head.hierarchy import Level


class NeighbourSum(nn.Module):
    """x [n,B,C] -> for each node the sum of x over its incoming edges of one type.

    Two forms of the same sum: a gather through a padded table (few, portable ONNX ops) for inference,
    and a sparse product for training, whose gradient is several times faster on a CPU.
    """

    def __init__(self, level: Level, edge_type: int) -> None:
        super().__init__()
        n = len(level.features)
        table = torch.from_numpy(level.neighbours(edge_type))
        mask = table < n
        self.degree = mask.sum(1).float()
        # A self-loop per node and nothing else: the sum is x itself.
        self.identity = table.shape[1] == 1 and bool((table[:, 0] == torch.arange(n)).all())
        self.table = table
        places = torch.stack([torch.where(mask)[0], table[mask]])
        ones = torch.ones(places.shape[1])
        self.matrix = torch.sparse_coo_tensor(places, ones, (n, n)).to_sparse_csr()

    def forward(self, x: Tensor, sparse: bool) -> Tensor:
        if self.identity:
            return x
        if sparse:
            with torch.autocast(x.device.type, enabled=False):  # sparse products exist in FP32 only
                return (self.matrix.to(x.device) @ x.float().flatten(1)).unflatten(1, x.shape[1:])
        padded = torch.cat([x, torch.zeros_like(x[:1])])
        return padded[self.table.to(x.device)].sum(1)
