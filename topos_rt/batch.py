"""What a caller may ask of a pipeline at once: one image or several, one seed or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from topos_rt.errors import OptionError
from topos_rt.sampler import check_seed

if TYPE_CHECKING:
    from topos_rt.image import ImageSource
    from topos_rt.progress import Callback

# Of ImageSource; but to a type checker a list of paths is no list of ImageSource.
Images: TypeAlias = list[Any] | tuple[Any, ...]
Seeds: TypeAlias = list[int] | tuple[int, ...]
Job: TypeAlias = "tuple[ImageSource, list[int]]"  # one image with its seeds


class Options(TypedDict, total=False):
    """The keyword arguments of a pipeline's call that stay the same over a batch."""

    preset: str
    steps: int | None
    solver: str | None
    guidance: float | None
    shift: float | None
    callback: Callback | None


def jobs(image: ImageSource | Images, seed: int | Seeds) -> tuple[list[Job], bool]:
    """Each image with its seeds, and whether one head was asked for rather than a list.

    Several images take one seed for all, or one each; one image takes any number of seeds.

    Raises OptionError for a seed out of range, or lists of different lengths.
    """
    several = isinstance(seed, list | tuple)
    seeds = [check_seed(k) for k in seed] if isinstance(seed, list | tuple) else [check_seed(seed)]
    if not isinstance(image, list | tuple):
        return [(image, seeds)], not several
    if several and len(seeds) != len(image):
        raise OptionError(
            "seeds for a list of images", got=len(seeds), expected=f"one seed, or {len(image)}: one each"
        )
    own = seeds if several else seeds * len(image)
    return [(source, [k]) for source, k in zip(image, own, strict=True)], False
