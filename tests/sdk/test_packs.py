"""Packs that the C library loads and refuses, and what it says of a model before and after loading."""

from __future__ import annotations

import ctypes
import hashlib
import random
import re
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import needs
from tests.sample_pictures import smooth
from tests.sdk import capi
from tests.sdk.capi import Handle
from topos_rt import HeadPipeline
from topos_rt.faces.bundle import FaceBundle
from topos_rt.flow.settings import PRESETS, SamplerSettings
from topos_rt.flow.solvers import SOLVERS
from topos_rt.model.bundle import Bundle
from topos_rt.model.evidence import EVIDENCE
from topos_rt.pack.container import MAGIC, VERSION, packed
from topos_rt.pack.contents import contents
from topos_rt.pack.licences import licences
from topos_rt.pack.sections import ABOUT, ATLAS_MESH, GRAPHS, KINDS, NUMBERS, SIZES, TYPES

SOURCES = Path(__file__).parents[2] / "sdk/src"
VERIFY = 1


def from_memory(api: capi.Api, rt: Handle, data: bytes, flags: int = 0, **options: Any) -> Handle:
    kept = np.frombuffer(data, np.uint8)
    source = capi.struct("source", data=kept.ctypes.data, data_size=len(data), flags=flags)
    return Handle(api.made("model_load", rt, source, capi.struct("load_options", **options)))


def requirements(api: capi.Api, rt: Handle, data: bytes, flags: int = 0) -> Any:
    """Read a pack without loading a graph: everything is checked but the graphs. Raises CError."""
    kept, out = np.frombuffer(data, np.uint8), capi.struct("requirements")
    source = capi.struct("source", data=kept.ctypes.data, data_size=len(data), flags=flags)
    api.ok("get_requirements", rt, source, None, out)
    return out


def resealed(data: bytearray) -> bytes:
    count = struct.unpack_from("<I", data, 12)[0]
    data[32:64] = hashlib.sha256(data[:32] + data[64 : 64 * (1 + count)]).digest()
    return bytes(data)


def test_the_numbers_are_those_of_python() -> None:
    text = (SOURCES / "pack_format.h").read_text()
    enum = re.search(r"enum class Kind : uint16_t {(.*?)}", text, flags=re.DOTALL)
    assert enum is not None
    for name, number in re.findall(r"k(\w+) = (\d+)", enum[1]):
        python = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
        assert KINDS[python].number == int(number)
    types = re.search(r"enum class PackType : uint16_t { (.*?) }", text)
    assert types is not None
    assert types[1].lower().replace(" = 1", "").split(", ") == [f"k{name}" for name in TYPES]
    assert f"kPackVersion = {VERSION};" in text and f"kAtlasMesh = {ATLAS_MESH};" in text
    assert MAGIC == b"TOPOSPK\n"
    for name, table in (("About", ABOUT), ("Size", SIZES), ("Number", NUMBERS), ("Graph", GRAPHS)):
        names = re.search(rf"enum {name} {{(.*?)}}", text, flags=re.DOTALL)
        assert names is not None and len(names[1].split(",")) == len(table) + 1  # and their count
    solvers = re.search(r"kSolverNames = {(.*?)}", (SOURCES / "solvers.h").read_text())
    assert solvers is not None and re.findall(r'"(\w+)"', solvers[1]) == list(SOLVERS)
    data = (SOURCES / "model_data.cpp").read_text()
    assert re.findall(r'{"(\w+)", {', data) == list(EVIDENCE)


