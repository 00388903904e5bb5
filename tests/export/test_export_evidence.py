"""The export of an image encoder that takes evidence, and of a variation: from PyTorch to heads."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from export.bundle_writer import BundleContents, write_bundle
from export.onnx.example_feeds import example_feeds
from export.onnx.flops import count
from models import ImageEncoder
from tests.export.test_onnx_files import CHANNELS, tiny_networks
from tests.meshes import ball
from topos_rt import HeadPipeline
from topos_rt.errors import BundleError
from topos_rt.faces.evidence import evidence
from topos_rt.faces.portrait import FaceChoice, portraits
from topos_rt.flow.sampling import guided, sample
from topos_rt.flow.settings import SamplerSettings
from topos_rt.flow.variation import Variation
from topos_rt.model.bundle import Bundle
from topos_rt.model.evidence import EVIDENCE
from topos_rt.model.frame import place
from topos_rt.model.manifest import FlowSpec, FrameSpec, WeightsInfo
from topos_rt.support.progress import Tracker
from topos_rt.texture.stage import TextureChoice

HOPPER = Path(__file__).parents[2] / "examples/hopper.jpg"
NAMES = ("landmarks", "identity", "features")
SIDE = 28


class SeeingEncoder(nn.Module):
    """Tokens of the pixels, then one token of each kind of evidence."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ImageEncoder(embed_dim=CHANNELS, depth=1, num_heads=2, img_size=SIDE)
        sizes = [math.prod(EVIDENCE[name]) for name in NAMES]
        self.evidence_embed = nn.ModuleList(nn.Linear(size, CHANNELS) for size in sizes)
        self.mix = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, pixels: Tensor, *evidence: Tensor) -> Tensor:
        tokens = self.encoder(pixels)
        pairs = zip(self.evidence_embed, evidence, strict=True)
        seen = [layer(value.flatten(1))[:, None] for layer, value in pairs]
        return torch.cat([tokens, self.mix(torch.cat(seen, 1))], 1)


class EstimatingEncoder(SeeingEncoder):
    """The same, and an estimate of the latent, which the evidence alone tells."""

    def __init__(self, latent: tuple[int, int]) -> None:
        super().__init__()
        self.latent = latent
        self.evidence_latents = nn.Linear(128, math.prod(latent))

    def latents(self, identity: Tensor) -> Tensor:
        made: Tensor = self.evidence_latents(identity)
        return made.unflatten(1, self.latent)

    def forward(self, pixels: Tensor, *evidence: Tensor) -> Any:
        return super().forward(pixels, *evidence), self.latents(evidence[NAMES.index("identity")])


def contents(**changes: Any) -> BundleContents:
    hierarchy, dit, vae = tiny_networks()
    torch.manual_seed(1)
    rows = np.linalg.qr(np.random.default_rng(0).standard_normal((math.prod(dit.latent_shape), 3)))[0].T
    made: dict[str, Any] = {
        "name": "seeing", "description": "for tests", "encoder": SeeingEncoder(), "dit": dit, "vae": vae,
        "topology": ball(6, 8, radius=0.9).topology, "hierarchy": hierarchy, "rig": None,
        "weights": WeightsInfo("seeded", "MIT", "random"), "flow": FlowSpec(1e-5, 0.0, 0.5),
        "frame": FrameSpec("+y", "+z", 0.1), "image_size": SIDE, "points": 50, "evidence": NAMES,
        "variation": Variation(np.ascontiguousarray(rows, np.float32), 0.8),
    }  # fmt: skip
    return BundleContents(**made | changes)


@pytest.fixture(scope="module")
def made() -> BundleContents:
    return contents()


