"""Make the forms of an exported ONNX graph: the plain one in FP32, and ones with FP16 or BF16 operands.

TensorRT keeps to the types it is given, so precision is decided here. In the FP16 form matrix products,
convolutions and attention take FP16 operands. All else stays FP32: norms, activations, biases, sums over
neighbours, the residual stream, inputs and outputs. So the sampler's state is FP32 on every backend, and a
product rounds its operands once. Fused attention keeps the statistics of its softmax in FP32 by itself.

Some products stay FP32 as well, because they are little work and their errors count (`_KEPT`): the time
embedding and modulation, which run once for a time grid and enter every block of a step; the first and last
layers, whose values are pixels, latents, velocities and coordinates that are read to 0.01 mm; modules of an
image encoder whose names begin with `evidence`, which take it in, and its trunk; and the linear part of the
decoder.

The exporter leaves attention as one operator. TensorRT has kernels for it in FP16 and BF16 only, and
onnxruntime before 1.23 has none, so the plain form writes attention out. On a CPU that is as fast.

TensorRT-RTX sums FP16 products in FP16, which rounds the sum every 16 steps. Where that counts more than its
speed, the operands are rounded to FP16 and cast back to FP32 before the product, and its result likewise
(`wide_sums`): the builder makes a kernel of the same size of it that sums in FP32. Its attention has no such
form, so there attention is written out. A convolution between such casts becomes one of FP32 operands, so
convolutions stay as they are.

BF16 has the exponents of FP32 and three bits less than FP16. It is for networks that were trained in it and
whose values leave FP16's range, such as Qwen-Image.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import onnx
import onnx.helper
from onnx import TensorProto

EXPORTED_OPSET = 23  # the first with Attention
PLAIN_OPSET = 20  # enough for the plain form: later versions of its operators only added types
# Precision of operands -> their ONNX type. Weights that are stored so have its name as their suffix.
NARROW = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_NARROW_OPS = ("MatMul", "Gemm", "Conv", "Attention")
_SCOPES = "pkg.torch.onnx.name_scopes"  # the key under which the exporter says which module a node comes from
_KEPT_WEIGHTS = ("latent_basis", "linear_vertices", "evidence_latents", "evidence_mirror")
_KEPT = re.compile(
    r"dit\.(input_layer|out_layer|t_embedder|adaLN_modulation)|vae\.(data_proj|pre_kl|post_kl|header)"
    r"|image_encoder\.(encoder\.)?(patch_embed|evidence|trunk)|time_text_embed"
)


def plain_form(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which attention is two products and a softmax."""
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    nodes: list[onnx.NodeProto] = []
    widths = {
        v.name: v.type.tensor_type.shape.dim[-1].dim_value
        for v in model.graph.value_info
        if v.type.tensor_type.shape.dim
    }
    for node in plain.graph.node:
        nodes += _written_out(node, widths) if node.op_type == "Attention" else [node]
    del plain.graph.node[:]
    plain.graph.node.extend(nodes)
    del plain.opset_import[:]
    plain.opset_import.append(onnx.helper.make_opsetid("", PLAIN_OPSET))
    return plain


