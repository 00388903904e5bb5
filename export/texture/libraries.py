"""The libraries that run the released texture stage in PyTorch, checked when they are first needed."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from topos_rt.errors import InputError, MissingExtraError

# Library -> the least version. The release pins these; docs/texture_official.md says which newer ones ran.
LEAST = {"diffusers": (0, 37), "transformers": (4, 56), "peft": (0, 17)}
WHAT = "the released texture stage in PyTorch"


def library(name: str) -> Any:
    """Import one of LEAST. Raises MissingExtraError where it is missing, InputError where it is too old."""
    try:
        found = import_module(name)
    except ImportError as error:
        raise MissingExtraError.needs(WHAT, "texture") from error
    version = str(getattr(found, "__version__", "0"))
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < LEAST[name]:
        raise InputError(
            f"{WHAT}: {name}",
            got=version,
            expected=f"{'.'.join(map(str, LEAST[name]))} or newer",
            fix="pip install --upgrade 'topos-rt[texture]'",
        )
    return found
