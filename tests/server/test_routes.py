"""The routes over HTTP give what the pipeline gives."""

from __future__ import annotations

import base64
import io
import json
import struct
import time
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load

from tests import needs

needs.module("fastapi")

from starlette.testclient import TestClient

from tests.server.conftest import BASE, Opens
from topos_rt.formats.seams import split_seams
from topos_rt.head.mesh import HeadMesh
from topos_rt.pipeline import HeadPipeline
from topos_rt.scan.settings import DEFAULT_PASSES
from topos_rt.server.files import KINDS

GLB = {"Accept": "model/gltf-binary"}


def post(client: TestClient, picture: bytes, headers: dict[str, str] | None = None, **options: Any) -> Any:
    return client.post("/v1/heads", files={"image": picture}, data=options, headers=headers)


def test_what_the_model_can_do(client: TestClient, pipe: HeadPipeline) -> None:
    (model,) = client.get("/v1/models").json()["models"]
    assert model["name"] == "tiny" and model["loaded"] and model["backend"] == pipe.backend
    assert {"name": "fast", "steps": 8} in model["presets"]
    assert model["vertices"] == pipe.bundle.topology.num_vertices and model["lods"] == 1
    assert pipe.bundle.rig is not None and model["shapes"] == list(pipe.bundle.rig.shape_names)


def test_a_page_can_draw_heads_from_the_topology(client: TestClient, pipe: HeadPipeline) -> None:
    answer = client.get("/v1/models/tiny/topology")
    tensors, split = load(answer.content), split_seams(pipe.bundle.topology)
    for name in ("source", "triangles"):
        assert tensors[name].dtype == np.uint32 and np.array_equal(tensors[name], getattr(split, name))
    assert tensors["uvs"].dtype == np.float32 and np.array_equal(tensors["uvs"], split.uvs)
    edges = {tuple(sorted(edge)) for edge in pipe.bundle.topology.edges.tolist()}
    assert {tuple(edge) for edge in tensors["edges"].tolist()} == edges
    (length,) = struct.unpack("<Q", answer.content[:8])
    vertices = json.loads(answer.content[8 : 8 + length])["__metadata__"]["vertices"]
    assert vertices == str(pipe.bundle.topology.num_vertices)
    again = client.get("/v1/models/tiny/topology", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304 and not again.content


def test_faces_are_those_that_the_package_finds(client: TestClient, pipe: HeadPipeline, pair: bytes) -> None:
    told = client.post("/v1/faces", files={"image": pair}).json()
    found = pipe.find_faces(pair)
    assert (told["width"], told["height"], len(told["faces"])) == (660, 330, 2)
    for entry, face in zip(told["faces"], found, strict=True):
        assert entry["box"] == pytest.approx(face.box, abs=0.06)
        assert np.allclose(entry["landmarks"], face.landmarks, atol=0.006)
        assert entry["expression"] == pytest.approx(dict(face.expression), abs=6e-5)


def test_nobody_is_an_empty_list_of_faces(client: TestClient, nobody: bytes) -> None:
    answer = client.post("/v1/faces", files={"image": nobody})
    assert answer.status_code == 200 and answer.json()["faces"] == []


def test_the_file_itself(client: TestClient, pipe: HeadPipeline, portrait: bytes) -> None:
    answer = post(client, portrait, GLB, seeds=3, preset="fast")
    assert answer.status_code == 200 and answer.headers["content-type"] == "model/gltf-binary"
    assert answer.content == pipe(portrait, seed=3, preset="fast").to_bytes("glb")


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "model/gltf-binary;q=0.5, application/json", ""]
)
def test_entries_of_heads(client: TestClient, pipe: HeadPipeline, portrait: bytes, accept: str) -> None:
    answer = post(client, portrait, {"Accept": accept}, seeds="0,7", steps=2)
    assert answer.status_code == 201
    entries = answer.json()["heads"]
    assert answer.headers["location"] == f"/v1/heads/{entries[0]['id']}"
    assert [entry["seed"] for entry in entries] == [0, 7] and entries[0]["id"] != entries[1]["id"]
    for entry in entries:
        head = pipe(portrait, seed=entry["seed"], steps=2)
        assert entry["metadata"] == head.metadata and head.face is not None
        assert entry["face"] == head.face.facts() and entry["vertices"] == len(head.positions)
        assert entry["expression"] == pytest.approx(dict(head.expression), abs=6e-5)
        assert entry["timings"]["total"] > 0 and entry["expires"] > time.time() + 3000
        assert client.get(entry["links"]["glb"]).content == head.to_bytes("glb")
        assert client.get(f"/v1/heads/{entry['id']}").json() == entry


