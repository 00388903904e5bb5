"""A feature network of the user's: any ONNX file that takes a picture and gives numbers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from topos_rt.engines.contract import EngineOptions
from topos_rt.engines.locations import require_inside
from topos_rt.engines.onnxruntime import errors, open_session
from topos_rt.errors import BackendError, BundleError, InputError, OptionError, choose, shortened
from topos_rt.metrics.sets import MOST_FEATURES
from topos_rt.pictures.image import pixels_of
from topos_rt.support.closing import Closing
from topos_rt.support.machine import usable_cores

# The range of its pixels -> the factor and the term that 0..1 gets.
RANGES = {"0..1": (1.0, 0.0), "-1..1": (2.0, -1.0), "0..255": (255.0, 0.0)}
LEAST_SIDE, MOST_SIDE = 8, 2048  # of what it sees
_FIX = "export it with the input [1,3,H,W] float32 RGB, or a batch and sizes that are free"


class FeatureNetwork(Closing):
    """An ONNX file with one input [1,3,H,W] float32, RGB, whose batch, height and width may be free."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        outputs: Sequence[str] | None = None,
        *,
        scale: str = "0..1",
        side: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Load a network, to be run by onnxruntime.

        Args:
            outputs: the names of those that are wanted; None: all.
            scale: the range of its pixels, one of RANGES. Further normalisation belongs into the network.
            side: the pixels a side that it shall see, where its sizes are free; None: those of the pictures.
            threads: on the CPU; None: as many as there are usable cores.

        Raises:
            InputError: the file cannot be loaded, its weights are outside its folder, its input is another.
            OptionError: an unknown output or range, or a side or a number of threads out of range.
        """
        self.path = Path(path)
        self._factor, self._term = choose(scale, RANGES, "range of pixels")
        options = EngineOptions(threads)
        if side is not None and (type(side) is not int or not LEAST_SIDE <= side <= MOST_SIDE):
            got = shortened(repr(side), 40)
            raise OptionError("size of pictures", got=got, expected=f"{LEAST_SIDE} to {MOST_SIDE}")
        self._session: Any = _opened(self.path, options.threads or usable_cores())
        try:
            self._input, self.size = _input(self.path, self._session.get_inputs(), side)
            names = [value.name for value in self._session.get_outputs()]
            for name in outputs or ():
                choose(name, dict.fromkeys(names), f"output of {self.path.name}")
        except InputError:
            self.close()
            raise
        self.outputs = tuple(outputs or names)

    def pixels(self, picture: Image.Image) -> np.ndarray:
        """Return what the network sees of an RGB picture, [1,3,H,W] float32.

        Where it has a size, that is the picture's largest centred part of its shape, scaled by Lanczos.
        Raises InputError where it has none and the picture is too large or small.
        """
        width, height = picture.size
        if self.size is not None:
            height, width = self.size
        elif not LEAST_SIDE <= min(width, height) <= max(width, height) <= MOST_SIDE:
            raise InputError(
                f"a picture for {self.path.name}",
                got=f"{width} x {height} pixels",
                expected=f"{LEAST_SIDE} to {MOST_SIDE} a side",
                fix="give a size",
            )
        return pixels_of(picture, height, width) * np.float32(self._factor) + np.float32(self._term)

    def run(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Return the outputs for pixels [1,3,H,W]. Raises BackendError where onnxruntime fails."""
        if self._session is None:
            raise InputError(
                f"network {self.path.name}", got="a call after close()", expected="an open network"
            )
        try:
            return list(self._session.run(list(self.outputs), {self._input: pixels}))
        except errors() as error:
            raise BackendError(f"onnxruntime failed in {self.path.name}", got=error) from error

    def maps(self, picture: Image.Image) -> list[np.ndarray]:
        """Return the outputs for an RGB picture, for `lpips`. Raises the errors of `pixels` and `run`."""
        return self.run(self.pixels(picture))

    def features(self, picture: Image.Image) -> np.ndarray:
        """Return the numbers [C] float32 of an RGB picture.

        Raises InputError for several outputs, and for one that is not one row of numbers.
        """
        if len(self.outputs) > 1:
            raise InputError(
                f"network {self.path.name}",
                got=f"{len(self.outputs)} outputs: {shortened(', '.join(self.outputs), 100)}",
                expected="one, the features",
                fix="name one of them",
            )
        found = np.asarray(self.maps(picture)[0])
        count = found.size
        if found.dtype.kind != "f" or not 0 < count <= MOST_FEATURES or count != max(found.shape, default=0):
            raise InputError(
                f"output {self.outputs[0]!r} of {self.path.name}",
                got=f"{found.dtype} {list(found.shape)}",
                expected=f"floats [1,C] with C to {MOST_FEATURES:,}",
                fix="name another output, or pool its places",
            )
        row: np.ndarray = np.array(found, np.float32).reshape(-1)
        return row

    def close(self) -> None:
        """Free the network. May be called again."""
        self._session = None


def _opened(path: Path, threads: int) -> Any:
    what = f"network {path}"
    if not path.is_file():
        got = "a directory" if path.is_dir() else "no such file"
        raise InputError(what, got=got, expected="an ONNX file", fix="check the path")
    try:
        require_inside(path, {})
        return open_session(path, threads)
    except BundleError as error:
        raise InputError(
            what, got=error.got, expected=error.expected, fix="export it to ONNX again"
        ) from error


def _input(path: Path, inputs: Sequence[Any], side: int | None) -> tuple[str, tuple[int, int] | None]:
    """Return the name of the input, and height and width; None where they are free."""
    shape = list(inputs[0].shape) if len(inputs) == 1 else []
    if len(shape) != 4 or inputs[0].type != "tensor(float)":
        got = ", ".join(f"{value.name} {value.type} {value.shape}" for value in inputs)
        raise _other_input(path, got)
    batch, channels, *sides = shape
    fixed = [value for value in sides if isinstance(value, int)]
    if channels != 3 or (isinstance(batch, int) and batch != 1) or len(fixed) == 1:
        raise _other_input(path, f"{shape}")
    if not fixed:
        return inputs[0].name, None if side is None else (side, side)
    if not all(1 <= value <= MOST_SIDE for value in fixed):
        raise _other_input(path, f"{shape}")
    if side is not None and fixed != [side, side]:
        got = f"{side}, of a network that sees {fixed[1]} x {fixed[0]}"
        raise OptionError("size of pictures", got=got, expected="none, or the same", fix="leave it out")
    return inputs[0].name, (fixed[0], fixed[1])


def _other_input(path: Path, got: str) -> InputError:
    expected = f"one [1,3,H,W] float32 to {MOST_SIDE} pixels a side"
    return InputError(f"inputs of {path.name}", got=shortened(got), expected=expected, fix=_FIX)
