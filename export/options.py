"""Options that `official` and `random` share, and the line that describes their bundles."""

from __future__ import annotations

import argparse

from topos_rt.errors import OptionError
from topos_rt.head.topology import Topology

PRECISIONS = ("fp32", "fp16")


def add_export_options(parser: argparse.ArgumentParser, points: str) -> None:
    """Add --precision and --points; `points` says what the default number of points is."""
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="precision of the stored weights; fp16 rounds them and halves the files (default: fp32)",
    )
    parser.add_argument(
        "--points",
        type=int,
        metavar="N",
        help=f"number of points that the VAE encoder takes at a time (default: {points})",
    )


def check_points(points: int) -> None:
    """Raise OptionError for a number of points that makes no sense."""
    if not 16 <= points <= 1 << 20:
        raise OptionError("--points", got=points, expected="16 to 1048576")


def describe(topology: Topology, parameters: int, precision: str) -> str:
    """Return the bundle's description, one line for people."""
    return (
        f"TOPOS with {parameters / 1e6:,.1f} M parameters on a topology of {topology.num_vertices:,} vertices"
        f" and {len(topology.polygon_sizes):,} polygons; weights stored as {precision.upper()}"
    )
