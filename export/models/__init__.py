"""The TOPOS networks with the release's configuration and state-dict key names."""

from export.models.crops import AnyImageEncoder, Crop, CroppedEncoder
from export.models.dit import TOPOSDiT
from export.models.fast_dit import FastDiT
from export.models.image_encoder import ImageEncoder
from export.models.vae import TOPOSVAE

__all__ = ["TOPOSVAE", "AnyImageEncoder", "Crop", "CroppedEncoder", "FastDiT", "ImageEncoder", "TOPOSDiT"]
