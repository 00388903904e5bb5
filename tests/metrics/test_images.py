"""PSNR, SSIM and LPIPS against scikit-image and torchmetrics, their properties, and what they refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import needs

needs.module("torchmetrics")
needs.module("skimage")

import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.functional.image.lpips import _LPIPS, NetLinLayer

from tests.metrics.networks import CHANNELS, Random, pictures, tensor
from topos_rt.errors import ImageError, InputError
from topos_rt.metrics import lpips, psnr, ssim

A, B = pictures(2, 48)


def test_psnr_is_that_of_scikit_image() -> None:
    assert psnr(A, B) == pytest.approx(peak_signal_noise_ratio(B, A), rel=1e-12)
    floats = [picture.astype(np.float32) / 255 for picture in (A, B)]
    assert psnr(*floats) == pytest.approx(psnr(A, B), rel=1e-6)
    assert psnr(A[..., 0], B[..., 0]) == pytest.approx(peak_signal_noise_ratio(B[..., 0], A[..., 0]))


def test_ssim_is_that_of_scikit_image_and_torchmetrics() -> None:
    noisy = np.clip(A.astype(int) + np.random.default_rng(0).integers(-40, 40, A.shape), 0, 255)
    for other in (B, noisy.astype(np.uint8)):
        theirs = structural_similarity(
            A, other, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert ssim(A, other) == pytest.approx(theirs, abs=1e-9)
        # torchmetrics reflects the picture at its rim and counts windows there, too, which are left out here.
        _, judged = structural_similarity_index_measure(
            tensor(A[None]), tensor(other[None]), data_range=1.0, return_full_image=True
        )
        assert ssim(A, other) == pytest.approx(float(judged[..., 5:-5, 5:-5].mean()), abs=2e-5)


def test_masked_ssim_is_the_mean_of_scikit_images_map() -> None:
    mask = np.zeros(A.shape[:2], bool)
    mask[8:30, 12:40] = True
    whole = structural_similarity(
        A, B, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )[1]
    assert ssim(A, B, mask) == pytest.approx(whole[mask].mean(), abs=1e-9)


def test_masked_psnr_sees_only_the_mask() -> None:
    mask = np.zeros(A.shape[:2], bool)
    mask[5:9, 3:20] = True
    error = ((A.astype(float) - B) ** 2)[mask].mean() / 255**2
    assert psnr(A, B, mask) == pytest.approx(-10 * np.log10(error))
    other = A.copy()
    other[~mask] = 0
    assert psnr(A, other, mask) == math.inf and psnr(A, other) < 30


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(11, 24), st.integers(11, 24))
def test_pictures_are_like_themselves(seed: int, high: int, wide: int) -> None:
    a, b = np.random.default_rng(seed).integers(0, 256, (2, high, wide, 3), np.uint8)
    assert psnr(a, a) == math.inf and ssim(a, a) == pytest.approx(1, abs=1e-12)
    assert psnr(a, b) == psnr(b, a) and ssim(a, b) == pytest.approx(ssim(b, a), abs=1e-12)
    assert -1 <= ssim(a, b) < 1
    everywhere = np.ones((high, wide), bool)
    assert psnr(a, b, everywhere) == psnr(a, b) and ssim(a, b, everywhere) == ssim(a, b)


SMALL = np.zeros((10, 30), np.uint8)
NO_MASK = np.zeros(A.shape[:2], bool)
RIM = NO_MASK.copy()
RIM[:3] = True
BAD: list[tuple[Any, tuple[Any, ...], str]] = [
    (psnr, (A, B[:9]), r"got sizes 48 x 48 and 48 x 9; expected one size; fix: scale"),
    (psnr, (A.astype(int), B.astype(int)), "got dtype int64; expected uint8, or float32"),
    (psnr, (A / 1.0, B / 255.0), r"got values outside 0..1, or NaN; expected 0..1; fix: divide by 255"),
    (psnr, (A / 255.0, np.where(B > 250, np.nan, B / 255)), "or NaN"),
    (psnr, (A[None], B[None]), r"got shape \[1, 48, 48, 3\]"),
    (psnr, (np.broadcast_to(np.uint8(1), (9000, 9000)),) * 2, "of 16,777,216 pixels or fewer"),
    (psnr, (A, B, NO_MASK), r"the mask: got bool \[48, 48\], 0 pixels"),
    (psnr, (A, B, NO_MASK[:4]), r"the mask: got bool \[4, 48\]"),
    (psnr, (A, B, RIM.astype(int)), "the mask: got int64"),
    (ssim, (SMALL, SMALL), "SSIM: got pictures 30 x 10; expected 11 pixels a side or more"),
    (ssim, (A, B, RIM), "the mask of SSIM: got no pixel away from the rim"),
]


@pytest.mark.parametrize(("function", "given", "message"), BAD)
def test_bad_pictures_are_one_line(function: Any, given: tuple[Any, ...], message: str) -> None:
    with pytest.raises((InputError, ImageError), match=message):
        function(*given)


class Judge(_LPIPS):  # type: ignore[misc]
    """LPIPS as torchmetrics computes it, over our network in place of AlexNet."""

    def __init__(self, weights: list[torch.Tensor]) -> None:
        torch.nn.Module.__init__(self)
        self.net, self.L, self.spatial, self.resize = Random(), len(weights), False, None
        self.scaling_layer = torch.nn.Identity()
        self.net.forward = self.net.maps  # type: ignore[method-assign]
        self.lins = torch.nn.ModuleList(NetLinLayer(len(values)) for values in weights)
        for layer, values in zip(self.lins, weights, strict=True):
            layer.model[0].weight.data = values[None, :, None, None]


def maps(picture: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        return [values.numpy() for values in Random().maps(tensor(picture[None]))]


@pytest.mark.parametrize("weighted", [True, False])
def test_lpips_is_that_of_torchmetrics_on_a_random_network(weighted: bool) -> None:
    draw = torch.Generator().manual_seed(5)
    weights = [torch.rand(c, generator=draw) if weighted else torch.ones(c) for c in CHANNELS]
    with torch.no_grad():
        judged = float(Judge(weights)(tensor(A[None]), tensor(B[None])))
    own = [values.numpy() for values in weights] if weighted else None
    assert judged > 0.01 and lpips(maps(A), maps(B), own) == pytest.approx(judged, rel=1e-5)


def test_lpips_of_equal_and_brighter_maps_is_zero() -> None:
    assert lpips(maps(A), maps(A)) == 0
    assert lpips(maps(A), [2 * values for values in maps(A)]) == pytest.approx(0, abs=1e-4)
    assert lpips(maps(A), maps(B)) == pytest.approx(lpips(maps(B), maps(A)))


MAPS = maps(A)
BAD_MAPS: list[tuple[tuple[Any, ...], str]] = [
    (([], []), "LPIPS: got 0 and 0 maps"),
    ((MAPS, MAPS[:1]), "LPIPS: got 2 and 1 maps"),
    ((MAPS, MAPS, [np.ones(6)]), "LPIPS: got 2 and 2 maps, 1 weights"),
    ((MAPS, [MAPS[0], MAPS[1][..., :2]]), r"map 1 of LPIPS: got shapes .* fix: compare pictures of one size"),
    ((MAPS, [MAPS[0], MAPS[1] * np.nan]), "map 1 of LPIPS: got NaN or infinity"),
    (([np.ones(3)], [np.ones(3)]), r"map 0 of LPIPS: got float64 \[3\]"),
    ((MAPS, MAPS, [np.ones(6), np.ones(6)]), "weights 1 of LPIPS: .* expected 10 numbers from 0"),
    ((MAPS, MAPS, [np.ones(6), -np.ones(10)]), "weights 1 of LPIPS"),
]


@pytest.mark.parametrize(("given", "message"), BAD_MAPS)
def test_bad_maps_are_one_line(given: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        lpips(*given)
