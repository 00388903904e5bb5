"""`python -m export rig` matches GLBs by order or by UVs, makes their rigs, and refuses others."""

from __future__ import annotations

import dataclasses
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.__main__ import main
from export.rig.command import make_rig, match
from export.rig.gltf import Character, read_character
from models.rig_binding import contacts, near_regressor, rigid_parts
from tests.formats.glbs import container
from tests.meshes import QUADS, ball, ball_rig, bundled_head, cube, cube_topology
from topos_rt.errors import MeshInputError
from topos_rt.formats import write_glb
from topos_rt.formats.seams import split_seams
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.rig import Rig
from topos_rt.head.rig_fit import fit_rig
from topos_rt.head.topology import Topology
from topos_rt.model.bundle import Bundle


def rigged_mini() -> HeadMesh:
    head = bundled_head()
    assert head.rig is not None
    return dataclasses.replace(head, rig=fit_rig(head.rig, head.positions))


def rigged_ball() -> HeadMesh:
    return dataclasses.replace(ball(), rig=fit_rig(ball_rig(), ball().positions))


def file_of(path: Path, head: HeadMesh) -> Path:
    file = path / "character.glb"
    file.write_bytes(write_glb(head))
    return file


def changed(glb: bytes, change: Any) -> bytes:
    """Return a GLB whose JSON a function has changed."""
    length = struct.unpack_from("<I", glb, 12)[0]
    document = json.loads(glb[20 : 20 + length])
    change(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = glb[20 + length :]
    header = struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON")
    return header + text + rest


@pytest.mark.parametrize("make", [rigged_ball, rigged_mini])
def test_our_own_glb_gives_the_rig_back(tmp_path: Path, make: Any) -> None:
    head = make()
    rig = make_rig(read_character(file_of(tmp_path, head)), head.topology)
    assert rig.joint_names == head.rig.joint_names and rig.shape_names == head.rig.shape_names
    assert np.array_equal(rig.joint_parents, head.rig.joint_parents)
    assert rig.joint_positions == pytest.approx(head.rig.joint_positions, abs=2e-6)
    for name in rig.shape_names:
        assert rig.shape(name) == pytest.approx(head.rig.shape(name), abs=3e-5)
    dense = [np.zeros((rig.num_vertices, len(rig.joint_names))) for _ in range(2)]
    for table, one in zip(dense, (rig, head.rig), strict=True):
        np.add.at(table, (np.arange(len(table))[:, None], one.skin_joints), one.skin_weights)
    assert dense[0] == pytest.approx(dense[1], abs=1e-6)


def test_a_rig_from_a_file_fits_other_heads(tmp_path: Path) -> None:
    head = rigged_ball()
    rig = make_rig(read_character(file_of(tmp_path, head)), head.topology)
    assert head.rig is not None
    fitted = fit_rig(rig, head.positions * 2 + 1)
    assert fitted.joint_positions == pytest.approx(head.rig.joint_positions * 2 + 1, abs=1e-5)
    assert fitted.shape("swell") == pytest.approx(head.rig.shape("swell") * 2, abs=1e-4)


def shuffled(character: Character, seed: int = 0) -> Character:
    """Reorder vertices and cut quads along the other diagonal, as a modelling program does."""
    order = np.random.default_rng(seed).permutation(len(character.positions))
    place = np.argsort(order)
    assert character.uvs is not None
    return dataclasses.replace(
        character,
        positions=character.positions[order],
        uvs=character.uvs[order],
        skin=character.skin[order],
        shapes=character.shapes[:, order],
        triangles=place[character.triangles][::-1],
    )


def test_vertices_in_another_order_are_told_by_their_uvs(tmp_path: Path) -> None:
    head = rigged_mini()
    character = read_character(file_of(tmp_path, head))
    source = match(shuffled(character), head.topology)
    assert np.array_equal(shuffled(character).positions[source], character.positions[: len(head.positions)])


def test_joints_in_any_order_come_parents_first(tmp_path: Path) -> None:
    def reverse(document: dict[str, Any]) -> None:
        document["skins"][0]["joints"].reverse()

    file = tmp_path / "reversed.glb"
    file.write_bytes(changed(write_glb(rigged_ball()), reverse))
    character = read_character(file)
    # The matrices and weights were not reversed with the joints, so the names changed places.
    assert character.joint_names == ("head", "cap") and character.joint_parents.tolist() == [-1, 0]
    plain = read_character(file_of(tmp_path, rigged_ball()))
    assert np.array_equal(character.joint_positions, plain.joint_positions[::-1])
    assert np.array_equal(character.skin, plain.skin[:, ::-1])


def test_characters_of_another_topology_are_refused(tmp_path: Path) -> None:
    character = read_character(file_of(tmp_path, rigged_ball()))
    other = ball(20, 30).topology
    with pytest.raises(MeshInputError, match="topology: got 738 vertices in another order and no UVs"):
        match(character, other)
    mini = read_character(file_of(tmp_path, rigged_mini()))
    with pytest.raises(MeshInputError, match=r"topology: got 4746 vertices, 47\d\d at strange UVs"):
        match(mini, cube_topology())
    # The UVs are the same, but no polygon has the triangles.
    torn = dataclasses.replace(mini, triangles=np.roll(mini.triangles, 1, 0) * [1, 0, 1] + [0, 7, 0])
    with pytest.raises(MeshInputError, match="the character's topology"):
        match(torn, bundled_head().topology)


def test_uvs_that_several_vertices_share_do_not_tell_them_apart() -> None:
    uvs = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    topology = Topology.from_polygons(8, QUADS, uvs, [[0, 1, 2, 3]] * 6)
    copies = split_seams(topology)
    count = len(copies.source)
    character = Character(
        np.zeros((count, 3)),
        copies.uvs[::-1].astype(float),
        count - 1 - copies.triangles,
        ("j",),
        np.array([-1]),
        np.zeros((1, 3)),
        np.ones((count, 1)),
        ("s",),
        np.zeros((1, count, 3)),
    )
    with pytest.raises(MeshInputError, match="UVs of the topology: got some shared by several vertices"):
        match(dataclasses.replace(character, positions=np.zeros((count + 1, 3))), topology)


def no_skin(document: dict[str, Any]) -> None:
    del document["nodes"][0]["skin"]


def no_targets(document: dict[str, Any]) -> None:
    del document["meshes"][0]["primitives"][0]["targets"]


def no_mesh(document: dict[str, Any]) -> None:
    del document["nodes"][0]["mesh"]


def two_meshes(document: dict[str, Any]) -> None:
    document["nodes"].append(document["nodes"][0])


def compressed(document: dict[str, Any]) -> None:
    document["extensionsRequired"] = ["KHR_mesh_quantization", "OWN_folding"]


def lines(document: dict[str, Any]) -> None:
    document["meshes"][0]["primitives"][0]["mode"] = 1


def no_binds(document: dict[str, Any]) -> None:
    del document["skins"][0]["inverseBindMatrices"]


def outside(document: dict[str, Any]) -> None:
    document["buffers"][0]["uri"] = "elsewhere.bin"


def too_long(document: dict[str, Any]) -> None:
    document["accessors"][0]["count"] = 10**9


def wrong_view(document: dict[str, Any]) -> None:
    document["accessors"][0]["bufferView"] = 999


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_skin, "got a mesh without skin; expected a mesh bound to a skeleton"),
        (no_targets, "got a mesh without morph targets"),
        (no_mesh, "got no mesh"),
        (two_meshes, "got 2 skinned meshes; expected one; fix: join them"),
        (compressed, "got a file that needs OWN_folding; expected glTF 2.0 with the extensions KHR_mesh_q"),
        (lines, "got points or lines"),
        (no_binds, "got a skin without inverse bind matrices"),
        (outside, "got data outside of the file"),
        (too_long, "got 1,000,000,000 vertices; expected at most 15,000,000"),
        (wrong_view, "got damaged contents"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    file = tmp_path / "bad.glb"
    file.write_bytes(changed(write_glb(rigged_ball()), change))
    with pytest.raises(MeshInputError, match=message) as caught:
        read_character(file)
    assert "bad.glb" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"glTF", b"o head\n", write_glb(rigged_ball())[:5000]])
