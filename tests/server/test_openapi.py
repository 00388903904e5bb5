"""The description of the service, and requests that a machine makes up from it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from tests import needs

needs.module("fastapi")
needs.module("schemathesis")

import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from tests.server.live_server import running
from topos_rt.pipeline import HeadPipeline
from topos_rt.server import Settings, create_app
from topos_rt.server.problems import MEDIA_TYPE, PROBLEMS

ROUTES = {
    ("get", "/v1/models"), ("get", "/v1/models/{name}/topology"), ("post", "/v1/faces"),
    ("post", "/v1/heads"), ("get", "/v1/heads/{name}.{kind}"), ("get", "/v1/heads/{name}"),
    ("delete", "/v1/heads/{name}"),
    ("post", "/v1/retopologize"), ("get", "/healthz"), ("get", "/readyz"), ("get", "/metrics"),
}  # fmt: skip


@pytest.fixture(scope="module")
def document(pipe: HeadPipeline) -> dict[str, Any]:
    return create_app(Settings(), pipe).openapi()


def test_every_route_is_described(document: dict[str, Any]) -> None:
    found = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert found == ROUTES
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert operation["summary"] and operation["description"], path
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert list(answer["content"]) == [MEDIA_TYPE], (path, status)
                    assert int(status) in {known for known, _ in PROBLEMS.values()}
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(reference := node.get("$ref"), str):
                assert reference.rpartition("/")[2] in document["components"]["schemas"], reference
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)


def test_the_document_is_served(client: TestClient, document: dict[str, Any]) -> None:
    assert client.get("/openapi.json").json() == document


CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
]  # fmt: skip


def made_up(pipe: HeadPipeline, portrait: bytes, examples: int) -> int:
    """Send requests that schemathesis makes up of the document, check every answer, return their number."""
    count = 0
    with running(pipe) as server, requests.Session() as session:
        address = f"http://127.0.0.1:{server.port}"
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        form: dict[str, Any] = {"files": {"image": portrait}, "data": {"steps": 1}}
        made = session.post(f"{address}/v1/heads", **form).json()["heads"][0]["id"]
        for found in schema.get_all_operations():
            operation = found.ok()
            for mode in schemathesis.GenerationMode:
                cases = operation.as_strategy(generation_mode=mode)

                @given(case=cases, real=st.booleans())
                @settings(
                    max_examples=examples,
                    deadline=None,
                    database=None,
                    derandomize=True,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                def check(case: Any, real: bool) -> None:
                    nonlocal count
                    count += 1
                    if real and "kind" in case.path_parameters:
                        case.path_parameters["name"] = made
                    if real and isinstance(case.body, dict) and case.media_type == "multipart/form-data":
                        case.body["image"] = portrait
                    answer = case.call(session=session)
                    case.validate_response(answer, checks=CHECKS)

                # Of some routes, such as those without parameters, no request is wrong.
                negative = mode is schemathesis.GenerationMode.NEGATIVE
                with contextlib.suppress(Unsatisfiable) if negative else contextlib.nullcontext():
                    check()
        ready = session.get(f"{address}/readyz").json()
        assert ready == {"status": "ready", "waiting": 0, "running": 0}
    return count


def test_requests_that_a_machine_makes_up(pipe: HeadPipeline, portrait: bytes) -> None:
    assert made_up(pipe, portrait, 3) > 30


@pytest.mark.slow
def test_many_requests_that_a_machine_makes_up(pipe: HeadPipeline, portrait: bytes) -> None:
    assert made_up(pipe, portrait, 200) > 1000
