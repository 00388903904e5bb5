#include "solvers.h"

#include <algorithm>
#include <cmath>

namespace topos {
namespace {

constexpr double kEdge = 1e-9;  // rounding of the grid must not decide whether guidance acts at its interval's edge
constexpr size_t kArrays = 11;

// The integral from start to end of a Lagrange polynomial of the nodes' times, by Simpson's rule, which is exact for
// cubics.
double weight(const double* times, int count, int j, double start, double end) {
  const auto basis = [&](double t) {
    double product = 1;
    for (int i = 0; i < count; ++i) {
      if (i != j) product *= (t - times[i]) / (times[j] - times[i]);
    }
    return product;
  };
  const double middle = (start + end) / 2;
  return (end - start) / 6 * (basis(start) + 4 * basis(middle) + basis(end));
}

// log(alpha / sigma) for 0 < t < 1.
double log_snr(double t) { return std::log1p(-t) - std::log(t); }

// out = x - factor * v. Products with a number of Python's are those with its float32, here and everywhere below.
void step_by(const float* x, double factor, const float* v, size_t count, float* out) {
  const float rate = static_cast<float>(factor);
  for (size_t i = 0; i < count; ++i) out[i] = x[i] - rate * v[i];
}

}  // namespace

bool is_time_grid(const std::vector<double>& times) {
  if (times.size() < 2 || times.size() > kMaxSteps + 1 || times.front() != 1 || times.back() != 0) return false;
  for (size_t at = 1; at < times.size(); ++at) {
    // Two times that are equal in float32 make no step. The comparison also refuses NaN.
    if (!(static_cast<float>(times[at]) < static_cast<float>(times[at - 1]))) return false;
  }
  return true;
}

std::vector<double> time_grid(int steps, double shift) {
  std::vector<double> times;
  const double width = -1.0 / steps;
  for (int k = 0; k <= steps; ++k) {
    const double t = k == steps ? 0.0 : k * width + 1.0;
    times.push_back(shift * t / (shift * t + (1.0 - t)));
  }
  return times;
}

Sampler::Sampler(const SamplerSettings& settings, const float* start, size_t count)
    : settings_(settings), count_(count), memory_(kArrays * count) {
  float* part = memory_.data();
  for (float** array : {&x_, &next_, &between_, &corrected_, &data_, &data_before_, &second_, &difference_}) {
    *array = part;
    part += count;
  }
  for (Node& node : nodes_) {
    node = {0, part};
    part += count;
  }
  std::copy_n(start, count, x_);
  std::copy_n(start, count, corrected_);
}

bool Sampler::acts(double t) const {
  return settings_.guidance != 0 && settings_.low - kEdge <= t && t <= settings_.high + kEdge;
}

Evaluation Sampler::wanted() const {
  const auto at = static_cast<size_t>(index_);
  const double t = settings_.times[half_way_ ? at + 1 : at];
  return {half_way_ ? between_ : x_, t, acts(t) && guided_ % settings_.reuse == 0};
}

bool Sampler::give(const float* velocity, const float* difference) {
  const auto at = static_cast<size_t>(index_);
  if (half_way_) {
    half_way_ = false;
    take(velocity, difference, settings_.times[at + 1], second_);
    const float* first = nodes_[2].velocity;
    const float half = static_cast<float>((step_.t - step_.t_next) / 2);
    for (size_t i = 0; i < count_; ++i) next_[i] = x_[i] - half * (first[i] + second_[i]);
    finish();
    return true;
  }
  step_.index = index_;
  step_.t = settings_.times[at];
  step_.t_next = settings_.times[at + 1];
  push(step_.t);
  take(velocity, difference, step_.t, nodes_[2].velocity);
  if (wants_second()) {
    step_by(x_, step_.t - step_.t_next, nodes_[2].velocity, count_, between_);
    half_way_ = true;
    return false;
  }
  advance();
  finish();
  return true;
}

// Whether the step is one of Heun's, which evaluates nothing at t = 0.
bool Sampler::wants_second() const {
  const bool heun = settings_.solver == Solver::kHeun || (settings_.solver == Solver::kAb3 && index_ == 0);
  return heun && step_.t_next != 0;
}

// Copies a velocity, with the last difference where guidance acts but was not computed.
void Sampler::take(const float* velocity, const float* difference, double t, float* out) {
  std::copy_n(velocity, count_, out);
  if (!acts(t)) return;
  if (guided_++ % settings_.reuse == 0) {
    if (difference != nullptr) std::copy_n(difference, count_, difference_);
    return;
  }
  const float w = static_cast<float>(settings_.guidance);
  for (size_t i = 0; i < count_; ++i) out[i] = velocity[i] + w * difference_[i];
}

// Makes room for the velocity at t, in place of the oldest.
void Sampler::push(double t) {
  std::rotate(nodes_.begin(), nodes_.begin() + 1, nodes_.end());
  nodes_[2].t = t;
  num_nodes_ = std::min(num_nodes_ + 1, 3);
}

// out = x plus the integral from start to end of the polynomial through the newest velocities; out may be x.
void Sampler::integrate(const float* x, int nodes, double start, double end, float* out) const {
  const Node* used = nodes_.data() + 3 - nodes;
  double times[3] = {};
  for (int j = 0; j < nodes; ++j) times[j] = used[j].t;
  for (int j = 0; j < nodes; ++j) {
    const float rate = static_cast<float>(weight(times, nodes, j, start, end));
    for (size_t i = 0; i < count_; ++i) out[i] = x[i] + rate * used[j].velocity[i];
    x = out;
  }
}

// Makes the next state of a step that needs no second velocity.
void Sampler::advance() {
  const double t = step_.t, end = step_.t_next;
  switch (settings_.solver) {
    case Solver::kAb2:
      return integrate(x_, std::min(num_nodes_, 2), t, end, next_);
    case Solver::kAb3:
      if (index_ == 0) break;
      return integrate(x_, num_nodes_, t, end, next_);
    case Solver::kDpmpp2m:
      return advance_data();
    case Solver::kUnipc:
      if (index_ > 0) integrate(corrected_, num_nodes_, nodes_[1].t, t, corrected_);
      return integrate(corrected_, std::min(num_nodes_, 2), t, end, next_);
    case Solver::kEuler:
    case Solver::kHeun:
      break;
  }
  step_by(x_, t - end, nodes_[2].velocity, count_, next_);
}

// A step of DPM-Solver++(2M).
void Sampler::advance_data() {
  const double t = step_.t, end = step_.t_next, before = nodes_[1].t;
  step_by(x_, t, nodes_[2].velocity, count_, data_);
  const float* ahead = data_;
  if (index_ > 0 && before < 1 && end > 0) {
    const double ratio = (log_snr(end) - log_snr(t)) / (log_snr(t) - log_snr(before));
    const float half = static_cast<float>(ratio / 2);
    for (size_t i = 0; i < count_; ++i) between_[i] = data_[i] + half * (data_[i] - data_before_[i]);
    ahead = between_;
  }
  const float rest = static_cast<float>(end / t);
  for (size_t i = 0; i < count_; ++i) next_[i] = ahead[i] + rest * (x_[i] - ahead[i]);
  std::swap(data_, data_before_);
}

void Sampler::finish() {
  step_.x = x_;
  step_.velocity = nodes_[2].velocity;
  step_.x_next = next_;
  std::swap(x_, next_);
  ++index_;
}

void clean_estimate(const Step& step, double sigma_min, size_t count, float* out) {
  const float kept = static_cast<float>(1 - sigma_min);
  const float rate = static_cast<float>(sigma_min + (1 - sigma_min) * step.t);
  for (size_t i = 0; i < count; ++i) out[i] = kept * step.x[i] - rate * step.velocity[i];
}

Evaluations evaluations(const SamplerSettings& settings) {
  Evaluations made = {0, 0};
  const float nothing = 0;
  for (Sampler run(settings, &nothing, 0); !run.done(); run.give(&nothing, &nothing)) {
    ++(run.wanted().guided ? made.guided : made.plain);
  }
  return made;
}

}  // namespace topos
