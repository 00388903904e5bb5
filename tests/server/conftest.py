"""The small model as a service: with its face stage, in this process, and without a socket."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from PIL import Image

from topos_rt.pipeline import HeadPipeline

if TYPE_CHECKING:  # the test files ask whether it is installed
    from starlette.testclient import TestClient

EXAMPLES = Path(__file__).parents[2] / "examples"
BASE = "http://127.0.0.1:8000"


@pytest.fixture(scope="session")
def portrait() -> bytes:
    return (EXAMPLES / "astronaut.jpg").read_bytes()


@pytest.fixture(scope="session")
def pair() -> bytes:
    """A picture of two people: Grace Hopper is the larger."""
    picture = Image.new("RGB", (660, 330), (100, 100, 100))
    with Image.open(EXAMPLES / "hopper.jpg") as left, Image.open(EXAMPLES / "astronaut.jpg") as right:
        picture.paste(left, (0, 0))
        picture.paste(right, (400, 50))
    return png(picture)


@pytest.fixture(scope="session")
def nobody() -> bytes:
    return png(Image.linear_gradient("L").convert("RGB"))


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def pipe(tiny_bundle: Path) -> Iterator[HeadPipeline]:
    """The small model with the face stage; no test may close it."""
    with HeadPipeline.open(tiny_bundle, threads=1) as opened:
        yield opened


Opens: TypeAlias = "Callable[..., TestClient]"


@pytest.fixture
def opens(pipe: HeadPipeline) -> Iterator[Opens]:
    """Start a service with some settings, and return a client of it."""
    from starlette.testclient import TestClient

    from topos_rt.server import Settings, create_app

    clients: list[TestClient] = []

    def start(**settings: Any) -> TestClient:
        app = create_app(Settings(**settings), pipe)
        client = TestClient(app, base_url=BASE, raise_server_exceptions=False)
        clients.append(client)
        client.__enter__()
        return client

    yield start
    for client in reversed(clients):
        client.__exit__(None, None, None)


@pytest.fixture
def client(opens: Opens) -> TestClient:
    return opens()
