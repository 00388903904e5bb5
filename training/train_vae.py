"""Train `mini`'s VAE to encode surface points of synthetic heads, and to decode the same heads.

    python -m training.train_vae --out runs/mini [--people DIR] [--weights DIR] [--minutes 90] [--resume]

With --people, half of the heads are the people of training pictures, who reach beyond anny's sliders.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import TOPOSVAE
from models import mini as config
from training.geometry import surface_losses
from training.heads import HeadModel
from training.linear_decoder import LinearDecoder, fit
from training.loop import Budget, Metrics, arguments, bfloat16, load_weights, train
from training.vae_data import VAEData

# The release's loss weights, and one of ours that keeps the code where it started.
WEIGHTS = {
    "mse": 2.0, "l1": 2.0, "face_normal": 1.0, "face_angle": 5.0, "edge_curvature": 5.0, "kl": 1e-3,
    "anchor": 5.0,
}  # fmt: skip
# Share of the time in which both halves learn against the anchor alone (see training/latents.py).
ANCHORED_SHARE = 0.6
ANCHOR_NOISE = 0.1
ENDS = ("data_proj", "pre_kl", "post_kl", "header.1")


def build(model: HeadModel, data: VAEData) -> TOPOSVAE:
    """Make a VAE whose queries start at the embedding of their own node and attend to the points near it."""
    vae = TOPOSVAE(model.hierarchy, **config.VAE)
    vae.output_mean.copy_(torch.cat([data.mean, data.mean_normals], 1))
    vae.output_scale.copy_(data.scale)
    nodes = torch.from_numpy(model.hierarchy.levels[len(config.VAE["decoder_blocks"])].features)
    with torch.no_grad():
        nn.init.orthogonal_(vae.data_proj.weight)
        at, facing = vae.fourier(nodes[:, :3]), F.normalize(nodes[:, 3:], dim=-1)
        vae.encoder.learns.copy_(vae.data_proj(torch.cat([at, facing], -1)))
        for attention, _ in vae.encoder.layers:
            inner = attention.to_q.weight.shape[0]
            nn.init.orthogonal_(attention.to_q.weight, gain=1.5)
            attention.to_kv.weight[:inner] = attention.to_q.weight
        vae.pre_kl.linear.bias[config.VAE["code_channels"] :] = -5.0  # a narrow posterior at first
    return vae


@torch.no_grad()
def begin_linearly(vae: TOPOSVAE, linear: LinearDecoder) -> None:
    """Set the linear part, and let the network begin with positions that add nothing to it."""
    linear.into(vae)
    for parameter in vae.header[1].parameters():
        parameter[:3] = 0


def loss_of(
    vae: TOPOSVAE, data: VAEData, want: Tensor, points: Tensor, anchored: bool
) -> tuple[Tensor, Metrics]:
    """Return the loss and its terms on the scaled offsets; `mm` among them is the vertex error.

    The decoder reads noisy anchors if `anchored`, else samples of the posterior.
    """
    with bfloat16(points):  # the decoder stays in FP32: geometry is read to 0.1 mm
        mean, logvar = (value.float() for value in vae.encode(points))
    anchor = data.offsets(want)
    noise = torch.randn_like(anchor)
    got = vae.decode(anchor + ANCHOR_NOISE * noise if anchored else mean + (0.5 * logvar).exp() * noise)
    target = torch.cat([want, data.geometry.vertex_normals(want)], -1)
    error = (got - target) / data.scale
    terms = {
        "mse": error.square().mean(),
        "l1": error.abs().mean(),
        "kl": 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean(),
        "anchor": (mean - anchor).square().mean(),
        **surface_losses(data.geometry, got[..., :3], want),
    }
    total = sum((WEIGHTS[k] * v for k, v in terms.items()), torch.zeros(()))
    parts = {k: float(v.detach()) for k, v in terms.items()}
    parts["mm"] = vertex_error_mm(got[..., :3].detach(), want, torch.full((len(want),), config.RADIUS_M))
    return total, parts


def vertex_error_mm(got: Tensor, want: Tensor, radii: Tensor) -> float:
    """Return the mean vertex distance in mm, with each head's own radius (metres) restored."""
    return float(((got - want).norm(dim=-1).mean(1) * radii).mean() * 1000)


def evaluate(vae: TOPOSVAE, data: VAEData) -> Metrics:
    """Return the held-out error of reconstruction from the posterior mean, in FP32."""
    generator = torch.Generator().manual_seed(0)
    points = data.geometry.sample_surface(data.held_out, config.POINTS, generator)
    got = torch.cat([vae.decode(vae.encode(chunk)[0]) for chunk in points.split(20)])[..., :3]
    return {"mm": vertex_error_mm(got, data.held_out, data.held_out_radii)}


def main() -> None:
    parser = arguments(__doc__, minutes=90, batch=16, learning_rate=3e-3, matrix_rate=1e-2)
    parser.add_argument("--points", type=int, default=512, help="surface points per training sample")
    parser.add_argument("--people", type=Path, metavar="DIR", help="training pictures, for their heads")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="weights of an earlier run to begin with")
    args = parser.parse_args()
    torch.manual_seed(0)
    model = HeadModel.load()
    data = VAEData(model, people=args.people)
    vae = build(model, data)
    if args.weights:
        load_weights(vae, args.weights, "vae")
    linear = fit(data, config.VAE["linear_rank"])
    linear.save(args.out)
    begin_linearly(vae, linear)
    generator = torch.Generator().manual_seed(1)

    def step(done: float) -> tuple[Tensor, Metrics]:
        want = data.positions[torch.randint(len(data.positions), (args.batch,), generator=generator)]
        points = data.geometry.sample_surface(want, args.points, generator)
        return loss_of(vae, data, want, points, done < ANCHORED_SHARE)

    budget = Budget(args.minutes, args.learning_rate, args.matrix_rate)
    watch = functools.partial(evaluate, data=data)
    print(train("vae", vae, step, watch, budget, args.out, args.resume, ENDS))


if __name__ == "__main__":
    main()