@pytest.fixture(scope="module")
def written(made: BundleContents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the bundle, which compares every graph with PyTorch."""
    out = tmp_path_factory.mktemp("export") / "seeing"
    write_bundle(made, out, {})
    return out


def test_the_manifest_and_the_files(made: BundleContents, written: Path) -> None:
    bundle = Bundle.open(written)
    assert bundle.manifest.evidence == NAMES
    assert bundle.variation is not None and made.variation is not None
    assert np.array_equal(bundle.variation.directions, made.variation.directions)
    assert bundle.variation.open_temperature == np.float32(0.8)
    assert bundle.manifest.image.tokens == 1 + 4 + 4 + len(NAMES)
    flops = bundle.manifest.flops["image_encoder"]
    assert flops == count(bundle.graph("image_encoder"))
    sizes = sum(math.prod(EVIDENCE[name]) for name in NAMES)
    assert flops > 2 * CHANNELS * sizes


def test_a_head_is_that_of_the_module(made: BundleContents, written: Path) -> None:
    picture = Image.open(HOPPER).convert("RGB")
    with HeadPipeline.open(written, "onnxruntime", threads=1) as pipe:
        head = pipe(picture, steps=2)
        assert head.metadata["open_temperature"] == pytest.approx(0.8)
        finder = pipe._finder
        assert finder is not None
        (portrait,) = portraits(picture, "hopper", finder, FaceChoice())
        seen = evidence(NAMES, portrait.picture, portrait.face, finder)
        got = np.asarray(pipe._networks.encode_image(portrait.pixels(SIDE, SIDE), seen).tokens)
    feeds = [portrait.pixels(SIDE, SIDE), *seen.values()]
    with torch.no_grad():
        want = made.encoder.eval()(*map(torch.from_numpy, feeds)).numpy()
    assert np.linalg.norm(got - want) <= 1e-5 * np.linalg.norm(want)
    blind = made.encoder(torch.from_numpy(feeds[0]), *(torch.zeros(EVIDENCE[name]) for name in NAMES))
    assert np.linalg.norm(got - blind.detach().numpy()) > 0.1 * np.linalg.norm(want)


def test_the_flow_makes_what_the_estimate_is_off_by(tmp_path: Path) -> None:
    """A head is decoded from the encoder's estimate plus what the flow made of the noise, times the scale."""
    latent = contents().dit.latent_shape
    made = contents(encoder=EstimatingEncoder(latent), residual_scale=0.25)
    assert write_bundle(made, tmp_path / "estimating", {}).residual_scale == 0.25
    picture = Image.open(HOPPER).convert("RGB")
    with HeadPipeline.open(tmp_path / "estimating", "onnxruntime", threads=1) as pipe:
        stages, networks, tracker = pipe._stages, pipe._networks, Tracker(None)
        (sitting,) = stages.sittings(picture, tracker, FaceChoice(), TextureChoice("none"))
        condition = stages.condition(sitting, tracker)
        assert pipe._finder is not None
        seen = evidence(NAMES, sitting.portrait.picture, sitting.portrait.face, pipe._finder)
        with torch.no_grad():
            want = made.encoder.latents(torch.from_numpy(seen["identity"])).numpy()
        assert condition.estimate is not None and np.allclose(condition.estimate, want, atol=1e-5)
        settings = SamplerSettings(2, guidance=0.0)
        field = networks.field(networks.context(condition.tokens))
        state = list(sample(guided(field, settings), stages.start(3, settings), settings))[-1].x_next
        decoded = networks.decode(condition.estimate + np.float32(0.25) * state)
        head = pipe(picture, steps=2, solver="euler", shift=1.0, seed=3)
        placed = place(decoded, pipe.bundle.manifest.frame, pipe.bundle.topology, None)
        assert np.array_equal(head.positions, placed.positions)
        last = list(pipe.stream(picture, steps=2, solver="euler", shift=1.0, seed=3))[-1]
        assert np.array_equal(last.positions, head.positions)


def test_first_layers_of_evidence_stay_fp32(written: Path) -> None:
    graph = onnx.load(Bundle.open(written).graph("image_encoder", "fp16"), load_external_data=False).graph
    assert [value.name for value in graph.input] == ["pixels", *NAMES]
    casts = [node for node in graph.node if node.op_type == "Cast"]
    halved = {node.output[0] for node in casts if node.attribute[0].i == 10}
    halved |= {node.output[0] for node in casts if node.input[0] in halved}  # to be summed in FP32
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm", "Conv")]
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    wide = [node for node in products if not halved.intersection(node.input)]
    sizes = {math.prod(EVIDENCE[name]) for name in NAMES}
    own = [node for node in wide if sizes.intersection(*[[s for i in node.input for s in shapes.get(i, [])]])]
    assert len(own) == len(NAMES) and len(wide) < len(products)


def test_graphs_are_compared_on_the_evidence_of_a_face(written: Path) -> None:
    (fed,) = example_feeds(Bundle.open(written), HOPPER, threads=1)["image_encoder"]
    assert list(fed) == ["pixels", *NAMES]
    assert all(array.std() > 0 for array in fed.values())


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown name": ({"evidence": ("hair",)}, "'evidence': got 'hair'; expected null, or some of these"),
    "another order": ({"evidence": ("features", "identity")}, "got 'features', 'identity'; expected null"),
    "directions of other latents": (
        {"variation": Variation(np.eye(2, 7, dtype=np.float32), 1.0)},
        r"got shape \[2, 7\]; expected \[k,",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_no_bundle_can_have_is_refused_before_any_work(case: str) -> None:
    changes, message = BAD[case]
    with pytest.raises(BundleError, match=message):
        contents(**changes)
