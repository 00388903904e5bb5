"""What a caller chooses of a fit to a scan. It is apart from the fit, which few processes need to load."""

from __future__ import annotations

import operator

from topos_rt.errors import OptionError

DEFAULT_PASSES, MAX_PASSES = 3, 20
MIN_POINTS = 16  # of a scan


def check_passes(passes: int) -> int:
    """Return `passes` as an int. Raises OptionError for anything but a whole number from 1 to 20."""
    try:
        number = operator.index(passes)
    except TypeError:
        number = 0
    if not 1 <= number <= MAX_PASSES:
        raise OptionError("passes", got=repr(passes)[:40], expected=f"a whole number from 1 to {MAX_PASSES}")
    return number
