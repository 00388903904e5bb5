#include "normals.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "vectors.h"

namespace topos {
namespace {

constexpr double kNothing = 1e-12;  // an area or a length of no direction

template <class T>
void normals_of(const T* positions, size_t n, const int32_t* triangles, size_t f, float* out) {
  std::vector<Vec3> sums(n);
  for (size_t i = 0; i < f; ++i) {
    const int32_t* ids = triangles + 3 * i;
    const Vec3 a = vec(positions + 3 * ids[0]);
    const Vec3 face = cross(vec(positions + 3 * ids[1]) - a, vec(positions + 3 * ids[2]) - a);
    for (int corner = 0; corner < 3; ++corner) sums[static_cast<size_t>(ids[corner])] += face;
  }
  for (size_t i = 0; i < n; ++i) {
    const auto unit = unit_vector(sums[i].data());
    std::copy(unit.begin(), unit.end(), out + 3 * i);
  }
}

// What the triangles say at a vertex, summed for each corner by itself, since the order of sums shows.
struct Directions {
  Vec3 along[3] = {}, across[3] = {};

  static Vec3 total(const Vec3 (&parts)[3]) { return (parts[0] + parts[1]) + parts[2]; }
};

std::vector<Directions> directions(const float* positions, const float* uvs, size_t n, const int32_t* triangles,
                                   size_t f) {
  std::vector<Directions> found(n);
  for (size_t i = 0; i < f; ++i) {
    const int32_t* ids = triangles + 3 * i;
    const auto uv = [&](int corner, int axis) { return static_cast<double>(uvs[2 * ids[corner] + axis]); };
    const Vec3 corner = vec(positions + 3 * ids[0]);
    const Vec3 a = vec(positions + 3 * ids[1]) - corner, b = vec(positions + 3 * ids[2]) - corner;
    const double s = uv(1, 0) - uv(0, 0), t = uv(1, 1) - uv(0, 1);
    const double u = uv(2, 0) - uv(0, 0), v = uv(2, 1) - uv(0, 1);
    const double area = s * v - u * t, size = std::fabs(area);
    const double scale = size < kNothing ? 0 : 1 / area;
    const Vec3 along = (a * v - b * t) * scale * size, across = (b * s - a * u) * scale * size;
    for (int k = 0; k < 3; ++k) {
      found[static_cast<size_t>(ids[k])].along[k] += along;
      found[static_cast<size_t>(ids[k])].across[k] += across;
    }
  }
  return found;
}

}  // namespace

std::array<float, 3> unit_vector(const double* vector) {
  const double largest = std::max({std::fabs(vector[0]), std::fabs(vector[1]), std::fabs(vector[2])});
  const bool finite = std::isfinite(vector[0]) && std::isfinite(vector[1]) && std::isfinite(vector[2]);
  if (!finite || largest == 0) return {0, 1, 0};
  // Squares of tiny vectors would underflow.
  const Vec3 scaled = vec(vector) / largest;
  const Vec3 unit = scaled / length(scaled);
  return {static_cast<float>(unit[0]), static_cast<float>(unit[1]), static_cast<float>(unit[2])};
}

void vertex_normals(const float* positions, size_t n, const int32_t* triangles, size_t f, float* out) {
  normals_of(positions, n, triangles, f, out);
}

void vertex_normals(const double* positions, size_t n, const int32_t* triangles, size_t f, float* out) {
  normals_of(positions, n, triangles, f, out);
}

void tangents(const float* positions, const float* normals, const float* uvs, size_t n, const int32_t* triangles,
              size_t f, float* out) {
  const std::vector<Directions> found = directions(positions, uvs, n, triangles, f);
  for (size_t i = 0; i < n; ++i) {
    const Vec3 normal = vec(normals + 3 * i);
    const Vec3 along = Directions::total(found[i].along), across = Directions::total(found[i].across);
    Vec3 tangent = along - normal * dot(normal, along);
    const double size = length(tangent);
    if (size > kNothing) {
      tangent = tangent / std::max(size, kNothing);
    } else {
      // Where nothing says a direction, any that is perpendicular to the normal will do.
      const Vec3 any = cross(normal, std::fabs(normal[0]) < 0.9 ? Vec3{1, 0, 0} : Vec3{0, 1, 0});
      tangent = any / length(any);
    }
    // v counts down here, and glTF's bitangent goes where v falls.
    const bool mirrored = dot(cross(normal, tangent), -across) < 0;
    for (size_t k = 0; k < 3; ++k) out[4 * i + k] = static_cast<float>(tangent[k]);
    out[4 * i + 3] = mirrored ? -1.0F : 1.0F;
  }
}

void place(const float* vertices, size_t n, const float* rotation, double radius, float* positions, float* normals) {
  const float metres = static_cast<float>(radius);
  for (size_t i = 0; i < n; ++i) {
    const float* from = vertices + 6 * i;
    double normal[3];
    for (size_t axis = 0; axis < 3; ++axis) {
      float place = 0, way = 0;  // sums from zero, as BLAS makes them, have no negative zeros
      for (size_t k = 0; k < 3; ++k) {
        place += from[k] * rotation[3 * axis + k];
        way += from[3 + k] * rotation[3 * axis + k];
      }
      positions[3 * i + axis] = place * metres;
      normal[axis] = static_cast<double>(way);
    }
    const auto unit = unit_vector(normal);
    std::copy(unit.begin(), unit.end(), normals + 3 * i);
  }
}

}  // namespace topos
