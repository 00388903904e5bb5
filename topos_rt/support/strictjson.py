"""Strict parsing of JSON into frozen dataclasses: every field is required, and no other is allowed.

All errors are BundleError, since bundles are the only JSON this package reads.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from topos_rt.errors import BundleError

AGAIN = "export or download the bundle again"


def parse_object(data: str | bytes) -> dict[str, Any]:
    """Return the JSON object in `data`. Raises BundleError for anything else, repeated keys and NaN."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for key, value in pairs:
            if key in tree:
                refuse(key, "the key more than once", "each key once")
            tree[key] = value
        return tree

    def constant(text: str) -> float:
        raise BundleError("manifest.json", got=text, expected="finite numbers", fix=AGAIN)

    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        tree = json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except BundleError:
        raise
    except (ValueError, RecursionError) as error:
        raise BundleError(
            "manifest.json is not JSON", got=error, expected="a whole JSON object", fix=AGAIN
        ) from error
    if not isinstance(tree, dict):
        raise BundleError("manifest.json", got=describe(tree), expected="an object", fix=AGAIN)
    return tree


def read_as(kind: Any, value: Any, where: str = "") -> Any:
    """Return `value`, parsed from JSON, as the annotated type `kind`.

    kind: a dataclass, a Mapping with str keys, a tuple of one kind (`tuple[X, ...]`, a list in JSON), int,
    float or str, or one of these `| None`.
    where: the dotted key of `value`, for messages.
    """
    if dataclasses.is_dataclass(kind):
        return _read_object(typing.cast("Callable[..., Any]", kind), value, where)
    if isinstance(kind, types.UnionType):  # only `X | None` occurs
        return None if value is None else read_as(typing.get_args(kind)[0], value, where)
    if typing.get_origin(kind) is Mapping:
        _expect(isinstance(value, dict), where, value, "an object")
        return {key: read_as(typing.get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    if typing.get_origin(kind) is tuple:
        _expect(isinstance(value, list), where, value, "a list")
        return tuple(read_as(typing.get_args(kind)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e300
        _expect(number, where, value, "a finite number")
        return float(value)
    if kind is int:
        _expect(type(value) is int, where, value, "an integer")
        return value
    _expect(isinstance(value, str), where, value, "a string")
    # These strings go to terminals and into line-based files; a lone surrogate cannot be encoded at all.
    _expect(value.isprintable(), where, value, "a string without line breaks or control characters")
    return value


def refuse(where: str, got: object, expected: str) -> typing.NoReturn:
    """Raise the BundleError for the key `where`."""
    raise BundleError(f"manifest key {where[:200]!r}", got=got, expected=expected, fix=AGAIN)


def describe(value: Any) -> str:
    """Return a description of `value`, parsed from JSON, that is short whatever it holds."""
    names = {dict: "an object", list: "a list", bool: "a boolean", type(None): "null or nothing"}
    return names.get(type(value)) or repr(value)[:80]


def _read_object(cls: Callable[..., Any], value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), where, value, "an object")
    hints = _hints(cls)
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in hints:
            refuse(prefix + key, "an unknown key", f"only: {', '.join(hints)}")
    for key in hints:
        if key not in value:
            refuse(prefix + key, "nothing", "the key to be there")
    return cls(**{key: read_as(hint, value[key], prefix + key) for key, hint in hints.items()})


@functools.cache
def _hints(cls: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of the fields of `cls`.

    They are cached: annotations are strings, and a bundle has an object of one class for each of its files.
    """
    return typing.get_type_hints(cls)


def _expect(good: bool, where: str, value: Any, expected: str) -> None:
    if not good:
        refuse(where, describe(value), expected)
