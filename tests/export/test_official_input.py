"""`python -m export official` refuses bad input in one line with exit code 2, and lets the rest pass."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from export.__main__ import main
from export.release.config import ReleaseConfig
from export.release.topology import ReleaseTopology, read_topology
from models import ImageEncoder
from tests.export.release_files import Release, Sizes, ball_topology, write_release, write_topology
from topos_rt.errors import InputError

SIZES = Sizes(decoder_blocks=(1, 1), decoder_channel=(16, 8, 8), depth=4)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return write_release(tmp_path_factory.mktemp("original") / "release", SIZES)


@pytest.fixture
def release(original: Release, tmp_path: Path) -> Release:
    """A copy that a test may spoil."""
    folder = Path(shutil.copytree(original.folder, tmp_path / "release"))
    return Release(
        folder, original.hierarchy, original.topology, original.vae, original.dit, original.encoder
    )


def swap_checkpoints(r: Release) -> None:
    vae, dit = r.file("TOPOS-VAE.model.pth"), r.file("TOPOS-DiT.model.pth")
    other = vae.with_name("other")
    vae.rename(other)
    dit.rename(vae)
    other.rename(dit)


def encoder_as_vae(r: Release) -> None:
    shutil.copy(r.file("dinov2_vitl14_reg4_pretrain.pth"), r.file("TOPOS-VAE.model.pth"))


def change_state(name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Release], None]:
    def spoil(r: Release) -> None:
        state = torch.load(r.file(name))
        change(state)
        torch.save(state, r.file(name))

    return spoil


def change_array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Release], None]:
    return lambda r: np.save(r.file(name), change(np.load(r.file(name))))


def change_npz(name: str, key: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Release], None]:
    def spoil(r: Release) -> None:
        arrays = dict(np.load(r.file(name)))
        arrays[key] = change(arrays[key])
        np.savez(r.file(name), **arrays)

    return spoil


def set_config(**values: object) -> Callable[[Release], None]:
    def spoil(r: Release) -> None:
        tree = yaml.safe_load(r.file("dit.yaml").read_text())
        tree["MODEL"] |= values
        r.file("dit.yaml").write_text(yaml.safe_dump(tree))

    return spoil


def write(name: str, data: str | bytes) -> Callable[[Release], None]:
    return lambda r: (r.file(name).write_bytes(data if isinstance(data, bytes) else data.encode()), None)[1]


def truncate(name: str, keep: float = 0.7) -> Callable[[Release], None]:
    def spoil(r: Release) -> None:
        data = r.file(name).read_bytes()
        r.file(name).write_bytes(data[: int(len(data) * keep)])

    return spoil


def delete(name: str) -> Callable[[Release], None]:
    return lambda r: r.file(name).unlink()


def of_another_mesh(name: str) -> Callable[[Release], None]:
    def spoil(r: Release) -> None:
        write_topology(r.folder / "other", *ball_topology(9, 12), depth=4)
        shutil.move(r.folder / "other" / name, r.folder / "data" / name)
        shutil.rmtree(r.folder / "other")

    return spoil


def shuffled(array: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).permutation(array)


def pickled_clusters(r: Release) -> None:
    path = r.file("cluster.npz")
    np.savez(path, depth1=np.array([{"a": 1}], dtype=object))


def repeated_corner(r: Release) -> None:
    lines = r.file("template.obj").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("f "))
    words = lines[at].split()
    lines[at] = " ".join([*words[:-1], words[1]])
    r.file("template.obj").write_text("\n".join(lines))


def encoder_without_registers(r: Release) -> None:
    state = torch.load(r.file("dinov2_vitl14_reg4_pretrain.pth"))
    del state["register_tokens"]
    torch.save(state, r.file("dinov2_vitl14_reg4_pretrain.pth"))


def wider_encoder(r: Release) -> None:
    torch.save(ImageEncoder(embed_dim=128, depth=1, num_heads=2).state_dict(), r.file(DINO))


def repeat_vertex(faces: np.ndarray) -> np.ndarray:
    faces[3, 1] = faces[3, 0]
    return faces


def one_way(edges: np.ndarray) -> np.ndarray:
    return edges[edges[:, 0] < edges[:, 1]]


VAE, DIT, DINO = "TOPOS-VAE.model.pth", "TOPOS-DiT.model.pth", "dinov2_vitl14_reg4_pretrain.pth"
CASES: dict[str, tuple[Callable[[Release], object], str]] = {
    "swapped": (swap_checkpoints, r"--vae .* got the checkpoint of TOPOS-DiT; .* pass it as --dit"),
    "encoder as VAE": (encoder_as_vae, r"got the checkpoint of DINOv2; .* pass it as --image-encoder"),
    "other shape": (
        set_config(model_channels=48), r"--dit \S+: key pos_emb: got shape \[\d+, 32\]; expected \[\d+, 48\]"
    ),
    "more blocks": (
        set_config(num_blocks=2), r"--dit \S+: keys: got 20 missing \(blocks.1.\S+, .* and \d+ more",
    ),
    "extra keys": (
        change_state(VAE, lambda s: s.update(x=torch.ones(1), y=torch.ones(1))), r"got 2 unexpected \(x, y\)"
    ),
    "missing key": (
        change_state(VAE, lambda s: s.pop("encoder.norm.bias")), r"1 missing \(encoder.norm.bias\)",
    ),
    "NaN": (change_state(VAE, lambda s: s["data_proj.bias"].fill_(torch.nan)), "data_proj.bias: got NaN"),
    "truncated VAE": (truncate(VAE), "--vae .* got a truncated file"),
    "truncated DiT": (truncate(DIT, 0.01), "--dit .* got a truncated file"),
    "truncated encoder": (truncate(DINO, 0.99), "--image-encoder .* got a truncated file"),
    "no VAE": (delete(VAE), "--vae .* got No such file"),
    "encoder without registers": (
        encoder_without_registers, "without 'register_tokens'.*dl.fbaipublicfiles.com",
    ),
    "encoder of other width": (wider_encoder, "tokens of 128 channels; expected 64"),
    "DiT for another encoder": (
        set_config(cond_channels=1024), r"to_kv.weight: got shape \[64, 64\]; expected \[64, 1024\]"
    ),
    "clusters of another mesh": (of_another_mesh("cluster.npz"), r"cluster map of level 1: got shape \[96\]"),
    "clusters of a mesh as large": (change_npz("cluster.npz", "depth1", shuffled), "vertices far apart"),
    "clusters with a gap": (change_npz("cluster.npz", "depth2", lambda c: c * 2), "cluster map of level 2"),
    "clusters as text": (change_npz("cluster.npz", "depth1", lambda c: c.astype(str)), "depth1: got <U"),
    "no depth2": (
        lambda r: np.savez(r.file("cluster.npz"), depth1=np.zeros(3, int)), "expected one called depth2",
    ),
    "pickled clusters": (pickled_clusters, "cluster.npz: got pickled objects"),
    "truncated clusters": (truncate("cluster.npz"), "cluster.npz: got a damaged file"),
    "no clusters": (delete("cluster.npz"), "cluster.npz: got no such file"),
    "edges out of range": (
        change_array("edges.npy", lambda e: e + 1), r"vertex ids: got 1\.\.108; expected 0\.\.107",
    ),
    "negative edges": (change_array("edges.npy", lambda e: e - 1), r"vertex ids: got -1\.\.106"),
    "edges one way": (change_array("edges.npy", one_way), "edges in one direction only"),
    "edges twice": (change_array("edges.npy", lambda e: np.concatenate([e, e])), "repeated edges"),
    "edges as numbers": (
        change_array("edges.npy", lambda e: e.astype(float)), r"float64 \[\d+, 2\]; expected whole",
    ),
    "edges turned": (change_array("edges.npy", np.transpose), r"int64 \[2, \d+\]"),
    "edges of another mesh": (
        change_array("edges.npy", lambda e: np.stack([e[:, 0] * 5 % 108, e[:, 1] * 5 % 108], 1)),
        r"edges of which \d+% are sides",
    ),
    "truncated edges": (truncate("edges.npy"), r"edges.npy: got an array of [\d,]+ bytes in a file of"),
    "faces out of range": (
        change_array("faces.npy", lambda f: f + 1), r"faces.npy: vertex ids: got 1\.\.108",
    ),
    "faces with a repeated vertex": (
        change_array("faces.npy", repeat_vertex), "face 3: got the same vertex twice",
    ),
    "faces of another mesh": (
        change_array("faces.npy", lambda f: f[:-1]), r"got \d+ triangles; expected \d+",
    ),
    "polygon with a repeated vertex": (repeated_corner, "obj: got polygons with the same vertex twice"),
    "no mesh": (delete("template.obj"), "template.obj: got no such file"),
    "template of another mesh": (
        of_another_mesh("template_vertices.npz"), r"vertices: got float32 \[96, 3\]",
    ),
    "template without size": (
        change_npz("template_vertices.npz", "vertices", lambda v: v * 0), "vertices: got a radius of 0"
    ),
    "template with NaN": (
        change_npz("template_vertices.npz", "normals", lambda v: v * np.float32("nan")), "normals: got NaN"
    ),
    "latents of another configuration": (
        set_config(num_latents=7), r"MODEL.num_latents: got 7; expected \d+",
    ),
    "unknown key": (set_config(num_block=2), "got MODEL.num_block; .* did you mean MODEL.num_blocks"),
    "number as text": (set_config(width="wide"), "MODEL.width .* got 'wide'; expected a whole number > 0"),
    "number as boolean": (set_config(num_blocks=True), "MODEL.num_blocks .* got True"),
    "other position encoding": (
        set_config(pe_mode="rope"), "pe_mode .* got 'rope'; expected ape, as released",
    ),
    "channels and stages": (set_config(decoder_blocks=[1, 1, 1]), "decoder_channel .* expected 4 numbers"),
    "heads": (set_config(num_heads=3), "MODEL.model_channels .* expected multiples of 3"),
    "latent channels": (set_config(df_in_channels=5), "df_in_channels .* got 5; expected 4"),
    "too many stages": (
        set_config(decoder_blocks=[1] * 5, decoder_channel=[8] * 6), "depth .* got 4; expected at least 5"
    ),
    "no YAML": (write("dit.yaml", "MODEL: [1, 2"), "--config .* expected a YAML file"),
    "YAML of a list": (write("dit.yaml", "- 1"), "got list; expected the sections"),
    "section of a list": (write("dit.yaml", "MODEL: [1]"), "MODEL in .* expected a section"),
    "unknown section": (write("dit.yaml", "MODELS: {}"), "got MODELS; .* did you mean MODEL"),
    "unknown data key": (write("dit.yaml", "DATA: {test: {edges: x}}"), "got DATA.test.edges"),
    "unknown data part": (write("dit.yaml", "DATA: {depth: 8}"), "got DATA.depth"),
    "YAML that runs code": (
        write("dit.yaml", "MODEL: !!python/object/apply:os.system ['touch it_ran']"),
        "--config .* got could not",
    ),
    "binary YAML": (write("dit.yaml", b"\x80\x02\xff"), "--config .* expected a YAML file"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_refused(
    name: str,
    release: Release,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil, message = CASES[name]
    spoil(release)
    monkeypatch.chdir(tmp_path)
    assert main([*release.arguments, "--out", str(tmp_path / "bundle")]) == 2
    output = capsys.readouterr()
    lines = [line for line in output.err.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1 and lines[0].startswith("error: ") and not output.out
    with pytest.raises(InputError, match=message):
        raise InputError(lines[0])
    assert sorted(os.listdir(tmp_path)) == ["release"]  # nothing half-written, nothing run


def test_no_encoder_says_what_to_download(
    release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release.file("dinov2_vitl14_reg4_pretrain.pth").unlink()
    arguments = release.arguments
    at = arguments.index("--image-encoder")
    del arguments[at : at + 2]
    assert main([*arguments, "--out", str(tmp_path / "bundle")]) == 2
    error = capsys.readouterr().err
    assert (
        "no --image-encoder" in error and "dinov2_vitl14_reg4_pretrain.pth" in error and "https://" in error
    )


def test_other_files_are_not_overwritten(
    release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/thesis.txt").write_text("years of work")
    assert main([*release.arguments, "--out", str(tmp_path / "bundle")]) == 2
    assert "a directory with other files" in capsys.readouterr().err
    assert (tmp_path / "bundle/thesis.txt").read_text() == "years of work"


def test_a_file_in_the_way(release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bundle").write_text("a file")
    assert main([*release.arguments, "--out", str(tmp_path / "bundle")]) == 2
    assert "where a directory should be" in capsys.readouterr().err


@pytest.mark.parametrize("points", ["0", "15", "99999999"])
def test_points(points: str, release: Release, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*release.arguments, "--out", str(tmp_path / "b"), "--points", points]) == 2
    assert f"--points: got {points}; expected 16 to" in capsys.readouterr().err


def test_unusual_and_allowed_topologies_are_said(release: Release) -> None:
    """A template of any size passes, as do edges near the mesh's, and a mesh near the template."""
    folder, files = release.folder / "data", ReleaseConfig.load(release.file("dit.yaml")).files

    def read() -> tuple[ReleaseTopology, str]:
        notes: list[str] = []
        return read_topology(folder, files, 2, notes.append), "\n".join(notes)

    usual, said = read()
    assert said == "" and usual.radius_m == pytest.approx(0.07)
    change_npz("template_vertices.npz", "vertices", lambda v: v * 17)(release)
    change_array("edges.npy", lambda e: np.delete(e, [0, np.flatnonzero((e == e[0, ::-1]).all(1))[0]], 0))(
        release
    )
    other, said = read()
    assert "not sphere-normalised (radius 17)" in said and "differs from the sides" in said
    assert len(other.hierarchy.levels[0].edges) == len(usual.hierarchy.levels[0].edges) - 2
    obj = release.file("template.obj")
    obj.write_text(re.sub(r"(?m)^v (\S+)", lambda match: f"v {2 * float(match[1])}", obj.read_text()))
    assert "differ in shape" in read()[1]


