"""Pictures from memory, open files and addresses, and one clear error for what cannot be a picture."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sample_pictures import RGB, SIZE, encode, pixels, smooth
from topos_rt import HeadPipeline, find_faces
from topos_rt.errors import ImageError
from topos_rt.jobs import jobs
from topos_rt.pictures import sources
from topos_rt.pictures.image import check_image, load_image
from topos_rt.pictures.sources import describe

PNG = encode(RGB, "PNG")
REFERENCE = pixels(smooth())


def test_files_and_bytes_of_every_kind_agree(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    later = io.BytesIO(b"a header" + PNG)
    later.seek(8)
    with (tmp_path / "a.png").open("rb") as buffered, (tmp_path / "a.png").open("rb", buffering=0) as raw:
        spread = memoryview(np.frombuffer(PNG, np.uint8).repeat(2).tobytes())[::2]  # not contiguous
        for source in (io.BytesIO(PNG), later, buffered, raw, spread, memoryview(PNG).cast("b")):
            np.testing.assert_array_equal(pixels(source), REFERENCE)
            assert not getattr(source, "closed", False)


def test_a_buffer_of_the_caller_stays_free_to_change() -> None:
    data = bytearray(PNG)
    with sources.open_source(data, "x"):
        data.clear()  # with a view of it held, Python would refuse


def test_a_file_that_was_read_to_its_end_says_how_to_read_it_again() -> None:
    file = io.BytesIO(PNG)
    pixels(file)
    with pytest.raises(
        ImageError, match=r"image \(BytesIO\): got no bytes; .*; fix: rewind it with seek\(0\)"
    ):
        pixels(file)
    file.seek(0)
    np.testing.assert_array_equal(pixels(file), REFERENCE)


def test_a_file_may_not_be_larger_than_the_largest_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sources.MAX_BYTES > 8 * sources.MAX_PIXELS  # 16-bit RGBA
    monkeypatch.setattr(sources, "MAX_BYTES", 100)
    with pytest.raises(ImageError, match="got more than 100 bytes; expected a smaller file"):
        pixels(io.BytesIO(PNG))


def released() -> memoryview:
    view = memoryview(PNG)
    view.release()
    return view


BAD: dict[str, tuple[Any, str]] = {
    "text": (io.StringIO("x"), r"\(StringIO\): got a file opened as text; .*; fix: open it with mode 'rb'"),
    "released": (released(), "got operation forbidden on released memoryview"),
    "no file": (object(), "got an object of type object; expected a path, bytes, a binary file"),
    "base64": ("iVBORw0KGgo" * 1000, r"got File name too long; .*; fix: pass the picture itself as bytes"),
    "no picture": (io.BytesIO(b"hello"), r"\(BytesIO\): got a file that is not a picture"),
    "empty": (io.BytesIO(), "got no bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_sources(case: str) -> None:
    source, message = BAD[case]
    with pytest.raises(ImageError, match=message) as caught:
        load_image(source, SIZE, SIZE)
    assert len(str(caught.value)) < 1500 and "\n" not in str(caught.value)


REASON = "got a URL; expected a file on this machine, since nothing is fetched .*, for privacy and security"
URLS = {
    "https://me:secret@example.org:8080/?secret": (r"https://example\.org:8080/…", "download it first"),
    "HTTP://example.org?secret": (r"HTTP://example\.org/…", "download it first"),
    "  s3://bucket/secret.png": (r"s3://bucket/…", "download it first"),
    "gs://bucket/secret": (r"gs://bucket/…", "download it first"),
    "file:///home/secret.png": (r"file:///…", "pass the path, without file://"),
    "data:image/png;base64,secret" + "A" * 100_000: (r"data:…", r"base64\.b64decode"),
    "blob:https://example.org/secret": (r"blob:…", "pass the bytes"),
}  # fmt: skip


@pytest.mark.parametrize("url", URLS, ids=lambda url: url[:12])
def test_a_url_is_refused_with_the_reason_and_without_its_secrets(url: str) -> None:
    shown, fix = URLS[url]
    with pytest.raises(ImageError, match=f"cannot use the image {shown}: {REASON}; fix: .*{fix}") as caught:
        load_image(url, SIZE, SIZE)
    assert "secret" not in str(caught.value)
    if url.startswith("https:"):
        with pytest.raises(ImageError, match=r"https://example\.org:8080/…: got a URL"):
            load_image(Path(url), SIZE, SIZE)  # a Path has one slash of two
        with pytest.raises(ImageError, match="got a URL"):
            find_faces(url)


def test_a_url_among_pictures_is_found_before_the_first_head(tiny_pipe: HeadPipeline) -> None:
    with pytest.raises(ImageError, match="got a URL"):
        tiny_pipe.each([smooth(64, 64), "https://example.org/a.jpg"])
    with pytest.raises(ImageError, match="got a URL"):
        jobs("https://example.org/a.jpg", 0)


def test_a_file_that_looks_like_a_url_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "https:").mkdir()
    (tmp_path / "https:" / "a.png").write_bytes(PNG)
    np.testing.assert_array_equal(pixels("https:/a.png"), REFERENCE)
    with pytest.raises(ImageError, match=r"image c:/a\.png: got no such file"):
        pixels("c:/a.png")


def test_names_for_messages(tmp_path: Path) -> None:
    class Bytes:
        def __fspath__(self) -> bytes:
            return b"a.png"

    (tmp_path / "a.png").write_bytes(PNG)
    with (tmp_path / "a.png").open("rb") as file:
        assert describe(file) == str(tmp_path / "a.png")
    assert describe(io.BytesIO()) == "(BytesIO)" and describe(Bytes()) == "a.png"
    assert len(describe("x" * 100_000)) <= 1000


def test_the_header_of_bytes_is_enough_to_go_on() -> None:
    check_image(PNG[:-30])
    with pytest.raises(ImageError, match="not a picture"):
        check_image(b"hello")


def test_a_pipe_is_read_only_where_it_was_opened() -> None:
    read, write = os.pipe()
    os.write(write, PNG[: 1 << 15])
    os.close(write)
    with os.fdopen(read, "rb") as file:
        np.testing.assert_array_equal(pixels(file), REFERENCE)


def test_a_head_of_a_file_is_that_of_its_bytes(tiny_pipe: HeadPipeline) -> None:
    heads = tiny_pipe([PNG, io.BytesIO(PNG)], steps=1)
    assert heads[0].to_bytes("glb") == heads[1].to_bytes("glb")
    assert len(tiny_pipe(io.BytesIO(PNG), seed=[0, 1], steps=1)) == 2  # it is read once for all seeds
