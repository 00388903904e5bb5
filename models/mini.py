"""The sizes of `mini`, in the networks' own configuration names."""

from __future__ import annotations

from typing import Any

from models.crops import Crop

NUM_LATENTS = 167
POINTS = 2048
IMAGE_SIZE = 128
RADIUS_M = 0.139  # metres of one unit of the networks' frame; the mean radius of the training heads, rounded

VAE: dict[str, Any] = {
    "code_channels": 6, "width": 96, "num_encoder_layers": 3, "perceiver_heads": 4, "perceiver_dim_head": 32,
    "decoder_blocks": (2, 2, 2, 2), "decoder_channel": (96, 96, 64, 48, 32), "predict_offset": True,
}  # fmt: skip
IMAGE_ENCODER: dict[str, Any] = {
    "embed_dim": 192, "depth": 6, "num_heads": 6, "img_size": IMAGE_SIZE, "patch_size": 16,
    "stem_channels": (24, 48, 96), "stem_blocks": (0, 1, 1),
}  # fmt: skip
DIT: dict[str, Any] = {
    "in_channels": 6, "out_channels": 6, "model_channels": 192, "num_latents": NUM_LATENTS,
    "cond_channels": 192, "num_blocks": 4, "num_heads": 6,
}  # fmt: skip
# The exported encoder reads a portrait from all of these at once; training shows the networks one at a time.
CROPS = (
    Crop(), Crop(turn=5, scale=0.94, right=0.06, down=0.06),
    Crop(turn=-5, scale=1.06, right=-0.06, down=-0.06),
)  # fmt: skip