def test_json_and_forms_say_the_same(client: TestClient, pair: bytes) -> None:
    options = {"seeds": [1, 2], "face": 1, "crop": [380, 40, 270, 270], "steps": 2, "interval": [0.1, 0.9]}
    tree = {"image": base64.b64encode(pair).decode(), **options}
    told = client.post("/v1/heads", json=tree)
    form = {"seeds": "1,2", "face": "1", "crop": "380,40,270,270", "steps": "2", "interval": "0.1,0.9"}
    also = post(client, pair, **form)
    repeated = post(client, pair, **form | {"seeds": ["1", "2"], "crop": "[380, 40, 270, 270]"})
    assert told.status_code == also.status_code == repeated.status_code == 201, (told.text, also.text)
    files = [
        [client.get(entry["links"]["glb"]).content for entry in answer.json()["heads"]]
        for answer in (told, also, repeated)
    ]
    assert files[0] == files[1] == files[2]


def test_faces_are_chosen_by_number_from_0(client: TestClient, pipe: HeadPipeline, pair: bytes) -> None:
    entries = [post(client, pair, face=face, steps=2).json()["heads"][0] for face in ("largest", "0", "1")]
    found = [face.facts() for face in pipe.find_faces(pair)]
    assert [entry["face"] for entry in entries] == [found[0], found[0], found[1]]
    both = post(client, pair, face="all", steps=2).json()["heads"]
    assert [entry["face"] for entry in both] == found


def heads_files(client: TestClient, portrait: bytes) -> dict[str, str]:
    links: dict[str, str] = post(client, portrait, steps=2).json()["heads"][0]["links"]
    return links


def test_every_kind_of_file(client: TestClient, pipe: HeadPipeline, portrait: bytes) -> None:
    head, links = pipe(portrait, steps=2), heads_files(client, portrait)
    assert set(links) == set(KINDS) - {"textures"}  # the small model has none
    for kind, link in links.items():
        answer = client.get(link)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].partition(";")[0] == KINDS[kind].media_type
        assert answer.headers["content-disposition"] == f'attachment; filename="head.{KINDS[kind].suffix}"'
        if kind in ("glb", "gltf", "ply", "head"):
            assert answer.content == head.to_bytes(kind)
        elif kind == "png":
            assert Image.open(io.BytesIO(answer.content)).height == 320
        else:
            archive = zipfile.ZipFile(io.BytesIO(answer.content))
            assert f"head.{kind}" in archive.namelist() and archive.testzip() is None
            assert archive.read(f"head.{kind}") == head.to_bytes(kind)


def test_options_of_files(client: TestClient, pipe: HeadPipeline, portrait: bytes) -> None:
    head, link = pipe(portrait, steps=2), heads_files(client, portrait)["ply"]
    glb = link.replace(".ply", ".glb")
    posed = head.posed({"jawOpen": 0.5})
    assert client.get(link, params={"expression": "jawOpen:0.5"}).content == posed.to_bytes("ply")
    shown = head.posed(head.expression)
    assert client.get(link, params={"expression": "photograph"}).content == shown.to_bytes("ply")
    assert client.get(link, params={"units": "cm", "up": "z"}).content == head.to_bytes(
        "ply", units="cm", up="z"
    )
    assert client.get(glb, params={"morphs": "none"}).content == head.to_bytes("glb", morphs="none")
    assert client.get(glb, params={"rig": "false"}).content == head.to_bytes("glb", rig=False)
    assert client.get(glb, params={"lod": "1"}).status_code == 400  # the small model has no levels


def test_a_head_that_is_deleted_is_gone(client: TestClient, portrait: bytes) -> None:
    link = heads_files(client, portrait)["glb"]
    own = link.removesuffix(".glb")
    assert client.delete(own).status_code == 204
    assert (
        client.get(own).status_code == client.get(link).status_code == client.delete(own).status_code == 410
    )


