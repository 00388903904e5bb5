"""Measure two pictures or two folders of pictures: what `topos-rt metrics` does."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from topos_rt.errors import InputError, OptionError, choose
from topos_rt.faces.finder import FaceFinder
from topos_rt.metrics.images import psnr, ssim
from topos_rt.metrics.network import FeatureNetwork
from topos_rt.metrics.perceptual import lpips
from topos_rt.metrics.pictures import face_cut, listed, paired, read_mask
from topos_rt.metrics.sets import MOST_VALUES, SUBSET_SIZE, SUBSETS, csim, fid, kid
from topos_rt.pictures.image import read_picture
from topos_rt.support.tensorfile import read_tensors

Progress = Callable[[float, str], object]

PAIRS, SETS = "pairs of pictures", "sets of pictures"


@dataclass(frozen=True)
class Measure:
    """What a measure compares, whether it needs a network, and a line about it."""

    compares: str
    network: bool
    about: str


MEASURES = {
    "psnr": Measure(PAIRS, False, "peak signal-to-noise ratio, dB"),
    "ssim": Measure(PAIRS, False, "structural similarity, to 1"),
    "lpips": Measure(PAIRS, True, "perceptual distance, from 0"),
    "csim": Measure(PAIRS, True, "cosine between features, to 1"),
    "fid": Measure(SETS, True, "Fréchet distance between features, from 0"),
    "kid": Measure(SETS, True, "kernel distance between features, about 0 for alike sets"),
}


@dataclass(frozen=True)
class Choice:
    """What is measured, and how. Raises OptionError for unknown measures, and a network that is missing."""

    measures: Sequence[str] = ("psnr", "ssim")
    network: FeatureNetwork | None = None
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)  # of LPIPS, by the network's outputs
    mask: str | os.PathLike[str] | None = None  # a picture, or a folder of them, for PSNR and SSIM
    faces: bool = False  # whether the network sees the faces, cut out
    subsets: int = SUBSETS  # of KID
    subset_size: int = SUBSET_SIZE
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.measures:
            raise OptionError("measures", got="none", expected=f"some of: {', '.join(MEASURES)}")
        for name in self.measures:
            measure = choose(name, MEASURES, "measure")
            if measure.network and self.network is None:
                raise OptionError(
                    f"measure {name!r}",
                    got="no network",
                    expected="an ONNX file that makes features of pictures",
                    fix="name one with --network (network=)",
                )

    def some(self, *names: str) -> list[str]:
        """Return which of these measures are wanted."""
        return [name for name in names if name in self.measures]


def measure(
    pictures: str | os.PathLike[str],
    others: str | os.PathLike[str],
    choice: Choice,
    progress: Progress = lambda share, what: None,
) -> dict[str, Any]:
    """Return what was measured between two pictures or folders, as plain types; the second is the truth.

    A measure of pairs is a mean over them; "pairs" has each. An infinite PSNR, of equal pictures, is None.
    Raises the errors of the measures, and of pictures that cannot be used: no picture is left out.
    """
    first, second = listed(pictures), listed(others)
    found: dict[str, Any] = {"pictures": [len(first), len(second)]}
    pairs = paired(first, second) if choice.some("psnr", "ssim", "lpips", "csim") else []
    rows: list[dict[str, Any]] = [{"name": name} for name, _, _ in pairs]
    finder = FaceFinder.open() if choice.faces else None
    try:
        if choice.some("psnr", "ssim"):
            _compare_images(pairs, rows, choice, progress)
        if choice.some("lpips"):
            _compare_maps(pairs, rows, choice, finder, progress)
        if choice.some("csim", "fid", "kid"):
            sets = [_features(paths, choice, finder, progress) for paths in (first, second)]
            found |= _of_sets(sets, choice)
            if choice.some("csim"):
                partners = [list(second.values()).index(other) for _, _, other in pairs]
                cosines = csim(sets[0], sets[1][partners])
                found["csim_mismatched"] = cosines.mismatched
                for row, value in zip(rows, cosines.each, strict=True):
                    row["csim"] = value
    finally:
        if finder is not None:
            finder.close()
    for name in choice.some("psnr", "ssim", "lpips", "csim"):
        found[name] = _plain(float(np.mean([row[name] for row in rows])))
    if rows:
        found["pairs"] = [{key: _plain(value) for key, value in row.items()} for row in rows]
    return found


def read_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return LPIPS's weights [C] by the network's outputs from a safetensors file. Raises BundleError."""
    return read_tensors(path)[0]


