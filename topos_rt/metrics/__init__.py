"""How alike pictures are: CSIM, FID, KID, LPIPS with a feature network of yours, PSNR and SSIM with a mask.

    from topos_rt.metrics import FeatureNetwork, csim, fid, kid, lpips, psnr, ssim

`docs/metrics.md` defines each of them, with its source.
"""

from topos_rt.metrics.images import psnr, ssim
from topos_rt.metrics.network import FeatureNetwork
from topos_rt.metrics.perceptual import lpips
from topos_rt.metrics.sets import Csim, Kid, csim, fid, kid

__all__ = ["Csim", "FeatureNetwork", "Kid", "csim", "fid", "kid", "lpips", "psnr", "ssim"]