def test_damaged_files_are_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "bad.glb"
    file.write_bytes(data)
    with pytest.raises(MeshInputError, match=r"bad\.glb"):
        read_character(file)
    with pytest.raises(MeshInputError, match="missing"):
        read_character(tmp_path / "missing.glb")


# the command


def test_the_command_puts_a_rig_into_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "own"
    shutil.copytree(Bundle.open("mini", verify=False).path, bundle)
    head = rigged_mini()
    assert head.rig is not None
    renamed = dataclasses.replace(head.rig, shape_names=tuple(f"my {name}" for name in head.rig.shape_names))
    file = file_of(tmp_path, dataclasses.replace(head, rig=renamed))
    assert main(["rig", str(file), "--bundle", str(bundle)]) == 0
    told = capsys.readouterr().out
    assert "64 joints, 52 blendshapes, 3 rigid parts" in told
    rig = Bundle.open(bundle).rig  # every hash is right again
    assert rig is not None and rig.binding is not None and rig.shape_names == renamed.shape_names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bundle", "mini"], "--out: got none, with a packaged model"),
        (["--bundle", "nowhere", "--out", "rig"], "no such model: got 'nowhere'"),
        (["--bundle", "mini", "--out", "no/such/rig"], "cannot write no/such/rig"),
        (["--bundle", "mini", "--out", "rig"], "the character's topology: got 738 vertices"),
    ],
)
def test_the_command_refuses_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["rig", str(file_of(tmp_path, rigged_ball())), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "rig").exists()


