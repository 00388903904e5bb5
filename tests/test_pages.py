"""The tables of every page are those that the scripts in docs/ make from the results."""

from __future__ import annotations

import make_architecture
import make_backend_tables
import make_kernel_tables
import make_retopology_tables
import make_rig_tables
import make_rooms
import make_sampling_tables
import make_tables
import pytest
from pages import filled, read, table

SCRIPTS = [
    make_architecture, make_backend_tables, make_kernel_tables, make_retopology_tables, make_rig_tables,
    make_rooms, make_sampling_tables, make_tables,
]  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_the_tables_are_those_of_the_results(script) -> None:
    text = script.PAGE.read_text()
    assert filled(text, script.TABLES) == text, f"run python docs/{script.__name__}.py"


PLACES = {
    "none": "no tables here",
    "two": "<!-- a -->\n<!-- /a -->\n<!-- a -->\n<!-- /a -->",
    "no end": "<!-- a -->\n<!-- /b -->",
}


@pytest.mark.parametrize("case", PLACES)
def test_a_table_has_one_place(case: str) -> None:
    count = PLACES[case].count("<!-- /a -->")
    with pytest.raises(ValueError, match=f"got {count} places for the table 'a'; expected 1"):
        filled(PLACES[case], {"a": lambda: "x"})


def test_what_is_around_a_table_stays() -> None:
    page = "before\n<!-- a -->\nold\n<!-- /a -->\nafter <!-- b -->\n<!-- /b -->"
    made = filled(page, {"a": lambda: table(["x"], [["1"]]), "b": lambda: "new"})
    rows = "| x |\n| --- |\n| 1 |"
    assert made == f"before\n<!-- a -->\n{rows}\n<!-- /a -->\nafter <!-- b -->\nnew\n<!-- /b -->"


def test_the_page_on_rigs_claims_what_the_results_say() -> None:
    result = read("rig_mini")
    plain, ours = result["methods"]["addition"], result["methods"]["fit"]
    assert result["heads"] >= 30
    assert ours["lids"]["mean_mm"] < 0.5 * plain["lids"]["mean_mm"]
    assert ours["eyes"]["max_mm"] < 0.01 < plain["eyes"]["max_mm"]
    assert ours["stretch"] < plain["stretch"]
    assert result["joints"]["vertices_per_joint"] == 32
