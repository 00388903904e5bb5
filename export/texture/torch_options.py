"""Where PyTorch computes, and in which type."""

from __future__ import annotations

import argparse

import torch

from topos_rt.errors import InputError, choose

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def add_torch_options(parser: argparse.ArgumentParser) -> None:
    """Add --device and --dtype."""
    parser.add_argument(
        "--device", default="cuda", metavar="cuda|cpu", help="where PyTorch computes (default: cuda)"
    )
    parser.add_argument(
        "--dtype",
        default="bf16",
        metavar="|".join(DTYPES),
        help="the type of transformer and text encoder; the VAE is FP32 (default: bf16, as released)",
    )


def torch_options(arguments: argparse.Namespace) -> tuple[str, torch.dtype]:
    """Return device and type. Raises OptionError, InputError where there is no CUDA."""
    dtype = choose(arguments.dtype, DTYPES, "type")
    device = choose(arguments.device, {"cuda": "cuda", "cpu": "cpu"}, "device")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device cuda",
            got="a PyTorch without CUDA, or no GPU",
            fix="install PyTorch for CUDA; --device cpu runs on the CPU, where a map takes hours",
        )
    return device, dtype
