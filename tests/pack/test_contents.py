"""What a pack says of a bundle, and the commands that write and show it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_bundle import RESIDUAL_SCALE, variation, write_tiny_bundle
from topos_rt.cli.main import main
from topos_rt.errors import BundleError
from topos_rt.faces.bundle import FaceBundle
from topos_rt.flow.settings import PRESETS, SamplerSettings
from topos_rt.flow.solvers import SOLVERS
from topos_rt.formats.seams import split_seams
from topos_rt.head.atlas import laid
from topos_rt.model.bundle import Bundle
from topos_rt.model.evidence import EVIDENCE
from topos_rt.pack.container import Pack, packed
from topos_rt.pack.contents import contents
from topos_rt.pack.licences import licences
from topos_rt.pack.sections import ABOUT, ATLAS_MESH, GRAPHS, NUMBERS, SIZES


def pack_of(bundle: Bundle, folder: Path) -> Pack:
    path = folder / "a.topos"
    path.write_bytes(packed(contents(bundle, FaceBundle.open())))
    return Pack.open(path)


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return pack_of(Bundle.open("mini"), tmp_path_factory.mktemp("mini"))


def test_settings(mini: Pack) -> None:
    m = Bundle.open("mini").manifest
    sizes = dict(zip(SIZES, mini.array("sizes")[0].tolist(), strict=True))
    assert (sizes["image height"], sizes["latent tokens"]) == (m.image.height, m.latent.tokens)
    assert mini.array("numbers")[0, :4].tolist() == [
        m.flow.sigma_min, m.flow.guidance, m.flow.temperature, m.frame.radius_m,
    ]  # fmt: skip
    assert mini.strings("preset_names") == tuple(PRESETS)
    assert mini.strings("solver_names") == tuple(SOLVERS)
    for row, preset in enumerate(PRESETS.values()):
        steps, solver, reuse = mini.array("preset_counts")[row].tolist()
        numbers = mini.array("preset_numbers")[row]
        assert (steps, list(SOLVERS)[solver], reuse) == (preset.steps, preset.solver, preset.reuse)
        assert (numbers[1], tuple(numbers[2:4])) == (preset.shift, preset.interval)
        assert np.isnan(numbers[[0, 4]]).all() == (preset.guidance is None and preset.temperature is None)
    assert dict(zip(ABOUT, mini.strings("about"), strict=True))["licence of the weights"] == m.weights.licence


def test_the_time_grid_of_a_preset(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = (1.0, 0.7, 0.25, 0.0)
    monkeypatch.setitem(PRESETS, "fast", SamplerSettings(steps=3, solver="unipc", times=times))
    pack, row = pack_of(Bundle.open(tiny_bundle), tmp_path), list(PRESETS).index("fast")
    assert pack.array("preset_times", row)[:, 0].tolist() == list(times)
    shifts = pack.array("preset_numbers")[:, 1]
    # A library that does not know the section refuses the preset, and samples on no other grid.
    assert np.isnan(shifts[row]) and not np.isnan(np.delete(shifts, row)).any()


def test_graphs_and_weights_are_those_of_the_bundle_and_weights_are_stored_once(mini: Pack) -> None:
    bundle, faces = Bundle.open("mini"), FaceBundle.open()
    for number, graph in enumerate(GRAPHS):
        assert mini.file("graph", number) == bundle.graph(graph).read_bytes()
        assert mini.file("graph_fp16", number) == bundle.graph(graph, "fp16").read_bytes()
    assert mini.array("graph_weights").tolist() == [[0, 0]] * len(GRAPHS)
    assert set(mini.strings("graph_locations")) == {"weights.safetensors"}
    assert mini.file("weights") == (bundle.path / "weights.safetensors").read_bytes()
    assert [key for key in mini.sections if key[0] == "weights"] == [("weights", 0)]
    # without the identity network, which tells people apart and which this model does not take
    assert [index for name, index in mini.sections if name == "face_graph"] == [0, 1, 2]
    assert mini.file("face_graph", 1) == faces.graph("face_landmarks").read_bytes()


def test_licences_are_those_that_its_lines_name_with_their_whole_texts(mini: Pack) -> None:
    texts = dict(zip(mini.strings("licence_names"), mini.strings("licence_texts"), strict=True))
    assert list(texts) == ["Apache-2.0", "CC0-1.0", "MIT"]
    assert "http://www.apache.org/licenses/" in texts["Apache-2.0"] and len(texts["Apache-2.0"]) > 10_000
    assert "Statement of Purpose" in texts["CC0-1.0"] and len(texts["CC0-1.0"]) > 6_000
    assert texts["MIT"] == (Path(__file__).parents[2] / "LICENSE").read_text()
    assert list(licences(["a licence of ours"])) == ["MIT"]  # the C library's own


def test_the_memory_of_the_model_that_ships_was_measured(mini: Pack, tiny_bundle: Path) -> None:
    private, cached, of_a_job = mini.array("memory")[0]
    assert 1e6 < of_a_job < cached < 80e6 < private < 200e6
    assert ("memory", 0) not in contents(Bundle.open(tiny_bundle), FaceBundle.open())


@pytest.mark.parametrize("whole", [False, True])
def test_info_shows_memory_and_licences(whole: bool, mini: Pack, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(mini.path), *(["--licences"] if whole else [])]) == 0
    out = capsys.readouterr().out
    assert "with a cache of optimised graphs" in out and "Apache-2.0, CC0-1.0, MIT" in out
    assert ("Statement of Purpose" in out) == whole
    assert main(["info", str(mini.path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["memory"]["private"] > 80e6 and report["licences"]["MIT"].startswith("MIT License")


def test_meshes_of_all_levels_with_both_sets_of_uvs(mini: Pack) -> None:
    bundle = Bundle.open("mini")
    atlas = bundle.atlas
    assert atlas is not None
    for first, topology in ((0, bundle.topology), (ATLAS_MESH, laid(bundle.topology, atlas))):
        for level in range(3):
            split = split_seams(topology.lod(level))
            source = mini.array("mesh_source", first + level)[:, 0]
            own = source if level == 0 else np.searchsorted(topology.lods[level - 1].vertices, source)
            np.testing.assert_array_equal(own, split.source)
            np.testing.assert_array_equal(mini.array("mesh_uvs", first + level), split.uvs)
            np.testing.assert_array_equal(mini.array("mesh_triangles", first + level), split.triangles)
            assert int(mini.array("mesh_vertices", first + level)[0, 0]) == topology.lod(level).num_vertices


def test_rig_regions_and_parts(mini: Pack) -> None:
    bundle = Bundle.open("mini")
    rig, kit = bundle.rig, bundle.parts
    assert rig is not None and rig.binding is not None and kit is not None
    assert mini.strings("joint_names") == rig.joint_names and mini.strings("shape_names") == rig.shape_names
    assert mini.strings("joint_humanoid")[rig.joint_names.index("jaw")] == "jaw"
    np.testing.assert_array_equal(mini.array("shape_delta"), rig.shape_delta)
    np.testing.assert_array_equal(mini.array("bind_template"), rig.binding.template)
    np.testing.assert_array_equal(mini.array("part_weights"), kit.weights)
    offsets = mini.array("region_offsets")[:, 0]
    names = mini.strings("region_names")
    lips = slice(*offsets[names.index("lips") :][:2])
    np.testing.assert_array_equal(mini.array("region_vertices")[lips, 0], bundle.topology.regions["lips"])


def test_models_with_evidence_and_variation(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    names = ("pose", "identity")
    write_tiny_bundle(folder, names, varied=True, estimating=True)
    pack = pack_of(Bundle.open(folder), tmp_path)
    assert dict(zip(NUMBERS, pack.array("numbers")[0], strict=True))[NUMBERS[-1]] == RESIDUAL_SCALE
    bits = int(pack.array("sizes")[0, 7])
    assert [name for number, name in enumerate(EVIDENCE) if bits >> number & 1] == list(names)
    np.testing.assert_array_equal(pack.array("variation"), variation().directions)
    assert pack.array("numbers")[0, 4] == variation().open_temperature
    assert ("face_graph", 3) in pack  # identity needs its network
    assert ("atlas_uvs", 0) not in pack and ("part_weights", 0) not in pack and ("graph_fp16", 0) not in pack
    assert pack.array("graph_weights")[:, 1].tolist() == [-1] * len(GRAPHS)


def test_the_topology_id_is_that_of_the_page(mini: Pack, tmp_path: Path, tiny_bundle: Path) -> None:
    total = hashlib.sha256()
    shared = ("mesh_vertices", "mesh_source", "mesh_uvs", "mesh_triangles", "region_names", "region_offsets",
              "region_vertices", "joint_names", "joint_parents", "shape_names")  # fmt: skip
    for (name, index), section in mini.sections.items():
        if name in shared:
            total.update(f"{name} {index} {section.size}\n".encode() + mini._bytes(section))
    assert bytes(mini.array("topology_id")[0]) == total.digest()
    other = pack_of(Bundle.open(tiny_bundle), tmp_path)
    assert bytes(other.array("topology_id")[0]) != total.digest()


def test_the_command_writes_a_pack_and_info_shows_it(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tiny.topos"
    assert main(["pack", str(tiny_bundle), "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == out.stat().st_size and told["model"] == "tiny"
    first = out.read_bytes()
    assert main(["pack", str(tiny_bundle), "-o", str(out)]) == 0
    assert out.read_bytes() == first
    capsys.readouterr()
    assert main(["info", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["about"]["name"] == "tiny" and told["sizes"]["vertices"] == 42
    assert sum(told["sections"].values()) < told["bytes"]
    assert main(["info", str(out)]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line[0] != " ")
    assert rows["name"] == "tiny" and rows["evidence"] == "the pixels alone"
    assert rows["size"].endswith("all verified")


def test_bad_input_leaves_nothing_behind(
    own_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_bundle / "rig.safetensors").write_bytes(b"nonsense")
    out = tmp_path / "out.topos"
    assert main(["pack", str(own_bundle), "-o", str(out)]) == 2
    assert main(["pack", "mini", "-o", str(tmp_path / "no" / "folder.topos")]) == 2
    assert not out.exists()
    out.write_bytes(b"no pack")
    assert main(["info", str(out)]) == 2
    assert "engine pack" in capsys.readouterr().err
    with pytest.raises(BundleError):
        Pack.open(out)