@pytest.mark.parametrize(("scale", "radius"), [(0.01, 0.07), (1.0, 0.07), (1 / 7, 0.2), (100.0, 0.2)])
def test_size_of_a_head(scale: float, radius: float, release: Release) -> None:
    """Templates are in metres, in centimetres, or say nothing of size."""
    obj = release.file("template.obj")
    lines = [line.split() for line in obj.read_text().splitlines()]
    scaled = [["v", *(str(float(x) * scale) for x in ws[1:])] if ws[0] == "v" else ws for ws in lines]
    obj.write_text("\n".join(" ".join(words) for words in scaled))
    notes: list[str] = []
    files = ReleaseConfig.load(release.file("dit.yaml")).files
    assert read_topology(release.folder / "data", files, 2, notes.append).radius_m == pytest.approx(
        radius, rel=1e-4
    )
    assert bool(notes) == (radius == 0.2)


def test_released_values_are_the_default() -> None:
    config = ReleaseConfig.load(None)
    assert config.vae["decoder_blocks"] == [4, 4, 3, 3] and config.vae["num_latents"] == 1513
    assert (config.dit["num_blocks"], config.dit["num_heads"], config.dit["cond_channels"]) == (24, 16, 1024)
    assert config.files.clusters == "cluster.npz" and config.files.depth == 8


