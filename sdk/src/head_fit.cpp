#include "head_fit.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "face.h"
#include "head_problem.h"
#include "json.h"
#include "linear.h"
#include "rotation.h"

namespace topos {

namespace {

constexpr size_t kIrises[] = {468, 473}, kOuterEyes[] = {33, 263};
// Relative to the outer-eye distance: of a head that is not quite that of the picture, and of the irises.
constexpr double kShapeNoise = 0.02, kIrisNoise = 0.03;
constexpr double kIndependent = 0.08;  // share of the landmarks that counts, for the errors of neighbours agree
constexpr double kMoving = 3;          // how much more those count that expressions move and edges show
constexpr double kSmallestPx = 2, kNotAFace = 0.25, kHuge = 1e7, kUnseen = 0.005;
// Landmarks of the right eyelid, the right brow and the right half of the lips; the map mirrors them.
constexpr size_t kExpressive[] = {33,  7,   163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246, 70, 63,
                                  105, 66,  107, 55,  65,  52,  53,  46,  61,  185, 40,  39,  37,  0,   17,  84,  181, 91,
                                  146, 78,  191, 80,  81,  82,  13,  14,  87,  178, 88,  95};

Vec3 on_head(const float* values, const int32_t* vertices, const float* weights) {
  Vec3 sum = {};
  for (size_t k = 0; k < 3; ++k) sum += vec(values + 3 * vertices[k]) * static_cast<double>(weights[k]);
  return sum;
}

double spread_px(const float* landmarks) {
  double most = 0;
  for (size_t axis = 0; axis < 2; ++axis) {
    double low = INFINITY, high = -INFINITY;
    for (size_t i = axis; i < 3 * kLandmarks; i += 3) {
      const double value = static_cast<double>(landmarks[i]);
      if (!(std::fabs(value) < kHuge)) return -1;
      low = std::min(low, value);
      high = std::max(high, value);
    }
    most = std::max(most, high - low);
  }
  return most;
}

}  // namespace

// The network's first score is no expression, and it does not know the tongue.
const char* arkit_name(size_t number) {
  return number + 1 < kArkitShapes ? kExpressionNames[number + 1] : "tongueOut";
}

std::array<double, 2> HeadCamera::project(const Vec3& point) const {
  const Vec3 at = turn * point + shift;
  return {centre[0] - focal * at[0] / at[2], centre[1] + focal * at[1] / at[2]};
}

HeadFitter::HeadFitter(const float* positions, const LandmarkMap& map, const Shapes& shapes,
                       const std::array<int, kArkitShapes>& ids) {
  std::vector<std::vector<Vec3>> moved;  // of each shape, at each landmark
  const auto at_landmarks = [&map](const float* values) {
    std::vector<Vec3> made;
    for (size_t i = 0; i < kSkinLandmarks; ++i) made.push_back(on_head(values, map.vertices + 3 * i, map.weights + 3 * i));
    for (size_t k = 0; map.irises != nullptr && k < 2; ++k) made.push_back(vec(values + 3 * map.irises[k]));
    return made;
  };
  rest_ = at_landmarks(positions);
  for (size_t i = 0; i < rest_.size(); ++i) {
    middle_ += rest_[i];
    seen_.push_back(i < kSkinLandmarks ? i : kIrises[i - kSkinLandmarks]);
    const bool iris = i >= kSkinLandmarks;
    precision_.push_back(1 / (iris ? kIrisNoise : std::hypot(static_cast<double>(map.noise[i]), kShapeNoise)));
    share_.push_back(iris ? 1 : kIndependent);
  }
  middle_ = middle_ / static_cast<double>(rest_.size());
  for (Vec3& point : rest_) point = point - middle_;
  across_ = length(rest_[kOuterEyes[0]] - rest_[kOuterEyes[1]]);
  for (const size_t id : kExpressive) {
    share_[id] = kIndependent * kMoving;
    share_[static_cast<size_t>(map.mirrored[id])] = kIndependent * kMoving;
  }
  int32_t last = 0;
  for (size_t i = 0; i < 3 * kSkinLandmarks; ++i) last = std::max(last, map.vertices[i]);
  for (size_t k = 0; map.irises != nullptr && k < 2; ++k) last = std::max(last, map.irises[k]);
  std::vector<float> offsets(3 * (static_cast<size_t>(last) + 1));
  moves_.resize(rest_.size());
  for (size_t name = 0; name < ids.size(); ++name) {
    if (ids[name] < 0) continue;
    names_.push_back(name);
    const auto shape = static_cast<size_t>(ids[name]);
    std::fill(offsets.begin(), offsets.end(), 0.0F);
    for (size_t entry = shapes.begin(shape); entry < shapes.end(shape); ++entry) {
      if (shapes.index[entry] > last) continue;
      std::copy_n(shapes.delta + 3 * entry, 3, &offsets[3 * static_cast<size_t>(shapes.index[entry])]);
    }
    const std::vector<Vec3> found = at_landmarks(offsets.data());
    for (size_t i = 0; i < found.size(); ++i) moves_[i].push_back(found[i]);
  }
}

std::string HeadFitter::fit(const float* landmarks, const int* size, double focal, const float* scores,
                            HeadFit* out) const {
  const double spread = spread_px(landmarks);
  if (spread < 0) return "NaN, infinite or huge values";
  if (spread < kSmallestPx) return "points too close together";
  std::vector<std::array<double, 2>> found;
  for (const size_t id : seen_) {
    found.push_back({static_cast<double>(landmarks[3 * id]), -static_cast<double>(landmarks[3 * id + 1])});
  }
  // The scaled orthographic camera (POS): least squares for two rows of four numbers.
  std::vector<double> squares(16), products(8);
  for (size_t i = 0; i < rest_.size(); ++i) {
    const double row[4] = {rest_[i][0], rest_[i][1], rest_[i][2], 1}, weight = precision_[i] * precision_[i];
    for (size_t r = 0; r < 4; ++r) {
      for (size_t c = 0; c < 4; ++c) squares[4 * r + c] += weight * row[r] * row[c];
      for (size_t k = 0; k < 2; ++k) products[4 * k + r] += weight * row[r] * found[i][k];
    }
  }
  std::vector<double> u(products.begin(), products.begin() + 4), v(products.begin() + 4, products.end());
  if (!solve(squares, u) || !solve(squares, v)) return "points too close together";
  const Vec3 first = vec(u.data()), second = vec(v.data());
  const double scale = (length(first) + length(second)) / 2;
  if (!(scale * across_ >= kSmallestPx)) return "points too close together";
  const Vec3 x = first / length(first), y = second / length(second), z = cross(x, y);

  const double unit = scale * across_;  // pixels of the outer-eye distance, as if seen from the front
  const std::array<double, 2> middle = {u[3], v[3]};
  const std::array<double, 2> centre = size == nullptr ? middle : std::array<double, 2>{size[0] / 2.0, -size[1] / 2.0};
  for (auto& point : found) point = {(point[0] - centre[0]) / unit, (point[1] - centre[1]) / unit};
  const double lens = focal / unit;
  HeadProblem problem(*this, std::move(found), lens, scores);
  HeadState start;
  start.turn = nearest_rotation({x[0], x[1], x[2], y[0], y[1], y[2], z[0], z[1], z[2]});
  start.middle = {(middle[0] - centre[0]) / unit, (middle[1] - centre[1]) / unit};
  start.scale = std::log(scale / unit);
  start.near = HeadProblem::within(focal == 0 ? HeadProblem::usual() : start.scale - std::log(lens));
  start.weights = problem.expected();
  const HeadState state = problem.solve(start);
  const double residual = problem.residual(state) * std::exp(start.scale - state.scale);
  if (!(residual < kNotAFace)) {
    return "points " + rounded_text(100 * residual, 0) + " % of the outer-eye distance away from those of a head";
  }
  HeadCamera& camera = out->camera;
  const double distance = std::exp(-state.near), pixels = std::exp(state.scale) * distance;
  camera.turn = state.turn;
  camera.shift = Vec3{state.middle[0] * distance / pixels, state.middle[1] * distance / pixels, -distance} -
                 state.turn * middle_;
  camera.focal = pixels * unit;
  camera.centre = {centre[0], -centre[1]};
  out->weights = state.weights;
  out->residual = 100 * residual;
  return "";
}

std::string rounded_text(double value, int digits) {
  char text[400];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  if (digits == 0) return text;
  return number_text(std::strtod(text, nullptr));
}

std::string fit_facts(const HeadFit& fit, const std::vector<size_t>& names) {
  const Angles angles = angles_of(fit.camera.turn);
  Json made;
  made.key("pose").open('{');
  made.raw("yaw", rounded_text(angles.yaw, 2)).raw("pitch", rounded_text(angles.pitch, 2));
  made.raw("roll", rounded_text(angles.roll, 2)).raw("distance_m", rounded_text(fit.camera.distance(), 4));
  made.raw("focal_px", rounded_text(fit.camera.focal, 2));
  made.raw("residual_percent", rounded_text(fit.residual, 3)).close('}').key("expression").open('{');
  for (size_t i = 0; i < names.size(); ++i) {
    if (fit.weights[i] >= kUnseen) made.raw(arkit_name(names[i]), rounded_text(fit.weights[i], 3));
  }
  return made.close('}').str();
}

}  // namespace topos
