#include "solvers.h"

#include <algorithm>

#include "shims.h"

namespace {

topos::SamplerSettings settings_of(int64_t solver, const double* times, int64_t steps, const double* guidance,
                                   int64_t reuse) {
  topos::SamplerSettings made;
  made.solver = static_cast<topos::Solver>(solver);
  made.times.assign(times, times + steps + 1);
  made.guidance = guidance[0];
  made.low = guidance[1];
  made.high = guidance[2];
  made.reuse = static_cast<int>(reuse);
  return made;
}

}  // namespace

SHIM void time_grid(int64_t steps, double shift, double* out) {
  const auto made = topos::time_grid(static_cast<int>(steps), shift);
  std::copy(made.begin(), made.end(), out);
}

// guidance: w, low, high.
SHIM void* sampler_new(int64_t solver, const double* times, int64_t steps, const double* guidance, int64_t reuse,
                       const float* start, uint64_t count) {
  return new topos::Sampler(settings_of(solver, times, steps, guidance, reuse), start, count);
}

SHIM void sampler_delete(topos::Sampler* sampler) { delete sampler; }

// Returns 0 once it is done, else 1 for a plain evaluation and 2 for a guided one.
SHIM int32_t sampler_wanted(const topos::Sampler* sampler, float* x, uint64_t count, double* t) {
  if (sampler->done()) return 0;
  const topos::Evaluation wanted = sampler->wanted();
  std::copy_n(wanted.x, count, x);
  *t = wanted.t;
  return wanted.guided ? 2 : 1;
}

SHIM int32_t sampler_give(topos::Sampler* sampler, const float* velocity, const float* difference) {
  return sampler->give(velocity, difference) ? 1 : 0;
}

// arrays: x, velocity, x_next and the clean estimate; times: t, t_next. Returns the step's index.
SHIM int32_t sampler_step(const topos::Sampler* sampler, double sigma_min, uint64_t count, float* arrays,
                          double* times) {
  const topos::Step& step = sampler->step();
  std::copy_n(step.x, count, arrays);
  std::copy_n(step.velocity, count, arrays + count);
  std::copy_n(step.x_next, count, arrays + 2 * count);
  topos::clean_estimate(step, sigma_min, count, arrays + 3 * count);
  times[0] = step.t;
  times[1] = step.t_next;
  return step.index;
}

SHIM void evaluations(int64_t solver, const double* times, int64_t steps, const double* guidance, int64_t reuse,
                      int32_t* out) {
  const auto made = topos::evaluations(settings_of(solver, times, steps, guidance, reuse));
  out[0] = made.plain;
  out[1] = made.guided;
}

SHIM const char* solver_name(uint64_t i) { return i < topos::kSolverNames.size() ? topos::kSolverNames[i] : nullptr; }

SHIM const char* preset(uint64_t i, int32_t* steps, int32_t* solver, double* shift) {
  if (i >= topos::kPresets.size()) return nullptr;
  const topos::Preset& found = topos::kPresets[i];
  *steps = found.steps;
  *solver = static_cast<int32_t>(found.solver);
  *shift = found.shift;
  return found.name;
}