RELEASED = """
SOLVER: {gpu: 0,  run: train}
DATA:
    train: {depth: &depth 8, edge_file: &edges ./data/edges.npy, filelist: x.txt, scale_range: [0.8, 1.0]}
    test: {depth: *depth, edge_file: *edges, cluster_file: ./data/clusters8.npz, seeds: []}
MODEL:
    code_channel: &code 32
    df_in_channels: *code
    vae_ckpt: ./x.pth
    sigma_min: 1e-5
    cfg_strength: 2
LOSS: {kl_weight: 0.001}
"""


def test_configuration_is_laid_out_as_in_the_release(tmp_path: Path) -> None:
    """YAML anchors, sections that nothing reads, and an overlay whose base lies beside it are understood."""
    (tmp_path / "dit.yaml").write_text(RELEASED)
    config = ReleaseConfig.load(tmp_path / "dit.yaml")
    assert config.files.clusters == "clusters8.npz"
    assert (config.model["sigma_min"], config.model["cfg_strength"]) == (1e-5, 2)
    (tmp_path / "dit_test.yaml").write_text(
        "MODEL: {cfg_strength: 1.5}\nDATA: {test: {test_image_path: a.png}}\n"
    )
    overlaid = ReleaseConfig.load(tmp_path / "dit_test.yaml")
    assert (overlaid.model["cfg_strength"], overlaid.files.clusters) == (1.5, "clusters8.npz")
    (tmp_path / "vae.yaml").write_text("")
    with pytest.raises(InputError, match="NoneType"):
        ReleaseConfig.load(tmp_path / "vae.yaml")
