"""Universal Scene Description: a UsdSkel character of one mesh, through Pixar's `pxr` (PyPI: usd-core).

    /head            SkelRoot, the default prim
      /head/mesh     polygons, UVs per corner, normals per vertex, skin; below it one BlendShape per shape
      /head/skeleton Skeleton, its joints as paths; animated by
      /head/rest     SkelAnimation with every blendshape at 0: the place to set weights
      /head/teeth    and /head/lashes: meshes of their own, with skin and BlendShapes, for a head with parts
      /head/skin     Material, a UsdPreviewSurface; for a head with parts, one for each key of MATERIALS in
                     /head/materials, bound by GeomSubsets of the mesh

Names are made into identifiers ("jaw 1" -> "jaw_1"). The skeleton's custom data `topos_rt:humanoid` says
which joints are those of a humanoid. Source: the UsdGeom, UsdSkel and UsdShade schemas.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from topos_rt.errors import MissingExtraError
from topos_rt.formats.glb import MATERIAL
from topos_rt.formats.materials import MATERIALS, PartMesh, part_meshes
from topos_rt.formats.morphs import Morph, morphs, surface_morphs
from topos_rt.formats.options import UNITS, ExportOptions
from topos_rt.formats.usd_textures import add_materials, add_pictures, bind_material
from topos_rt.head.mesh import HeadMesh
from topos_rt.head.rig import Rig
from topos_rt.head.skeleton import humanoid_joints


def write_usd(mesh: HeadMesh, options: ExportOptions | None = None) -> bytes:
    """Return the head as a binary layer (.usd). A head gives the same bytes in the same version of USD.

    Raises MissingExtraError without usd-core.
    """
    stage = _stage(mesh, options or ExportOptions())  # kept, because the layer dies with its stage
    with tempfile.TemporaryDirectory(prefix="topos-rt-") as directory:  # USD writes .usdc to files only
        path = Path(directory) / "head.usdc"
        stage.GetRootLayer().Export(str(path))
        return path.read_bytes()


def write_usda(mesh: HeadMesh, options: ExportOptions | None = None) -> bytes:
    """Return the head as a text layer (.usda), several times larger.

    Raises MissingExtraError without usd-core.
    """
    stage = _stage(mesh, options or ExportOptions())
    text: str = stage.GetRootLayer().ExportToString()
    return text.encode()


def _stage(mesh: HeadMesh, options: ExportOptions) -> Any:
    try:
        from pxr import Usd, UsdGeom, UsdSkel
    except ImportError as error:
        raise MissingExtraError.needs("writing USD", "usd") from error
    options.refuse_quantized("usd")
    rig = options.rig_of(mesh)
    stage = Usd.Stage.CreateInMemory("head.usda")
    UsdGeom.SetStageUpAxis(stage, options.up.upper())
    UsdGeom.SetStageMetersPerUnit(stage, 1 / UNITS[options.units])
    root = UsdSkel.Root.Define(stage, "/head")
    Usd.ModelAPI(root).SetKind("component")
    stage.SetDefaultPrim(root.GetPrim())
    stage.GetRootLayer().customLayerData = {
        "topos_rt:metadata": json.dumps(dict(mesh.metadata)),
        "topos_rt:vertexOrder": "vertex i is the same point of the head in every file of this topology",
    }
    shape = _mesh(stage, mesh, options)
    if rig is not None:
        _skin(stage, shape, rig, options)
        _blendshapes(stage, shape, mesh, rig, options)
    root.CreateExtentAttr(shape.GetExtentAttr().Get())
    _material(stage, shape)
    if mesh.texture is not None and options.beside is not None:
        add_pictures(stage, mesh.texture, options.beside)
    parts = options.parts_of(mesh)
    if parts is not None:
        add_materials(stage, shape, mesh, parts.kit, options.beside)
        for part in part_meshes(parts):
            _part(stage, part, options)
    return stage


def _part(stage: Any, part: PartMesh, options: ExportOptions) -> None:
    """Add the mesh of a part, with what its rig gives it."""
    from pxr import Sdf, UsdGeom, Vt

    points = options.place(part.positions)
    shape = UsdGeom.Mesh.Define(stage, f"/head/{part.material}")
    shape.CreatePointsAttr(_vectors(points))
    shape.CreateExtentAttr(_vectors(np.stack([points.min(0), points.max(0)])))
    shape.CreateFaceVertexCountsAttr(Vt.IntArray([4] * len(part.quads)))
    shape.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(part.quads.reshape(-1))))
    shape.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    shape.CreateOrientationAttr(UsdGeom.Tokens.rightHanded)
    shape.CreateDoubleSidedAttr(MATERIALS[part.material].translucent)
    shape.CreateNormalsAttr(_vectors(options.turn(part.normals)))
    shape.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    uvs = UsdGeom.PrimvarsAPI(shape).CreatePrimvar(
        "st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex
    )
    uvs.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(part.uvs, np.float32)))
    bind_material(stage, shape, part.material)
    if part.rig is not None:
        _bind(stage, shape, part.rig)
        _shapes(stage, shape, list(surface_morphs(part.positions, part.triangles, part.rig)), options)


def _mesh(stage: Any, mesh: HeadMesh, options: ExportOptions) -> Any:
    from pxr import Sdf, UsdGeom, Vt

    topology = mesh.topology
    points = options.place(mesh.positions)
    shape = UsdGeom.Mesh.Define(stage, "/head/mesh")
    shape.CreatePointsAttr(_vectors(points))
    shape.CreateExtentAttr(_vectors(np.stack([points.min(0), points.max(0)])))
    shape.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(topology.polygon_sizes.astype(np.int32)))
    shape.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(topology.polygon_vertices.astype(np.int32)))
    # the normals are the head's, not those of a subdivision surface
    shape.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    shape.CreateOrientationAttr(UsdGeom.Tokens.rightHanded)
    shape.CreateNormalsAttr(_vectors(options.turn(mesh.normals)))
    shape.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    if topology.has_uvs:
        uvs = UsdGeom.PrimvarsAPI(shape).CreatePrimvar(
            "st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying
        )
        uvs.Set(Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(topology.uvs, np.float32)))
        uvs.SetIndices(Vt.IntArray.FromNumpy(topology.polygon_uvs.astype(np.int32)))
    return shape


def _skin(stage: Any, shape: Any, rig: Rig, options: ExportOptions) -> None:
    from pxr import Gf, UsdSkel, Vt

    paths: list[str] = []
    for name, parent in zip(identifiers(rig.joint_names), rig.joint_parents, strict=True):
        paths.append(name if parent < 0 else f"{paths[parent]}/{name}")
    places = options.place(rig.joint_positions).astype(np.float64)
    start = np.where(rig.joint_parents[:, None] < 0, 0, places[rig.joint_parents])
    skeleton = UsdSkel.Skeleton.Define(stage, "/head/skeleton")
    skeleton.CreateJointsAttr(paths)
    skeleton.CreateJointNamesAttr(list(rig.joint_names))
    skeleton.GetPrim().SetCustomDataByKey("topos_rt:humanoid", humanoid_joints(rig.joint_names))
    for attribute, shifts in (
        (skeleton.CreateBindTransformsAttr(), places),
        (skeleton.CreateRestTransformsAttr(), places - start),
    ):
        matrices = [Gf.Matrix4d(1).SetTranslate(Gf.Vec3d(*shift)) for shift in shifts.tolist()]
        attribute.Set(Vt.Matrix4dArray(matrices))
    _bind(stage, shape, rig)


def _bind(stage: Any, shape: Any, rig: Rig) -> None:
    """Let the skeleton move a mesh."""
    from pxr import Gf, UsdSkel, Vt

    binding = UsdSkel.BindingAPI.Apply(shape.GetPrim())
    binding.CreateSkeletonRel().SetTargets([stage.GetPrimAtPath("/head/skeleton").GetPath()])
    binding.CreateGeomBindTransformAttr(Gf.Matrix4d(1))
    joints = np.ascontiguousarray(rig.skin_joints.astype(np.int32).ravel())
    binding.CreateJointIndicesPrimvar(False, 4).Set(Vt.IntArray.FromNumpy(joints))
    weights = np.ascontiguousarray(rig.skin_weights.ravel())
    binding.CreateJointWeightsPrimvar(False, 4).Set(Vt.FloatArray.FromNumpy(weights))


def _blendshapes(stage: Any, shape: Any, mesh: HeadMesh, rig: Rig, options: ExportOptions) -> None:
    from pxr import UsdSkel

    names = identifiers(rig.shape_names)
    _shapes(stage, shape, list(morphs(mesh, rig)), options, every=True)
    if not names:
        return
    rest = UsdSkel.Animation.Define(stage, "/head/rest")
    rest.CreateBlendShapesAttr(names)
    rest.CreateBlendShapeWeightsAttr([0.0] * len(names))
    skeleton = UsdSkel.BindingAPI.Apply(stage.GetPrimAtPath("/head/skeleton"))
    skeleton.CreateAnimationSourceRel().SetTargets([rest.GetPath()])


def _shapes(stage: Any, shape: Any, found: list[Morph], options: ExportOptions, every: bool = False) -> None:
    """Add blendshapes to a mesh; every: also those that move nothing of it."""
    from pxr import UsdSkel, Vt

    names, targets = [], []
    for name, morph in zip(identifiers([morph.name for morph in found]), found, strict=True):
        if not every and not len(morph.vertices):
            continue
        target = UsdSkel.BlendShape.Define(stage, shape.GetPath().AppendChild(name))
        target.CreateOffsetsAttr(_vectors(options.place(morph.offsets)))
        target.CreateNormalOffsetsAttr(_vectors(options.turn(morph.normals)))
        target.CreatePointIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(morph.vertices)))
        names.append(name)
        targets.append(target.GetPath())
    if names:
        binding = UsdSkel.BindingAPI(shape.GetPrim())
        binding.CreateBlendShapesAttr(names)
        binding.CreateBlendShapeTargetsRel().SetTargets(targets)


def _material(stage: Any, shape: Any) -> None:
    from pxr import Gf, Sdf, UsdShade

    surface = MATERIAL["pbrMetallicRoughness"]
    material = UsdShade.Material.Define(stage, "/head/skin")
    shader = UsdShade.Shader.Define(stage, "/head/skin/surface")
    shader.CreateIdAttr("UsdPreviewSurface")
    inputs = {
        "diffuseColor": (Sdf.ValueTypeNames.Color3f, Gf.Vec3f(*surface["baseColorFactor"][:3])),
        "metallic": (Sdf.ValueTypeNames.Float, surface["metallicFactor"]),
        "roughness": (Sdf.ValueTypeNames.Float, surface["roughnessFactor"]),
    }
    for name, (kind, value) in inputs.items():
        shader.CreateInput(name, kind).Set(value)
    material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
    UsdShade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(material)


def identifiers(names: Sequence[str]) -> list[str]:
    """Return names that USD allows, all different."""
    from pxr import Tf

    found: list[str] = []
    for name in names:
        base = plain = Tf.MakeValidIdentifier(name)
        number = 2
        while plain in found:
            plain, number = f"{base}_{number}", number + 1
        found.append(plain)
    return found


def _vectors(values: np.ndarray) -> Any:
    from pxr import Vt

    return Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values, np.float32))