# the parts of a binding


def test_separate_pieces_are_rigid_parts() -> None:
    two = Topology.from_polygons(13, [*QUADS, [8, 9, 10], [9, 11, 10]])  # 12 belongs to nothing
    assert rigid_parts(two).tolist() == [0] * 8 + [1] * 4 + [0]
    assert not rigid_parts(ball().topology).any()
    assert np.bincount(rigid_parts(bundled_head().topology)).tolist() == [4200, 226, 72, 40]


def test_contacts_are_what_a_blink_brings_together() -> None:
    rig = ball_rig()
    assert rig.binding is not None
    shapes = np.stack([rig.shape(name) for name in rig.shape_names])
    found = contacts(rig.binding.template, shapes, ["turn", "eyeBlinkLeft", "swell"], rig.binding.parts)
    assert [len(pairs) for pairs in found] == [0, len(rig.binding.contact_pairs), 0]
    assert np.array_equal(found[1], np.sort(rig.binding.contact_pairs, axis=1))
    assert not any(map(len, contacts(rig.binding.template, shapes, rig.shape_names, rig.binding.parts)))


@pytest.mark.parametrize("joint", [[0, 0, 0], [0.02, 0.05, -0.01], [0, -0.13, 0.02]])
def test_near_vertices_hold_a_joint_exactly(joint: list[float]) -> None:
    points = ball().positions.astype(np.float64)
    ids, weights = near_regressor(np.array(joint), points, np.arange(40))
    assert weights.sum() == pytest.approx(1) and weights @ points[ids] == pytest.approx(joint, abs=1e-6)
    assert np.abs(weights).sum() < 20


def test_a_joint_far_from_the_mesh_cannot_be_held() -> None:
    with pytest.raises(MeshInputError, match=r"a joint: got one at \[0\.0, 50\.0, 0\.0\]; expected one near"):
        near_regressor(np.array([0, 50.0, 0]), ball().positions, np.arange(40))


