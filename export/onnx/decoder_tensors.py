"""Name the decoder's tensors for the kernels: exported graphs fold them, and lose their names."""

from __future__ import annotations

import numpy as np

from models import TOPOSVAE

_PARTS = ("post_kl.", "decoder.", "header.", "output_mean", "output_scale", "latent_basis", "linear_vertices")


def decoder_tensors(vae: TOPOSVAE) -> dict[str, np.ndarray]:
    """Return all that `vae.decode` needs except the hierarchy, named as in the release's state dict."""
    return {
        name: value.detach().numpy() for name, value in vae.state_dict().items() if name.startswith(_PARTS)
    }
