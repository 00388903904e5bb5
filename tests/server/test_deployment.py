"""The service on Ray Serve: what its arguments mean, and, on a cluster of two nodes, that it answers."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import needs
from topos_rt.errors import MissingExtraError, OptionError
from topos_rt.pipeline import HeadPipeline
from topos_rt.server import deployment
from topos_rt.server.deployment import Scale, settled

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Serve's own classes

PORT = 8765
URL = f"http://127.0.0.1:{PORT}"


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(deployment.KEY, raising=False)


def test_without_arguments() -> None:
    settings, scale = settled({})
    assert scale == Scale(1, 1, 1, 0.0) and settings.threads == 1 and settings.api_key is None


def test_arguments_as_text_and_as_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(deployment.KEY, "k" * 32)
    words = {
        "cpus": "4",
        "gpus": "0.5",
        "results": "/heads",
        "workers": "3",
        "page": "true",
        "hosts": "a.org,b.org",
    }
    values = {
        "cpus": 4,
        "gpus": 0.5,
        "results": "/heads",
        "workers": 3,
        "page": True,
        "hosts": ["a.org", "b.org"],
    }
    settings, scale = settled(words)
    assert settled(values) == (settings, scale)
    assert scale == Scale(1, 4, 4, 0.5) and settings.threads == 4 and settings.workers == 3 and settings.page
    assert settings.results == Path("/heads") and settings.hosts == ("a.org", "b.org")
    assert settings.api_key == "k" * 32
    assert settled({**words, "threads": "2"})[0].threads == 2


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown one": ({"modl": "mini"}, r"unknown argument 'modl': .*; fix: did you mean 'model'\?"),
    "a key for all to see": ({"api_key": "x" * 32}, "unknown argument 'api_key'"),
    "no number": ({"cpus": "many"}, "cpus: got 'many'; expected a whole number"),
    "neither true nor false": ({"page": "perhaps"}, "page: got 'perhaps'; expected true or false"),
    "out of range": ({"workers": 0}, "workers: got 0"),
    "no cores": ({"cpus": 0}, "cpus: got 0; expected a number from 1 to"),
    "fewer at most than at least": (
        {"min_replicas": 3, "max_replicas": 2, "results": "/heads"},
        "max_replicas: got 2; expected a number from 3 to",
    ),
    "replicas that do not know each other's heads": (
        {"max_replicas": 2},
        "max_replicas: got 2, with heads in the memory of each replica; .* fix: results=DIR",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str) -> None:
    arguments, message = REFUSED[case]
    with pytest.raises(OptionError, match=message):
        settled(arguments)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'topos-rt\[ray\]'"):
        deployment.app({})


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core each, with Serve's proxy on the first."""
    needs.machine(importlib.util.find_spec("ray"), "no Ray; fix: pip install -c constraints.txt -e '.[ray]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray import serve

    cluster_utils = needs.module("ray.cluster_utils")
    memory = {"num_cpus": 1, "object_store_memory": 100 << 20}
    made = cluster_utils.Cluster(True, head_node_args={**memory, "include_dashboard": False})
    made.add_node(**memory)
    ray.init(made.address, log_to_driver=False, logging_level="ERROR")
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    yield made
    serve.shutdown()
    ray.shutdown()
    made.shutdown()


def asked(path: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(URL + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def head_of(portrait: bytes, **headers: str) -> tuple[int, bytes]:
    body = b"".join(
        [
            b'--edge\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n',
            portrait,
            b"\r\n--edge--\r\n",
        ]
    )
    return asked("/v1/heads", body, **{"Content-Type": "multipart/form-data; boundary=edge", **headers})


@pytest.mark.slow
def test_two_replicas_serve_the_same_heads(
    cluster: Any, tiny_bundle: Path, tmp_path: Path, portrait: bytes
) -> None:
    from ray import serve

    folder = tmp_path / "heads"
    arguments = {"model": str(tiny_bundle), "results": str(folder), "min_replicas": "2", "max_replicas": "2"}
    serve.run(deployment.app(arguments))
    assert asked("/readyz")[0] == 200
    with HeadPipeline.open(tiny_bundle, threads=1) as pipe:
        want = pipe(portrait).to_bytes("glb")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: head_of(portrait, Accept="model/gltf-binary"), range(4)))
    assert [status for status, _ in made] == [200] * 4 and {data for _, data in made} == {want}
    status, answer = head_of(portrait)
    assert status == 201
    link = json.loads(answer)["heads"][0]["links"]["glb"]
    # Whichever of the two replicas is asked, the head is there.
    assert [asked(link) for _ in range(10)] == [(200, want)] * 10
    assert asked("/v1/heads", b"{}", **{"Content-Type": "application/json"})[0] in (400, 422)


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_no_replica(cluster: Any, tmp_path: Path) -> None:
    from ray import serve

    with pytest.raises(RuntimeError):
        serve.run(deployment.app({"model": str(tmp_path)}))
