"""The studio's page: its files and no others, under a policy that loads nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import needs

needs.module("fastapi")

from fastapi import FastAPI
from starlette.testclient import TestClient

from tests.server.conftest import BASE
from tests.server.test_bad_input import refused
from topos_rt.pipeline import HeadPipeline
from topos_rt.server import Settings, create_app, page

SOCKETS = (BASE.replace("http", "ws"), BASE.replace("http", "wss"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page that is built, and a secret beside it."""
    folder = tmp_path / "page"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "assets" / "main-1a2b.js").write_text("'script'")
    (folder / "assets" / "x.wasm").write_bytes(b"\0asm")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    monkeypatch.setattr(page, "FOLDER", folder)
    return folder


@pytest.fixture
def studio(folder: Path, pipe: HeadPipeline) -> TestClient:
    app: FastAPI = create_app(Settings(page=True), pipe)
    return TestClient(app, base_url=BASE)


def test_files_of_the_page(studio: TestClient) -> None:
    with studio as client:
        first = client.get("/")
        assert first.text == "<!doctype html>" and first.headers["content-type"].startswith("text/html")
        assert first.headers["cache-control"] == "no-cache"
        script = client.get("/assets/main-1a2b.js")
        assert script.text == "'script'" and script.headers["content-type"].startswith("text/javascript")
        assert "immutable" in script.headers["cache-control"]
        assert client.get("/assets/x.wasm").headers["content-type"] == "application/wasm"
        assert client.get("/healthz").json()["status"] == "ok"  # the page hides no route
        refused(client.get("/v1/nope"), 404, "not-found")


def test_the_policy_lets_nothing_in_from_elsewhere(studio: TestClient) -> None:
    with studio as client:
        policy = client.get("/").headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'" and rules["frame-ancestors"] == "'none'"
    for name, sources in rules.items():
        assert set(sources.split()) <= {"'none'", "'self'", "blob:", "data:", "'wasm-unsafe-eval'", *SOCKETS,
                                        "'unsafe-inline'"}, name  # fmt: skip
    assert "'unsafe-inline'" not in rules["script-src"] and "data:" not in rules["script-src"]


@pytest.mark.parametrize(
    "place",
    ["../secret.txt", "%2e%2e/secret.txt", "..%2fsecret.txt", "assets/../../secret.txt", "/etc/passwd",
     "//etc/passwd", "assets", "assets/", "link.txt", "index.html%00", "INDEX.HTML"],
)  # fmt: skip
def test_other_files_are_not_there(studio: TestClient, place: str) -> None:
    with studio as client:
        refused(client.get(f"/{place}"), 404, "not-found")


def test_a_host_that_would_change_the_policy(folder: Path, pipe: HeadPipeline) -> None:
    app = create_app(Settings(page=True, hosts=["*"]), pipe)
    with TestClient(app, base_url=BASE) as client:
        policy = client.get("/", headers={"Host": "x; script-src *"}).headers["content-security-policy"]
    assert "*" not in policy and policy.count("script-src") == 1


def test_a_page_that_is_not_built(tmp_path: Path) -> None:
    assert not page.is_built(tmp_path)
