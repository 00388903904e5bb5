#include "morphs.h"

#include <algorithm>

#include "json.h"
#include "shims.h"

// out: [K][3], the changes of all shapes in their order.
SHIM void morph_normals(const float* positions, uint64_t n, const int32_t* triangles, uint64_t f, uint64_t count,
                        const int32_t* index, const float* delta, const int32_t* offsets, float* out) {
  const topos::MorphNormals normals(positions, n, triangles, f);
  const topos::Shapes shapes = {count, index, delta, offsets};
  for (size_t shape = 0; shape < count; ++shape) normals.changes(shapes, shape, out + 3 * shapes.begin(shape));
}

// Returns the number of entries that are left.
SHIM uint64_t reduced_shapes(uint64_t count, const int32_t* index, const float* delta, const int32_t* offsets,
                             const int32_t* new_ids, uint64_t n, int32_t* index_out, float* delta_out,
                             int32_t* offsets_out) {
  const topos::ReducedShapes made({count, index, delta, offsets}, std::vector<int32_t>(new_ids, new_ids + n));
  std::copy(made.index.begin(), made.index.end(), index_out);
  std::copy(made.delta.begin(), made.delta.end(), delta_out);
  std::copy(made.offsets.begin(), made.offsets.end(), offsets_out);
  return made.index.size();
}

// shapes: index, delta, offsets; skin: parents, positions, joints, weights. Returns [n][3] in out.
SHIM void posed(const float* positions, uint64_t n, uint64_t count, const void* const* shapes, const float* weights,
                uint64_t num_joints, const void* const* skin, const float* rotations, double* out) {
  const topos::Shapes own = {count, static_cast<const int32_t*>(shapes[0]), static_cast<const float*>(shapes[1]),
                             static_cast<const int32_t*>(shapes[2])};
  const topos::Skin hold = {num_joints, static_cast<const int32_t*>(skin[0]), static_cast<const float*>(skin[1]),
                            static_cast<const uint16_t*>(skin[2]), static_cast<const float*>(skin[3])};
  const auto made = topos::posed(positions, n, own, weights, hold, rotations);
  std::copy(made.begin(), made.end(), out);
}

// Returns the length of the text.
SHIM uint64_t number_text(double value, char* out) {
  const std::string made = topos::number_text(value);
  std::copy(made.begin(), made.end(), out);
  return made.size();
}

SHIM uint64_t quoted(const char* text, uint64_t size, char* out) {
  const std::string made = topos::Json().text({text, size}).str();
  std::copy(made.begin(), made.end(), out);
  return made.size();
}