def test_rig_and_cube_do_not_fit() -> None:
    rig: Rig = ball_rig()
    with pytest.raises(MeshInputError, match="the head to fit a rig to"):
        fit_rig(rig, cube().positions)


# every kind of file


def names_of_a_primitive(document: dict[str, Any]) -> None:
    mesh = document["meshes"][0]
    mesh["primitives"][0]["extras"] = mesh.pop("extras")


def names_of_accessors(document: dict[str, Any]) -> None:
    mesh = document["meshes"][0]
    names = mesh.pop("extras")["targetNames"]
    for name, target in zip(names, mesh["primitives"][0]["targets"], strict=True):
        document["accessors"][target["POSITION"]]["name"] = name


def a_basis_more(document: dict[str, Any]) -> None:
    document["meshes"][0]["extras"]["targetNames"].insert(0, "Basis")


def one_name_short(document: dict[str, Any]) -> None:
    document["meshes"][0]["extras"]["targetNames"].pop()


def no_names(document: dict[str, Any]) -> None:
    del document["meshes"][0]["extras"]


def a_name_too_many(document: dict[str, Any]) -> None:
    document["meshes"][0]["extras"]["targetNames"].append("more")


@pytest.mark.parametrize(
    ("change", "names", "note"),
    [
        (names_of_a_primitive, ("turn", "close", "swell"), None),
        (names_of_accessors, ("turn", "close", "swell"), None),
        (a_basis_more, ("turn", "close", "swell"), None),
        (one_name_short, ("turn", "close", "shape2"), "no names for 1 of 3 blendshapes"),
        (no_names, ("shape0", "shape1", "shape2"), "no names for 3 of 3 blendshapes"),
    ],
)
def test_names_of_blendshapes_wherever_they_are(
    tmp_path: Path, change: Any, names: tuple[str, ...], note: str | None
) -> None:
    file = tmp_path / "named.glb"
    file.write_bytes(changed(write_glb(rigged_ball()), change))
    character = read_character(file)
    assert character.shape_names == names
    assert len(character.notes) == (note is not None)
    assert note is None or note in character.notes[0]


def test_more_names_than_blendshapes_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "named.glb"
    file.write_bytes(changed(write_glb(rigged_ball()), a_name_too_many))
    with pytest.raises(MeshInputError, match="got 4 names for 3 blendshapes; expected one for each"):
        read_character(file)


def test_the_command_tells_of_missing_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = tmp_path / "named.glb", tmp_path / "rig.safetensors"
    file.write_bytes(changed(write_glb(rigged_mini()), one_name_short))
    assert main(["rig", str(file), "--bundle", "mini", "--out", str(out)]) == 0
    assert "named.glb: no names for 1 of 52 blendshapes" in capsys.readouterr().err
    assert Rig.load(out).shape_names[-1] == "shape51"


