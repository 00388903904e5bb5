#include "model_data.h"

#include <cmath>
#include <string>

#include "face.h"
#include "fault.h"

namespace topos {
namespace {

constexpr uint32_t kMostVertices = 1U << 24, kLargest = 1U << 20, kMostPartVertices = 1U << 16;
constexpr int64_t kSurfaces = 3;
constexpr const char* kGraphNames[kGraphs] = {"image_encoder", "dit_modulation", "dit_context",
                                              "dit_step", "dit_step_guided", "vae_decoder"};

[[noreturn]] void wrong(const std::string& what, const std::string& got, const std::string& expected) {
  fail(TOPOS_E_PACK, what + " of the pack", got, expected, "make the pack again with 'topos-rt pack'");
}

template <class T>
void require_below(const Rows<T>& ids, int64_t low, int64_t end, const char* what) {
  for (size_t at = 0; at < ids.count(); ++at) {
    const int64_t id = ids[at];
    if (id < low || id >= end) {
      wrong(what, std::to_string(id), std::to_string(low) + " to " + std::to_string(end - 1));
    }
  }
}

void require_finite(const Rows<float>& numbers, const char* what) {
  for (size_t at = 0; at < numbers.count(); ++at) {
    if (!(std::fabs(numbers[at]) <= 1e6F)) wrong(what, "a number that is not finite, or huge", "numbers up to 1e6");
  }
}

// Offsets rise from 0 to the number of what they divide.
void require_offsets(const Rows<int32_t>& offsets, size_t end, const char* what) {
  bool fits = offsets.rows > 0 && offsets[0] == 0 && static_cast<size_t>(offsets[offsets.rows - 1]) == end;
  for (size_t at = 1; at < offsets.rows; ++at) fits = fits && offsets[at] >= offsets[at - 1];
  if (!fits) wrong(what, "other numbers", "numbers that rise from 0 to " + std::to_string(end));
}

}  // namespace

const std::vector<Evidence>& evidence_table() {
  static const std::vector<Evidence> kTable = {
      {"landmarks", {1, 478, 3}, false}, {"pose", {1, 2}, false},     {"expression", {1, 52}, false},
      {"identity", {1, 128}, true},      {"features", {1, 128, 8, 8}, true},
  };
  return kTable;
}

ModelData::ModelData(const Pack& from) : pack(from) {
  read_settings();
  read_presets();
  read_meshes();
  read_rig();
  read_regions();
  read_parts();
  read_faces();
}

void ModelData::read_settings() {
  if (pack.strings(Kind::kAbout) != kAbouts) {
    wrong("texts", std::to_string(pack.strings(Kind::kAbout)), std::to_string(static_cast<int>(kAbouts)));
  }
  for (size_t at = 0; at < kAbouts; ++at) about.push_back(pack.string(Kind::kAbout, at));
  const auto sizes = pack.exactly<uint32_t>(Kind::kSizes, 1, kSizesCount);
  const auto numbers = pack.exactly<double>(Kind::kNumbers, 1, kNumbersCount);
  const auto turn = pack.exactly<float>(Kind::kRotation, 3, 3);
  std::copy(sizes.data, sizes.data + kSizesCount, size);
  std::copy(numbers.data, numbers.data + kNumbersCount, number);
  std::copy(turn.data, turn.data + 9, rotation);
  require_finite(turn, "rotation");
  topology_id = pack.exactly<uint8_t>(Kind::kTopologyId, 1, 32).data;
  for (int at = kImageHeight; at <= kLatentChannels; ++at) {
    if (size[at] == 0 || size[at] > kLargest) wrong("sizes", std::to_string(size[at]), "1 to 2^20");
  }
  if (size[kVertices] == 0 || size[kVertices] > kMostVertices) {
    wrong("vertices", std::to_string(size[kVertices]), "1 to 2^24");
  }
  const std::vector<Evidence>& table = evidence_table();
  if (size[kEvidence] >> table.size() != 0) {
    fail(TOPOS_E_UNSUPPORTED, "evidence that the model takes", "some that this library does not know", "",
         "use a later version of this library");
  }
  for (size_t at = 0; at < table.size(); ++at) {
    if ((size[kEvidence] >> at & 1U) != 0) evidence.push_back(&table[at]);
  }
  const auto within = [this](Number which, double low, double high) {
    if (!(number[which] >= low && number[which] <= high)) {
      wrong("numbers", std::to_string(number[which]), std::to_string(low) + " to " + std::to_string(high));
    }
  };
  within(kSigmaMin, 0, 1);
  within(kGuidance, 0, 1000);
  within(kTemperature, 0, 2);
  within(kRadius, 1e-9, 1e6);
  variation = pack.rows<float>(Kind::kVariation, 0);
  if (variation.rows > 0) {
    within(kOpenTemperature, 0, 2);
    require_finite(variation, "variation");
    if (variation.columns != latent()) {
      wrong("variation", std::to_string(variation.columns) + " columns", std::to_string(latent()));
    }
  }
}

void ModelData::read_presets() {
  const size_t count = pack.strings(Kind::kPresetNames), solvers = pack.strings(Kind::kSolverNames);
  const auto counts = pack.exactly<uint32_t>(Kind::kPresetCounts, count, 3);
  const auto numbers = pack.exactly<double>(Kind::kPresetNumbers, count, 5);
  if (count == 0 || size[kDefaultPreset] >= count) wrong("presets", std::to_string(count), "one or more");
  for (size_t at = 0; at < count; ++at) {
    const uint32_t* whole = counts.row(at);
    const double* real = numbers.row(at);
    presets.push_back({whole[0], whole[1], whole[2], real[0], real[1], real[2], real[3], real[4]});
    preset_names.push_back(pack.string(Kind::kPresetNames, at));
    if (whole[1] >= solvers) wrong("solver of a preset", std::to_string(whole[1]), "one of its names");
  }
}

void ModelData::read_meshes() {
  for (uint16_t level = 0; level < kAtlasMesh && pack.has(Kind::kMeshVertices, level); ++level) {
    MeshData mesh;
    mesh.vertices = *pack.exactly<uint32_t>(Kind::kMeshVertices, 1, 1, level).data;
    mesh.source = pack.rows<int32_t>(Kind::kMeshSource, 1, level);
    mesh.triangles = pack.rows<int32_t>(Kind::kMeshTriangles, 3, level);
    mesh.uvs = pack.rows<float>(Kind::kMeshUvs, 2, level);
    const size_t count = mesh.source.rows;
    const bool fits = mesh.vertices > 0 && mesh.vertices <= count && count <= kMostVertices &&
                      mesh.triangles.rows > 0 && (mesh.uvs.rows == 0 || mesh.uvs.rows == count);
    if (!fits) wrong("mesh " + std::to_string(level), std::to_string(count) + " vertices", "a whole mesh");
    require_below(mesh.source, 0, size[kVertices], "mesh_source");
    require_below(mesh.triangles, 0, static_cast<int64_t>(count), "mesh_triangles");
    require_finite(mesh.uvs, "mesh_uvs");
    if (pack.has(Kind::kMeshSurfaces, level)) {
      mesh.surfaces = pack.exactly<uint8_t>(Kind::kMeshSurfaces, mesh.triangles.rows, 1, level);
      mesh.shade = pack.exactly<uint8_t>(Kind::kMeshShade, count, 1, level);
      require_below(mesh.surfaces, 0, kSurfaces, "mesh_surfaces");
    }
    std::vector<int32_t> own(size[kVertices], 0);
    for (uint32_t at = 0; at < mesh.vertices; ++at) {
      own[static_cast<size_t>(mesh.source[at])] = static_cast<int32_t>(at);
    }
    for (size_t at = 0; at < mesh.triangles.count(); ++at) {
      const auto copy = static_cast<size_t>(mesh.triangles[at]);
      mesh.corners.push_back(own[static_cast<size_t>(mesh.source[copy])]);
    }
    meshes.push_back(std::move(mesh));
  }
  if (meshes.empty() || meshes[0].vertices != size[kVertices]) wrong("meshes", "none of all vertices", "one");
}

void ModelData::read_rig() {
  if (!pack.has(Kind::kJointNames)) return;
  rig.joints = static_cast<uint32_t>(pack.strings(Kind::kJointNames));
  rig.shapes = static_cast<uint32_t>(pack.strings(Kind::kShapeNames));
  if (pack.strings(Kind::kJointHumanoid) != rig.joints) {
    wrong("joint_humanoid", std::to_string(pack.strings(Kind::kJointHumanoid)), std::to_string(rig.joints));
  }
  rig.parents = pack.exactly<int32_t>(Kind::kJointParents, rig.joints, 1);
  rig.joint_positions = pack.exactly<float>(Kind::kJointPositions, rig.joints, 3);
  rig.skin_joints = pack.exactly<uint16_t>(Kind::kSkinJoints, vertices(), 4);
  rig.skin_weights = pack.exactly<float>(Kind::kSkinWeights, vertices(), 4);
  rig.shape_index = pack.rows<int32_t>(Kind::kShapeIndex, 1);
  rig.shape_delta = pack.exactly<float>(Kind::kShapeDelta, rig.shape_index.rows, 3);
  rig.shape_offsets = pack.exactly<int32_t>(Kind::kShapeOffsets, size_t{rig.shapes} + 1, 1);
  for (size_t joint = 0; joint < rig.joints; ++joint) {
    const int64_t parent = rig.parents[joint];
    if (parent < -1 || parent >= static_cast<int64_t>(joint)) {
      wrong("joint_parents", std::to_string(parent), "-1 or an earlier joint");
    }
  }
  require_finite(rig.joint_positions, "joint_positions");
  require_below(rig.skin_joints, 0, rig.joints, "skin_joints");
  require_finite(rig.skin_weights, "skin_weights");
  require_offsets(rig.shape_offsets, rig.shape_index.rows, "shape_offsets");
  require_below(rig.shape_index, 0, size[kVertices], "shape_index");
  require_finite(rig.shape_delta, "shape_delta");
  for (size_t shape = 0; shape < rig.shapes; ++shape) {
    for (int32_t at = rig.shape_offsets[shape] + 1; at < rig.shape_offsets[shape + 1]; ++at) {
      if (rig.shape_index[static_cast<size_t>(at)] <= rig.shape_index[static_cast<size_t>(at) - 1]) {
        wrong("shape_index", "ids out of order", "rising ids in each shape");
      }
    }
  }
  read_binding();
}

void ModelData::read_binding() {
  rig.head = pack.rows<float>(Kind::kBindTemplate, 3);
  if (rig.head.rows == 0) return;
  if (rig.head.rows != vertices()) wrong("bind_template", std::to_string(rig.head.rows), std::to_string(vertices()));
  rig.joint_index = pack.rows<int32_t>(Kind::kBindJointIndex, 1);
  rig.joint_weight = pack.exactly<float>(Kind::kBindJointWeight, rig.joint_index.rows, 1);
  rig.joint_offsets = pack.exactly<int32_t>(Kind::kBindJointOffsets, size_t{rig.joints} + 1, 1);
  rig.contact_pairs = pack.rows<int32_t>(Kind::kBindContactPairs, 2);
  rig.contact_offsets = pack.exactly<int32_t>(Kind::kBindContactOffsets, size_t{rig.shapes} + 1, 1);
  rig.parts = pack.exactly<uint8_t>(Kind::kBindParts, vertices(), 1);
  require_finite(rig.head, "bind_template");
  require_finite(rig.joint_weight, "bind_joint_weight");
  require_below(rig.joint_index, 0, size[kVertices], "bind_joint_index");
  require_below(rig.contact_pairs, 0, size[kVertices], "bind_contact_pairs");
  require_offsets(rig.joint_offsets, rig.joint_index.rows, "bind_joint_offsets");
  require_offsets(rig.contact_offsets, rig.contact_pairs.rows, "bind_contact_offsets");
  for (size_t joint = 0; joint < rig.joints; ++joint) {
    if (rig.joint_offsets[joint] == rig.joint_offsets[joint + 1]) wrong("bind_joint_offsets", "a joint of nothing", "one");
  }
  bool skin = false, spread = false;
  for (size_t at = 0; at < vertices(); ++at) {
    skin = skin || rig.parts[at] == 0;
    for (size_t axis = 0; axis < 3; ++axis) spread = spread || rig.head.row(at)[axis] != rig.head.row(0)[axis];
  }
  if (!skin || !spread) wrong("bind_template", "one point, or no skin", "a surface with skin");
}

void ModelData::read_regions() {
  region_offsets = pack.exactly<int32_t>(Kind::kRegionOffsets, pack.strings(Kind::kRegionNames) + 1, 1);
  region_vertices = pack.rows<int32_t>(Kind::kRegionVertices, 1);
  require_offsets(region_offsets, region_vertices.rows, "region_offsets");
  require_below(region_vertices, 0, size[kVertices], "region_vertices");
}

void ModelData::read_parts() {
  const auto anchors = pack.rows<int32_t>(Kind::kPartAnchors, 0);
  has_parts = anchors.rows > 0;
  if (!has_parts) return;
  if (anchors.rows != PartKit::kPieces) wrong("part_anchors", std::to_string(anchors.rows), "6 rows");
  const auto weights = pack.rows<Half>(Kind::kPartWeights, anchors.columns);
  const size_t count = weights.rows;
  if (count == 0 || count >= kMostPartVertices) wrong("part_weights", std::to_string(count), "1 to 65535 rows");
  const auto pieces = pack.exactly<uint8_t>(Kind::kPartPieces, count, 1);
  const auto holders = pack.exactly<int32_t>(Kind::kPartHolders, count, 1);
  const auto quads = pack.rows<uint16_t>(Kind::kPartQuads, 4);
  const auto uvs = pack.exactly<float>(Kind::kPartUvs, count, 2), rest = pack.exactly<float>(Kind::kPartRest, count, 3);
  const size_t motions = pack.strings(Kind::kPartMotionShapes);
  const auto maps = pack.exactly<float>(Kind::kPartMotions, motions, 12);
  const auto moved = pack.exactly<uint8_t>(Kind::kPartMotionPieces, motions, 1);
  require_below(anchors, 0, size[kVertices], "part_anchors");
  require_below(pieces, 0, static_cast<int64_t>(PartKit::kPieces), "part_pieces");
  require_below(holders, 0, size[kVertices], "part_holders");
  require_below(quads, 0, static_cast<int64_t>(count), "part_quads");
  require_below(moved, 0, static_cast<int64_t>(PartKit::kPieces), "part_motion_pieces");
  require_finite(uvs, "part_uvs");
  require_finite(rest, "part_rest");
  require_finite(maps, "part_motions");
  for (size_t at = 1; at < count; ++at) {
    if (pieces[at] < pieces[at - 1]) wrong("part_pieces", "numbers out of order", "the vertices of a piece together");
  }
  for (size_t at = 0; at < quads.count(); ++at) {
    if (pieces[quads[at]] != pieces[quads[at / 4 * 4]]) wrong("part_quads", "one of several pieces", "one of one piece");
  }
  for (size_t at = 0; at < motions; ++at) {
    const std::string name = pack.string(Kind::kPartMotionShapes, at);
    int32_t shape = -1;
    for (uint32_t of = 0; of < rig.shapes; ++of) {
      if (name == pack.string(Kind::kShapeNames, of)) shape = static_cast<int32_t>(of);
    }
    motion_shapes.push_back(shape);
  }
  for (uint32_t joint = 0; joint < pack.strings(Kind::kJointHumanoid); ++joint) {
    const std::string role = pack.string(Kind::kJointHumanoid, joint);
    if (role == "head") part_joints.head = static_cast<int32_t>(joint);
    if (role == "jaw") part_joints.jaw = static_cast<int32_t>(joint);
  }
  parts.vertices = count;
  parts.anchors_each = anchors.columns;
  parts.quads = quads.rows;
  parts.motions = motions;
  parts.anchors = anchors.data;
  parts.weights = &weights.data->bits;
  parts.pieces = pieces.data;
  parts.holders = holders.data;
  parts.corners = quads.data;
  parts.uvs = uvs.data;
  parts.rest = rest.data;
  parts.motion_shapes = motion_shapes.data();
  parts.motion_pieces = moved.data;
  parts.motion_maps = maps.data;
  parts.shade = pack.exactly<uint8_t>(Kind::kPartShade, count, 1).data;
}

void ModelData::read_faces() {
  canonical.positions = pack.exactly<float>(Kind::kFacePositions, kSkinLandmarks, 3).data;
  const auto weights = pack.exactly<float>(Kind::kFaceWeights, kSkinLandmarks, 1);
  canonical.weights = weights.data;
  float total = 0;
  for (size_t at = 0; at < weights.rows; ++at) total += weights[at];
  require_finite(weights, "face_weights");
  require_finite(pack.rows<float>(Kind::kFacePositions, 3), "face_positions");
  if (!(total > 0)) wrong("face_weights", "a sum that is not above 0", "weights");
  const auto points = pack.exactly<int32_t>(Kind::kScorePoints, kExpressionPoints.size(), 1);
  bool known = pack.strings(Kind::kScoreNames) == kExpressions && number[kSideCm] == 33 && number[kMiddleX] == 0 &&
               number[kMiddleY] == 1.3 && number[kMiddleZ] == -4.5;
  for (size_t at = 0; at < points.rows; ++at) known = known && points[at] == kExpressionPoints[at];
  for (size_t at = 0; known && at < kExpressions; ++at) {
    known = std::string(pack.string(Kind::kScoreNames, at)) == kExpressionNames[at];
  }
  if (!known) {
    fail(TOPOS_E_UNSUPPORTED, "the face stage of the pack", "other rules than this library has", "",
         "use a later version of this library");
  }
  for (size_t at = 0; at < kArkitShapes; ++at) {
    arkit_shapes[at] = -1;
    for (uint32_t shape = 0; shape < rig.shapes; ++shape) {
      if (std::string(pack.string(Kind::kShapeNames, shape)) == arkit_name(at)) arkit_shapes[at] = static_cast<int>(shape);
    }
  }
  if (!pack.has(Kind::kLandmarkVertices)) return;
  const auto corners = pack.exactly<int32_t>(Kind::kLandmarkVertices, kSkinLandmarks, 3);
  const auto shares = pack.exactly<float>(Kind::kLandmarkWeights, kSkinLandmarks, 3);
  const auto noise = pack.exactly<float>(Kind::kLandmarkNoise, kSkinLandmarks, 1);
  const auto mirrored = pack.exactly<int32_t>(Kind::kLandmarkMirrored, kSkinLandmarks, 1);
  const auto irises = pack.rows<int32_t>(Kind::kLandmarkIrises, 1);
  require_below(corners, 0, size[kVertices], "landmark_vertices");
  require_finite(shares, "landmark_weights");
  require_finite(noise, "landmark_noise");
  for (size_t at = 0; at < noise.rows; ++at) {
    if (!(noise[at] > 0)) wrong("landmark_noise", "a number that is not above 0", "numbers above 0");
  }
  require_below(mirrored, 0, static_cast<int64_t>(kSkinLandmarks), "landmark_mirrored");
  require_below(irises, 0, size[kVertices], "landmark_irises");
  if (irises.rows != 0 && irises.rows != 2) wrong("landmark_irises", std::to_string(irises.rows), "0 or 2");
  landmarks = {corners.data, shares.data, noise.data, mirrored.data, irises.rows == 2 ? irises.data : nullptr};
}

bool ModelData::biometric() const {
  for (const Evidence* seen : evidence) {
    if (seen->biometric) return true;
  }
  return false;
}

EngineSource ModelData::face_graph(FaceGraph which) const {
  static constexpr const char* kNames[kFaceGraphs] = {"face_detector", "face_landmarks", "face_expression",
                                                      "face_identity"};
  EngineSource source;
  source.name = kNames[which];
  source.graph = pack.file(Kind::kFaceGraph, static_cast<uint16_t>(which));
  return source;
}

EngineSource ModelData::graph(Graph which) const {
  const auto files = pack.exactly<int32_t>(Kind::kGraphWeights, kGraphs, 2);
  const char* location = pack.string(Kind::kGraphLocations, which);
  const int32_t weights = files.row(which)[0];
  EngineSource source;
  source.name = kGraphNames[which];
  source.graph = pack.file(Kind::kGraph, static_cast<uint16_t>(which));
  if (weights >= 0 && weights < 0xffff) {
    source.location = location == nullptr ? "" : location;
    source.weights = pack.file(Kind::kWeights, static_cast<uint16_t>(weights));
  }
  return source;
}

}  // namespace topos
