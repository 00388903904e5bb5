// The rig of a model, and the teeth and lashes that it moves.
#include <string>

#include "model_checks.h"
#include "model_data.h"

namespace topos {
namespace {

constexpr uint32_t kMostPartVertices = 1U << 16;

}  // namespace

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

}  // namespace topos
