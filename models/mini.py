"""The sizes of `mini`, in the networks' own configuration names."""

from __future__ import annotations

from typing import Any

NUM_LATENTS = 167
POINTS = 2048
IMAGE_SIZE = 128
RADIUS_M = 0.139  # metres of one unit of the networks' frame; the mean radius of the training heads, rounded

VAE: dict[str, Any] = {
    "code_channels": 6, "width": 96, "num_encoder_layers": 3, "perceiver_heads": 4, "perceiver_dim_head": 32,
    "decoder_blocks": (2, 2, 2, 2), "decoder_channel": (96, 96, 64, 48, 32), "predict_offset": True,
    "linear_rank": 160,
}  # fmt: skip
IMAGE_ENCODER: dict[str, Any] = {
    "embed_dim": 192, "depth": 6, "num_heads": 6, "img_size": IMAGE_SIZE, "patch_size": 16,
    "stem_channels": (24, 48, 96), "stem_blocks": (0, 1, 1),
}  # fmt: skip
EVIDENCE: dict[str, Any] = {
    "channels": 192, "depth": 2, "num_heads": 6, "landmark_components": 64, "estimate": 160,
    "tokens": {"landmarks": 6, "manner": 2, "estimate": 8},
    "latent": (NUM_LATENTS, 6),
}  # fmt: skip
DIT: dict[str, Any] = {
    "in_channels": 6, "out_channels": 6, "model_channels": 192, "num_latents": NUM_LATENTS,
    "cond_channels": 192, "num_blocks": 4, "num_heads": 6,
}  # fmt: skip
