"""The DiT, with everything taken out of its step that does not change between steps or guidance halves.

It is the same function in exact arithmetic as `TOPOSDiT`, which stays the reference. `TOPOSDiT` takes the
latent, the time and the condition together; here the work is split by what it depends on:

- `modulation` depends on the time alone: the time embedding and every block's adaLN, once for a time grid;
- `context` depends on the image alone: keys and values of every block's cross-attention, in one product;
- `step` is the rest, which depends on the latent. With guidance both halves run as a batch of two.

Under the negative condition, which is all zeros, every key and every value of a block is the same. So its
cross-attention is a constant, W_o b_v + b_o, which serves both halves as a bias. Until the first
cross-attention the halves are equal and are computed once. The biases of the cross-attention's keys shift all
scores of a query alike and cancel. The affine norm before its queries, and its scale, fold into the weights
of the queries. The two gains of the self-attention's norms, and its scale, fold into one vector.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.dit import Block, HeadRMSNorm, TOPOSDiT, norm, wide

_LEAST_LENGTH = 1e-12  # that of F.normalize
_SCALES = (1, 4)  # the ones of a block's six modulation vectors that are used as 1 + s


class FastDiT(nn.Module):
    """A folded DiT, made from one as released: with norms on the queries and keys of self-attention only.

    The parameters of `dit` are folded in float64, and rounded once to their own precision.
    """

    table: Tensor  # [N,C], the position table plus the input bias
    blocks: Any  # nn.ModuleList of FastBlock

    def __init__(self, dit: TOPOSDiT) -> None:
        super().__init__()
        dtype = dit.out_layer.weight.dtype
        norms = [type(part.q_rms_norm) for part in (dit.blocks[0].self_attn, dit.blocks[0].cross_attn)]
        if norms != [HeadRMSNorm, nn.Identity]:
            raise ValueError(
                f"got {norms} on queries; expected qk_rms_norm=True and qk_rms_norm_cross=False, as released"
            )
        self.heads, self.depth, self.channels = dit.num_heads, len(dit.blocks), dit.model_channels
        self.latent_shape = dit.latent_shape
        self.t_embedder = dit.t_embedder
        with torch.no_grad():
            self.adaLN_modulation = _linear(*_joined_modulation(dit), dtype)
            attentions = [block.cross_attn for block in dit.blocks]
            self.to_kv = _linear(
                torch.cat([a.to_kv.weight.unflatten(0, (2, -1)) for a in attentions], 1)
                .flatten(0, 1)
                .double(),
                None,
                dtype,
            )
            self.input_layer = _linear(dit.input_layer.weight, None, dtype)
            table = dit.pos_emb.double() + dit.input_layer.bias.double()
            self.register_buffer("table", table.to(dtype))
            self.blocks = nn.ModuleList(FastBlock(block, self.heads, dtype) for block in dit.blocks)
            self.out_layer = _linear(dit.out_layer.weight, None, dtype)
            self.out_bias = nn.Parameter(dit.out_layer.bias.to(dtype))  # a difference of velocities has none

    def modulation(self, t: Tensor) -> Tensor:
        """Return the modulation vectors [S,blocks,6,C] at times t [S] in 0..1000.

        The six are shift, 1 + scale and gate of the attention, then those of the MLP.
        """
        vectors = self.adaLN_modulation(F.silu(self.t_embedder(t)))
        return vectors.unflatten(-1, (self.depth, 6, self.channels))

    def context(self, cond: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values [blocks,heads,T,head_dim] of cond [T,C], each without its bias."""
        both = self.to_kv(cond).unflatten(-1, (2, self.depth, self.heads, -1)).permute(1, 2, 3, 0, 4)
        keys, values = both.unbind(0)
        return keys, values

    def contexts(self, cond: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values [B,blocks,heads,T,head_dim] of cond [B,T,C], as `context` does of one."""
        rows = self.to_kv(
            cond.flatten(0, 1)
        )  # of two dimensions, as those of `context`: one layout of the weight
        both = rows.unflatten(-1, (2, self.depth, self.heads, -1)).unflatten(0, (-1, cond.shape[1]))
        both = both.permute(2, 0, 3, 4, 1, 5)
        keys, values = both.unbind(0)
        return keys, values

    def step(self, x: Tensor, modulation: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return the velocity [1,N,D] at x [1,N,D], with modulation [blocks,6,C] and what `context` gave.

        A batch takes x [B,N,D] and what `contexts` gave, and shares the modulation, since its time is one.
        """
        return self.out_layer(self._hidden(x, modulation, keys, values, guided=False)) + self.out_bias

    def guided_step(
        self, x: Tensor, modulation: Tensor, keys: Tensor, values: Tensor, w: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return (1 + w) v_cond - w v_uncond and v_cond - v_uncond, each as x, for the inputs of `step`.

        w: the guidance weight, [1]. Both results are linear in the normalised hidden states, so the halves
        are combined before the last layer.
        """
        hidden = self._hidden(x, modulation, keys, values, guided=True)
        # The number of parts of a split would fix the size of the batch.
        conditional, unconditional = (
            hidden.split(1) if keys.ndim == 4 else (hidden[: x.shape[0]], hidden[x.shape[0] :])
        )
        difference = conditional - unconditional
        velocity = self.out_layer(conditional + w * difference) + self.out_bias
        return velocity, self.out_layer(difference)

    def _hidden(self, x: Tensor, modulation: Tensor, keys: Tensor, values: Tensor, guided: bool) -> Tensor:
        h = self.input_layer(x) + self.table
        for i, block in enumerate(self.blocks):
            k, v = (keys[i], values[i]) if keys.ndim == 4 else (keys[:, i], values[:, i])
            h = block(h, modulation[i], k, v, guided)
        return F.layer_norm(wide(h), h.shape[-1:])


class FastBlock(nn.Module):
    """One block. Its batch is some latents or, with guidance, the conditional and the unconditional ones."""

    gain: Tensor  # [1,heads,head_dim]

    def __init__(self, block: Block, heads: int, dtype: torch.dtype) -> None:
        super().__init__()
        own, cross = block.self_attn, block.cross_attn
        self.heads = heads
        head_dim = own.to_out.weight.shape[1] // heads
        qk_weight, v_weight = own.to_qkv.weight.double().tensor_split([2 * heads * head_dim])
        qk_bias, v_bias = own.to_qkv.bias.double().tensor_split([2 * heads * head_dim])
        self.to_qkv = _linear(torch.cat([qk_weight, v_weight]), torch.cat([qk_bias, 0 * v_bias]), dtype)
        # Normalised q and k each carry a factor sqrt(head_dim), and the scores divide by it once.
        gains: list[Any] = [own.q_rms_norm, own.k_rms_norm]
        gain = gains[0].gamma.double() * gains[1].gamma.double() * head_dim**0.5
        self.register_buffer("gain", gain[None].to(dtype))
        self.to_out = _linear(own.to_out.weight, _through(own.to_out, v_bias), dtype)
        norm, scale = block.cross_norm, head_dim**-0.5
        weight, bias = cross.to_q.weight.double(), cross.to_q.bias.double()
        self.to_q = _linear(weight * norm.weight * scale, (weight @ norm.bias.double() + bias) * scale, dtype)
        self.from_image = _linear(cross.to_out.weight, None, dtype)
        values_bias = cross.to_kv.bias.double().chunk(2)[1]
        self.from_nothing = nn.Parameter(_through(cross.to_out, values_bias).to(dtype))
        self.mlp = block.mlp

    def forward(self, h: Tensor, modulation: Tensor, keys: Tensor, values: Tensor, guided: bool) -> Tensor:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.unbind(0)
        one = keys.ndim == 3  # known without the size of the batch, which an export may leave open
        h = h + gate_a * self._self_attention(norm(h) * scale_a + shift_a, one and not guided)
        batch = 1 if one else keys.shape[0]
        seen, unseen = (h[:batch], h[-batch:]) if guided else (h, None)
        q = self.to_q(norm(seen)).unflatten(-1, (self.heads, -1))
        if one:
            out = _attended(q[0].transpose(0, 1), keys, values)[None]
        else:
            out = _attended(q.transpose(1, 2), keys, values)
        seen = seen + self.from_image(out)
        h = (seen if unseen is None else torch.cat([seen, unseen])) + self.from_nothing
        return h + gate_m * self.mlp(norm(h) * scale_m + shift_m)

    def _self_attention(self, x: Tensor, one: bool) -> Tensor:
        """Return the attention of x [B,N,C] to itself; one: whether B is 1."""
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q = (_unit(wide(q)) * self.gain).to(v.dtype)
        k = _unit(wide(k)).to(v.dtype)
        if one:
            return self.to_out(_attended(*(part[0].transpose(0, 1) for part in (q, k, v)))[None])
        return self.to_out(_attended(*(part.transpose(1, 2) for part in (q, k, v))))


def _unit(x: Tensor) -> Tensor:
    """Return rows of length 1, as `F.normalize` does, which would expand the lengths to the size of x.

    TensorRT-RTX makes a kernel of all that is done with queries, keys and values, but an expansion splits it.
    """
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(_LEAST_LENGTH)


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax(q k^T) v of [...,heads,length,head_dim], with its heads side by side: [...,N,C].

    It is written out, and of three dimensions where it can be, because TensorRT-RTX copies what goes into its
    attention operator and comes out of it.
    """
    out = torch.softmax(q @ k.transpose(-1, -2), dim=-1) @ v
    return out.transpose(-3, -2).flatten(-2)


def _joined_modulation(dit: TOPOSDiT) -> tuple[Tensor, Tensor]:
    """Join the adaLN of all blocks into one linear layer, whose bias holds the ones of 1 + scale."""
    layers = [block.adaLN_modulation[1] for block in dit.blocks]
    biases = torch.stack([layer.bias.double() for layer in layers]).unflatten(1, (6, -1)).clone()
    biases[:, list(_SCALES)] += 1
    return torch.cat([layer.weight for layer in layers]), biases.flatten()


def _through(layer: nn.Linear, bias: Tensor) -> Tensor:
    """Return the bias of a linear layer whose input is shifted by the constant `bias`."""
    return layer.weight.double() @ bias + layer.bias.double()


def _linear(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> nn.Linear:
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias=bias is not None, dtype=dtype)
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)
    return layer
