#include "normals.h"

#include "shims.h"

SHIM void unit_vectors(const double* vectors, uint64_t n, float* out) {
  for (uint64_t i = 0; i < n; ++i) {
    const auto unit = topos::unit_vector(vectors + 3 * i);
    for (size_t k = 0; k < 3; ++k) out[3 * i + k] = unit[k];
  }
}

SHIM void vertex_normals(const float* positions, uint64_t n, const int32_t* triangles, uint64_t f, float* out) {
  topos::vertex_normals(positions, n, triangles, f, out);
}

SHIM void vertex_normals_wide(const double* positions, uint64_t n, const int32_t* triangles, uint64_t f, float* out) {
  topos::vertex_normals(positions, n, triangles, f, out);
}

SHIM void tangents(const float* positions, const float* normals, const float* uvs, uint64_t n,
                   const int32_t* triangles, uint64_t f, float* out) {
  topos::tangents(positions, normals, uvs, n, triangles, f, out);
}

SHIM void place(const float* vertices, uint64_t n, const float* rotation, double radius, float* positions,
                float* normals) {
  topos::place(vertices, n, rotation, radius, positions, normals);
}
