"""The arguments of one call of a pipeline: one image or several, one seed or several."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar, cast

import numpy as np

from topos_rt.errors import InputError, OptionError
from topos_rt.faces.face import Face
from topos_rt.faces.portrait import FaceChoice
from topos_rt.flow.settings import check_seed
from topos_rt.pictures.sources import ImageSource, check_address
from topos_rt.texture.stage import TextureChoice

if TYPE_CHECKING:
    from topos_rt.support.progress import Callback

T = TypeVar("T")
# The items are ImageSource, but type checkers do not take a list of paths for a list of ImageSource.
Images: TypeAlias = list[Any] | tuple[Any, ...]
Seeds: TypeAlias = Sequence[int] | np.ndarray
# What type checkers know of the names in PRESETS, SOLVERS and so on; a test compares them with the tables.
PresetName: TypeAlias = Literal["reference", "balanced", "fast"]
SolverName: TypeAlias = Literal["euler", "heun", "ab2", "ab3", "dpmpp_2m", "unipc"]
BackendName: TypeAlias = Literal["auto", "tensorrt-rtx", "tensorrt", "onnxruntime"]
PrecisionName: TypeAlias = Literal["fp16", "fp32", "int8", "fp8"]
DecoderName: TypeAlias = Literal["auto", "engine", "kernels", "native", "numpy"]
TextureName: TypeAlias = Literal["projected", "base", "official", "none"]
TextureFormat: TypeAlias = Literal["jpeg", "png"]
Job: TypeAlias = tuple[ImageSource, list[int]]  # one image with its seeds


class Loading(TypedDict, total=False):
    """The keyword arguments of `HeadPipeline.open` that say how the networks run."""

    decoder: DecoderName
    cuda_graph: bool
    batch: int


def check_loading(loading: Loading) -> None:
    """Raise TypeError for a keyword argument that `HeadPipeline.open` does not have, as Python would."""
    for name in loading:
        if name not in Loading.__annotations__:
            raise TypeError(f"HeadPipeline.open() got an unexpected keyword argument {name!r}")


class Sampling(TypedDict, total=False):
    """The keyword arguments of `topos_rt.flow.settings.resolve`, which say how to sample."""

    preset: PresetName
    steps: int | None
    solver: SolverName | None
    guidance: float | None
    shift: float | None
    interval: Sequence[float] | None
    reuse: int | None
    times: Sequence[float] | None
    temperature: float | None
    landmark_pull: float | None


class Seeing(TypedDict, total=False):
    """The keyword arguments that say which face becomes a head: see `FaceChoice`."""

    face: str | int | Face
    crop: str | Sequence[int]
    face_check: bool


class Texturing(TypedDict, total=False):
    """The keyword arguments that say which texture a head gets: see `TextureChoice`."""

    texture: TextureName | None
    texture_size: int
    texture_format: TextureFormat


class Options(Sampling, Seeing, Texturing, total=False):
    """The keyword arguments of a pipeline's call that are the same for a whole batch."""

    callback: Callback | None
    stepwise: bool


@dataclass(frozen=True)
class Running:
    """The options of a call that say how it runs, and not what comes out."""

    callback: Callback | None = None
    stepwise: bool = False


@dataclass(frozen=True)
class Wanted:
    """What a head is made from, and what it gets to wear."""

    face: FaceChoice
    texture: TextureChoice


def split(options: Options) -> tuple[Running, Wanted, Sampling]:
    """Return the options of a call by whom they are for.

    Raises OptionError for a wrong face, crop or texture.
    """
    rest: dict[str, Any] = dict(options)
    running = Running(rest.pop("callback", None), rest.pop("stepwise", False))
    names = {"face": "face", "crop": "crop", "face_check": "check"}
    chosen = {own: rest.pop(name) for name, own in names.items() if name in rest}
    face = FaceChoice(**chosen)
    names = {"texture": "kind", "texture_size": "size", "texture_format": "format"}
    texture = TextureChoice(**{own: rest.pop(name) for name, own in names.items() if name in rest})
    return running, Wanted(face, texture), cast(Sampling, rest)


def jobs(image: ImageSource | Images, seed: int | Seeds) -> tuple[list[Job], bool]:
    """Return each image with its seeds, and whether one head was asked for rather than a list.

    Several images take one seed for all or one each; one image takes any number of seeds.

    Raises OptionError for a seed out of range or for lists of different lengths, ImageError for a URL.
    """
    for source in image if isinstance(image, list | tuple) else [image]:
        check_address(source)
    several = isinstance(seed, Sequence) and not isinstance(seed, str | bytes)
    several = several or (isinstance(seed, np.ndarray) and seed.ndim > 0)
    seeds = [check_seed(k) for k in seed] if several else [check_seed(seed)]  # type: ignore[union-attr,arg-type]
    if not isinstance(image, list | tuple):
        return [(image, seeds)], not several
    if several and len(seeds) != len(image):
        raise OptionError(
            "seeds for a list of images", got=len(seeds), expected=f"one seed, or {len(image)}: one each"
        )
    own = seeds if several else seeds * len(image)
    return [(source, [k]) for source, k in zip(image, own, strict=True)], False


def groups(items: Iterator[T], numbers: Sequence[int]) -> Iterator[list[T]]:
    """Yield the items in lists of the first of `numbers`, which fall to 1; the rest in lists of the others.

    Where the iterator raises InputError, as it does for a picture that cannot be used, what came before is
    yielded first.
    """
    held: list[T] = []
    error: InputError | None = None
    while error is None:
        try:
            held.append(next(items))
        except StopIteration:
            break
        except InputError as raised:
            error = raised
        if len(held) == numbers[0]:
            yield held
            held = []
    while held:
        count = next(number for number in numbers if number <= len(held))
        yield held[:count]
        held = held[count:]
    if error is not None:
        raise error


def preview_steps(previews: Sequence[int] | None, steps: int) -> frozenset[int]:
    """Return the steps, counted from 1, after which an estimate is decoded; None means every step.

    Raises OptionError unless `previews` holds only whole numbers from 1 to `steps`.
    """
    every = range(1, steps + 1)
    try:
        chosen = frozenset(every if previews is None else map(operator.index, previews))
    except TypeError:
        chosen = frozenset([0])
    if not chosen.issubset(every):
        raise OptionError(
            "previews", got=repr(previews)[:40], expected=f"step numbers, whole and from 1 to {steps}"
        )
    return chosen
