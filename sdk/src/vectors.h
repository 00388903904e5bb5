// Small vectors in float64, whose sums run from the first to the last coordinate, as NumPy's do.
#ifndef TOPOS_SDK_VECTORS_H
#define TOPOS_SDK_VECTORS_H

#include <array>
#include <cmath>
#include <cstddef>

namespace topos {

using Vec3 = std::array<double, 3>;
using Mat3 = std::array<double, 9>;  // row after row

template <class T>
Vec3 vec(const T* from) {
  return {static_cast<double>(from[0]), static_cast<double>(from[1]), static_cast<double>(from[2])};
}

inline Vec3 operator+(const Vec3& a, const Vec3& b) { return {a[0] + b[0], a[1] + b[1], a[2] + b[2]}; }
inline Vec3 operator-(const Vec3& a, const Vec3& b) { return {a[0] - b[0], a[1] - b[1], a[2] - b[2]}; }
inline Vec3 operator-(const Vec3& a) { return {-a[0], -a[1], -a[2]}; }
inline Vec3 operator*(const Vec3& a, double by) { return {a[0] * by, a[1] * by, a[2] * by}; }
inline Vec3 operator/(const Vec3& a, double by) { return {a[0] / by, a[1] / by, a[2] / by}; }
inline Vec3& operator+=(Vec3& a, const Vec3& b) { return a = a + b; }

inline double dot(const Vec3& a, const Vec3& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
inline double length(const Vec3& a) { return std::sqrt(dot(a, a)); }
inline Vec3 cross(const Vec3& a, const Vec3& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

inline Vec3 operator*(const Mat3& m, const Vec3& v) {
  return {m[0] * v[0] + m[1] * v[1] + m[2] * v[2], m[3] * v[0] + m[4] * v[1] + m[5] * v[2],
          m[6] * v[0] + m[7] * v[1] + m[8] * v[2]};
}

inline Mat3 operator*(const Mat3& a, const Mat3& b) {
  Mat3 made = {};
  for (size_t i = 0; i < 3; ++i) {
    for (size_t j = 0; j < 3; ++j) {
      for (size_t k = 0; k < 3; ++k) made[3 * i + j] += a[3 * i + k] * b[3 * k + j];
    }
  }
  return made;
}

inline Mat3 transposed(const Mat3& m) { return {m[0], m[3], m[6], m[1], m[4], m[7], m[2], m[5], m[8]}; }

// The sum in the order in which NumPy adds up what lies in a row (Higham 1993, pairwise summation), bit for bit.
template <class T>
T pairwise_sum(const T* v, size_t n, const T& nothing) {
  if (n < 8) {
    T sum = nothing;
    for (size_t i = 0; i < n; ++i) sum = sum + v[i];
    return sum;
  }
  if (n > 128) {
    const size_t half = n / 2 - n / 2 % 8;
    return pairwise_sum(v, half, nothing) + pairwise_sum(v + half, n - half, nothing);
  }
  std::array<T, 8> r;
  for (size_t k = 0; k < 8; ++k) r[k] = v[k];
  size_t i = 8;
  for (; i < n - n % 8; i += 8) {
    for (size_t k = 0; k < 8; ++k) r[k] = r[k] + v[i + k];
  }
  T sum = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
  for (; i < n; ++i) sum = sum + v[i];
  return sum;
}

inline Vec3 pairwise_sum(const Vec3* v, size_t n) { return pairwise_sum(v, n, Vec3{-0.0, -0.0, -0.0}); }

}  // namespace topos

#endif
