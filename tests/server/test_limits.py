"""docs/serve.md has the numbers that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import needs

needs.module("fastapi")

from topos_rt.pictures.sources import MAX_PIXELS
from topos_rt.server import Settings, live, protocol, run
from topos_rt.server.problems import PROBLEMS
from topos_rt.server.settings import MIB, MOST_HEADS

PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text()
OWN = Settings()
LIMITS: dict[str, list[float]] = {
    "a picture or scan": [OWN.max_upload / MIB, MAX_PIXELS],
    "the bodies of all requests at once": [OWN.held_uploads / MIB],
    "the time of a body": [OWN.body_s],
    "the head of a request": [protocol.HEAD_S, run._HEADER_BYTES],
    "an answer that nobody takes": [protocol.STALL_S, protocol.LEAST_TAKEN],
    "open connections": [OWN.connections],
    "heads that are worked on at once": [OWN.workers],
    "requests that wait": [OWN.queue],
    "the time from a whole request to its answer": [OWN.deadline_s],
    "heads of one request": [MOST_HEADS],
    "heads that grow at once, each of which may hold a picture": [OWN.workers + OWN.queue],
    "faces that are followed at once": [OWN.mirrors, live._MOST_FRAME / MIB],
    "a kept head": [OWN.keep_s],
    "all kept heads": [OWN.kept_bytes / MIB],
    "a WebSocket that says nothing": [live._OPENING_S, live._IDLE_S],
    "running work when the service stops": [OWN.drain_s],
}


@pytest.mark.parametrize("what", LIMITS)
def test_the_page_has_the_numbers_of_the_code(what: str) -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| {what} |"))
    for number in LIMITS[what]:
        assert re.search(rf"\b{number:,.0f}\b", row), number


def test_the_page_has_every_status() -> None:
    for status in {status for status, _ in PROBLEMS.values()} - {500}:
        assert re.search(rf"^\| [\d, ]*\b{status}\b", PAGE, re.MULTILINE), status
