"""Name the decoder's tensors for the kernels: exported graphs fold them, and lose their names."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from models import TOPOSVAE

_PARTS = ("post_kl.", "decoder.", "header.", "output_mean", "output_scale")


def decoder_tensors(vae: TOPOSVAE, latent_basis: Tensor | None = None) -> dict[str, np.ndarray]:
    """Return all that `vae.decode` needs except the hierarchy, named as in the release's state dict.

    latent_basis: see `export.onnx.graphs.VaeDecoderGraph`.
    """
    tensors = {
        name: value.detach().numpy() for name, value in vae.state_dict().items() if name.startswith(_PARTS)
    }
    return tensors if latent_basis is None else tensors | {"latent_basis": latent_basis.numpy()}
