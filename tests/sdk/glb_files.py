"""GLB files, compared where libraries compress pictures otherwise."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from PIL import Image


def contents(glb: bytes) -> tuple[Any, bytes]:
    size = int.from_bytes(glb[12:16], "little")
    return json.loads(glb[20 : 20 + size]), glb[28 + size :]


def same_file(made: bytes, wanted: bytes) -> None:
    """Compare two files, pictures by their pixels where the bytes differ, as compressors do."""
    (tree, data), (own, own_data) = contents(made), contents(wanted)
    pictures = {image["bufferView"] for image in own["images"]}
    views, own_views = tree.pop("bufferViews"), own.pop("bufferViews")
    tree.pop("buffers"), own.pop("buffers")
    mime = [image["mimeType"] for image in own["images"]]
    if [image["mimeType"] for image in tree["images"]] != mime:  # built without libjpeg-turbo
        for document in (tree, own):
            for image in document["images"]:
                image.pop("mimeType")
    assert tree == own and len(views) == len(own_views)
    for number, (view, own_view) in enumerate(zip(views, own_views, strict=True)):
        part, own_part = (
            bytes_[each["byteOffset"] :][: each["byteLength"]]
            for bytes_, each in ((data, view), (own_data, own_view))
        )
        if part == own_part:
            continue
        assert number in pictures, number
        a, b = (np.asarray(Image.open(io.BytesIO(file))).astype(int) for file in (part, own_part))
        lossy = own_part[:3] == b"\xff\xd8\xff"
        assert a.shape == b.shape and np.abs(a - b).max() <= (40 if lossy else 0)  # JPEG against PNG
        assert np.abs(a - b).mean() < 2
