"""Whatever is wrong with a request is one problem, and nothing of it is opened, fetched or kept."""

from __future__ import annotations

import base64
import io
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import needs

needs.module("fastapi")

from starlette.testclient import TestClient

from tests.server.conftest import Opens, png
from topos_rt.server import making
from topos_rt.server.problems import MEDIA_TYPE, PROBLEMS

KEYS = {"type", "title", "status", "detail", "got", "expected", "fix"}


def refused(answer: Any, status: int, slug: str, told: str = "") -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert (
        answer.headers["content-type"] == MEDIA_TYPE and answer.headers["x-content-type-options"] == "nosniff"
    )
    problem: dict[str, Any] = answer.json()
    assert set(problem) == KEYS and problem["type"] == f"urn:topos-rt:{slug}" and problem["status"] == status
    assert problem["title"] == PROBLEMS[slug][1]
    assert told in problem["detail"], problem["detail"]
    return problem


FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown option": ({"colour": "red"}, "unknown option 'colour'"),
    "an unknown preset": ({"preset": "slow"}, "got 'slow'; expected 'reference', 'balanced' or 'fast'"),
    "a negative seed": ({"seeds": "-1"}, "seeds.0"),
    "seeds that are none": ({"seeds": "1,x"}, "seeds.1"),
    "no seed": ({"seeds": "[]"}, "seeds"),
    "too many seeds": ({"seeds": ",".join(map(str, range(17)))}, "at most 16"),
    "half of an interval": ({"interval": "0.5"}, "interval"),
    "an interval that falls": ({"interval": "0.9,0.1"}, "guidance interval"),
    "no number": ({"guidance": "nan"}, "guidance"),
    "too many steps": ({"steps": "100000"}, "steps"),
    "a face that is no number": ({"face": "-1"}, "face"),
    "a crop of three numbers": ({"crop": "1,2,3"}, "crop"),
    "a crop beyond the picture": ({"crop": "0,0,5000,5000"}, "crop"),
    "a texture that nobody can paint": ({"texture": "official"}, "texture"),
    "a texture that the model has no place for": ({"texture": "base"}, "texture 'base'"),
    "a landmark pull that the model does not know": ({"landmark_pull": "1"}, "landmark"),
    "several heads in one file": ({"seeds": "0,1", "accept": "model/gltf-binary"}, "several heads"),
}


@pytest.mark.parametrize("case", FORMS)
def test_options(client: TestClient, portrait: bytes, case: str) -> None:
    options, told = FORMS[case]
    headers = {"Accept": options.pop("accept")} if "accept" in options else None
    answer = client.post("/v1/heads", files={"image": portrait}, data=options, headers=headers)
    refused(answer, 400, answer.json()["type"].removeprefix("urn:topos-rt:"), told)


def border(text: str) -> dict[str, Any]:
    return {"content": text.encode(), "headers": {"Content-Type": "multipart/form-data; boundary=x"}}


def typed(kind: str, content: bytes) -> dict[str, Any]:
    return {"content": content, "headers": {"Content-Type": kind}}


PART = '--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
X, MANY = {"image": b"x"}, [f"field{k}" for k in range(80)]
BODIES: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "nothing": ({}, 415, "wrong-type", "no Content-Type"),
    "a form of another kind": ({"data": {"image": "x"}}, 415, "wrong-type", "x-www-form-urlencoded"),
    "no border": (typed("multipart/form-data", b"x"), 400, "bad-request", ""),
    "half a form": (border(PART + "abc"), 400, "bad-request", "ends early"),
    "half a part's head": (border('--x\r\nContent-Dispo'), 400, "bad-request", "ends early"),
    "an empty form": (border("--x--\r\n"), 400, "bad-request", "no such field"),
    "a form of nonsense": (border("nonsense"), 400, "bad-request", "the form"),
    "another field": ({"files": {"picture": b"x"}}, 400, "bad-request", "no such field"),
    "text for a file": ({"files": {"image": (None, "x")}}, 400, "bad-request", "text without a file name"),
    "two files": ({"files": [("image", b"x"), ("image", b"y")]}, 400, "bad-request", "Too many files"),
    "too many fields": ({"files": X, "data": dict.fromkeys(MANY, "")}, 400, "bad-request", "Too many"),
    "a long field": ({"files": X, "data": {"preset": "x" * 9000}}, 400, "bad-request", "maximum"),
    "an empty file": ({"files": {"image": b""}}, 400, "bad-input", "no bytes"),
    "no picture": ({"files": {"image": b"hello"}}, 400, "bad-input", "not a picture"),
    "half a picture": ({"files": {"image": b"\x89PNG\r\n\x1a\n"}}, 400, "bad-input", "cannot use the image"),
    "no JSON": (typed("application/json", b"["), 400, "bad-request", "JSON"),
    "deep JSON": (
        typed("application/json", b"[" * 100_000), 400, "bad-request", "JSON"),
    "a JSON list": ({"json": []}, 400, "bad-request", "no object"),
    "JSON without a picture": ({"json": {"preset": "fast"}}, 400, "bad-request", "the key image"),
    "a number for a picture": ({"json": {"image": 5}}, 400, "bad-request", "no base64"),
    "an address": ({"json": {"image": "http://127.0.0.1/a.png"}}, 400, "bad-request", "an address"),
    "a path": ({"json": {"image": "/etc/passwd"}}, 400, "bad-request", "no base64"),
    "a path that is base64": ({"json": {"image": "etc/"}}, 400, "bad-input", "not a picture"),
}  # fmt: skip


