"""A texture bundle: TOPOS-Texture as ONNX graphs, with its stored prompts.

It is a directory with `texture.json` and the files that this lists, which are verified as those of a model
bundle are. `python -m export texture` makes it from the user's copy of the weights.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topos_rt.engines import EngineOptions
from topos_rt.errors import BundleError
from topos_rt.model.bundle_files import check_files, listed_files, read_manifest, weight_files_of
from topos_rt.support.files import write_atomic
from topos_rt.support.strictjson import AGAIN
from topos_rt.support.tensorfile import read_tensors
from topos_rt.texture.official.manifest import MANIFEST_NAME, TextureManifest


class Prompts(NamedTuple):
    """The embeddings of both prompts, padded with zeros, and how many tokens are theirs."""

    positive: np.ndarray  # [1,T,J] float32
    negative: np.ndarray
    tokens: tuple[int, int]


@dataclass(frozen=True, eq=False)
class TextureBundle:
    """A verified texture bundle."""

    path: Path
    manifest: TextureManifest

    def __repr__(self) -> str:
        return f"<TextureBundle: {self.manifest.name} in {self.path}>"

    @classmethod
    def open(cls, path: str | os.PathLike[str], verify: bool = True) -> TextureBundle:
        """Open and verify a texture bundle.

        verify: False skips only the SHA-256 of each file; the weights are 41 GB.
        Raises BundleError where it is missing, malformed or altered.
        """
        path = Path(path)
        manifest = TextureManifest.from_json(read_manifest(path, MANIFEST_NAME))
        check_files(path, manifest, verify, MANIFEST_NAME)
        return cls(path, manifest)

    def source(self, graph: str, precision: str, options: EngineOptions) -> tuple[Path, EngineOptions]:
        """Return the ONNX file of a graph that a backend loads, and its options."""
        name = self.manifest.graph_file(graph, precision)
        weights = self.manifest.weight_files.get(name)
        hashes = {self.path / file: info.sha256 for file, info in self.manifest.files.items()}
        held = () if weights is None else (self.path / weights,)
        # The graph sets the precision; the choice of `EngineOptions` is between forms of heads' graphs.
        return self.path / name, dataclasses.replace(options, precision=None, weights=held, hashes=hashes)

    @cached_property
    def prompts(self) -> Prompts:
        """The stored prompts, read at first use. Raises BundleError for a file of something else."""
        text = self.manifest.text
        tensors, _ = read_tensors(self.path / self.manifest.embeddings)
        made = []
        for name, count in (("positive", text.positive), ("negative", text.negative)):
            found = tensors.get(name)
            if found is None or found.dtype != np.float32 or found.shape != (1, count, text.channels):
                raise BundleError(
                    f"prompts of a texture bundle: {name}",
                    got="nothing" if found is None else f"{found.dtype} {list(found.shape)}",
                    expected=f"float32 {[1, count, text.channels]}",
                    fix=AGAIN,
                )
            if not np.isfinite(found).all():
                raise BundleError(
                    f"prompts of a texture bundle: {name}", got="NaN or infinite values", fix=AGAIN
                )
            padded = np.zeros((1, text.tokens, text.channels), np.float32)
            padded[:, :count] = found
            made.append(padded)
        return Prompts(made[0], made[1], (text.positive, text.negative))


def write_texture_manifest(directory: Path, manifest: TextureManifest) -> TextureManifest:
    """Finish a texture bundle: list every file with its size and SHA-256, and write `texture.json`.

    Raises BundleError for a file that is missing or has an invalid name, OutputError.
    """
    files = listed_files(directory, MANIFEST_NAME)
    held = weight_files_of(directory, manifest)
    manifest = dataclasses.replace(manifest, files=files, weight_files=held)
    text = manifest.to_json()
    TextureManifest.from_json(text.encode())  # what this writes must be readable
    write_atomic(directory / MANIFEST_NAME, text.encode())
    check_files(directory, manifest, False, MANIFEST_NAME)
    return manifest
