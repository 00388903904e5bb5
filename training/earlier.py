"""Take the weights of an earlier `mini` out of its bundle, so that training goes on from them.

    python -m training.earlier --bundle topos_rt/bundles/mini --out runs/first

It writes `encoder.pt`, `dit.pt` and `vae.pt`, as training writes its own, and what `training.finish` reads,
so that the bundle can be exported again as it is (docs/training.md). A bundle's DiT is folded
(`models/fast_dit.py`); the one that is made here is another that folds to the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from models import EvidenceEncoder, ImageEncoder, TOPOSDiT
from models import mini as config
from models.dit import position_table
from models.face_trunk import recognition_weights
from topos_rt.errors import InputError
from topos_rt.faces.bundle import FaceBundle
from topos_rt.model.bundle import Bundle
from training.heads import HeadModel
from training.linear_decoder import LinearDecoder
from training.train_vae import build
from training.vae_data import VAEData
from training.variation import EstimateErrors

_SCALES = (1, 4)  # of the six modulation vectors; the folded bias holds 1 + scale
# The matrices of a block of the folded DiT, in the order in which its graph multiplies by them.
_BLOCK = ("to_qkv", "to_out", "to_q", "from_image", "mlp.0", "mlp.2")


class Graph:
    """The constants of one ONNX graph of a bundle."""

    def __init__(self, path: Path, prefix: str) -> None:
        model = onnx.load(str(path))
        self.constants = {
            item.name.removesuffix(".fp16"): torch.from_numpy(
                np.array(numpy_helper.to_array(item), np.float32)
            )
            for item in model.graph.initializer
        }
        self.named = {
            name.removeprefix(prefix): array
            for name, array in self.constants.items()
            if name.startswith(prefix)
        }
        self._made = {out: node for node in model.graph.node for out in node.output}
        self._nodes = list(model.graph.node)

    def matrices(self) -> list[Tensor]:
        """Return the constant right-hand sides of all matrix products, in the graph's order."""
        found = [self._constant(node.input[1]) for node in self._nodes if node.op_type == "MatMul"]
        return [array for array in found if array is not None]

    def linears(self) -> dict[str, Tensor]:
        """Return the weights [out,in] of matrix products that a named bias is added to, as `….weight`."""
        found = {}
        for node in self._nodes:
            if node.op_type != "Add":
                continue
            for product, bias in (node.input, reversed(node.input)):
                made, named = self._made.get(product), bias.removesuffix(".fp16")
                weight = (
                    self._constant(made.input[1]) if made is not None and made.op_type == "MatMul" else None
                )
                if weight is not None and named in self.constants:
                    found[named.removesuffix("bias") + "weight"] = weight.T
        return found

    def rows_of_tokens(self, channels: int) -> dict[str, Tensor]:
        """Return the rows [channels] that mark tokens by what they tell, or that it is missing.

        The graph names neither. It has the image first, then the map of features, then the other parts.
        """
        added: list[Tensor] = []
        missing: list[Tensor] = []
        for node in self._nodes:
            rows = [self.constants[name] for name in node.input if name.startswith("select_")
                    and name in self.constants]  # fmt: skip
            if rows and rows[0].shape == (channels,):
                (added if node.op_type == "Add" else missing).append(rows[0])
        turned = {"kinds": added[1:] + added[:1], "missing": missing[2:] + missing[:2]}
        return {name: torch.stack(rows) for name, rows in turned.items() if rows}

    def _constant(self, name: str) -> Tensor | None:
        if name.removesuffix(".fp16") in self.constants:
            return self.constants[name.removesuffix(".fp16")]
        made = self._made.get(name)
        return (
            self._constant(made.input[0])
            if made is not None and made.op_type in ("Cast", "Identity")
            else None
        )


def encoder(bundle: Path) -> dict[str, Tensor]:
    """Return the state of the encoder of evidence. What the bundle does not have keeps its first weights."""
    graph = Graph(bundle / "image_encoder.onnx", "image_encoder.")
    known = graph.named | {k.removeprefix("image_encoder."): w for k, w in graph.linears().items()}
    # The class and register tokens are stored once for each crop.
    known["encoder.cls_token"] = graph.constants["expand"][:1]
    known["encoder.register_tokens"] = graph.constants["expand_1"][:1]
    network = EvidenceEncoder(ImageEncoder(**config.IMAGE_ENCODER), **config.EVIDENCE)
    network.trunk.load_state_dict(recognition_weights(FaceBundle.open().graph("face_identity")))
    known |= graph.rows_of_tokens(len(known["places"][0]))
    state = network.state_dict()
    found = {
        name: known[name]
        for name, values in state.items()
        if name in known and known[name].shape == values.shape
    }
    print(f"not in the bundle, and as a new network has them: {', '.join(sorted(set(state) - set(found)))}")
    return state | found