def test_what_it_says_of_a_model(api: capi.Api, rt: Handle, packs: Any) -> None:
    bundle = Bundle.open("mini")
    assert bundle.rig is not None
    model = capi.load(api, rt, packs["mini"][1], VERIFY)
    info = api.told("model_get_info", "model_info", model)
    assert (info.name, info.num_vertices, info.num_lods) == (b"mini", 4538, 3)
    assert info.weights_licence.decode() == bundle.manifest.weights.licence
    assert (info.latent_tokens, info.latent_channels) == (167, 6) and info.image_width == 128
    assert info.features & 3 == 3
    names = [api.call("model_shape_name", model, number) for number in range(53)]
    assert names == [*(name.encode() for name in bundle.rig.shape_names), None]
    parent = ctypes.c_int32()
    for number, name in enumerate(bundle.rig.joint_names):
        assert api.call("model_joint", model, number, ctypes.byref(parent)).decode() == name
        assert parent.value == bundle.rig.joint_parents[number]
    assert api.call("model_joint", model, 64, None) is None
    texts, text = {}, ctypes.c_char_p()
    while licence := api.call("model_licence", model, len(texts), ctypes.byref(text)):
        assert text.value is not None
        texts[licence.decode()] = text.value.decode()
    assert texts == licences(["Apache-2.0", "CC0"]) and api.call("model_licence", model, 0, None)
    presets = [api.call("model_preset_name", model, number) for number in range(info.num_presets)]
    assert presets == [name.encode() for name in PRESETS]
    api.call("model_release", model)


def test_features_of_models_with_evidence(api: capi.Api, rt: Handle, packs: Any) -> None:
    model = capi.load(api, rt, packs["seeing"][1])
    features = api.told("model_get_info", "model_info", model).features
    names = capi.constants()
    assert features & names["TOPOS_FEATURE_EVIDENCE"] and not features & names["TOPOS_FEATURE_BIOMETRIC"]
    api.call("model_release", model)


