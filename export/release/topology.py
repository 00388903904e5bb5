"""Read the release's topology folder: mesh, template, edges and clusters, checked against each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from export.release.config import TopologyFiles
from topos_rt.errors import MeshInputError
from topos_rt.formats.mesh_file import MeshFile
from topos_rt.formats.mesh_reader import read_mesh
from topos_rt.head.hierarchy import Hierarchy
from topos_rt.head.topology import Topology
from topos_rt.support.npyfile import read_arrays
from topos_rt.support.similarity import sphere_frame

FACES = "faces.npy"
NOMINAL_RADIUS_M = 0.2  # of head, neck and collar, for a mesh that does not say its units
_SAME = "take all files of the folder from one release"
_SHARED_EDGES = 0.9  # least share of the edges that are sides of the mesh's polygons
_NEAR = 0.02  # share of the template's radius
_COINCIDENT = 1e-3  # a template with a smaller radius has lost its shape, whatever its unit
_SPREAD = 0.5  # largest spread of a cluster's members, as a share of that of the whole mesh


@dataclass(frozen=True, eq=False)
class ReleaseTopology:
    """A topology that was read from the release's formats."""

    topology: Topology
    hierarchy: Hierarchy
    radius_m: float  # metres of one unit of the networks' frame
    files: tuple[Path, ...]  # the files that were read


def read_topology(
    directory: Path, files: TopologyFiles, stages: int, note: Callable[[str], None]
) -> ReleaseTopology:
    """Read and check the folder, and pool the hierarchy with the user's own cluster maps.

    stages: number of stages of the decoder. note: is called with a line for everything unusual but allowed.

    Raises MeshInputError for a missing, damaged or foreign file, indices out of range, degenerate polygons,
    and files of different meshes.
    """
    if not directory.is_dir():
        _refuse(
            f"--topology {directory}", "no such directory", "the release's data folder", fix="check the path"
        )
    mesh = read_mesh(directory / files.mesh)
    if not mesh.as_written:  # good enough for a scan, but not for the topology of all heads
        what = f"{directory / files.mesh}"
        _refuse(
            what, "polygons with the same vertex twice", "distinct corners", fix="remove degenerate polygons"
        )
    vertices, normals = _read_template(directory / files.vertices, mesh, note)
    edges = _read_edges(directory / files.edges, mesh.topology, note)
    clusters = _read_clusters(directory / files.clusters, files.depth)
    used = [directory / name for name in (files.mesh, files.vertices, files.edges, files.clusters)]
    if (directory / FACES).exists():
        _check_faces(directory / FACES, mesh.topology)
        used.append(directory / FACES)
    if not mesh.topology.has_uvs:
        note(f"{directory / files.mesh} has no UVs: heads will have none")
    hierarchy = Hierarchy.build(vertices, normals, edges, clusters)
    _check_spread(hierarchy, directory / files.clusters, stages)
    return ReleaseTopology(
        mesh.topology, hierarchy, _radius(mesh, vertices, directory, files, note), tuple(used)
    )


def _read_template(path: Path, mesh: MeshFile, note: Callable[[str], None]) -> tuple[np.ndarray, np.ndarray]:
    arrays = _read_npz(path)
    count = mesh.topology.num_vertices
    found = []
    for name in ("vertices", "normals"):
        array = _member(arrays, name, path)
        if array.dtype.kind != "f" or array.shape != (count, 3):
            _refuse(
                f"{path}: {name}",
                f"{array.dtype} {list(array.shape)}",
                f"floating-point numbers [{count},3], as many as the mesh has vertices",
            )
        if not np.isfinite(array).all():
            _refuse(f"{path}: {name}", "NaN or infinite values", "finite numbers")
        found.append(array.astype(np.float32))
    centre, radius = sphere_frame(found[0])
    if radius < _COINCIDENT:
        _refuse(f"{path}: vertices", f"a radius of {radius:.3g}", "the template head")
    if abs(radius - 1) > _NEAR:
        note(f"{path} is not sphere-normalised (radius {radius:.3g}); it is normalised here")
        found[0] = ((found[0] - centre) / radius).astype(np.float32)
    return found[0], found[1]


def _read_edges(path: Path, topology: Topology, note: Callable[[str], None]) -> np.ndarray:
    edges = _read_ids(path, 2, "[E,2], both directions")
    count = topology.num_vertices
    _check_range(edges, count, path)
    key = np.sort(edges[:, 0].astype(np.int64) * count + edges[:, 1])
    back = np.sort(edges[:, 1].astype(np.int64) * count + edges[:, 0])
    whole = len(np.unique(key)) == len(key) and np.array_equal(key, back)
    if not whole or bool((edges[:, 0] == edges[:, 1]).any()):
        _refuse(
            str(path),
            "loops, repeated edges, or edges in one direction only",
            "every edge once in each direction",
        )
    sides = topology.edges[:, 0] * count + topology.edges[:, 1]
    shared = len(np.intersect1d(key, sides)) / max(len(key), len(sides))
    if shared < _SHARED_EDGES:
        _refuse(
            str(path),
            f"edges of which {shared:.0%} are sides of the mesh's polygons",
            "the sides of its polygons",
        )
    if shared < 1:
        note(f"{path} differs from the sides of the mesh's polygons; its edges are used, as in the release")
    return edges


