"""Who may call, how much they may send, and what is noted of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests import needs

needs.module("fastapi")

from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from tests.server.conftest import BASE, Opens
from tests.server.test_bad_input import refused
from topos_rt import OptionError
from topos_rt.server import Settings

KEY = "k" * 32
WS = BASE.replace("http", "ws")
OURS = [
    "127.0.0.1:8000", "127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:8000", "192.168.1.7:8000",
    "heads.example", "Heads.Example:443", "studio.localhost:9",
]  # fmt: skip
FOREIGN = [
    "evil.example",
    "127.0.0.1.evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "[::1",
    "",
    "@:",
]


@pytest.mark.parametrize("host", OURS)
def test_names_of_the_service(opens: Opens, host: str) -> None:
    client = opens(hosts=["heads.example"])
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_a_name_that_somebody_else_made_up(opens: Opens, host: str) -> None:
    """DNS rebinding: a page of evil.example calls this machine by its own name."""
    refused(opens(hosts=["heads.example"]).get("/v1/models", headers={"Host": host}), 421, "wrong-host")
    assert opens(hosts=["*"]).get("/healthz", headers={"Host": host}).status_code == 200


PAGES: list[tuple[dict[str, str], bool]] = [
    ({}, True),
    ({"Origin": "http://127.0.0.1:8000"}, True),
    ({"Origin": "https://127.0.0.1:8000"}, True),  # behind a proxy that ends TLS
    ({"Origin": "https://app.example"}, True),
    ({"Origin": "http://app.example"}, False),
    ({"Origin": "https://app.example.evil"}, False),
    ({"Origin": "http://127.0.0.1:8001"}, False),
    ({"Origin": "http://localhost:8000"}, False),
    ({"Origin": "null"}, False),
    ({"Origin": "http://[::1"}, False),
    ({"Sec-Fetch-Site": "same-origin"}, True),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Sec-Fetch-Site": "same-site"}, False),
]


@pytest.mark.parametrize(("headers", "allowed"), PAGES)
def test_pages_of_other_sites(opens: Opens, portrait: bytes, headers: dict[str, str], allowed: bool) -> None:
    client = opens(origins=["https://app.example"])
    answer = client.post("/v1/faces", files={"image": portrait}, headers=headers)
    if allowed:
        assert answer.status_code == 200
    else:
        refused(answer, 403, "foreign-page")
    assert ("access-control-allow-origin" in answer.headers) == (
        headers.get("Origin") == "https://app.example"
    )


@pytest.mark.parametrize(("headers", "allowed"), PAGES)
@pytest.mark.parametrize("route", ["/v1/track", "/v1/heads/stream"])
def test_websockets_of_other_sites(opens: Opens, headers: dict[str, str], allowed: bool, route: str) -> None:
    """Browsers let any page open a WebSocket anywhere: only the service can refuse it."""
    client = opens(origins=["https://app.example"])
    if allowed:
        with client.websocket_connect(WS + route, headers=headers):
            pass
        return
    with pytest.raises(Exception) as caught, client.websocket_connect(WS + route, headers=headers):
        pass
    answer: Any = caught.value
    assert answer.status_code == 403 and answer.json()["type"] == "urn:topos-rt:foreign-page"


def test_a_websocket_that_leads_nowhere(client: TestClient) -> None:
    with pytest.raises(Exception) as caught, client.websocket_connect(f"{WS}/v1/nope"):
        pass
    answer: Any = caught.value
    refused(answer, 404, "not-found")


def test_a_browser_may_ask_whether_its_page_may(opens: Opens) -> None:
    client = opens(origins=["https://app.example"], api_key=KEY)
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    answer = client.options("/v1/heads", headers={"Origin": "https://app.example", **asks})
    assert (
        answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "https://app.example"
    )
    answer = client.options("/v1/heads", headers={"Origin": "https://evil.example", **asks})
    refused(answer, 403, "foreign-page")


def test_links_from_elsewhere_may_open_the_page(client: TestClient) -> None:
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


RIGHT = [{"Authorization": f"Bearer {KEY}"}, {"Authorization": f"bearer  {KEY}"}, {"X-API-Key": KEY}]
WRONG: list[dict[str, str]] = [
    {}, {"Authorization": KEY}, {"Authorization": "Bearer"}, {"Authorization": f"Basic {KEY}"},
    {"Authorization": f"Bearer {KEY}x"}, {"X-API-Key": KEY[:-1]}, {"X-API-Key": ""},
]  # fmt: skip


@pytest.mark.parametrize("headers", RIGHT)
def test_the_key(opens: Opens, headers: dict[str, str]) -> None:
    client = opens(api_key=KEY)
    assert client.get("/v1/models", headers=headers).status_code == 200
    assert client.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize("headers", WRONG)
def test_no_key(opens: Opens, portrait: bytes, headers: dict[str, str]) -> None:
    client = opens(api_key=KEY)
    for method, route in (
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/nope"),
    ):
        answer = client.request(method, route, headers=headers)
        refused(answer, 401, "no-key")
        assert answer.headers["www-authenticate"] == "Bearer" and KEY not in answer.text
    refused(client.post("/v1/heads", files={"image": portrait}, headers=headers), 401, "no-key")
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


def test_the_key_of_a_websocket(opens: Opens) -> None:
    client = opens(api_key=KEY)
    with client.websocket_connect(f"{WS}/v1/track", subprotocols=["topos-rt", f"bearer.{KEY}"]) as socket:
        assert socket.accepted_subprotocol == "topos-rt"  # a browser gives up unless one is chosen
    with pytest.raises(Exception) as caught, client.websocket_connect(f"{WS}/v1/track"):
        pass
    assert caught.value.status_code == 401  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", ["", "short", "k" * 15, "k" * 20 + "\n", "k" * 20 + "ü"])
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(OptionError, match="API key") as caught:
        Settings(api_key=key)
    assert not key or key not in str(caught.value)


def test_a_body_that_says_it_is_too_large_is_not_read(opens: Opens) -> None:
    client, read = opens(max_upload=100_000), []

    def body() -> Iterator[bytes]:
        read.append(1)
        yield b"x"

    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "100000000"}
    app: Any = client.app
    answer = client.post("/v1/heads", content=body(), headers=headers)
    refused(answer, 413, "too-large", "got 100,000,000 bytes; expected a file of at most 100,000 bytes")
    assert app.state.service.uploads == 0


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/json"])
def test_a_body_that_turns_out_too_large(opens: Opens, kind: str) -> None:
    client, given = opens(max_upload=100_000), []

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
        for _ in range(1000):
            given.append(1)
            yield bytes(10_000)

    answer = client.post("/v1/heads", content=body(), headers={"Content-Type": kind})
    refused(answer, 413, "too-large", "got more than")
    app: Any = client.app
    assert app.state.service.uploads == 0


def test_a_picture_of_the_largest_size_is_taken(opens: Opens, portrait: bytes) -> None:
    client = opens(max_upload=len(portrait))
    assert client.post("/v1/faces", files={"image": portrait}).status_code == 200
    refused(client.post("/v1/faces", files={"image": portrait + bytes(70_000)}), 413, "too-large")


def test_what_all_bodies_may_take(opens: Opens, portrait: bytes) -> None:
    client = opens(max_upload=30_000, held_uploads=30_000)
    app: Any = client.app
    app.state.service.uploads = 20_000  # somebody else's
    answer = client.post("/v1/faces", files={"image": portrait})
    refused(answer, 429, "busy", "uploads")
    assert int(answer.headers["retry-after"]) > 0 and app.state.service.uploads == 20_000
    app.state.service.uploads = 0
    assert client.post("/v1/faces", files={"image": portrait}).status_code == 200


def test_what_is_noted(client: TestClient, portrait: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "topos_rt.access")
    answer = client.post("/v1/heads", files={"image": ("grandmother.jpg", portrait)}, data={"steps": 1})
    client.get(answer.headers["location"])
    client.get("/nope/grandmother?name=grandmother")
    post, get, lost = (
        json.loads(record.message) for record in caplog.records if record.name == "topos_rt.access"
    )
    assert (post["method"], post["route"], post["status"]) == ("POST", "/v1/heads", 201)
    assert post["request"] == answer.headers["x-request-id"] and post["bytes_in"] > len(portrait)
    assert post["bytes_out"] == len(answer.content) and post["ms"] > 0 and post["client"] == "testclient"
    assert (get["route"], lost["route"]) == ("/v1/heads/{name}", "(none)")
    assert "grandmother" not in caplog.text and answer.headers["location"] not in caplog.text


def test_made_up_methods_are_one(client: TestClient) -> None:
    for k in range(3):
        refused(client.request(f"BREW{k}", "/v1/models"), 405, "wrong-method")
    told = client.get("/metrics").text
    assert 'topos_rt_requests_total{method="(other)",route="/v1/models",status="405"} 3.0' in told
    assert "BREW" not in told


def test_a_service_that_is_about_to_stop(client: TestClient, portrait: bytes) -> None:
    app: Any = client.app
    done = client.post("/v1/heads", files={"image": portrait}, data={"steps": 1})
    app.state.service.draining = True
    refused(client.get("/readyz"), 503, "draining")
    refused(client.post("/v1/heads", files={"image": portrait}), 503, "draining", "another instance")
    assert client.get(done.json()["heads"][0]["links"]["glb"]).status_code == 200
    assert client.get("/healthz").status_code == 200
    with client.websocket_connect(f"{WS}/v1/track") as socket:
        assert socket.receive_json()["status"] == 503
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_json()
        assert caught.value.code == 1013


RANGES: list[dict[str, Any]] = [
    {"workers": 0}, {"workers": 1.5}, {"queue": -1}, {"deadline_s": float("nan")}, {"deadline_s": 0},
    {"max_upload": 10}, {"held_uploads": 1024}, {"keep_s": True}, {"mirrors": "4"},
]  # fmt: skip


@pytest.mark.parametrize("wrong", RANGES)
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(OptionError, match=name.partition("_")[0]):
        Settings(**wrong)
