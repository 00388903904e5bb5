#include "parts.h"

#include <algorithm>

#include "shims.h"

namespace {

// sizes: vertices, anchors_each, quads, motions.
topos::PartKit kit_of(const uint64_t* sizes, const void* const* arrays) {
  topos::PartKit made;
  made.vertices = sizes[0];
  made.anchors_each = sizes[1];
  made.quads = sizes[2];
  made.motions = sizes[3];
  made.anchors = static_cast<const int32_t*>(arrays[0]);
  made.weights = static_cast<const uint16_t*>(arrays[1]);
  made.pieces = static_cast<const uint8_t*>(arrays[2]);
  made.holders = static_cast<const int32_t*>(arrays[3]);
  made.corners = static_cast<const uint16_t*>(arrays[4]);
  made.uvs = static_cast<const float*>(arrays[5]);
  made.rest = static_cast<const float*>(arrays[6]);
  made.motion_shapes = static_cast<const int32_t*>(arrays[7]);
  made.motion_pieces = static_cast<const uint8_t*>(arrays[8]);
  made.motion_maps = static_cast<const float*>(arrays[9]);
  made.shade = static_cast<const uint8_t*>(arrays[10]);
  return made;
}

topos::Parts made;  // the last parts
std::vector<topos::PartSurface> surfaces;

template <class T>
uint64_t copied(const std::vector<T>& from, void* out) {
  if (out != nullptr) std::copy(from.begin(), from.end(), static_cast<T*>(out));
  return from.size();
}

}  // namespace

// rig: index, delta, offsets, parents, positions, joints and weights of the head's; joints: head, jaw.
SHIM void parts_make(const uint64_t* sizes, const void* const* kit, const float* head, uint64_t vertices,
                     uint64_t num_shapes, uint64_t num_joints, const void* const* rig, const int32_t* joints) {
  const topos::Shapes shapes = {num_shapes, static_cast<const int32_t*>(rig[0]), static_cast<const float*>(rig[1]),
                                static_cast<const int32_t*>(rig[2])};
  const topos::Skin skin = {num_joints, static_cast<const int32_t*>(rig[3]), static_cast<const float*>(rig[4]),
                            static_cast<const uint16_t*>(rig[5]), static_cast<const float*>(rig[6])};
  made = topos::parts_of(kit_of(sizes, kit), head, vertices, shapes, skin, {joints[0], joints[1]});
}

// Returns the length of an array and copies it where out is not null: positions, normals, joints, weights, shape_index,
// shape_delta, shape_offsets.
SHIM uint64_t parts_array(uint64_t which, void* out) {
  switch (which) {
    case 0: return copied(made.positions, out);
    case 1: return copied(made.normals, out);
    case 2: return copied(made.joints, out);
    case 3: return copied(made.weights, out);
    case 4: return copied(made.shape_index, out);
    case 5: return copied(made.shape_delta, out);
    default: return copied(made.shape_offsets, out);
  }
}

SHIM uint64_t part_surfaces(const uint64_t* sizes, const void* const* kit) {
  surfaces = topos::part_surfaces(kit_of(sizes, kit));
  return surfaces.size();
}

SHIM uint64_t part_surface_array(uint64_t number, uint64_t which, void* out) {
  return copied(which == 0 ? surfaces[number].ids : surfaces[number].corners, out);
}

// Returns 1 for teeth and 2 for lashes, negative where they are shaded.
SHIM int32_t part_surface_kind(uint64_t number) {
  const int32_t kind = surfaces[number].material == "teeth" ? 1 : 2;
  return surfaces[number].shaded ? -kind : kind;
}

SHIM void from_halves(const uint16_t* halves, uint64_t n, float* out) {
  for (uint64_t i = 0; i < n; ++i) out[i] = topos::float_of(halves[i]);
}
