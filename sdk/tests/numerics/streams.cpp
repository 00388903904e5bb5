#include "streams.h"

#include <vector>

#include "shims.h"

namespace {

// As topos_rt.h lays out a stream, but for its first and last members.
struct Row {
  uint32_t attribute, format, offset, stride;
  uint8_t* data;
  uint64_t capacity;
};

std::vector<topos::Stream> streams_of(const Row* rows, uint64_t count) {
  std::vector<topos::Stream> made;
  for (uint64_t i = 0; i < count; ++i) {
    made.push_back({static_cast<topos::Attribute>(rows[i].attribute), static_cast<topos::Format>(rows[i].format),
                    rows[i].offset, rows[i].stride, rows[i].data, rows[i].capacity});
  }
  return made;
}

topos::Surface surface_of(const void* const* arrays, uint64_t count, uint64_t num_joints) {
  topos::Surface made;
  made.count = count;
  made.source = static_cast<const int32_t*>(arrays[0]);
  made.positions = static_cast<const float*>(arrays[1]);
  made.normals = static_cast<const float*>(arrays[2]);
  made.tangents = static_cast<const float*>(arrays[3]);
  made.uvs = static_cast<const float*>(arrays[4]);
  made.joints = static_cast<const uint16_t*>(arrays[5]);
  made.weights = static_cast<const float*>(arrays[6]);
  made.num_joints = num_joints;
  return made;
}

}  // namespace

// arrays: source, positions, normals, tangents, uvs, joints and weights.
SHIM int32_t check_stream(const void* const* arrays, uint64_t count, uint64_t num_joints, const Row* row) {
  return static_cast<int32_t>(
      topos::check_stream(streams_of(row, 1).front(), surface_of(arrays, count, num_joints)));
}

SHIM void write_streams(const void* const* arrays, uint64_t count, uint64_t num_joints, int64_t axes, double unit,
                        const Row* rows, uint64_t num_rows) {
  const auto streams = streams_of(rows, num_rows);
  topos::write_streams(surface_of(arrays, count, num_joints), *topos::axes_facts(static_cast<topos::Axes>(axes)),
                       static_cast<float>(unit), streams.data(), streams.size());
}

SHIM void write_indices(const int32_t* triangles, uint64_t f, int64_t axes, int64_t format, void* out) {
  topos::write_indices(triangles, f, *topos::axes_facts(static_cast<topos::Axes>(axes)),
                       static_cast<topos::Format>(format), out);
}

SHIM int32_t known_axes(int64_t axes) {
  return topos::axes_facts(static_cast<topos::Axes>(axes)) != nullptr ? 1 : 0;
}

SHIM void halves(const float* values, uint64_t n, uint16_t* out) {
  for (uint64_t i = 0; i < n; ++i) out[i] = topos::half_of(values[i]);
}
