"""`topos-rt metrics`: how alike two pictures, or two folders of pictures, are."""

from __future__ import annotations

import argparse
from typing import Any

from topos_rt.cli import options
from topos_rt.cli.console import Console
from topos_rt.engines.contract import MAX_THREADS
from topos_rt.errors import OptionError, one_line
from topos_rt.metrics.measures import MEASURES, Choice, measure, read_weights
from topos_rt.metrics.network import LEAST_SIDE, MOST_SIDE, RANGES, FeatureNetwork
from topos_rt.metrics.sets import SUBSET_SIZE, SUBSETS
from topos_rt.support.files import refuse_url

_LIST = "\n".join(f"  {name:6}{found.about}" for name, found in MEASURES.items())
EPILOG = f"""
examples:
  topos-rt metrics render.png photo.png --mask face.png
  topos-rt metrics renders/ photos/ --measures csim --network identity.onnx --faces
  topos-rt metrics made/ real/ --measures fid,kid --network inception.onnx --subset-size 100

Files of two folders belong together where their names without suffix are the same; for fid and kid
they need not. The measures are:
{_LIST}
The network is any ONNX file with one input [1,3,H,W] float32, RGB; docs/metrics.md says more.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `topos-rt metrics`."""
    parser.epilog = EPILOG
    parser.add_argument("pictures", metavar="PICTURES", help="a picture, or a folder of pictures, to judge")
    parser.add_argument("truth", metavar="TRUTH", help="a picture, or a folder of pictures, to judge by")
    parser.add_argument(
        "--measures",
        metavar="NAME,...",
        default="psnr,ssim",
        help=f"some of: {', '.join(MEASURES)} (default: psnr,ssim)",
    )
    parser.add_argument(
        "--mask", metavar="MASK", help="white where psnr and ssim count; a picture or a folder"
    )
    _add_network_options(parser.add_argument_group("network"))
    group = parser.add_argument_group("kid")
    group.add_argument(
        "--subsets",
        metavar="N",
        type=options.whole,
        default=SUBSETS,
        help=f"random subsets (default: {SUBSETS})",
    )
    group.add_argument(
        "--subset-size",
        metavar="N",
        type=options.whole,
        default=SUBSET_SIZE,
        help=f"pictures in each (default: {SUBSET_SIZE})",
    )
    group.add_argument(
        "--seed", metavar="K", type=options.whole_within(0, 999_999_999), default=0, help="(default: 0)"
    )


def _add_network_options(group: Any) -> None:
    group.add_argument("--network", metavar="FILE.onnx", help="makes features of pictures")
    group.add_argument(
        "--outputs", metavar="NAME,...", help="the network's outputs that count (default: all)"
    )
    group.add_argument(
        "--range",
        dest="scale",
        metavar="|".join(RANGES),
        default="0..1",
        help="the range of its pixels (default: 0..1)",
    )
    group.add_argument(
        "--size",
        metavar="N",
        type=options.whole,
        help=f"pixels a side that it sees, {LEAST_SIDE} to {MOST_SIDE}, where its sizes are free",
    )
    group.add_argument("--weights", metavar="FILE", help="lpips: a safetensors file, [C] for each output")
    group.add_argument(
        "--faces", action="store_true", help="show it the largest face of each picture, cut out and upright"
    )
    group.add_argument(
        "--threads",
        metavar="N",
        type=options.whole_within(1, MAX_THREADS),
        help="number of CPU threads (default: one for each usable core)",
    )


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Measure, and print one line for each measure."""
    for source in (arguments.pictures, arguments.truth, arguments.mask, arguments.network):
        if source is not None:
            refuse_url(source, f"cannot use {source}")
    names = tuple(dict.fromkeys(arguments.measures.split(",")))
    if arguments.network is None and (arguments.outputs or arguments.weights or arguments.faces):
        raise OptionError(
            "--outputs, --weights and --faces", got="no --network", expected="one", fix="name its file"
        )
    if arguments.network is None:
        return _measured(arguments, Choice(names, mask=arguments.mask), console)
    wanted = None if arguments.outputs is None else arguments.outputs.split(",")
    with FeatureNetwork(
        arguments.network, wanted, scale=arguments.scale, side=arguments.size, threads=arguments.threads
    ) as network:
        choice = Choice(
            names,
            network,
            {} if arguments.weights is None else read_weights(arguments.weights),
            arguments.mask,
            arguments.faces,
            arguments.subsets,
            arguments.subset_size,
            arguments.seed,
        )
        return _measured(arguments, choice, console)


def _measured(arguments: argparse.Namespace, choice: Choice, console: Console) -> int:
    found = measure(arguments.pictures, arguments.truth, choice, console.progress)
    console.report.update(found, network=arguments.network, faces=arguments.faces)
    for name in choice.measures:
        value = found[name]
        told = "infinite: the pictures are equal" if value is None else f"{value:.6g}"
        if name == "kid":
            told += f" ± {found['kid_deviation']:.3g} over {choice.subsets} subsets"
        if name == "csim" and found["csim_mismatched"] is not None:
            told += f", of mismatched pairs {found['csim_mismatched']:.6g}"
        console.say(one_line(f"{name:<8}{told}"))
    return 0
