#include "parts.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "normals.h"
#include "rotation.h"

namespace topos {
namespace {

constexpr double kStillM = 1e-4;  // offsets of a blendshape that are smaller are none: no picture shows them

enum class Holder { kSkin, kHead, kJaw };

struct PieceFacts {
  std::string_view material;
  bool follows;  // whether its blendshapes are the sums of its anchors'; else they are the kit's motions
  Holder holder;
};

constexpr PieceFacts kFacts[PartKit::kPieces] = {
    {"teeth", false, Holder::kHead}, {"teeth", false, Holder::kJaw}, {"lashes", true, Holder::kSkin},
    {"lashes", true, Holder::kSkin}, {"lashes", true, Holder::kSkin}, {"lashes", true, Holder::kSkin},
};

struct Span {
  size_t begin, end;
};

Span span_of(const PartKit& kit, size_t piece) {
  const uint8_t *first = kit.pieces, *last = kit.pieces + kit.vertices;
  const auto number = static_cast<uint8_t>(piece);
  return {static_cast<size_t>(std::lower_bound(first, last, number) - first),
          static_cast<size_t>(std::upper_bound(first, last, number) - first)};
}

std::vector<double> wide_weights(const PartKit& kit) {
  std::vector<double> made(kit.vertices * kit.anchors_each);
  std::transform(kit.weights, kit.weights + made.size(), made.begin(),
                 [](uint16_t half) { return static_cast<double>(float_of(half)); });
  return made;
}

// Where the parts lie. The rest of the anchors from their mean is small, and so are the errors of half precision.
std::vector<float> placed(const PartKit& kit, const std::vector<double>& weights, const float* head) {
  std::vector<float> made(3 * kit.vertices);
  for (size_t piece = 0; piece < PartKit::kPieces; ++piece) {
    const int32_t* anchors = kit.anchors + piece * kit.anchors_each;
    Vec3 middle = {};
    for (size_t k = 0; k < kit.anchors_each; ++k) middle += vec(head + 3 * anchors[k]);
    middle = middle / static_cast<double>(kit.anchors_each);
    const Span part = span_of(kit, piece);
    for (size_t i = part.begin; i < part.end; ++i) {
      Vec3 sum = {};
      for (size_t k = 0; k < kit.anchors_each; ++k) {
        sum += (vec(head + 3 * anchors[k]) - middle) * weights[i * kit.anchors_each + k];
      }
      sum += middle;
      for (size_t k = 0; k < 3; ++k) made[3 * i + k] = static_cast<float>(sum[k]);
    }
  }
  return made;
}

// How far the blendshapes of the head move its parts: [shapes][m].
using Offsets = std::vector<std::vector<Vec3>>;

void follow_anchors(const PartKit& kit, const std::vector<double>& weights, const Shapes& shapes,
                    std::vector<int32_t>& row, Offsets& out) {
  for (size_t piece = 0; piece < PartKit::kPieces; ++piece) {
    const Span part = span_of(kit, piece);
    if (!kFacts[piece].follows || part.begin == part.end) continue;
    const int32_t* anchors = kit.anchors + piece * kit.anchors_each;
    std::fill(row.begin(), row.end(), -1);
    for (size_t k = 0; k < kit.anchors_each; ++k) row[static_cast<size_t>(anchors[k])] = static_cast<int32_t>(k);
    for (size_t shape = 0; shape < shapes.count; ++shape) {
      std::vector<Vec3> moves(kit.anchors_each);
      for (size_t entry = shapes.begin(shape); entry < shapes.end(shape); ++entry) {
        const int32_t at = row[static_cast<size_t>(shapes.index[entry])];
        if (at >= 0) moves[static_cast<size_t>(at)] = vec(shapes.delta + 3 * entry);
      }
      for (size_t i = part.begin; i < part.end; ++i) {
        for (size_t k = 0; k < kit.anchors_each; ++k) out[shape][i] += moves[k] * weights[i * kit.anchors_each + k];
      }
    }
  }
}

// The motions turn and grow with their pieces.
void add_motions(const PartKit& kit, const std::vector<float>& positions, Offsets& out) {
  for (size_t motion = 0; motion < kit.motions; ++motion) {
    if (kit.motion_shapes[motion] < 0) continue;
    const Span part = span_of(kit, kit.motion_pieces[motion]);
    std::vector<Vec3> rest, own;
    for (size_t i = part.begin; i < part.end; ++i) {
      rest.push_back(vec(kit.rest + 3 * i));
      own.push_back(vec(&positions[3 * i]));
    }
    const Similarity fitted = fit_similarity(rest.data(), own.data(), rest.size());
    const float* map = kit.motion_maps + 12 * motion;
    for (size_t i = part.begin; i < part.end; ++i) {
      const Vec3& at = rest[i - part.begin];
      Vec3 offset;
      for (size_t k = 0; k < 3; ++k) offset[k] = dot(vec(map + 4 * k), at) + static_cast<double>(map[4 * k + 3]) - at[k];
      out[static_cast<size_t>(kit.motion_shapes[motion])][i] += fitted.rotation * offset * fitted.scale;
    }
  }
}

void set_skin(const PartKit& kit, const Skin& skin, const PartJoints& named, Parts& made) {
  for (size_t i = 0; i < kit.vertices; ++i) {
    const auto holder = static_cast<size_t>(kit.holders[i]);
    const Holder by = kFacts[kit.pieces[i]].holder;
    const int32_t joint = by == Holder::kHead ? named.head : by == Holder::kJaw ? named.jaw : -1;
    for (size_t k = 0; k < 4; ++k) {
      const bool own = joint >= 0;
      made.joints.push_back(!own ? skin.joints[4 * holder + k] : k == 0 ? static_cast<uint16_t>(joint) : uint16_t{0});
      made.weights.push_back(!own ? skin.weights[4 * holder + k] : k == 0 ? 1.0F : 0.0F);
    }
  }
}

std::vector<int32_t> triangles_of(const PartKit& kit, std::string_view material, const std::vector<int32_t>& new_ids) {
  std::vector<int32_t> made;
  for (size_t quad = 0; quad < kit.quads; ++quad) {
    const uint16_t* corners = kit.corners + 4 * quad;
    if (!material.empty() && kFacts[kit.pieces[corners[0]]].material != material) continue;
    for (const size_t k : {0U, 1U, 2U, 0U, 2U, 3U}) made.push_back(new_ids[corners[k]]);
  }
  return made;
}

}  // namespace

Parts parts_of(const PartKit& kit, const float* head, size_t head_vertices, const Shapes& shapes, const Skin& skin,
               const PartJoints& named) {
  const std::vector<double> weights = wide_weights(kit);
  Parts made;
  made.positions = placed(kit, weights, head);
  std::vector<int32_t> same(kit.vertices);
  std::iota(same.begin(), same.end(), 0);
  const std::vector<int32_t> triangles = triangles_of(kit, {}, same);
  made.normals.resize(3 * kit.vertices);
  vertex_normals(made.positions.data(), kit.vertices, triangles.data(), triangles.size() / 3, made.normals.data());
  if (skin.num_joints == 0) return made;
  Offsets offsets(shapes.count, std::vector<Vec3>(kit.vertices));
  std::vector<int32_t> row(head_vertices);
  follow_anchors(kit, weights, shapes, row, offsets);
  add_motions(kit, made.positions, offsets);
  made.shape_offsets.push_back(0);
  for (const std::vector<Vec3>& shape : offsets) {
    for (size_t i = 0; i < kit.vertices; ++i) {
      const double most = std::max({std::fabs(shape[i][0]), std::fabs(shape[i][1]), std::fabs(shape[i][2])});
      if (most <= kStillM) continue;
      made.shape_index.push_back(static_cast<int32_t>(i));
      for (const double value : shape[i]) made.shape_delta.push_back(static_cast<float>(value));
    }
    made.shape_offsets.push_back(static_cast<int32_t>(made.shape_index.size()));
  }
  set_skin(kit, skin, named, made);
  return made;
}

std::vector<PartSurface> part_surfaces(const PartKit& kit) {
  std::vector<PartSurface> found;
  for (const std::string_view material : {"teeth", "lashes"}) {
    PartSurface made = {material, {}, {}, false};
    std::vector<int32_t> new_ids(kit.vertices, -1);
    for (size_t i = 0; i < kit.vertices; ++i) {
      if (kFacts[kit.pieces[i]].material != material) continue;
      new_ids[i] = static_cast<int32_t>(made.ids.size());
      made.ids.push_back(static_cast<int32_t>(i));
      made.shaded = made.shaded || kit.shade[i] != 255;
    }
    made.corners = triangles_of(kit, material, new_ids);
    if (!made.ids.empty() && !made.corners.empty()) found.push_back(std::move(made));
  }
  return found;
}

float float_of(uint16_t half) {
  const uint32_t sign = (half & 0x8000U) << 16U, exponent = half >> 10U & 31U, fraction = half & 0x3FFU;
  if (exponent == 0) {  // too small for a leading one
    const float size = static_cast<float>(fraction) / 16777216.0F;
    return sign != 0 ? -size : size;
  }
  const uint32_t bits = sign | (exponent == 31 ? 0x7F800000U : (exponent + 112) << 23U) | fraction << 13U;
  float made;
  std::memcpy(&made, &bits, sizeof made);
  return made;
}

}  // namespace topos