def test_a_scan_gets_the_topology(client: TestClient, pipe: HeadPipeline) -> None:
    points = np.float32(_ball())
    file = io.BytesIO()
    np.savez(file, points=points, normals=points)
    answer = client.post(
        "/v1/retopologize", files={"scan": ("../../etc/scan.NPZ", file.getvalue())}, data={"passes": 1}
    )
    assert answer.status_code == 201, answer.text
    (entry,) = answer.json()["heads"]
    assert entry["warnings"] == []
    assert entry["metadata"]["passes"] == 1 != DEFAULT_PASSES and entry["face"] is None
    data = client.get(entry["links"]["glb"]).content
    glb = client.post(
        "/v1/retopologize", files={"scan": file.getvalue()}, data={"passes": 1, "format": "npz"}, headers=GLB
    )
    assert glb.content == data


def test_what_is_strange_about_a_scan_is_told(client: TestClient) -> None:
    points, file = np.float32(100 * _ball()), io.BytesIO()
    np.savez(file, points=points, normals=points)
    form = {"passes": 1, "format": "npz"}
    (entry,) = client.post("/v1/retopologize", files={"scan": file.getvalue()}, data=form).json()["heads"]
    assert len(entry["warnings"]) == 1 and entry["warnings"][0].startswith("20 m across in units of m")


def _ball() -> np.ndarray:
    points = np.random.default_rng(0).normal(size=(500, 3))
    return 0.1 * points / np.linalg.norm(points, axis=1, keepdims=True)


def test_health_and_metrics(client: TestClient, portrait: bytes) -> None:
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/readyz").json() == {"status": "ready", "waiting": 0, "running": 0}
    heads_files(client, portrait)
    client.get("/nope")
    told = client.get("/metrics").text
    for line in (
        'topos_rt_requests_total{method="POST",route="/v1/heads",status="201"} 1.0',
        'topos_rt_requests_total{method="GET",route="(none)",status="404"} 1.0',
        'topos_rt_heads_total{kind="portrait"} 1.0',
        'topos_rt_stage_seconds_count{stage="total"} 1.0',
        'topos_rt_problems_total{kind="not-found"} 1.0',
        "topos_rt_kept_heads 1.0",
        "topos_rt_ready 1.0",
        "topos_rt_upload_bytes 0.0",
    ):
        assert line in told.splitlines(), line
    assert float(told.partition("\ntopos_rt_kept_bytes ")[2].split()[0]) > 0


def test_the_first_page_lists_routes(client: TestClient) -> None:
    assert "/v1/heads" in client.get("/").json()["routes"]


def test_a_model_is_loaded_when_the_service_starts(
    tiny_bundle: Any, monkeypatch: pytest.MonkeyPatch, portrait: bytes
) -> None:
    from topos_rt.server import Settings, create_app

    app = create_app(Settings(model=str(tiny_bundle), threads=1))
    with TestClient(app, base_url=BASE) as client:
        first = client.get("/readyz")
        assert first.status_code in (200, 503)
        if first.status_code == 503:
            assert first.json()["type"] == "urn:topos-rt:not-ready" and first.headers["retry-after"] == "1"
        while client.get("/readyz").status_code == 503:
            time.sleep(0.05)
        assert post(client, portrait, steps=1).status_code == 201


def test_a_model_that_cannot_be_loaded(tmp_path: Any) -> None:
    from topos_rt.server import Settings, create_app

    app = create_app(Settings(model=str(tmp_path / "none")))
    with TestClient(app, base_url=BASE) as client:
        while client.get("/readyz").status_code == 503:
            time.sleep(0.05)
        problem = client.get("/readyz").json()
        assert problem["status"] == 500 and str(tmp_path) not in json.dumps(problem)


def test_kept_heads_are_those_that_were_made(
    opens: Opens, pipe: HeadPipeline, portrait: bytes, tmp_path: Any
) -> None:
    """In a directory, and after a restart too."""
    link = heads_files(opens(results=tmp_path / "kept"), portrait)["glb"]
    again = opens(results=tmp_path / "kept")
    assert again.get(link).content == pipe(portrait, steps=2).to_bytes("glb")
    (tmp_path / "x.head").write_bytes(again.get(link.replace(".glb", ".head")).content)
    read = HeadMesh.load(tmp_path / "x.head")
    assert np.array_equal(read.positions, pipe(portrait, steps=2).positions)