def quantized(glb: bytes) -> bytes:
    """Return the GLB of a rigged head with positions, offsets and weights as normalized integers.

    Nodes cannot undo the quantization of a skinned mesh: its bind matrices do.
    """
    length = struct.unpack_from("<I", glb, 12)[0]
    document, data = json.loads(glb[20 : 20 + length]), bytearray(glb[28 + length :])
    primitive, scale = document["meshes"][0]["primitives"][0], 0.25

    def floats(number: int) -> np.ndarray:
        accessor = document["accessors"][number]
        table = np.zeros((accessor["count"], 3), "<f4")
        if "bufferView" in accessor:
            start = document["bufferViews"][accessor["bufferView"]]["byteOffset"]
            table = np.frombuffer(data, "<f4", 3 * len(table), start).reshape(-1, 3)
        if "sparse" in accessor:
            ids, values = accessor["sparse"]["indices"], accessor["sparse"]["values"]
            places = [
                document["bufferViews"][part["bufferView"]]["byteOffset"] + part["byteOffset"]
                for part in (ids, values)
            ]
            count = accessor["sparse"]["count"]
            rows = np.frombuffer(data, "<u2", count, places[0])
            table[rows] = np.frombuffer(data, "<f4", 3 * count, places[1]).reshape(-1, 3)
        return table

    for place in (primitive["attributes"], *primitive["targets"]):
        whole = np.rint(floats(place["POSITION"]) / scale * 32767).astype("<i2")
        document["bufferViews"].append({"buffer": 0, "byteOffset": len(data), "byteLength": whole.nbytes})
        document["accessors"].append(
            {
                "bufferView": len(document["bufferViews"]) - 1,
                "componentType": 5122,
                "normalized": True,
                "count": len(whole),
                "type": "VEC3",
            }
        )
        place["POSITION"] = len(document["accessors"]) - 1
        data += whole.tobytes() + bytes(-whole.nbytes % 4)
    binds = document["accessors"][document["skins"][0]["inverseBindMatrices"]]
    start = document["bufferViews"][binds["bufferView"]]["byteOffset"]
    matrices = np.frombuffer(data, "<f4", 16 * binds["count"], start).reshape(-1, 4, 4).copy()
    matrices[:, :3] *= scale  # stored by columns: the first three take x, y and z
    data[start : start + matrices.nbytes] = matrices.tobytes()
    document["buffers"] = [{"byteLength": len(data)}]
    document["extensionsRequired"] = ["KHR_mesh_quantization"]
    return container(json.dumps(document).encode(), bytes(data))


def test_a_quantized_character_gives_the_same_rig(tmp_path: Path) -> None:
    head = rigged_ball()
    plain = make_rig(read_character(file_of(tmp_path, head)), head.topology)
    file = tmp_path / "quantized.glb"
    file.write_bytes(quantized(write_glb(head)))
    rig = make_rig(read_character(file), head.topology)
    assert rig.shape_names == plain.shape_names and rig.joint_names == plain.joint_names
    placed, expected = (fit_rig(some, head.positions) for some in (rig, plain))
    assert placed.joint_positions == pytest.approx(expected.joint_positions, abs=2e-5)
    for name in rig.shape_names:
        assert placed.shape(name) == pytest.approx(expected.shape(name), abs=4e-5)


def giant(document: dict[str, Any]) -> None:
    document["meshes"][0]["primitives"][0]["targets"] *= 100_000


def many_joints(document: dict[str, Any]) -> None:
    document["skins"][0]["joints"] *= 100_000


@pytest.mark.parametrize("change", [giant, many_joints])
def test_the_arrays_of_a_character_are_bounded(tmp_path: Path, change: Any) -> None:
    file = tmp_path / "large.glb"
    file.write_bytes(changed(write_glb(rigged_ball()), change))
    with pytest.raises(MeshInputError, match="rig values; expected at most 50,000,000"):
        read_character(file)


def test_bind_matrices_that_cannot_be_inverted_are_refused(tmp_path: Path) -> None:
    glb = bytearray(write_glb(rigged_ball()))
    length = struct.unpack_from("<I", glb, 12)[0]
    document = json.loads(glb[20 : 20 + length])
    binds = document["accessors"][document["skins"][0]["inverseBindMatrices"]]
    start = 28 + length + document["bufferViews"][binds["bufferView"]]["byteOffset"]
    file = tmp_path / "flat.glb"
    file.write_bytes(bytes(glb[:start]) + bytes(64) + bytes(glb[start + 64 :]))
    with pytest.raises(MeshInputError, match="damaged contents"):
        read_character(file)


@pytest.mark.parametrize("joint", [np.full(3, np.nan), np.full(3, np.inf), np.full(3, 1e300)])
def test_a_joint_that_is_nowhere_is_refused(joint: np.ndarray) -> None:
    with pytest.raises(MeshInputError, match="a joint: got one at"):
        near_regressor(joint, ball().positions.astype(np.float64), np.arange(40))
    with pytest.raises(MeshInputError, match="a joint: got one at"):
        near_regressor(np.zeros(3), np.zeros((300, 3)), np.arange(40))
