"""The tables of docs/retopology.md are those that `docs/make_retopology_tables.py` makes from the results."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    path = ROOT / "docs" / "make_retopology_tables.py"
    spec = importlib.util.spec_from_file_location("make_retopology_tables", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_results(tables: ModuleType) -> None:
    text = tables.PAGE.read_text()
    assert tables.filled(text) == text, "run python docs/make_retopology_tables.py"


def test_a_missing_place_is_an_error(tables: ModuleType) -> None:
    with pytest.raises(ValueError, match="got 0 places for the table"):
        tables.filled("no tables here")
