"""The sum over a node's neighbours in the mesh graph, the one operation of the decoder that mixes nodes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from topos_rt.head.hierarchy import Level


class NeighbourSum(nn.Module):
    """Sums x [n,B,C] over every node's incoming edges of one type.

    The sum has two forms. Inference gathers through a padded table, which takes few and portable ONNX
    operators. Training multiplies by a sparse matrix, whose gradient is several times faster on a CPU.
    """

    def __init__(self, level: Level, edge_type: int) -> None:
        super().__init__()
        n = len(level.features)
        table = torch.from_numpy(level.neighbours(edge_type))
        mask = table < n
        self.degree = mask.sum(1).float()
        # Where every node has one edge, its self-loop, the sum is x itself.
        self.identity = table.shape[1] == 1 and bool((table[:, 0] == torch.arange(n)).all())
        self.table = table
        places = torch.stack([torch.where(mask)[0], table[mask]])
        ones = torch.ones(places.shape[1])
        self.matrix = torch.sparse_coo_tensor(places, ones, (n, n)).to_sparse_csr()

    def forward(self, x: Tensor, sparse: bool) -> Tensor:
        """Return the sums; `sparse` chooses the form for training."""
        if self.identity:
            return x
        if sparse:
            with torch.autocast(x.device.type, enabled=False):  # sparse products exist in FP32 only
                return (self.matrix.to(x.device) @ x.float().flatten(1)).unflatten(1, x.shape[1:])
        padded = torch.cat([x, torch.zeros_like(x[:1])])
        return padded[self.table.to(x.device)].sum(1)