def _compare_images(
    pairs: list[tuple[str, Path, Path]], rows: list[dict[str, Any]], choice: Choice, progress: Progress
) -> None:
    masks = None if choice.mask is None else listed(choice.mask)
    for number, (name, one, other) in enumerate(pairs):
        progress(number / len(pairs), f"{one}: comparing")
        a, b = (np.asarray(read_picture(path)) for path in (one, other))
        mask = None
        if masks is not None:
            single = len(masks) == 1 and not Path(str(choice.mask)).is_dir()
            path = next(iter(masks.values())) if single else masks.get(name)
            if path is None:
                raise InputError("masks", got=f"none for {name!r}", expected="one for each pair, of its name")
            mask = read_mask(path)
        for measure_name, function in (("psnr", psnr), ("ssim", ssim)):
            if measure_name in choice.measures:
                rows[number][measure_name] = function(a, b, mask)


def _compare_maps(
    pairs: list[tuple[str, Path, Path]],
    rows: list[dict[str, Any]],
    choice: Choice,
    finder: FaceFinder | None,
    progress: Progress,
) -> None:
    network = choice.network
    assert network is not None
    weights = None
    if choice.weights:
        missing = [name for name in network.outputs if name not in choice.weights]
        if missing:
            raise InputError(
                "weights of LPIPS",
                got=f"none for the output {missing[0]!r}",
                expected=f"one for each of {', '.join(network.outputs)}"[:200],
            )
        weights = [choice.weights[name] for name in network.outputs]
    for number, (_, one, other) in enumerate(pairs):
        progress(number / len(pairs), f"{one}: features")
        a, b = (_picture(path, network, finder) for path in (one, other))
        if a.size != b.size:
            raise InputError(
                f"LPIPS of {one}", got=f"sizes {a.size} and {b.size}", expected="pictures of one size"
            )
        rows[number]["lpips"] = lpips(network.maps(a), network.maps(b), weights)


def _features(
    paths: dict[str, Path], choice: Choice, finder: FaceFinder | None, progress: Progress
) -> np.ndarray:
    network, rows = choice.network, list[np.ndarray]()
    assert network is not None
    for number, path in enumerate(paths.values()):
        progress(number / len(paths), f"{path}: features")
        row = network.features(_picture(path, network, finder))
        if rows and len(row) != len(rows[0]):
            raise InputError(
                f"features of {path}",
                got=f"{len(row)} numbers",
                expected=f"{len(rows[0])}, as of the others",
                fix="give a size",
            )
        if len(paths) * len(row) > MOST_VALUES:
            raise InputError(
                "features",
                got=f"{len(paths):,} pictures with {len(row):,} numbers each",
                expected=f"{MOST_VALUES:,} numbers or fewer",
                fix="take fewer pictures, or a network with fewer features",
            )
        rows.append(row)
    return np.stack(rows)


def _of_sets(sets: list[np.ndarray], choice: Choice) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if choice.some("fid"):
        found["fid"] = fid(*sets)
    if choice.some("kid"):
        distance = kid(*sets, subsets=choice.subsets, subset_size=choice.subset_size, seed=choice.seed)
        found |= {"kid": distance.mean, "kid_deviation": distance.deviation}
    return found


def _picture(path: Path, network: FeatureNetwork, finder: FaceFinder | None) -> Image.Image:
    picture = read_picture(path)
    if finder is None:
        return picture
    return face_cut(picture, finder, str(path), None if network.size is None else max(network.size))


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
