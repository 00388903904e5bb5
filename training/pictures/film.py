"""Take the photograph: exposure, lens, sensor, tone curve and JPEG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy import ndimage

_TABLE = 4096


def develop(image: np.ndarray, face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn linear light [S,S,3] float32 into a photograph [S,S,3] uint8.

    face: [S,S] bool, what the exposure is metered on, as cameras with face detection do.
    """
    metered = float(image[face].mean()) if face.sum() > 50 else float(image.mean())
    aim = np.exp(rng.normal(np.log(0.23), 0.3))
    gain = np.clip(aim / max(metered, 1e-4), 0.1, 12) ** rng.uniform(0.75, 1.0)
    if rng.random() < 0.05:
        gain *= rng.choice([0.2, 3.0])
    image = image * (gain * np.exp(rng.normal(0, [0.06, 0.02, 0.06]))).astype(np.float32)
    image = _lens(image, rng)
    image = _sensor(image, gain, rng)
    return _tone(image, rng)


def _lens(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    size = len(image)
    blur = rng.choice([0.0, rng.uniform(0.3, 0.8), rng.uniform(0.8, 1.6)], p=[0.5, 0.38, 0.12])
    if blur:
        image = ndimage.gaussian_filter(image, (blur, blur, 0), truncate=2.5)
    if rng.random() < 0.06:
        # the camera moved while the shutter was open
        length, axis = int(rng.integers(3, 9)), int(rng.integers(0, 2))
        image = ndimage.uniform_filter1d(image, length, axis=axis)
    if rng.random() < 0.3:
        at = (np.arange(size) + 0.5) / size * 2 - 1
        fall = 1 - rng.uniform(0.05, 0.3) * (at[:, None] ** 2 + at**2)
        image = image * fall[..., None].astype(np.float32)
    if rng.random() < 0.15:
        image = image + np.float32(rng.uniform(0, 0.02))  # stray light
    return image


def _sensor(image: np.ndarray, gain: float, rng: np.random.Generator) -> np.ndarray:
    noise = rng.choice([0.0, rng.uniform(0.002, 0.012), rng.uniform(0.012, 0.05)], p=[0.35, 0.45, 0.2])
    if not noise:
        return image
    grain = rng.standard_normal(image.shape, np.float32)
    if rng.random() < 0.5:
        grain = 0.75 * grain + 0.5 * grain.mean(2, keepdims=True)
    if rng.random() < 0.3:
        grain = ndimage.gaussian_filter(grain, (0.6, 0.6, 0)) * 1.6
    return image + grain * (noise * np.sqrt(np.maximum(image, 0) + 0.02))


def _tone(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Apply a curve with a shoulder, contrast, saturation and, at times, black and white."""
    shoulder, contrast = rng.uniform(0.0, 0.35), rng.normal(1.0, 0.12)
    light = np.linspace(0, 4, _TABLE)
    curved = light * (1 + shoulder * light / 2) / (1 + shoulder * light)
    coded = np.where(curved <= 0.0031308, 12.92 * curved, 1.055 * curved ** (1 / 2.4) - 0.055)
    table = np.clip(0.5 + (coded - 0.5) * contrast + rng.normal(0, 0.015), 0, 1).astype(np.float32)
    image = table[np.clip(image * ((_TABLE - 1) / 4), 0, _TABLE - 1).astype(np.int32)]
    grey = image @ np.array([0.299, 0.587, 0.114], np.float32)
    saturation = 0.0 if rng.random() < 0.08 else np.clip(rng.normal(1.0, 0.15), 0.4, 1.5)
    image = grey[..., None] + np.float32(saturation) * (image - grey[..., None])
    if saturation == 0 and rng.random() < 0.4:
        image = image * np.array([1.05, 0.97, 0.82], np.float32)  # sepia
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def encode(pixels: np.ndarray, rng: np.random.Generator) -> bytes:
    """Return a JPEG; one in four has been made smaller, or compressed, before."""
    picture = Image.fromarray(pixels)
    if rng.random() < 0.12:
        side = int(len(pixels) * rng.uniform(0.35, 0.8))
        small = picture.resize((side, side), Image.Resampling.BILINEAR)
        picture = small.resize(picture.size, Image.Resampling.BICUBIC)
    if rng.random() < 0.15:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(rng.integers(20, 70)))
        picture = Image.open(buffer)
    buffer = io.BytesIO()
    quality = int(rng.choice([rng.integers(30, 75), rng.integers(75, 95)], p=[0.3, 0.7]))
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
