"""The TOPOS networks with the release's configuration and state-dict key names."""

from models.crops import AnyImageEncoder, Crop, CroppedEncoder
from models.dit import TOPOSDiT
from models.fast_dit import FastDiT
from models.image_encoder import ImageEncoder
from models.vae import TOPOSVAE

__all__ = ["TOPOSVAE", "AnyImageEncoder", "Crop", "CroppedEncoder", "FastDiT", "ImageEncoder", "TOPOSDiT"]
