#include "rotation.h"

#include <algorithm>
#include <limits>

namespace topos {
namespace {

constexpr int kSweeps = 30;  // far more than Jacobi's method takes; it ends when nothing is left to turn

Vec3 column(const Mat3& m, size_t j) { return {m[j], m[3 + j], m[6 + j]}; }

void set_column(Mat3& m, size_t j, const Vec3& v) {
  for (size_t i = 0; i < 3; ++i) m[3 * i + j] = v[i];
}

// Turns two columns so that they are perpendicular, in `m` and `right` alike. Returns whether they were not.
bool turn_apart(Mat3& m, Mat3& right, size_t p, size_t q) {
  const Vec3 a = column(m, p), b = column(m, q);
  const double along = dot(a, b), aa = dot(a, a), bb = dot(b, b);
  if (std::fabs(along) <= std::numeric_limits<double>::epsilon() * std::sqrt(aa * bb)) return false;
  const double zeta = (bb - aa) / (2 * along);
  const double t = (zeta >= 0 ? 1 : -1) / (std::fabs(zeta) + std::sqrt(1 + zeta * zeta));
  const double c = 1 / std::sqrt(1 + t * t), s = c * t;
  for (Mat3* each : {&m, &right}) {
    const Vec3 x = column(*each, p), y = column(*each, q);
    set_column(*each, p, x * c - y * s);
    set_column(*each, q, x * s + y * c);
  }
  return true;
}

// Some unit vector perpendicular to a unit vector.
Vec3 perpendicular(const Vec3& v) {
  const Vec3 made = cross(v, std::fabs(v[0]) < 0.6 ? Vec3{1, 0, 0} : Vec3{0, 1, 0});
  return made / length(made);
}

}  // namespace

double determinant(const Mat3& m) { return dot(column(m, 0), cross(column(m, 1), column(m, 2))); }

// One-sided Jacobi (Hestenes 1958): columns are turned until they are perpendicular; their lengths are the values.
Svd svd(const Mat3& m) {
  Mat3 turned = m, right = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    bool moved = turn_apart(turned, right, 0, 1);
    moved = turn_apart(turned, right, 0, 2) || moved;
    moved = turn_apart(turned, right, 1, 2) || moved;
    if (!moved) break;
  }
  std::array<size_t, 3> order = {0, 1, 2};
  std::array<double, 3> lengths = {};
  for (size_t j = 0; j < 3; ++j) lengths[j] = length(column(turned, j));
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return lengths[a] > lengths[b]; });
  Svd found = {};
  std::array<Vec3, 3> left;
  const double least = lengths[order[0]] * 1e-15;  // below this, a column has no direction of its own
  for (size_t k = 0; k < 3; ++k) {
    found.values[k] = lengths[order[k]];
    set_column(found.right, k, column(right, order[k]));
    if (found.values[k] > least) {
      left[k] = column(turned, order[k]) / found.values[k];
    } else {
      left[k] = k == 0 ? Vec3{1, 0, 0} : k == 1 ? perpendicular(left[0]) : cross(left[0], left[1]);
    }
    set_column(found.left, k, left[k]);
  }
  return found;
}

Mat3 nearest_rotation(const Mat3& m) {
  Svd found = svd(m);
  if (determinant(found.left) * determinant(found.right) < 0) set_column(found.left, 2, -column(found.left, 2));
  return found.left * transposed(found.right);
}

Similarity fit_similarity(const Vec3* from, const Vec3* to, size_t n) {
  Vec3 a = {}, b = {};
  for (size_t i = 0; i < n; ++i) {
    a += from[i];
    b += to[i];
  }
  a = a / static_cast<double>(n);
  b = b / static_cast<double>(n);
  Mat3 products = {};
  double spread = 0;
  for (size_t i = 0; i < n; ++i) {
    const Vec3 x = from[i] - a, y = to[i] - b;
    spread += dot(x, x);
    for (size_t r = 0; r < 3; ++r) {
      for (size_t c = 0; c < 3; ++c) products[3 * r + c] += y[r] * x[c];
    }
  }
  Similarity made;
  made.rotation = nearest_rotation(products);
  double stretch = 0;
  for (size_t k = 0; k < 9; ++k) stretch += made.rotation[k] * products[k];
  made.scale = std::max(stretch / spread, 1e-9);
  made.shift = b - made.rotation * a * made.scale;
  return made;
}

}  // namespace topos
