// A run of the sampler, one network evaluation at a time. Twin of topos_rt/flow/.
#ifndef TOPOS_SDK_SOLVERS_H
#define TOPOS_SDK_SOLVERS_H

#include <array>
#include <cstddef>
#include <vector>

namespace topos {

enum class Solver { kEuler, kHeun, kAb2, kAb3, kDpmpp2m, kUnipc };

inline constexpr std::array<const char*, 6> kSolverNames = {"euler", "heun", "ab2", "ab3", "dpmpp_2m", "unipc"};

inline constexpr int kMaxSteps = 1000;
inline constexpr double kMaxShift = 1000, kMaxGuidance = 1000, kMaxTemperature = 2;

struct Preset {
  const char* name;
  int steps;
  Solver solver;
  double shift;
};

inline constexpr std::array<Preset, 3> kPresets = {{
    {"reference", 50, Solver::kEuler, 1},
    {"balanced", 12, Solver::kUnipc, 3},
    {"fast", 8, Solver::kUnipc, 3},
}};

// steps + 1 times from 1 to 0: equal steps t, moved to r t / (1 + (r - 1) t) with r = shift.
std::vector<double> time_grid(int steps, double shift);

// Whether these are 2 to kMaxSteps + 1 times that fall strictly from 1 to 0, also as the float32 that networks take.
bool is_time_grid(const std::vector<double>& times);

// The caller has checked all of them.
struct SamplerSettings {
  Solver solver = Solver::kEuler;
  std::vector<double> times;  // falling strictly from 1 to 0
  double guidance = 0;        // w
  double low = 0, high = 1;   // guidance acts at the times low <= t <= high
  int reuse = 1;              // the difference is computed at every reuse-th guided evaluation, and kept in between
};

// What the sampler wants to know: the network's velocity [count] at (x, t). guided: (1 + w) v_cond - w v_uncond, and
// the difference v_cond - v_uncond as well; else v_cond alone.
struct Evaluation {
  const float* x;
  double t;
  bool guided;
};

// A finished step from t to t_next. velocity is that at (x, t).
struct Step {
  int index;
  double t, t_next;
  const float *x, *velocity, *x_next;
};

// All memory is taken at the start. Addresses that it returns hold until the next call of give().
class Sampler {
 public:
  // start: noise [count] at t = 1; copied.
  Sampler(const SamplerSettings& settings, const float* start, size_t count);

  bool done() const { return index_ + 1 >= static_cast<int>(settings_.times.size()); }
  // Only while it is not done.
  Evaluation wanted() const;
  // Takes the answer to wanted(), copied; difference may be null where it was not asked for. Returns whether this
  // ended a step.
  bool give(const float* velocity, const float* difference);
  // Once give() has returned true.
  const Step& step() const { return step_; }
  // The newest state: the latent once it is done.
  const float* state() const { return x_; }

 private:
  struct Node {
    double t;
    float* velocity;
  };

  bool acts(double t) const;
  bool wants_second() const;
  void take(const float* velocity, const float* difference, double t, float* out);
  void push(double t);
  void integrate(const float* x, int nodes, double start, double end, float* out) const;
  void advance();
  void advance_data();
  void finish();

  SamplerSettings settings_;
  size_t count_;
  std::vector<float> memory_;
  float *x_, *next_, *between_, *corrected_, *data_, *data_before_, *second_, *difference_;
  std::array<Node, 3> nodes_;  // the newest last
  int num_nodes_ = 0, index_ = 0, guided_ = 0;
  bool half_way_ = false;  // Heun's method waits for its second velocity
  Step step_ = {};
};

// x0 estimated at a step's time t: (1 - s) x_t - (s + (1 - s) t) v, with s = sigma_min.
void clean_estimate(const Step& step, double sigma_min, size_t count, float* out);

// How often a run evaluates the network without and with guidance.
struct Evaluations {
  int plain, guided;
};

Evaluations evaluations(const SamplerSettings& settings);

}  // namespace topos

#endif