@pytest.mark.parametrize("case", BODIES)
@pytest.mark.parametrize("route", ["/v1/heads", "/v1/faces"])
def test_bodies(client: TestClient, case: str, route: str) -> None:
    request, status, slug, told = BODIES[case]
    refused(client.post(route, **request), status, slug, told)


def test_nobody_in_the_picture(client: TestClient, nobody: bytes) -> None:
    problem = refused(client.post("/v1/heads", files={"image": nobody}), 422, "no-face", "no face was found")
    assert problem["fix"] and problem["expected"] == "a portrait of a person"


def test_a_face_that_is_not_there(client: TestClient, portrait: bytes) -> None:
    answer = client.post("/v1/heads", files={"image": portrait}, data={"face": "1"})
    refused(answer, 422, "no-face", "face 1: got a picture with 1 face; expected 0, counted")


def bomb(side: int) -> bytes:
    """A PNG of a few kilobytes that stands for side x side pixels, of one bit each."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    packed = zlib.compress(bytes(100_000), 9)  # the rest is missing, which nobody gets to see
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9000, 50_000, 2**31 - 1])
@pytest.mark.parametrize("route", ["/v1/heads", "/v1/faces"])
def test_a_small_file_with_a_huge_picture_never_gets_a_worker(
    client: TestClient, side: int, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("heads_of", "faces_of"):
        monkeypatch.setattr(making, name, lambda *_: pytest.fail("it was given to a worker"))
    refused(client.post(route, files={"image": bomb(side)}), 400, "bad-input", "cannot use the image")


def test_a_scan_that_unpacks_to_more_than_allowed(client: TestClient) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, points=np.zeros((60_000_000, 3), np.float32)[:1])
    data = file.getvalue()
    refused(client.post("/v1/retopologize", files={"scan": ("a.npz", data)}), 400, "bad-input", "points")


SCANS: dict[str, tuple[str, bytes, str]] = {
    "no suffix": ("scan", b"x", "the scan's format"),
    "another suffix": ("scan.jpg", b"x", "got 'jpg'"),
    "a file that names others": ("scan.gltf", b'{"buffers": [{"uri": "/etc/passwd"}]}', "got 'gltf'"),
    "a damaged file": ("scan.ply", b"x", "no PLY header"),
    "an archive that is none": ("scan.npz", b"x", "cannot use the scan"),
    "a suffix with a path": ("scan./../x", b"x", "the scan's format"),
}


@pytest.mark.parametrize("case", SCANS)
def test_scans(client: TestClient, case: str) -> None:
    name, data, told = SCANS[case]
    answer = client.post("/v1/retopologize", files={"scan": (name, data)})
    problem = refused(answer, 400, "bad-input", told)
    assert tempfile.gettempdir() not in str(problem)  # where it lay is nobody's business


NAMES = [
    "../../../../etc/passwd", "..\\..\\x.png", "/etc/shadow", "a\x00.png", "%2e%2e%2f", "x" * 500, "con.png",
    "", "http://127.0.0.1/x.png", "émile.png",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files_are_not_looked_at(
    client: TestClient, portrait: bytes, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    quoted = name.replace("\x00", "%00").replace("\\", "\\\\")
    body = (
        f'--x\r\nContent-Disposition: form-data; name="image"; filename="{quoted}"\r\n\r\n'.encode()
        + portrait
        + b"\r\n--x--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post("/v1/faces", content=body, headers=headers)
    assert answer.status_code == 200 and len(answer.json()["faces"]) == 1
    assert not name or name not in caplog.text


PLACES = [
    "../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd.glb", "....//etc/passwd",
    "0" * 31, "0" * 33, "G" * 32, "A" * 32, "0" * 32 + "%00", "0" * 32 + "/../x", "%ff",
]  # fmt: skip


@pytest.mark.parametrize("folder", [False, True])
def test_names_of_heads_are_no_paths(opens: Opens, tmp_path: Path, folder: bool) -> None:
    client = opens(results=tmp_path / "kept") if folder else opens()
    (tmp_path / "x").write_text("{}")
    for place in PLACES:
        for end in ("", ".glb", ".json", ".head"):
            for method in ("GET", "DELETE"):
                answer = client.request(method, f"/v1/heads/{place}{end}")
                assert answer.status_code in (404, 405), answer.text
                assert answer.headers["content-type"] == MEDIA_TYPE
    assert (tmp_path / "x").read_text() == "{}"


def test_what_is_no_id_of_a_head(client: TestClient) -> None:
    refused(client.get(f"/v1/heads/{'0' * 32}.glb"), 404, "not-found", "an id that is not known")
    refused(client.get(f"/v1/heads/{'0' * 32}.glb?lod=x"), 400, "bad-request", "'lod'")
    refused(client.get(f"/v1/heads/{'0' * 32}.glb?colour=x"), 400, "bad-request", "unknown option 'colour'")


def test_kinds_and_options_of_files(client: TestClient, portrait: bytes) -> None:
    answer = client.post("/v1/heads", files={"image": portrait}, data={"steps": 1})
    own = answer.headers["location"]
    refused(client.get(f"{own}.exe"), 404, "not-found", "one of: glb")
    refused(client.get(f"{own}.glb?units=inch"), 400, "bad-request", "units")
    refused(client.get(f"{own}.glb?units=cm"), 400, "bad-input", "units")
    refused(client.get(f"{own}.ply?expression=jawOpen"), 400, "bad-input", "NAME:WEIGHT")
    refused(client.get(f"{own}.ply?expression=jaw:1"), 400, "bad-input", "jaw")
    refused(client.get(f"{own}.ply?expression=jawOpen:nan"), 400, "bad-input", "")
    refused(client.get(f"{own}.glb?morphs=smirk"), 400, "bad-input", "smirk")
    refused(client.get(f"{own}.glb?lod=3"), 400, "bad-input", "level of detail")
    refused(client.get(f"{own}.textures"), 400, "bad-input", "without texture")


def test_addresses_methods_and_types(client: TestClient) -> None:
    refused(client.get("/nope"), 404, "not-found")
    refused(client.get("/v1/models/other/topology"), 404, "not-found", "expected tiny")
    refused(client.get("/docs"), 404, "not-found")
    answer = client.put("/v1/heads")
    refused(answer, 405, "wrong-method")
    assert answer.headers["allow"] == "POST"
    refused(client.post("/v1/heads", headers={"Accept": "text/html"}), 406, "not-acceptable", "text/html")
    refused(
        client.post("/v1/heads", headers={"Accept": "model/gltf-binary;q=0, image/*"}), 406, "not-acceptable"
    )


def test_a_failure_tells_nothing_of_the_inside(
    client: TestClient, portrait: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the secret of the inside")

    monkeypatch.setattr(making, "heads_of", fail)
    answer = client.post("/v1/heads", files={"image": portrait})
    refused(answer, 500, "failure", "an unexpected failure")
    assert "secret" not in answer.text
    monkeypatch.setattr(making, "heads_of", lambda *_: (_ for _ in ()).throw(MemoryError()))
    refused(client.post("/v1/heads", files={"image": portrait}), 503, "no-memory", "not enough memory")


def test_a_picture_with_transparency_and_one_in_grey(client: TestClient, portrait: bytes) -> None:
    """They are no bad input: whatever the package reads is taken."""
    picture = Image.open(io.BytesIO(portrait))
    for mode in ("RGBA", "L"):
        data = base64.b64encode(png(picture.convert(mode))).decode()
        assert client.post("/v1/heads", json={"image": data, "steps": 1}).status_code == 201
