"""The TOPOS networks, with the release's names for configuration and state-dict keys."""

from models.dit import TOPOSDiT
from models.evidence import EvidenceEncoder
from models.fast_dit import FastDiT
from models.image_encoder import ImageEncoder
from models.vae import TOPOSVAE

__all__ = ["TOPOSVAE", "EvidenceEncoder", "FastDiT", "ImageEncoder", "TOPOSDiT"]
