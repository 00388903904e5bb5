"""Which bundles' results count as those of the bundle that ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from topos_rt import Bundle
from topos_rt.bench.work import model_digest
from topos_rt.errors import InputError
from training.digests import digests

EARLIER = "e" * 64


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


def test_without_a_comparison_only_its_own_counts(bundle: Bundle, tmp_path: Path) -> None:
    assert digests(bundle, tmp_path / "none.json") == {model_digest(bundle)}


@pytest.mark.parametrize("of_this", [True, False])
def test_that_of_the_export_before_counts_for_the_bundle_compared_alone(
    bundle: Bundle, tmp_path: Path, of_this: bool
) -> None:
    own = model_digest(bundle)
    result = tmp_path / "same.json"
    now = own if of_this else "f" * 64
    result.write_text(json.dumps({"model": {"sha256": now}, "earlier": {"sha256": EARLIER}}))
    assert digests(bundle, result) == ({own, EARLIER} if of_this else {own})


@pytest.mark.parametrize("found", [[], {}, {"model": {"sha256": EARLIER}}, {"model": 1, "earlier": 2}])
def test_another_file_is_refused(bundle: Bundle, tmp_path: Path, found: object) -> None:
    result = tmp_path / "same.json"
    result.write_text(json.dumps(found))
    with pytest.raises(InputError, match=r"same\.json: got no two digests; expected what benchmarks\.same_w"):
        digests(bundle, result)
