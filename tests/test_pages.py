"""The tables of pages are those that the scripts in docs/ make from results of the model that ships."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import make_architecture
import make_backend_tables
import make_batch_tables
import make_face_fit_tables
import make_face_tables
import make_file_tables
import make_kernel_tables
import make_official_texture_tables
import make_output_tables
import make_pack_tables
import make_picture_tables
import make_retopology_tables
import make_rig_tables
import make_rooms
import make_sampling_tables
import make_sdk_tables
import make_serve_tables
import make_studio_tables
import make_tables
import make_tracking_tables
import make_training_tables
import pages
import pytest
from pages import COMMANDS, RESULTS, bundled_digest, fault, filled, read, table

from tests.benchmarks.command_lines import parsed
from topos_rt.formats.limits import Limits

SCRIPTS = [
    make_architecture, make_backend_tables, make_batch_tables, make_face_fit_tables, make_face_tables,
    make_file_tables,
    make_kernel_tables, make_official_texture_tables, make_output_tables, make_picture_tables,
    make_pack_tables, make_retopology_tables, make_rig_tables, make_rooms, make_sampling_tables,
    make_sdk_tables, make_serve_tables, make_studio_tables, make_tables, make_tracking_tables,
    make_training_tables,
]  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_the_tables_are_those_of_the_results(script: Any) -> None:
    text = script.PAGE.read_text()
    assert filled(text, script.TABLES) == text, f"run python docs/{script.__name__}.py"


@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("*.json")))
def test_every_result_is_of_the_model_that_ships(name: str) -> None:
    """Those of earlier weights belong into results/earlier/, where no page reads."""
    result = read(name)
    of_mini = any(isinstance(model, dict) and model["name"] == "mini" for model in pages._models(result))
    assert of_mini == (name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_one_that_is_taken(name: str) -> None:
    command = COMMANDS[name].format(RESULTS / f"{name}.json").removesuffix(", on an H100")
    words = command.replace("topos-rt ", "python -m topos_rt ").split()
    parsed(words[1:])


OWN = {"name": "mini", "sha256": bundled_digest()}
OLD = {"name": "mini", "sha256": "0" * 64}
STALE = "got model 000000000000"
FAULTS: dict[str, tuple[Any, str | None]] = {
    "of the bundled model": ({"model": OWN}, None),
    "of topos-rt bench": ({"settings": {"model": OWN}}, None),
    "of no weights": ({"model": None}, None),
    "of random weights": ({"model": "random-official"}, None),
    "of another model": ({"model": {"name": "random-official", "sha256": "0" * 64}}, None),
    "of older weights": ({"model": OLD}, f"{STALE}; expected the bundled {bundled_digest()[:12]}"),
    "a part of older weights": ({"model": None, "parts": [{"result": {"model": OLD}}]}, STALE),
    "without a digest": ({"model": "mini"}, "got model 'mini' without its digest"),
    "that does not say": ({"ms": {"head": 1}}, 'got no key "model"'),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_a_page_may_not_quote(case: str) -> None:
    result, message = FAULTS[case]
    found = fault(result)
    assert found is None if message is None else found is not None and found.startswith(message)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_no_result_is_of_older_weights(path: Path) -> None:
    """Those of other weights are in `benchmarks/results/earlier`."""
    assert fault(json.loads(path.read_text())) is None


def test_a_stale_result_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "RESULTS", tmp_path)
    (tmp_path / "lods_mini.json").write_text(json.dumps({"model": OLD}))
    with pytest.raises(
        ValueError, match=r"lods_mini\.json: got model 0+; expected .*; fix: python -m"
    ) as error:
        read("lods_mini")
    assert str(error.value).endswith("bench_lods --json benchmarks/results/lods_mini.json")


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


def test_the_page_on_files_has_every_limit() -> None:
    assert list(make_file_tables._MEANINGS) == [field.name for field in dataclasses.fields(Limits)]