def test_a_pack_from_memory_and_inside_an_archive(
    api: capi.Api, rt: Handle, packs: Any, tmp_path: Path
) -> None:
    data = packs["tiny"][1].read_bytes()
    released: list[int] = []
    callback_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
    callback = callback_type(lambda user, address: released.append(address))
    for shift in (0, 1):  # aligned, or copied
        memory = ctypes.create_string_buffer(len(data) + 128)
        base = -(-ctypes.addressof(memory) // 64) * 64 + shift
        ctypes.memmove(base, data, len(data))
        source = capi.struct("source", data=base, data_size=len(data), flags=VERIFY)
        source.release = ctypes.cast(callback, ctypes.c_void_p).value
        model = Handle(api.made("model_load", rt, source, None))
        assert api.told("model_get_info", "model_info", model).name == b"tiny" and not released
        api.call("model_release", model)
        assert released == [base]
        released.clear()
        ctypes.memset(base + 100, 0xFF, 8)
        with pytest.raises(capi.CError, match="SHA-256"):
            api.made("model_load", rt, source, None)
        assert released == [base]
        released.clear()
    archive = tmp_path / "game.pak"
    for offset in (64, 4096, 4097):
        archive.write_bytes(b"x" * offset + data + b"y" * 100)
        source = capi.struct("source", path=str(archive).encode(), offset=offset, size=len(data))
        api.call("model_release", Handle(api.made("model_load", rt, source, None)))
        for size in (len(data) + 1, 0, 2**63):
            source.size = size
            with pytest.raises(capi.CError):
                api.made("model_load", rt, source, None)


def test_files_that_cannot_be_read(api: capi.Api, rt: Handle, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for path in (tmp_path / "missing", tmp_path, tmp_path / "empty", Path("/dev/null")):
        with pytest.raises(capi.CError, match="TOPOS_E_IO"):
            capi.load(api, rt, path)
    for values in ({}, {"path": b"a", "data": 1}, {"path": b"a", "flags": 8}):
        with pytest.raises(capi.CError, match="TOPOS_E_ARGUMENT"):
            api.made("model_load", rt, capi.struct("source", **values), None)


def test_budgets(api: capi.Api, rt: Handle, packs: Any) -> None:
    data = packs["tiny"][1].read_bytes()
    needs = requirements(api, rt, data)
    total = needs.host_private + needs.host_per_job
    assert needs.host_mapped == 0 and needs.backend == 1
    with pytest.raises(capi.CError, match=f"TOPOS_E_MEMORY.*{total}"):
        from_memory(api, rt, data, host_budget=total - 1)
    api.call("model_release", from_memory(api, rt, data, host_budget=total))
    with pytest.raises(capi.CError, match="TOPOS_E_UNSUPPORTED"):
        from_memory(api, rt, data, backend=4)
    warm = from_memory(api, rt, data, 0)
    api.call("model_release", warm)


def test_warming_up(api: capi.Api, rt: Handle, packs: Any) -> None:
    data = packs["seeing"][1].read_bytes()
    kept = np.frombuffer(data, np.uint8)
    source = capi.struct("source", data=kept.ctypes.data, data_size=len(data))
    api.call(
        "model_release", Handle(api.made("model_load", rt, source, capi.struct("load_options", flags=1)))
    )


def test_truncated_packs(api: capi.Api, rt: Handle, packs: Any) -> None:
    data = packs["tiny"][1].read_bytes()
    count = struct.unpack_from("<I", data, 12)[0]
    ends = {0, 1, 63, 64, 65, 64 * (1 + count) - 1, 64 * (1 + count), len(data) - 1}
    for row in range(count):
        offset, size = struct.unpack_from("<QQ", data, 64 * (1 + row) + 8)
        ends |= {offset - 1, offset, offset + 1, offset + size - 1, offset + size}
    for end in sorted(ends - {len(data)}):
        with pytest.raises(capi.CError, match=r"TOPOS_E_PACK|TOPOS_E_ARGUMENT"):
            requirements(api, rt, data[:end])
    with pytest.raises(capi.CError, match="TOPOS_E_PACK"):
        requirements(api, rt, data + b"\0")


def test_every_damaged_byte_is_found_when_hashes_are_checked(api: capi.Api, rt: Handle, packs: Any) -> None:
    data = packs["tiny"][1].read_bytes()
    count = struct.unpack_from("<I", data, 12)[0]
    chosen = random.Random(0).sample(range(len(data)), 150) + list(range(0, 64 * (1 + count), 97))
    for at in chosen:
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(capi.CError, match="TOPOS_E_PACK"):
            api.call("model_release", from_memory(api, rt, bytes(damaged), VERIFY))


def test_hostile_packs_are_refused_or_used_but_never_crash(api: capi.Api, rt: Handle, packs: Any) -> None:
    """The hash of the table vouches for what was changed, as whoever made the pack would see to."""
    draw = random.Random(1)
    whole = packs["seeing"][1].read_bytes()
    count = struct.unpack_from("<I", whole, 12)[0]
    small = []  # sections of numbers, which the library reads itself
    for row in range(count):
        kind, _, type_, _, offset, size = struct.unpack_from("<HHHHQQ", whole, 64 * (1 + row))
        if type_ != 9 and size and kind < 100:
            small.append((offset, size))
    outcomes = {"taken": 0, "refused": 0}
    for number in range(1500):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            if number % 2:
                at = draw.randrange(8, 64 * (1 + count))
            else:
                offset, size = draw.choice(small)
                at = offset + draw.randrange(size)
            wide = draw.choice((1, 2, 4))
            data[at : at + wide] = draw.choice((b"\xff" * wide, bytes(wide), draw.randbytes(wide)))
        try:
            requirements(api, rt, resealed(data))
            outcomes["taken"] += 1
        except capi.CError as error:
            assert error.name in ("TOPOS_E_PACK", "TOPOS_E_UNSUPPORTED"), error
            assert "\n" not in error.message and len(error.message) < 504
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 50, outcomes


def without_networks() -> bytearray:
    """Return the pack of `mini` without its networks, which `requirements` does not read."""
    made = contents(Bundle.open("mini"), FaceBundle.open())
    networks = ("graph", "graph_fp16", "weights", "face_graph")
    return bytearray(packed({key: b"x" if key[0] in networks else value for key, value in made.items()}))


def rows_of(data: bytes) -> dict[tuple[str, int], tuple[int, int, int]]:
    """Return where the row, the section and its end are, by names and indices."""
    names, found = {kind.number: name for name, kind in KINDS.items()}, {}
    for row in range(1, 1 + struct.unpack_from("<I", data, 12)[0]):
        kind, index, _, _, offset, size = struct.unpack_from("<HHHHQQ", data, 64 * row)
        found[names[kind], index] = 64 * row, offset, size
    return found


def test_an_atlas_that_does_not_fit(api: capi.Api, rt: Handle) -> None:
    sound = without_networks()
    rows = rows_of(sound)
    requirements(api, rt, bytes(sound))
    atlas = ATLAS_MESH
    values: list[tuple[str, int, bytes]] = [
        ("mesh_parts", atlas, b"\x06"), ("mesh_uvs", atlas, struct.pack("<f", 1.1)),
        ("mesh_uvs", atlas, struct.pack("<f", float("nan"))), ("atlas_sides", 0, struct.pack("<i", 4538)),
        ("atlas_sides", 0, struct.pack("<i", -1)), ("atlas_landmark_uvs", 0, struct.pack("<f", -0.1)),
        ("atlas_warp", 0, b"\x00\x7c"), ("atlas_warp_vertices", 0, struct.pack("<i", 4538)),
        ("atlas_warp_landmarks", 0, struct.pack("<i", 468)),
        ("mesh_vertices", atlas, struct.pack("<I", 4537)),
    ]  # fmt: skip
    _, offset, _ = rows["numbers", 0]
    mirror = offset + 8 * NUMBERS.index("atlas mirror")
    for bad in (-0.1, 2.1, float("nan"), 1e-9):  # the last leaves no columns to the window
        data = bytearray(sound)
        struct.pack_into("<d", data, mirror, bad)
        with pytest.raises(capi.CError, match=r"TOPOS_E_PACK.*atlas"):
            requirements(api, rt, bytes(data))
    for name, index, value in values:
        data = bytearray(sound)
        _, offset, _ = rows[name, index]
        data[offset : offset + len(value)] = value
        with pytest.raises(capi.CError, match=r"TOPOS_E_PACK|TOPOS_E_UNSUPPORTED"):
            requirements(api, rt, bytes(data))
    _, offset, _ = rows["atlas_masks", 0]
    empty = bytearray(sound)
    empty[offset : offset + 256 * 256] = bytes(256 * 256)
    with pytest.raises(capi.CError, match=r"TOPOS_E_PACK.*face"):
        requirements(api, rt, bytes(empty))
    made = contents(Bundle.open("mini"), FaceBundle.open())
    small = {
        key: b"x" if key[0] in ("graph", "weights", "face_graph") else value for key, value in made.items()
    }
    for missing in ("mesh_parts", "atlas_sides", "atlas_landmark_uvs", "atlas_masks", "atlas_warp_vertices"):
        less = {key: value for key, value in small.items() if key[0] != missing}
        with pytest.raises(capi.CError, match="TOPOS_E_PACK"):
            requirements(api, rt, packed(less))
    for key, value in (
        (("atlas_base", 0), made["atlas_base", 0][:-1]),
        (("atlas_base", 0), made["atlas_base", 0][: 128 * 128]),
        (("atlas_masks", 0), made["atlas_masks", 0][:7]),
    ):
        with pytest.raises(capi.CError, match="TOPOS_E_PACK"):
            requirements(api, rt, packed(small | {key: value}))
    levels = {key: value for key, value in small.items() if key[1] < ATLAS_MESH + 2 or key[0] == "graph"}
    with pytest.raises(capi.CError, match=r"TOPOS_E_PACK.*atlas"):
        requirements(api, rt, packed(levels))


def test_hostile_atlases_are_refused_or_used(api: capi.Api, rt: Handle) -> None:
    draw, whole = random.Random(2), without_networks()
    chosen = [
        at for name, at in rows_of(whole).items() if name[0].startswith("atlas") or name[1] >= ATLAS_MESH
    ]
    outcomes = {"taken": 0, "refused": 0}
    for number in range(200):
        data = bytearray(whole)
        row, offset, size = draw.choice(chosen)
        at = row + draw.randrange(32) if number % 2 else offset + draw.randrange(size)
        data[at : at + 4] = draw.choice((b"\xff" * 4, bytes(4), draw.randbytes(4)))
        try:
            requirements(api, rt, resealed(data))
            outcomes["taken"] += 1
        except capi.CError as error:
            assert error.name in ("TOPOS_E_PACK", "TOPOS_E_UNSUPPORTED"), error
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 20, outcomes


def test_time_grids_of_presets(
    api: capi.Api, rt: Handle, packs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A preset samples on its own grid until the caller sets steps, a shift or times."""
    bundle, number = Bundle.open(packs["tiny"][0]), 1 + list(PRESETS).index("fast")
    own = SamplerSettings(steps=3, solver="unipc", times=(1.0, 0.7, 0.25, 0.0))
    monkeypatch.setitem(PRESETS, "fast", own)
    sound = contents(bundle, FaceBundle.open())
    path = tmp_path / "own.topos"
    path.write_bytes(packed(sound))
    model = capi.load(api, rt, path, VERIFY)
    pixels = smooth(40, 50)
    made = set()
    with HeadPipeline.open(bundle, "onnxruntime", threads=1, decoder="engine") as pipe:
        for given in ({}, {"steps": 4}, {"shift": 2.0}, {"times": (1.0, 0.4, 0.0)}):
            head: Any = pipe(pixels, preset="fast", crop="none", face_check=False, texture="none", **given)
            (mine,) = capi.generate(
                api, model, capi.request([capi.image(pixels)], [0], preset=number, **given)
            )
            assert capi.vertices(api, model, mine)[0].tobytes() == head.positions.tobytes()
            api.call("head_release", mine)
            made.add(head.positions.tobytes())
    assert len(made) == 4
    api.call("model_release", model)
    for wrong in ((1.0, 0.5, 0.0), (1.0, 0.5, 0.5, 0.0), (1.0, 0.7, np.nan, 0.0), (0.9, 0.7, 0.25, 0.0)):
        section = {("preset_times", number - 1): np.array(wrong)[:, None]}
        with pytest.raises(capi.CError, match="times of a preset"):
            from_memory(api, rt, packed(sound | section))


def test_graphs_that_are_damaged_or_of_another_model(
    api: capi.Api, rt: Handle, packs: Any, tmp_path: Path
) -> None:
    sound = contents(Bundle.open(packs["tiny"][0]), FaceBundle.open())
    for graph in range(len(GRAPHS)):
        with pytest.raises(capi.CError, match=r"TOPOS_E_BACKEND|TOPOS_E_PACK"):
            from_memory(api, rt, packed(sound | {("graph", graph): b"no graph"}))
        other = sound["graph", (graph + 1) % len(GRAPHS)]
        with pytest.raises(capi.CError, match="TOPOS_E_PACK"):
            from_memory(api, rt, packed(sound | {("graph", graph): other}))
    with pytest.raises(capi.CError, match=r"TOPOS_E_BACKEND|TOPOS_E_PACK"):
        from_memory(api, rt, packed(sound | {("weights", 0): b""}))
    for missing in ("sizes", "about", "graph_weights", "mesh_source", "preset_counts", "skin_joints"):
        less = {key: value for key, value in sound.items() if key[0] != missing}
        with pytest.raises(capi.CError, match="TOPOS_E_PACK"):
            from_memory(api, rt, packed(less))


@pytest.mark.parametrize(("at", "value"), [(0, 2**20), (2, 2**20), (5, 2**20), (6, 2**24 + 1), (1, 0)])
def test_sizes_that_would_take_all_memory(at: int, value: int, api: capi.Api, rt: Handle, packs: Any) -> None:
    """A fuzzer found that an image may not be 2^20 pixels wide and high: each side alone is in range."""
    sound = contents(Bundle.open(packs["tiny"][0]), FaceBundle.open())
    sizes = np.array(sound["sizes", 0])
    sizes[0, [at, at ^ 1] if value == 2**20 else at] = value
    with pytest.raises(capi.CError, match=r"sizes|vertices") as caught:
        from_memory(api, rt, packed(sound | {("sizes", 0): sizes}), backend=100)
    assert caught.value.name == "TOPOS_E_PACK"


def test_the_guided_step_is_loaded_when_guidance_is_first_asked_for(api: capi.Api, rt: Handle) -> None:
    """`mini` is not guided by itself, and the guided step would hold the weights of the plain one again."""
    sound = contents(Bundle.open("mini"), FaceBundle.open())
    damaged = packed(sound | {("graph", GRAPHS.index("dit_step_guided")): b"no graph"})
    model = from_memory(api, rt, damaged)
    pixels = capi.image(np.zeros((32, 32, 3), np.uint8))
    (head,) = capi.generate(api, model, capi.request([pixels], [0], steps=1))
    api.call("head_release", head)
    for _ in range(2):
        with pytest.raises(capi.CError, match=r"TOPOS_E_BACKEND|TOPOS_E_PACK"):
            api.made("submit", model, capi.request([pixels], [0], steps=1, guidance=2.0))
    api.call("model_release", model)


def test_a_pack_of_a_later_version(api: capi.Api, rt: Handle, packs: Any) -> None:
    data = bytearray(packs["tiny"][1].read_bytes())
    struct.pack_into("<I", data, 8, VERSION + 1)
    with pytest.raises(capi.CError, match="later version of this library"):
        requirements(api, rt, resealed(data))


def test_wrong_onnx_runtimes(api: capi.Api, built: Path, tmp_path: Path) -> None:
    """Missing, no library at all, a library of something else: a clean error each time."""
    text = tmp_path / "libonnxruntime.so"
    text.write_text("no library")
    for path in (tmp_path / "missing.so", text, built / "sdk/libtopos_rt.so"):
        with pytest.raises(capi.CError, match="TOPOS_E_UNAVAILABLE"):
            api.made("runtime_create", capi.struct("runtime_options", ort_library=str(path).encode()))


BASE = """
#include <stdint.h>
typedef struct { const void *(*GetApi)(uint32_t); const char *(*GetVersionString)(void); } Base;
static const void *none(uint32_t number) { (void)number; return 0; }
static const char *version(void) { return VERSION; }
const Base *OrtGetApiBase(void) { static const Base base = {none, version}; return &base; }
"""


@pytest.mark.parametrize("version", ["1.22.1", "0.9", "2.0.0", "1.31.0"])
def test_an_onnx_runtime_that_is_too_old_or_offers_nothing(
    version: str, api: capi.Api, tmp_path: Path
) -> None:
    source, library = tmp_path / "base.cpp", tmp_path / "libold.so"
    source.write_text(
        f'#define VERSION "{version}"\nextern "C" {{{BASE}}}\n'.replace("#include <stdint.h>\n", "")
    )
    source.write_text("#include <stdint.h>\n" + source.read_text())
    subprocess.run([needs.compiler(), "-shared", "-fPIC", source, "-o", library], check=True)
    with pytest.raises(capi.CError, match=re.escape(version)) as caught:
        api.made("runtime_create", capi.struct("runtime_options", ort_library=str(library).encode()))
    assert caught.value.name == "TOPOS_E_UNAVAILABLE"


def test_a_base_that_the_host_has_loaded(api: capi.Api, ort: Path) -> None:
    base = ctypes.CDLL(str(ort)).OrtGetApiBase
    base.restype = ctypes.c_void_p
    options = capi.struct("runtime_options", ort_api_base=base(), num_threads=1)
    made = Handle(api.made("runtime_create", options))
    info = api.told("runtime_get_info", "runtime_info", made)
    assert info.ort_library == b"" and info.ort_version and info.ort_api >= 23
    api.call("runtime_release", made)


def test_the_log_gets_lines_and_nothing_is_printed(
    api: capi.Api, ort: Path, packs: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    lines: list[tuple[int, bytes]] = []
    callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p)(
        lambda user, level, line: lines.append((level, line))
    )
    sound = contents(Bundle.open(packs["tiny"][0]), FaceBundle.open())
    stop = capi.request([capi.image(np.zeros((20, 20, 3), np.uint8))], steps=1000)
    with capi.runtime(api, ort, log=ctypes.cast(callback, ctypes.c_void_p).value) as rt:
        with pytest.raises(capi.CError):
            from_memory(api, rt, packed(sound | {("graph", 5): sound["graph", 0]}))
        model = from_memory(api, rt, packed(sound))
        for _ in range(5):
            job = Handle(api.made("submit", model, stop))
            time.sleep(0.02)
            api.call("job_cancel", job)  # within a run, which ONNX Runtime then calls an error
            api.call("job_wait", job, 2**32 - 1)
            api.call("job_release", job)
        api.call("model_release", model)
    assert all(0 <= level <= 3 and line.startswith(b"onnxruntime: ") for level, line in lines)
    assert capfd.readouterr() == ("", "")