def _read_clusters(path: Path, depth: int) -> list[np.ndarray]:
    arrays = _read_npz(path)
    maps = []
    for level in range(1, depth + 1):
        array = _member(arrays, f"depth{level}", path)
        if array.dtype.kind not in "iu" or array.ndim != 1:
            _refuse(
                f"{path}: depth{level}",
                f"{array.dtype} {list(array.shape)}",
                "whole numbers, one for each node of the level below",
            )
        maps.append(array)
    return maps


def _check_faces(path: Path, topology: Topology) -> None:
    """Check the triangles against the mesh; the networks do not need them."""
    faces = _read_ids(path, 3, "[F,3]")
    _check_range(faces, topology.num_vertices, path)
    same = (faces == faces[:, [1, 2, 0]]).any(1)
    if same.any():
        _refuse(f"{path}: face {int(np.argmax(same))}", "the same vertex twice", "three different vertices")
    if len(faces) != len(topology.triangles):
        _refuse(str(path), f"{len(faces)} triangles", f"{len(topology.triangles)}, as the mesh has")


def _check_spread(hierarchy: Hierarchy, path: Path, stages: int) -> None:
    """Refuse clusters that join vertices from everywhere: their map was made for another mesh."""
    for number in range(1, stages + 1):
        below, cluster = hierarchy.levels[number - 1].features[:, :3], hierarchy.levels[number].cluster
        crowded = np.bincount(cluster)[cluster] > 1
        if crowded.any():
            apart = below[crowded] - hierarchy.levels[number].features[cluster[crowded], :3]
            whole = below - below.mean(0)
            if np.sqrt((apart**2).sum(1).mean()) > _SPREAD * np.sqrt((whole**2).sum(1).mean()):
                _refuse(
                    f"{path}: depth{number}",
                    "clusters of vertices far apart",
                    "clusters of neighbours",
                    fix="use the cluster file made for this mesh",
                )
            return


def _radius(
    mesh: MeshFile, vertices: np.ndarray, directory: Path, files: TopologyFiles, note: Callable[[str], None]
) -> float:
    """Return the metres of one network unit by the size of the mesh; the released one is in centimetres."""
    centre, radius = sphere_frame(mesh.positions)
    own_centre, own_radius = sphere_frame(vertices)
    apart = (mesh.positions - centre) / radius - (vertices - own_centre) / own_radius
    if float(np.linalg.norm(apart, axis=1).max()) > _NEAR:
        note(f"{directory / files.mesh} and {files.vertices} differ in shape; the latter gives the hierarchy")
    if 5 <= radius <= 100:
        return radius / 100
    if 0.05 <= radius <= 0.5:
        return radius
    note(
        f"{directory / files.mesh} has a radius of {radius:.3g}, neither metres nor centimetres:"
        f" heads get {NOMINAL_RADIUS_M} m"
    )
    return NOMINAL_RADIUS_M


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    loaded = _load(path)
    if isinstance(loaded, np.ndarray):
        _refuse(str(path), "a single array", "an .npz archive")
    return loaded


def _read_ids(path: Path, columns: int, expected: str) -> np.ndarray:
    array = _load(path)
    if not isinstance(array, np.ndarray):
        _refuse(str(path), "an .npz archive", "an .npy array")
    if array.dtype.kind not in "iu" or array.ndim != 2 or array.shape[1] != columns or not len(array):
        _refuse(str(path), f"{array.dtype} {list(array.shape)}", f"whole numbers {expected}")
    return array


def _load(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    """Load an array or a dict of them. Pickled objects are refused, since NumPy would run them."""
    try:
        return read_arrays(path)
    except FileNotFoundError as error:
        raise MeshInputError(
            str(path),
            got="no such file",
            expected="it in the topology folder",
            fix="copy the release's data folder whole",
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MeshInputError(str(path), got=reason, expected="plain NumPy arrays", fix=_SAME) from error


def _member(arrays: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    if name not in arrays:
        _refuse(str(path), f"the arrays {', '.join(sorted(arrays)[:10]) or '(none)'}", f"one called {name}")
    return arrays[name]


def _check_range(ids: np.ndarray, count: int, path: Path) -> None:
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= count:
        _refuse(f"{path}: vertex ids", f"{low}..{high}", f"0..{count - 1}")


def _refuse(what: str, got: object, expected: str, fix: str = _SAME) -> NoReturn:
    raise MeshInputError(what, got=got, expected=expected, fix=fix)
