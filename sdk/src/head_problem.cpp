#include "head_problem.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "face.h"
#include "linear.h"

namespace topos {
namespace {

constexpr double kDistanceM = 1.2, kDistanceSpread = 0.35;  // where the focal length is unknown; of its logarithm
constexpr double kLowestM = 0.25, kHighestM = 12;
constexpr double kWeightSpread = 0.3;
constexpr double kHuber = 2.5;  // standard deviations from which on a landmark counts less
constexpr int kSteps = 20, kTries = 6;
constexpr double kSettled = 1e-5;
constexpr size_t kCamera = 7;  // rotation, middle, scale and nearness come before the weights

// What scores of the expression network are worth: how many times the score a weight is, and the rest's deviation.
struct Trust {
  std::string_view name;
  double times, spread;
};

constexpr Trust kTrusted[] = {
    {"eyeBlinkLeft", 0.6, 0.12},   {"eyeBlinkRight", 0.6, 0.12},    {"jawOpen", 1.0, 0.13},
    {"mouthSmileLeft", 1.0, 0.20}, {"mouthSmileRight", 1.0, 0.20},  {"mouthUpperUpLeft", 0.6, 0.13},
    {"mouthUpperUpRight", 0.6, 0.13},
};

Mat3 turn_by(const double* vector) {
  const double angle = std::sqrt(vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2]);
  const double over = angle != 0 ? angle : 1;
  const double x = vector[0] / over, y = vector[1] / over, z = vector[2] / over;
  const Mat3 cross = {0, -z, y, z, 0, -x, -y, x, 0}, squared = cross * cross;
  Mat3 made = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  for (size_t k = 0; k < 9; ++k) made[k] += std::sin(angle) * cross[k] + (1 - std::cos(angle)) * squared[k];
  return made;
}

}  // namespace

double HeadProblem::within(double near) { return std::clamp(near, -std::log(kHighestM), -std::log(kLowestM)); }
double HeadProblem::usual() { return -std::log(kDistanceM); }

HeadProblem::HeadProblem(const HeadFitter& head, std::vector<std::array<double, 2>> found, double lens,
                         const float* scores)
    : head_(head), found_(std::move(found)), lens_(lens) {
  for (const size_t name : head.names_) {
    double expected = 0, spread = kWeightSpread;
    for (const Trust& trust : kTrusted) {
      if (scores == nullptr || trust.name != arkit_name(name)) continue;
      expected = std::clamp(trust.times * static_cast<double>(scores[name + 1]), 0.0, 1.0);
      spread = trust.spread;
    }
    expected_.push_back(expected);
    pull_.push_back(1 / (spread * spread));
  }
}

HeadState HeadProblem::solve(HeadState state) const {
  double damping = 1e-3, cost = this->cost(state);
  for (int step = 0; step < kSteps; ++step) {
    const Equations at = normal_equations(state);
    const double before = cost;
    bool better = false;
    for (int tries = 0; tries < kTries && !better; ++tries) {
      HeadState tried;
      cost = moved(state, at, damping, tried) ? this->cost(tried) : INFINITY;
      better = cost < before;
      if (better) state = std::move(tried);
      damping = better ? std::max(damping / 5, 1e-7) : damping * 6;
    }
    if (!better || before - cost < kSettled * before) return state;
  }
  return state;
}

double HeadProblem::residual(const HeadState& state) const {
  double sum = 0;
  for (size_t i = 0; i < kSkinLandmarks; ++i) {
    const View seen = view(state, i);
    for (size_t k = 0; k < 2; ++k) sum += (seen.place[k] - found_[i][k]) * (seen.place[k] - found_[i][k]);
  }
  return std::sqrt(sum / static_cast<double>(kSkinLandmarks));
}

// A landmark in the picture, in the camera's axes, and its relative depth.
HeadProblem::View HeadProblem::view(const HeadState& state, size_t landmark) const {
  Vec3 shape = head_.rest_[landmark];
  for (size_t k = 0; k < state.weights.size(); ++k) shape += head_.moves_[landmark][k] * state.weights[k];
  View seen;
  seen.turned = state.turn * shape;
  seen.depth = 1 - std::exp(state.near) * seen.turned[2];
  for (size_t k = 0; k < 2; ++k) {
    seen.place[k] = (std::exp(state.scale) * seen.turned[k] + state.middle[k]) / seen.depth;
  }
  return seen;
}

// How unlikely the distance is, in standard deviations; 0 for a known focal length.
double HeadProblem::nearness(const HeadState& state) const {
  return lens_ != 0 ? 0 : (-state.near - std::log(kDistanceM)) / kDistanceSpread;
}

double HeadProblem::cost(const HeadState& state) const {
  double sum = 0;
  for (size_t i = 0; i < found_.size(); ++i) {
    const View seen = view(state, i);
    if (!(seen.depth > 0.05)) return INFINITY;
    const double away = std::hypot(seen.place[0] - found_[i][0], seen.place[1] - found_[i][1]) * head_.precision_[i];
    sum += head_.share_[i] * (away < kHuber ? away * away : 2 * kHuber * away - kHuber * kHuber);
  }
  for (size_t k = 0; k < state.weights.size(); ++k) {
    const double off = state.weights[k] - expected_[k];
    sum += pull_[k] * off * off;
  }
  return sum + nearness(state) * nearness(state);
}

