"""The release's two instructions, read from the user's copy of its script or from a JSON file.

They are the release's own text, so they are not part of this repository. A script is parsed, never run.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.texture.base_model import read_json
from topos_rt.errors import InputError

# What the release's script calls them -> what a JSON file does.
NAMES = {"DEFAULT_PROMPT": "prompt", "NEGATIVE_PROMPT": "negative_prompt"}
PROMPTS_HELP = (
    "the release's TOPOS-Texture.py, which is read and not run, or JSON with prompt and negative_prompt"
)
_LARGEST = 1 << 20
_FIX = f"name the release's TOPOS-Texture.py, or a JSON file with the keys {' and '.join(NAMES.values())}"


@dataclass(frozen=True)
class Instructions:
    """What the text encoder is told about the portrait, and about the black picture."""

    prompt: str
    negative_prompt: str


def read_instructions(path: Path) -> Instructions:
    """Read both instructions. Raises InputError for a file without them."""
    if path.suffix == ".py":
        found = _from_script(path)
    else:
        tree = read_json(path, "instructions")
        found = {name: tree.get(name) for name in NAMES.values()}
    for name, text in found.items():
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"instructions {path}: {name}", got=repr(text)[:40], expected="a text", fix=_FIX)
    return Instructions(**found)


def _from_script(path: Path) -> dict[str, Any]:
    """Return the literal strings of a script that are assigned to NAMES."""
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(
                f"instructions {path}", got="more than a megabyte", expected="a script", fix=_FIX
            )
        body = ast.parse(path.read_bytes()).body
    except OSError as error:
        raise InputError(f"instructions {path}", got=error.strerror or error, fix=_FIX) from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"instructions {path}", got=f"no Python script ({error})", fix=_FIX) from error
    found: dict[str, Any] = dict.fromkeys(NAMES.values())
    for statement in body:
        if not isinstance(statement, ast.Assign):
            continue
        for target in statement.targets:
            if isinstance(target, ast.Name) and target.id in NAMES:
                found[NAMES[target.id]] = _literal(statement.value)
    return found


def _literal(value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
