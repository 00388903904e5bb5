"""The targets of fuzzing: every reader of files that somebody else wrote, each with small sound files.

A target is given bytes and either succeeds or raises a ToposError; anything else is a finding.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import importlib.util
import io
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests import meshes
from tests.sample_pictures import encode, smooth
from topos_rt.errors import InputError, ToposError
from topos_rt.formats import EXPORTERS, ExportOptions

CORPUS = Path(__file__).parent / "corpus"
_CONCAVE = b"v 0 0 0\nv 2 0 0\nv 2 2 0\nv 1 0.5 0.1\nv 0 2 0\nvt 0 0\nf 1/1 2/1 3/1 4/1 5/1\nf -5 -4 \\\n-2\n"
Seeds = Callable[[], list[bytes]]


@dataclass(frozen=True)
class Target:
    """A reader to fuzz."""

    read: Callable[[Path], object]  # reads a file, and raises nothing but ToposError
    suffix: str
    seeds: Seeds


def _manifest(path: Path) -> None:
    from topos_rt.model.manifest import Manifest

    Manifest.from_json(path.read_bytes()).to_json()


def _batch_journal(path: Path) -> None:
    from topos_rt.server.batch_journal import JOURNAL, Journal
    from topos_rt.server.batch_results import parquet_of

    folder = path.with_suffix(".out")
    folder.mkdir()
    shutil.copy(path, folder / JOURNAL)
    with Journal(folder, {}) as journal:
        parquet_of(journal.rows())
        damaged = journal.damaged
    with Journal(folder, {}) as again:  # what was cut off is gone for good
        assert again.damaged == damaged
    if damaged:
        raise InputError(f"{damaged} lines")


def _journals() -> list[bytes]:
    from topos_rt.server.batch_journal import Journal

    row = {"input": "/a", "seed": 0, "exit_code": 0, "files": ["a_seed0.glb"], "timings": {"face": 0.25}}
    row |= {"warnings": [], "box": [1.0, 2.0, 3.0, 4.0], "finished": "2026-01-02T03:04:05Z", "error": None}
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder), {}) as journal:
        journal.add("/a", "a", "1-2", (0, 1), [row, row | {"seed": 1}])
        journal.add("/b", "b", "", (0,), [{"input": "/b", "seed": None, "exit_code": 2}])
        journal.flush()
        return [journal.path.read_bytes()]


@cache
def _reader() -> Any:
    from topos_rt.server.batch_reader import Reader

    return Reader()


def _table(path: Path) -> None:
    from topos_rt.server.batch_table import Table

    for picture in Table.open(str(path), "image", "t", _reader()):
        if picture.fault is not None:
            raise picture.fault


def _tables() -> list[bytes]:
    import pyarrow
    import pyarrow.parquet

    made = []
    for cells in (["a.png", "b.png"], [b"x" * 50, b"yy"] * 5, [{"bytes": b"abc", "path": "x"}]):
        file = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table({"image": cells}), file, row_group_size=4)
        made.append(file.getvalue())
    return made


def _texture_manifest(path: Path) -> None:
    from topos_rt.texture.official.manifest import TextureManifest

    TextureManifest.from_json(path.read_bytes()).to_json()


def _instructions(path: Path) -> None:
    from export.texture.prompts import read_instructions

    read_instructions(path)


def _stored_prompts(path: Path) -> None:
    from export.texture.embeddings_file import read_embeddings

    read_embeddings(path, 4)


def _tensors(kind: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        from topos_rt.head.hierarchy import Hierarchy
        from topos_rt.head.rig import Rig
        from topos_rt.head.topology import Topology

        found = {"rig": Rig, "topology": Topology, "hierarchy": Hierarchy}[kind].load(path)
        return repr(found) and (found.triangles if isinstance(found, Topology) else None)

    return read


def _variation(path: Path) -> None:
    from topos_rt.flow.variation import Variation

    assert Variation.load(path, 18).directions.shape[1] == 18


def _atlas(path: Path) -> None:
    from topos_rt.head.atlas import Atlas

    assert Atlas.load(path).base.dtype == np.uint8  # the picture is read at first use


def _parts(path: Path) -> None:
    from topos_rt.head.part_kit import PartKit

    assert PartKit.load(path).pixels.dtype == np.uint8  # the picture is read at first use


def _pack(path: Path) -> None:
    from topos_rt.pack.container import Pack

    pack = Pack.open(path)
    for (name, index), section in pack.sections.items():
        read = {"text": pack.strings, "bytes": pack.file}.get(section.kind.type, pack.array)
        read(name, index)


def _bundle(path: Path) -> None:
    """Open a sound bundle in which one file is replaced, with a manifest that vouches for it."""
    import hashlib

    from topos_rt.model.bundle import Bundle

    bundle = _copy(path.parent)
    data = path.read_bytes()
    names = sorted(p.name for p in bundle.iterdir() if p.suffix in (".onnx", ".safetensors"))
    name = names[data[0] % len(names)] if data else names[0]
    whole = (bundle / name).read_bytes()
    (bundle / name).write_bytes(data[1:])
    tree = json.loads((bundle / "manifest.json").read_bytes())
    before = json.dumps(tree)
    tree["files"][name] = {
        "bytes": len(data) - 1 if data else 0,
        "sha256": hashlib.sha256(data[1:]).hexdigest(),
    }
    (bundle / "manifest.json").write_text(json.dumps(tree))
    try:
        found = Bundle.open(bundle)
        _ = found.hierarchy
    finally:
        (bundle / name).write_bytes(whole)
        (bundle / "manifest.json").write_text(before)


def _copy(directory: Path) -> Path:
    from tests.tiny_bundle import write_tiny_bundle

    bundle = directory / "bundle"
    if not bundle.exists():
        bundle.mkdir()
        write_tiny_bundle(bundle, ("pose", "features"), varied=True)
    return bundle


def _locations(path: Path) -> None:
    from topos_rt.engines.locations import locations

    with contextlib.suppress(ValueError):
        locations(path.read_bytes())


def _arrays(path: Path) -> None:
    from topos_rt.support.npyfile import read_arrays

    with contextlib.suppress(ValueError):
        read_arrays(path)


def _checkpoint(path: Path) -> None:
    from export.state_files import as_float32, as_state, read_file

    as_float32(as_state(read_file(path, "--dit x", "again"), "--dit x"), "--dit x", "again")


def _config(path: Path) -> None:
    from export.release.config import ReleaseConfig

    _ = ReleaseConfig.load(path).dit


def _measurement(path: Path) -> None:
    from tests.bench.results import made
    from topos_rt.bench import table
    from topos_rt.bench.compare import compare_results
    from topos_rt.bench.result import load

    for line in table.comparison(compare_results(made(), load(path), 0.05)):
        assert len(line) < 700, "a line without end"


def _sidecar(path: Path) -> None:
    from topos_rt.engines.cache import Sidecar

    path.chmod(0o600)
    with contextlib.suppress(ValueError):
        Sidecar.load(path)


def _mesh(path: Path) -> None:
    from topos_rt.scan.read import read_scan

    read_scan(path, count=64)


def _whole_head(path: Path) -> None:
    from topos_rt.head.mesh import HeadMesh

    HeadMesh.load(path)


def _character(path: Path) -> None:
    from export.rig.gltf import read_character

    read_character(path)


def _image(path: Path) -> None:
    from topos_rt.pictures.image import check_image, load_image

    check_image(path)
    load_image(path, 32, 32)


def _landmark_response(path: Path) -> None:
    from topos_rt.model.landmark_response import LandmarkResponse

    assert LandmarkResponse.load(path, 18).directions.shape[1] == 18


def _responses() -> list[bytes]:
    """Return a landmark response of two directions."""
    import tempfile

    from topos_rt.head.landmark_map import COUNT
    from topos_rt.model.landmark_errors import LandmarkErrors
    from topos_rt.model.landmark_response import LandmarkResponse

    errors = LandmarkErrors(np.float32([90]), np.zeros((1, 1, COUNT, 2)), np.full((1, COUNT, 2), 0.01))
    made = LandmarkResponse(np.eye(2, 18), np.ones(2), np.zeros((2, COUNT, 3)), errors)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "response.safetensors"
        made.save(path)
        return [path.read_bytes()]


@cache
def _files() -> dict[str, bytes]:
    """Return the files of the tiny bundle by name."""
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        bundle = _copy(Path(directory))
        return {p.name: p.read_bytes() for p in bundle.iterdir()}


def _atlases() -> list[bytes]:
    """Return an atlas of four UVs with a base material of one colour."""
    import tempfile

    from PIL import Image

    from topos_rt.head.atlas import MASK_SIDE, MASKS, Atlas
    from topos_rt.head.landmark_map import COUNT

    picture = io.BytesIO()
    Image.new("RGB", (MASK_SIDE, MASK_SIDE)).save(picture, "PNG")
    uvs, rows = np.zeros((4, 2), np.float32), np.arange(3, dtype=np.int32)
    masks = np.zeros((len(MASKS), MASK_SIDE, MASK_SIDE), np.uint8)
    albedo = np.frombuffer(picture.getvalue(), np.uint8)
    warp, landmarks = np.zeros((3, 3), np.float16), np.zeros((COUNT, 2), np.float32)
    made = Atlas(uvs, np.zeros(4, np.uint8), landmarks, 1.0, masks, albedo, warp, rows, rows)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "atlas.safetensors"
        made.save(path)
        return [path.read_bytes()]


def _textured() -> bytes:
    """Return a .head file of a head with a small texture."""
    from topos_rt.head.texture import Texture

    colours = np.zeros((4, 4, 3), np.uint8)
    texture = Texture(colours, colours, colours, colours[..., 0], {"kind": "base"}, "png")
    return EXPORTERS["head"](dataclasses.replace(meshes.cube(), texture=texture), ExportOptions())


def _kits() -> list[bytes]:
    """Return a kit of parts with a small picture."""
    import tempfile

    from tests.part_heads import small_kit

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "parts.safetensors"
        small_kit().save(path)
        return [path.read_bytes()]


def _with_parts() -> bytes:
    """Return a .head file of a posed head with parts."""
    from tests.part_heads import small_kit
    from topos_rt.head.parts import Parts

    kit, cube = small_kit(), meshes.cube()
    placed = Parts(kit, kit.placed(cube.positions) + np.float32(0.1))
    return EXPORTERS["head"](dataclasses.replace(cube, parts=placed), ExportOptions())


def _head(name: str, rigged: bool = False) -> bytes:
    mesh = meshes.cube(rig=rigged)
    return EXPORTERS[name](mesh, ExportOptions())


def _glbs() -> list[bytes]:
    from tests.formats.glb_ways import WAYS

    own = [
        _head("glb"),
        _head("glb", True),
        EXPORTERS["glb"](meshes.cube(rig=True), ExportOptions(quantize=True)),
    ]
    return [*own, *(make().bytes() for make in WAYS.values()), *_compressed()]


def _gltfs() -> list[bytes]:
    """Return .gltf files with their data in themselves; mutations make other URIs of these."""
    from tests.formats.glb_ways import WAYS

    found = []
    for make in WAYS.values():
        glb = make()
        buffers = glb.document.setdefault("buffers", [{"byteLength": len(glb.data)}])
        buffers[0].setdefault("uri", "data:;base64," + base64.b64encode(bytes(glb.data)).decode())
        found.append(json.dumps(glb.document).encode())
    return found


def _compressed() -> list[bytes]:
    """Return a GLB of each compression that a package here makes."""
    from tests.formats.test_glb_compression import draco_bytes, meshopt_bytes

    packages = {"DracoPy": draco_bytes, "meshoptimizer": meshopt_bytes}
    return [make().bytes() for name, make in packages.items() if importlib.util.find_spec(name)]


def _mixed() -> list[bytes]:
    """Return PLY files of triangles and quads together, of strips, and with strange comments."""
    head = "ply\nformat {} 1.0\ncomment caf\xe9 end_header\nelement vertex 6\n"
    head += "".join(f"property float {axis}\n" for axis in ("x", "y", "z", "nx", "ny", "nz"))
    faces = "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
    strips = "element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
    table = np.random.default_rng(1).standard_normal((6, 6)).astype("<f4")
    corners = (
        b"\x03" + np.array([0, 1, 2], "<i4").tobytes() + b"\x04" + np.array([2, 3, 4, 5], "<i4").tobytes()
    )
    strip = np.array([8, 0, 1, 2, -1, 2, 3, 4, 5], "<i4").tobytes()
    rows = "\n".join(" ".join(map(str, row)) for row in table.tolist()) + "\n3 0 1 2\n\n4 2 3 4 5\n"
    binary = "binary_little_endian"
    return [
        (head.format(binary) + faces).encode("latin-1") + table.tobytes() + corners + b"\n",
        (head.format(binary) + strips).encode("latin-1") + table.tobytes() + strip,
        (head.format("ascii") + faces + rows).encode("latin-1"),
    ]


def _npz() -> bytes:
    buffer = io.BytesIO()
    draw = np.random.default_rng(0).standard_normal((20, 3))
    np.savez(buffer, points=draw, normals=draw)
    return buffer.getvalue()


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(12, dtype=np.float32).reshape(4, 3))
    return buffer.getvalue()


def _pth(legacy: bool) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(
        {"a.weight": torch.zeros(2, 3), "b": torch.ones(4)}, buffer, _use_new_zipfile_serialization=not legacy
    )
    return buffer.getvalue()


def _ply(binary: bool) -> bytes:
    head = f"ply\nformat {'binary_little_endian' if binary else 'ascii'} 1.0\nelement vertex 20\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz") + "end_header\n"
    points = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    body = (
        points.tobytes() if binary else "\n".join(" ".join(map(str, row)) for row in points.tolist()).encode()
    )
    return head.encode() + body


def _stl(binary: bool) -> bytes:
    corners = meshes.cube().positions[meshes.cube().triangles]
    if not binary:
        facets = "".join(
            "facet normal 0 0 1\nouter loop\n"
            + "".join(f"vertex {x} {y} {z}\n" for x, y, z in c)
            + "endloop\nendfacet\n"
            for c in corners.tolist()
        )
        return f"solid a\n{facets}endsolid a\n".encode()
    rows = b"".join(bytes(12) + c.astype("<f4").tobytes() + bytes(2) for c in corners)
    return bytes(80) + len(corners).to_bytes(4, "little") + rows


def _off() -> bytes:
    cube = meshes.cube()
    lines = [
        f"OFF\n{len(cube.positions)} {len(cube.triangles)} 0",
        *(" ".join(map(str, p)) for p in cube.positions.tolist()),
    ]
    return "\n".join([*lines, *(f"3 {a} {b} {c}" for a, b, c in cube.triangles.tolist())]).encode()


def _pictures(kind: str) -> Seeds:
    def seeds() -> list[bytes]:
        from PIL import Image

        picture = Image.fromarray(smooth(64, 64))
        modes = {"PNG": ("RGB", "RGBA", "P", "I;16", "1"), "GIF": ("P",), "JPEG": ("RGB", "L", "CMYK")}
        return [
            encode(picture.convert("L").convert(mode) if mode == "I;16" else picture.convert(mode), kind)
            for mode in modes.get(kind, ("RGB",))
        ]

    return seeds


def _results() -> list[bytes]:
    from tests.bench.results import made

    return [json.dumps(made()).encode()]


def _sidecars() -> list[bytes]:
    tree = {
        "format": "topos_rt.engine/2",
        "key": {"graph": "a.onnx", "graph_sha256": "a" * 64, "weights": {"w": "b" * 64}, "backend": "b",
                "backend_version": "1", "compute_capability": "8.9", "precision": "fp16", "recipe": 1},
        "plan": {"bytes": 1, "sha256": "c" * 64},
        "build": {"seconds": 1.5, "layers": {"fp16": {"A": 1}}, "wide_products": {}, "memory": {"w": 7}},
        "created": "2026-01-01T00:00:00Z", "digest": "d" * 64,
    }  # fmt: skip
    return [json.dumps(tree).encode()]


def _bundle_seeds() -> list[bytes]:
    names = sorted(name for name in _files() if name.endswith((".onnx", ".safetensors")))
    return [bytes([number]) + _files()[name] for number, name in enumerate(names)]


def _packs() -> list[bytes]:
    from topos_rt.pack.container import packed

    floats = np.arange(6, dtype=np.float32).reshape(2, 3)
    return [packed({("about", 0): ("a", "b"), ("rotation", 0): floats, ("graph", 1): b"file"})]


def _texture_manifests() -> list[bytes]:
    from topos_rt.model.manifest import WeightsInfo
    from topos_rt.texture.official import manifest as m

    names = (*m.SINGLE, "section_00", "modulation_00")
    graphs = {name: f"{name}.onnx" for name in names}
    counts = dict.fromkeys(names, 7)
    made = m.TextureManifest(
        "tiny",
        WeightsInfo("nobody", "none", "random"),
        m.PictureSpec(32, 32, 16, 16, 16),
        m.TextSpec(8, 16, 7, 5),
        m.TransformerSpec(1, 1, 32, 2),
        m.ScheduleSpec(256, 8192, 0.5, 0.9, 0.02, "bf16"),
        m.METAHUMAN,
        1.2,
        50,
        "prompts.safetensors",
        0.001,
        graphs,
        {},
        {},
        counts,
        counts,
    )
    return [made.to_json().encode()]


def _stored() -> list[bytes]:
    from topos_rt.support.tensorfile import tensor_bytes

    prompts = {name: np.ones((1, count, 4), np.float32) for name, count in (("positive", 3), ("negative", 2))}
    return [tensor_bytes(prompts, {"topos_rt": '{"share": 0.5}'})]


def _yaml() -> list[bytes]:
    text = "MODEL:\n  num_blocks: 2\n  decoder_blocks: [1, 1, 1, 1]\nDATA:\n  test:\n    depth: 6\n"
    return [text.encode(), b"MODEL: &a [*a]\n", b"a: &a [1]\nMODEL: {x: *a}\n"]


TARGETS: dict[str, Target] = {
    "texture_manifest": Target(_texture_manifest, ".json", _texture_manifests),
    "instructions": Target(
        _instructions, ".py", lambda: [b"DEFAULT_PROMPT = ('a' 'b')\nNEGATIVE_PROMPT = \"c\"\n"]
    ),
    "stored_prompts": Target(_stored_prompts, ".safetensors", _stored),
    "manifest": Target(_manifest, ".json", lambda: [_files()["manifest.json"]]),
    "bundle": Target(_bundle, ".bin", _bundle_seeds),
    "rig": Target(_tensors("rig"), ".safetensors", lambda: [_files()["rig.safetensors"]]),
    "topology": Target(_tensors("topology"), ".safetensors", lambda: [_files()["topology.safetensors"]]),
    "hierarchy": Target(_tensors("hierarchy"), ".safetensors", lambda: [_files()["hierarchy.safetensors"]]),
    "atlas": Target(_atlas, ".safetensors", _atlases),
    "landmark_response": Target(_landmark_response, ".safetensors", _responses),
    "variation": Target(_variation, ".safetensors", lambda: [_files()["variation.safetensors"]]),
    "pack": Target(_pack, ".topos", _packs),
    "parts": Target(_parts, ".safetensors", _kits),
    "locations": Target(_locations, ".onnx", lambda: [d for n, d in _files().items() if n.endswith(".onnx")]),
    "arrays": Target(_arrays, ".npz", lambda: [_npy(), _npz()]),
    "checkpoint": Target(_checkpoint, ".pth", lambda: [_pth(False), _pth(True)]),
    "config": Target(_config, ".yaml", _yaml),
    "measurement": Target(_measurement, ".json", _results),
    "sidecar": Target(_sidecar, ".json", _sidecars),
    "batch_journal": Target(_batch_journal, ".jsonl", _journals),
    "table": Target(_table, ".parquet", _tables),
    "glb": Target(_mesh, ".glb", _glbs),
    "gltf": Target(_mesh, ".gltf", _gltfs),
    "head": Target(
        _whole_head, ".head", lambda: [_head("head"), _head("head", True), _textured(), _with_parts()]
    ),
    "character": Target(_character, ".glb", lambda: [_head("glb", True)]),
    "obj": Target(_mesh, ".obj", lambda: [_head("obj"), _CONCAVE]),
    "ply": Target(_mesh, ".ply", lambda: [_head("ply"), _ply(True), _ply(False), *_mixed()]),
    "stl": Target(_mesh, ".stl", lambda: [_stl(True), _stl(False)]),
    "off": Target(_mesh, ".off", lambda: [_off()]),
    "cloud": Target(_mesh, ".npz", lambda: [_npz()]),
    "png": Target(_image, ".png", _pictures("PNG")),
    "jpeg": Target(_image, ".jpg", _pictures("JPEG")),
    "gif": Target(_image, ".gif", _pictures("GIF")),
    "bmp": Target(_image, ".bmp", _pictures("BMP")),
    "tiff": Target(_image, ".tif", _pictures("TIFF")),
    "webp": Target(_image, ".webp", _pictures("WEBP")),
}


def corpus(name: str) -> list[bytes]:
    """Return the seeds of a target, and what earlier runs found."""
    kept = sorted((CORPUS / name).glob("*")) if (CORPUS / name).is_dir() else []
    return [*TARGETS[name].seeds(), *(path.read_bytes() for path in kept)]


def feed(name: str, data: bytes, directory: Path) -> bool:
    """Give bytes to a target; return whether they were accepted. Anything but a ToposError comes out."""
    target = TARGETS[name]
    path = directory / f"in{target.suffix}"
    path.write_bytes(data)
    try:
        target.read(path)
    except ToposError as error:
        line = str(error)
        assert "\n" not in line and len(line) < 2000, f"a message of {len(line)} characters"
        assert isinstance(error, InputError), f"{type(error).__name__} is blamed on us"
        return False
    finally:
        for left in directory.iterdir():
            if left != path and left.name != "bundle":
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    return True
