#include "rig.h"

#include <algorithm>

#include "rotation.h"
#include "shims.h"

// arrays: shape_index, shape_delta, shape_offsets, template, joint_index, joint_weight, joint_offsets, contact_pairs,
// contact_offsets and parts. They must live as long as the fit.
SHIM void* rig_new(uint64_t vertices, uint64_t joints, uint64_t shapes, const void* const* arrays) {
  topos::RigData rig;
  rig.vertices = vertices;
  rig.joints = joints;
  rig.shapes = shapes;
  rig.shape_index = static_cast<const int32_t*>(arrays[0]);
  rig.shape_delta = static_cast<const float*>(arrays[1]);
  rig.shape_offsets = static_cast<const int32_t*>(arrays[2]);
  rig.head = static_cast<const float*>(arrays[3]);
  rig.joint_index = static_cast<const int32_t*>(arrays[4]);
  rig.joint_weight = static_cast<const float*>(arrays[5]);
  rig.joint_offsets = static_cast<const int32_t*>(arrays[6]);
  rig.contact_pairs = static_cast<const int32_t*>(arrays[7]);
  rig.contact_offsets = static_cast<const int32_t*>(arrays[8]);
  rig.parts = static_cast<const uint8_t*>(arrays[9]);
  return new topos::RigFit(rig);
}

SHIM void rig_delete(topos::RigFit* fit) { delete fit; }

SHIM void rig_fit(const topos::RigFit* fit, const float* positions, float* joints, float* delta) {
  fit->fit(positions, joints, delta);
}

SHIM void nearest_rotations(const double* matrices, uint64_t n, double* out) {
  for (uint64_t i = 0; i < n; ++i) {
    topos::Mat3 m;
    std::copy_n(matrices + 9 * i, 9, m.begin());
    const topos::Mat3 made = topos::nearest_rotation(m);
    std::copy(made.begin(), made.end(), out + 9 * i);
  }
}

// out: scale, rotation, shift.
SHIM void fit_similarity(const double* from, const double* to, uint64_t n, double* out) {
  const topos::Similarity made = topos::fit_similarity(reinterpret_cast<const topos::Vec3*>(from),
                                                       reinterpret_cast<const topos::Vec3*>(to), n);
  out[0] = made.scale;
  std::copy(made.rotation.begin(), made.rotation.end(), out + 1);
  std::copy(made.shift.begin(), made.shift.end(), out + 10);
}
