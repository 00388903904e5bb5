"""Changes to a manifest's JSON tree, for the tests of what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def set_value(*keys: str, value: object) -> Callable[[dict[str, Any]], None]:
    """Return a function that sets the value at a path of keys in the tree it is given."""

    def change(tree: dict[str, Any]) -> None:
        for key in keys[:-1]:
            tree = tree[key]
        tree[keys[-1]] = value

    return change
