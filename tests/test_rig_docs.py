"""The tables of docs/rig.md are those that `docs/make_rig_tables.py` makes from the results."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_rig_tables", ROOT / "docs" / "make_rig_tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_results(tables: ModuleType) -> None:
    text = (ROOT / "docs" / "rig.md").read_text()
    assert tables.filled(text) == text, "run python docs/make_rig_tables.py"


def test_a_missing_place_is_an_error(tables: ModuleType) -> None:
    with pytest.raises(ValueError, match="got 0 places for the table"):
        tables.filled("no tables here")


def test_the_page_claims_what_the_results_say() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "rig_mini.json").read_text())
    plain, ours = result["methods"]["addition"], result["methods"]["fit"]
    assert result["heads"] >= 30
    assert ours["lids"]["mean_mm"] < 0.5 * plain["lids"]["mean_mm"]
    assert ours["eyes"]["max_mm"] < 0.01 < plain["eyes"]["max_mm"]
    assert ours["stretch"] < plain["stretch"]
    assert result["joints"]["vertices_per_joint"] == 32