// The derivatives of a landmark's place by rotation, middle, scale, nearness and weights.
void HeadProblem::jacobian(const HeadState& state, size_t landmark, const View& seen,
                           std::vector<double> (&rows)[2]) const {
  const double scale = std::exp(state.scale), near = std::exp(state.near);
  const auto [x, y, z] = seen.turned;
  for (size_t k = 0; k < 2; ++k) {
    std::vector<double>& row = rows[k];
    Vec3 to_camera = {0, 0, seen.place[k] * near / seen.depth};
    to_camera[k] = scale / seen.depth;
    const Mat3 spin = {0, z, -y, -z, 0, x, y, -x, 0};
    for (size_t c = 0; c < 3; ++c) row[c] = to_camera[0] * spin[c] + to_camera[1] * spin[3 + c] + to_camera[2] * spin[6 + c];
    row[3] = k == 0 ? 1 / seen.depth : 0;
    row[4] = k == 1 ? 1 / seen.depth : 0;
    row[5] = scale * seen.turned[k] / seen.depth;
    row[6] = seen.place[k] * (near * z / seen.depth);
    if (lens_ != 0) {  // the distance follows from the size
      row[5] += row[6];
      row[6] = 0;
    }
    const Vec3 along = transposed(state.turn) * to_camera;
    for (size_t s = 0; s < state.weights.size(); ++s) row[kCamera + s] = dot(along, head_.moves_[landmark][s]);
  }
}

// The gradient and Gauss-Newton's matrix.
HeadProblem::Equations HeadProblem::normal_equations(const HeadState& state) const {
  const size_t own = kCamera + state.weights.size();
  Equations made = {std::vector<double>(own), std::vector<double>(own * own)};
  std::vector<double> rows[2] = {std::vector<double>(own), std::vector<double>(own)};
  for (size_t i = 0; i < found_.size(); ++i) {
    const View seen = view(state, i);
    jacobian(state, i, seen, rows);
    const double away[2] = {(seen.place[0] - found_[i][0]) * head_.precision_[i],
                            (seen.place[1] - found_[i][1]) * head_.precision_[i]};
    const double distance = std::sqrt(away[0] * away[0] + away[1] * away[1]);
    const double counts = head_.share_[i] * std::min(1.0, kHuber / std::max(distance, 1e-12));
    for (size_t k = 0; k < 2; ++k) {
      const double precise = counts * head_.precision_[i];
      for (size_t r = 0; r < own; ++r) {
        const double left = precise * rows[k][r];
        made.gradient[r] += left * away[k];
        const double both = left * head_.precision_[i];
        for (size_t c = 0; c <= r; ++c) made.hessian[r * own + c] += both * rows[k][c];
      }
    }
  }
  for (size_t r = 0; r < own; ++r) {
    for (size_t c = 0; c < r; ++c) made.hessian[c * own + r] = made.hessian[r * own + c];
  }
  for (size_t k = 0; k < state.weights.size(); ++k) {
    made.gradient[kCamera + k] += pull_[k] * (state.weights[k] - expected_[k]);
    made.hessian[(kCamera + k) * (own + 1)] += pull_[k];
  }
  made.gradient[6] -= nearness(state) / kDistanceSpread;
  made.hessian[6 * (own + 1)] += 1 / (kDistanceSpread * kDistanceSpread);
  return made;
}

// The state after a damped step; weights at a bound that the step would cross stay there.
bool HeadProblem::moved(const HeadState& state, const Equations& at, double damping, HeadState& out) const {
  const size_t own = at.gradient.size();
  std::vector<size_t> free;
  for (size_t k = 0; k < own; ++k) {
    const double weight = k < kCamera ? 0.5 : state.weights[k - kCamera];
    const bool pushed = (weight <= 0 && at.gradient[k] > 0) || (weight >= 1 && at.gradient[k] < 0);
    if (!pushed) free.push_back(k);
  }
  std::vector<double> system, step(own), right;
  for (const size_t r : free) {
    for (const size_t c : free) system.push_back(at.hessian[r * own + c] * (r == c ? 1 + damping : 1));
    right.push_back(-at.gradient[r]);
  }
  if (!topos::solve(system, right)) return false;
  for (size_t i = 0; i < free.size(); ++i) step[free[i]] = right[i];
  out.scale = state.scale + std::clamp(step[5], -0.5, 0.5);
  const double near = lens_ != 0 ? out.scale - std::log(lens_) : state.near + std::clamp(step[6], -0.5, 0.5);
  out.near = within(near);
  out.turn = turn_by(step.data()) * state.turn;
  out.middle = {state.middle[0] + step[3], state.middle[1] + step[4]};
  for (size_t k = 0; k < state.weights.size(); ++k) {
    out.weights.push_back(std::clamp(state.weights[k] + step[kCamera + k], 0.0, 1.0));
  }
  return true;
}

}  // namespace topos