def dit(bundle: Path) -> dict[str, Tensor]:
    """Return the state of a DiT that folds to the bundle's."""
    network = TOPOSDiT(**config.DIT)
    depth, heads = len(network.blocks), network.num_heads
    state = network.state_dict()
    step, context, modulation = (
        Graph(bundle / f"dit_{name}.onnx", "dit.") for name in ("step", "context", "modulation")
    )
    matrices = step.matrices()
    state |= {k: v for k, v in modulation.named.items() if k in state}
    state["input_layer.weight"], state["out_layer.weight"] = matrices[0].T, matrices[-1].T
    state["input_layer.bias"] = (
        step.named["table"] - position_table(config.NUM_LATENTS, network.model_channels)
    ).mean(0)
    state["out_layer.bias"] = step.named["out_bias"]
    adaptive = modulation.named["adaLN_modulation.weight"].chunk(depth)
    biases = modulation.named["adaLN_modulation.bias"].view(depth, 6, -1).clone()
    biases[:, list(_SCALES)] -= 1
    keys_values = context.named["to_kv.weight"].view(2, depth, -1, config.DIT["cond_channels"])
    for i in range(depth):
        own, block = step.named, f"blocks.{i}."
        of = dict(zip(_BLOCK, (m.T for m in matrices[1 + 6 * i : 7 + 6 * i]), strict=True))
        head_dim = network.model_channels // heads
        gain = own[f"{block}gain"].view(heads, head_dim) / head_dim**0.5
        state |= {
            f"{block}adaLN_modulation.1.weight": adaptive[i],
            f"{block}adaLN_modulation.1.bias": biases[i].flatten(),
            f"{block}self_attn.to_qkv.weight": of["to_qkv"],
            f"{block}self_attn.to_qkv.bias": own[f"{block}to_qkv.bias"],
            f"{block}self_attn.q_rms_norm.gamma": gain,
            f"{block}self_attn.to_out.weight": of["to_out"],
            f"{block}self_attn.to_out.bias": own[f"{block}to_out.bias"],
            f"{block}cross_attn.to_q.weight": of["to_q"] * head_dim**0.5,
            f"{block}cross_attn.to_q.bias": own[f"{block}to_q.bias"] * head_dim**0.5,
            f"{block}cross_attn.to_kv.weight": keys_values[:, i].flatten(0, 1),
            f"{block}cross_attn.to_kv.bias": torch.zeros(2 * network.model_channels),
            f"{block}cross_attn.to_out.weight": of["from_image"],
            f"{block}cross_attn.to_out.bias": own[f"{block}from_nothing"],
            **{f"{block}mlp.mlp.{k}.weight": of[f"mlp.{k}"] for k in (0, 2)},
            **{f"{block}mlp.mlp.{k}.bias": own[f"{block}mlp.mlp.{k}.bias"] for k in (0, 2)},
        }
    return state


def vae(bundle: Path) -> dict[str, Tensor]:
    """Return the state of the VAE: what the bundle's graphs and its decoder's tensors name, and attention."""
    from safetensors.torch import load_file

    model = HeadModel.load()
    state = build(model, VAEData(model)).state_dict()
    known = {
        k.removeprefix("decoder."): v.float() for k, v in load_file(bundle / "weights.safetensors").items()
    }
    for name in ("vae_encoder", "vae_decoder"):
        graph = Graph(bundle / f"{name}.onnx", "vae.")
        known |= graph.named | {k.removeprefix("vae."): w for k, w in graph.linears().items()}
    # Attention has no biases to name it by. The graph begins with the points; each layer has five matrices.
    encoder = Graph(bundle / "vae_encoder.onnx", "vae.")
    if "encoder.learns" not in known:  # a small one is stored as it is expanded to a batch of one
        known["encoder.learns"] = encoder.constants["expand"][0]
    matrices = encoder.matrices()
    for i in range(config.VAE["num_encoder_layers"]):
        for name, matrix in zip(("to_q", "to_kv", "to_out"), matrices[1 + 5 * i :], strict=False):
            known[f"encoder.layers.{i}.0.{name}.weight"] = matrix.T
    return {k: known[k] if k in known and known[k].shape == v.shape else v for k, v in state.items()}


def linear_decoder(state: Mapping[str, Tensor]) -> LinearDecoder:
    """Return the linear part of a VAE by its state."""
    return LinearDecoder(state["latent_basis"], state["linear_vertices"], state["output_mean"][:, :3])


def errors_of(bundle: Bundle) -> EstimateErrors:
    """Return what the bundle says of the errors of its estimates. The share of the flow is in their scale."""
    variation, scale = bundle.variation, bundle.manifest.residual_scale
    if variation is None or scale is None:
        raise InputError(f"bundle {bundle.path}", got="no linear estimate", expected="a `mini` that has one")
    return EstimateErrors(torch.from_numpy(variation.directions), scale)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    whole = {f"encoder.{name}": value for name, value in encoder(args.bundle).items()}
    states = {"encoder": whole, "dit": dit(args.bundle), "vae": vae(args.bundle)}
    states["flow"] = whole | {f"dit.{name}": value for name, value in states["dit"].items()}
    for name, state in states.items():
        torch.save({"average": state}, args.out / f"{name}.pt")
    linear_decoder(states["vae"]).save(args.out)
    errors_of(Bundle.open(args.bundle)).save(args.out)


if __name__ == "__main__":
    main()