def narrow_form(
    model: onnx.ModelProto, precision: str = "fp16", *, wide_sums: bool = False
) -> onnx.ModelProto:
    """Return a copy in which the large products have operands of a precision of NARROW.

    It shares its weights with the plain form. A weight that is stored in that precision is used as it is;
    others get a Cast, which engine builders fold away.

    wide_sums: let matrix products be summed in FP32, and write attention out.
    """
    kind = NARROW[precision]
    half = onnx.ModelProto()
    half.CopyFrom(plain_form(model) if wide_sums else model)
    graph = half.graph
    # FP32 name -> narrow twin
    known = {node.output[0]: node.input[0] for node in graph.node if _widens(node, precision)}
    raised = {narrow: wide for wide, narrow in known.items()}  # narrow name -> the same numbers in FP32
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type not in _NARROW_OPS or _kept(node):
            nodes.append(node)
            continue
        for i, name in enumerate(node.input):
            if name and name not in known:
                known[name] = f"{name}.half"
                nodes.append(_cast(name, known[name], kind))
            node.input[i] = known.get(name, "")
        wide = node.output[0]
        node.output[0] = known[wide] = f"{wide}.half"
        nodes += _summed_wide(node, kind, raised) if wide_sums and node.op_type != "Conv" else [node]
        nodes.append(_cast(known[wide], wide, TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(needed(nodes, {output.name for output in graph.output}))
    del graph.value_info[:]  # these are the types of the plain form
    return half


def narrow_ends(model: onnx.ModelProto, names: Collection[str], precision: str = "fp16") -> onnx.ModelProto:
    """Return a copy whose inputs and outputs of these names are narrow, with a Cast inside.

    It is for graphs with an open batch: TensorRT's own way needs static shapes
    (`topos_rt/engines/tensorrt/boundary.py`).
    """
    kind = NARROW[precision]
    narrow = onnx.ModelProto()
    narrow.CopyFrom(model)
    graph = narrow.graph
    given = {value.name for value in graph.input}
    first: list[onnx.NodeProto] = []
    last: list[onnx.NodeProto] = []
    for end in (*graph.input, *graph.output):
        if end.name not in names:
            continue
        end.type.tensor_type.elem_type = kind
        wide = f"{end.name}.wide"
        for node in graph.node:
            for side in (node.input, node.output):
                side[:] = [wide if name == end.name else name for name in side]
        if end.name in given:
            first.append(_cast(end.name, wide, TensorProto.FLOAT))
        else:
            last.append(_cast(wide, end.name, kind))
    nodes = [*first, *graph.node, *last]
    del graph.node[:]
    graph.node.extend(nodes)
    return narrow


def _summed_wide(node: onnx.NodeProto, kind: int, raised: dict[str, str]) -> list[onnx.NodeProto]:
    """Return a product of narrow operands with casts around it, so that it is summed in FP32."""
    nodes = []
    for i, name in enumerate(node.input):
        if name and name not in raised:
            raised[name] = f"{name}.raised"
            nodes.append(_cast(name, raised[name], TensorProto.FLOAT))
        node.input[i] = raised.get(name, "")
    narrow = node.output[0]
    node.output[0] = f"{narrow}.sum"
    return [*nodes, node, _cast(node.output[0], narrow, kind)]


def _written_out(node: onnx.NodeProto, widths: Mapping[str, int]) -> list[onnx.NodeProto]:
    """Write out softmax(scale q k^T + mask) v for q, k, v [B,heads,length,head_dim].

    The mask, where there is one, is added to the scores. widths: the size of the last axis of each tensor, by
    name.
    """
    q, k, v, *mask = node.input
    (out,) = node.output
    given = [a.f for a in node.attribute if a.name == "scale"]
    scale = given[0] if given else widths[q] ** -0.5
    make, scores = onnx.helper.make_node, f"{out}.scores"
    nodes = [make("Transpose", [k], [f"{out}.keys"], perm=[0, 1, 3, 2])]
    if scale != 1:
        factor = onnx.helper.make_tensor(f"{out}.scale", TensorProto.FLOAT, [], [scale])
        nodes += [
            make("Constant", [], [f"{out}.scale"], value=factor),
            make("Mul", [q, f"{out}.scale"], [f"{out}.queries"]),
        ]
        q = f"{out}.queries"
    nodes.append(make("MatMul", [q, f"{out}.keys"], [scores]))
    if mask and mask[0]:
        nodes.append(make("Add", [scores, mask[0]], [f"{out}.masked"]))
        scores = f"{out}.masked"
    return [
        *nodes,
        make("Softmax", [scores], [f"{out}.weights"], axis=-1),
        make("MatMul", [f"{out}.weights", v], [out]),
    ]


def _kept(node: onnx.NodeProto) -> bool:
    scopes = next((p.value for p in node.metadata_props if p.key == _SCOPES), "")
    return bool(_KEPT.search(scopes)) or any(
        weight in name for name in node.input for weight in _KEPT_WEIGHTS
    )


def _widens(node: onnx.NodeProto, precision: str) -> bool:
    """Tell whether a node is the Cast behind a weight that is stored in a precision."""
    return node.op_type == "Cast" and node.input[0].endswith(f".{precision}")


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to)


def needed(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """Keep the nodes whose outputs are read, so that no cast back to FP32 is left that nothing needs."""
    wanted = set(wanted)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]
