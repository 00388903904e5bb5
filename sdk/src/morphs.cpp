#include "morphs.h"

#include <algorithm>

#include "normals.h"
#include "vectors.h"

namespace topos {
namespace {

// Rows of [A|b].
using Affine = std::array<double, 12>;

Mat3 rotation_of(const float* q) {
  const double length = std::sqrt(static_cast<double>(q[0]) * q[0] + static_cast<double>(q[1]) * q[1] +
                                  static_cast<double>(q[2]) * q[2] + static_cast<double>(q[3]) * q[3]);
  const double x = q[0] / length, y = q[1] / length, z = q[2] / length, w = q[3] / length;
  return {1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
          2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
          2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)};
}

Affine joined(const Mat3& turn, const Vec3& shift) {
  return {turn[0], turn[1], turn[2], shift[0], turn[3], turn[4], turn[5], shift[1], turn[6], turn[7], turn[8], shift[2]};
}

Mat3 turn_of(const Affine& m) { return {m[0], m[1], m[2], m[4], m[5], m[6], m[8], m[9], m[10]}; }
Vec3 shift_of(const Affine& m) { return {m[3], m[7], m[11]}; }

// The transforms of the joints from rest to pose, each about its own place, then that of its parent.
std::vector<Affine> joint_transforms(const Skin& skin, const float* rotations) {
  std::vector<Affine> made;
  for (size_t joint = 0; joint < skin.num_joints; ++joint) {
    const Mat3 turn = rotation_of(rotations + 4 * joint);
    const Vec3 pivot = vec(skin.positions + 3 * joint), shift = pivot - turn * pivot;
    const int32_t parent = skin.parents[joint];
    if (parent < 0) {
      made.push_back(joined(turn, shift));
      continue;
    }
    const Affine& above = made[static_cast<size_t>(parent)];
    made.push_back(joined(turn_of(above) * turn, turn_of(above) * shift + shift_of(above)));
  }
  return made;
}

}  // namespace

MorphNormals::MorphNormals(const float* positions, size_t n, const int32_t* triangles, size_t f)
    : positions_(positions), triangles_(triangles), count_(n), first_(n + 1), around_(3 * f), rest_(3 * n) {
  for (size_t i = 0; i < 3 * f; ++i) ++first_[static_cast<size_t>(triangles[i]) + 1];
  for (size_t i = 0; i < n; ++i) first_[i + 1] += first_[i];
  std::vector<size_t> next(first_.begin(), first_.end() - 1);
  for (size_t i = 0; i < 3 * f; ++i) around_[next[static_cast<size_t>(triangles[i])]++] = i / 3;
  vertex_normals(positions, n, triangles, f, rest_.data());
}

// The sum of the triangles around a vertex in the order in which vertex_normals adds them.
std::array<float, 3> MorphNormals::normal_at(const float* positions, size_t vertex) const {
  Vec3 sum = {};
  for (size_t i = first_[vertex]; i < first_[vertex + 1]; ++i) {
    const int32_t* ids = triangles_ + 3 * around_[i];
    const Vec3 a = vec(positions + 3 * ids[0]);
    sum += cross(vec(positions + 3 * ids[1]) - a, vec(positions + 3 * ids[2]) - a);
  }
  return unit_vector(sum.data());
}

void MorphNormals::changes(const Shapes& shapes, size_t shape, float* out) const {
  std::vector<float> moved(positions_, positions_ + 3 * count_);
  for (size_t entry = shapes.begin(shape); entry < shapes.end(shape); ++entry) {
    float* place = &moved[3 * static_cast<size_t>(shapes.index[entry])];
    for (size_t k = 0; k < 3; ++k) place[k] += shapes.delta[3 * entry + k];
  }
  for (size_t entry = shapes.begin(shape); entry < shapes.end(shape); ++entry) {
    const auto vertex = static_cast<size_t>(shapes.index[entry]);
    const auto normal = normal_at(moved.data(), vertex);
    for (size_t k = 0; k < 3; ++k) *out++ = normal[k] - rest_[3 * vertex + k];
  }
}

ReducedShapes::ReducedShapes(const Shapes& shapes, const std::vector<int32_t>& new_ids) : offsets{0} {
  for (size_t shape = 0; shape < shapes.count; ++shape) {
    for (size_t entry = shapes.begin(shape); entry < shapes.end(shape); ++entry) {
      const int32_t id = new_ids[static_cast<size_t>(shapes.index[entry])];
      if (id < 0) continue;
      index.push_back(id);
      delta.insert(delta.end(), shapes.delta + 3 * entry, shapes.delta + 3 * entry + 3);
    }
    offsets.push_back(static_cast<int32_t>(index.size()));
  }
}

std::vector<double> posed(const float* positions, size_t n, const Shapes& shapes, const float* weights,
                          const Skin& skin, const float* rotations) {
  std::vector<double> made(positions, positions + 3 * n);
  for (size_t shape = 0; weights != nullptr && shape < shapes.count; ++shape) {
    if (weights[shape] == 0) continue;
    for (size_t entry = shapes.begin(shape); entry < shapes.end(shape); ++entry) {
      double* place = &made[3 * static_cast<size_t>(shapes.index[entry])];
      for (size_t k = 0; k < 3; ++k) place[k] += static_cast<double>(shapes.delta[3 * entry + k] * weights[shape]);
    }
  }
  if (rotations == nullptr) return made;
  const std::vector<Affine> transforms = joint_transforms(skin, rotations);
  for (size_t i = 0; i < n; ++i) {
    Affine sum = {};
    for (size_t k = 0; k < 4; ++k) {
      const double weight = skin.weights[4 * i + k];
      const Affine& each = transforms[skin.joints[4 * i + k]];
      for (size_t c = 0; c < 12; ++c) sum[c] += weight * each[c];
    }
    const Vec3 place = turn_of(sum) * vec(&made[3 * i]) + shift_of(sum);
    std::copy(place.begin(), place.end(), made.begin() + static_cast<std::ptrdiff_t>(3 * i));
  }
  return made;
}

}  // namespace topos
