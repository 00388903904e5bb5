"""The TOPOS networks with the release's configuration and state-dict key names."""

from export.models.dit import TOPOSDiT
from export.models.fast_dit import FastDiT
from export.models.image_encoder import ImageEncoder
from export.models.vae import TOPOSVAE

__all__ = ["TOPOSVAE", "FastDiT", "ImageEncoder", "TOPOSDiT"]
