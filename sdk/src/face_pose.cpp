#include "face_pose.h"

#include <algorithm>

#include "rotation.h"

namespace topos {
namespace {

constexpr double kDegrees = 180 / 3.14159265358979323846;
// Measured on rendered heads of known pose: the canonical face looks down by so many degrees where a head looks ahead,
// and depths of landmarks are too large.
constexpr double kLooksDown = 6, kDepth = 0.88;

// The landmarks at the detector's points; a single one is named twice.
constexpr size_t kSix[6][2] = {{33, 133}, {362, 263}, {1, 1}, {13, 14}, {234, 234}, {454, 454}};

// A point of the canonical face in axes in which it looks ahead.
Vec3 ahead(const Vec3& point) { return transposed(rotation_of({0, kLooksDown, 0})) * point; }

// A landmark with +Y up, +Z towards the camera, and its depth in its true size.
Vec3 up(const float* landmark) {
  const Vec3 point = vec(landmark);
  return {point[0], -point[1], point[2] * -kDepth};
}

}  // namespace

std::array<double, 2> Placement::at(const Vec3& point) const {
  const Vec3 turned = turn * ahead(point);
  return {shift[0] + turned[0] * scale, shift[1] - turned[1] * scale};
}

// A weighted similarity in space (Umeyama 1991). The weights are those of MediaPipe's geometry module.
Placement placement_of(const float* landmarks, const CanonicalFace& canonical) {
  const double total = static_cast<double>(pairwise_sum(canonical.weights, kSkinLandmarks, -0.0F));
  Vec3 source_middle = {}, target_middle = {};
  std::vector<Vec3> source;
  std::vector<double> weights;
  for (size_t i = 0; i < kSkinLandmarks; ++i) {
    weights.push_back(static_cast<double>(canonical.weights[i]) / total);
    source.push_back(ahead(vec(canonical.positions + 3 * i)));
    source_middle += source[i] * weights[i];
    target_middle += up(landmarks + 3 * i) * weights[i];
  }
  Mat3 products = {};
  double spread = 0;
  for (size_t i = 0; i < kSkinLandmarks; ++i) {
    const Vec3 x = source[i] - source_middle, y = up(landmarks + 3 * i) - target_middle;
    for (size_t k = 0; k < 9; ++k) products[k] += y[k / 3] * x[k % 3] * weights[i];
    spread += weights[i] * dot(x, x);
  }
  Placement made;
  made.turn = nearest_rotation(products);
  double stretch = 0;
  for (size_t k = 0; k < 9; ++k) stretch += made.turn[k] * products[k];
  const double scale = stretch / spread;
  const Vec3 origin = target_middle - made.turn * source_middle * scale;
  made.scale = std::max(scale, 1e-6);
  made.shift = {origin[0], -origin[1]};
  return made;
}

// A scaled orthographic camera: the affine map nearest to the points, made a rotation (POS, DeMenthon and Davis 1995).
Placement placement_of(const std::array<std::array<double, 2>, 6>& points, const CanonicalFace& canonical) {
  std::array<Vec3, 6> source;
  Vec3 middle = {};
  std::array<double, 2> centre = {};
  for (size_t i = 0; i < 6; ++i) {
    const float* a = canonical.positions + 3 * kSix[i][0];
    const float* b = canonical.positions + 3 * kSix[i][1];
    Vec3 mean;
    for (size_t k = 0; k < 3; ++k) mean[k] = static_cast<double>((a[k] + b[k]) / 2);
    source[i] = ahead(mean);
    middle += source[i] / 6;
    for (size_t k = 0; k < 2; ++k) centre[k] += points[i][k] / 6;
  }
  // The normal equations of least squares: six points that are well apart make them good enough.
  Mat3 squares = {};
  std::array<Vec3, 2> products = {};
  for (size_t i = 0; i < 6; ++i) {
    const Vec3 x = source[i] - middle;
    const double flipped[2] = {points[i][0] - centre[0], centre[1] - points[i][1]};
    for (size_t k = 0; k < 9; ++k) squares[k] += x[k / 3] * x[k % 3];
    for (size_t k = 0; k < 2; ++k) products[k] += x * flipped[k];
  }
  const Vec3 c0 = {squares[0], squares[3], squares[6]}, c1 = {squares[1], squares[4], squares[7]},
             c2 = {squares[2], squares[5], squares[8]};
  const double whole = determinant(squares);
  std::array<Vec3, 2> rows;
  for (size_t k = 0; k < 2; ++k) {
    const Vec3& p = products[k];
    rows[k] = Vec3{dot(p, cross(c1, c2)), dot(p, cross(c2, c0)), dot(p, cross(c0, c1))} / whole;
  }
  const double scale = (length(rows[0]) + length(rows[1])) / 2;
  const Vec3 third = cross(rows[0], rows[1]) / std::max(scale, 1e-9);
  Placement made;
  made.turn = nearest_rotation({rows[0][0], rows[0][1], rows[0][2], rows[1][0], rows[1][1], rows[1][2], third[0],
                                third[1], third[2]});
  const Vec3 origin = made.turn * middle * scale;
  made.scale = std::max(scale, 1e-6);
  made.shift = {centre[0] - origin[0], centre[1] + origin[1]};
  return made;
}

Angles angles_of(const Mat3& turn) {
  return {std::atan2(-turn[6], turn[8]) * kDegrees, std::asin(std::clamp(-turn[7], -1.0, 1.0)) * kDegrees,
          std::atan2(-turn[1], turn[4]) * kDegrees};
}

Mat3 rotation_of(const Angles& angles) {
  const double y = angles.yaw / kDegrees, p = angles.pitch / kDegrees, r = angles.roll / kDegrees;
  const Mat3 about_y = {std::cos(y), 0, std::sin(y), 0, 1, 0, -std::sin(y), 0, std::cos(y)};
  const Mat3 about_x = {1, 0, 0, 0, std::cos(p), std::sin(p), 0, -std::sin(p), std::cos(p)};
  const Mat3 about_z = {std::cos(r), -std::sin(r), 0, std::sin(r), std::cos(r), 0, 0, 0, 1};
  return about_z * about_x * about_y;
}

std::vector<double> own_axes(const float* landmarks, const Placement& placement, const CanonicalFace& canonical) {
  Vec3 middle = {};
  double total = 0;
  for (size_t i = 0; i < kSkinLandmarks; ++i) {
    const double weight = static_cast<double>(canonical.weights[i]);
    middle += up(landmarks + 3 * i) * weight;
    total += weight;
  }
  middle = middle / total;
  std::vector<double> made;
  const Mat3 back = transposed(placement.turn);
  for (size_t i = 0; i < kLandmarks; ++i) {
    const Vec3 point = back * (up(landmarks + 3 * i) - middle) / placement.scale;
    made.insert(made.end(), point.begin(), point.end());
  }
  return made;
}

}  // namespace topos
