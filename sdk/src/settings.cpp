#include "settings.h"

#include <cmath>
#include <string>

#include "fault.h"

namespace topos {
namespace {

constexpr uint32_t kMostSteps = kMaxSteps;
constexpr auto kSolvers = static_cast<uint32_t>(kSolverNames.size());

double real(const char* what, double value, double low, double high) {
  if (!(value >= low && value <= high)) {
    fail(TOPOS_E_ARGUMENT, what, std::to_string(value),
         "a number from " + std::to_string(low) + " to " + std::to_string(high));
  }
  return value;
}

uint32_t whole(const char* what, uint32_t value) {
  if (value < 1 || value > kMostSteps) {
    fail(TOPOS_E_ARGUMENT, what, std::to_string(value), "1 to " + std::to_string(kMostSteps));
  }
  return value;
}

std::vector<double> given_times(const topos_request& request) {
  const char* expected = "2 to 1001 numbers that fall strictly from 1 to 0";
  if (request.times == nullptr) fail(TOPOS_E_ARGUMENT, "times", "NULL", expected);
  if (request.num_times < 2 || request.num_times > kMostSteps + 1) {
    fail(TOPOS_E_ARGUMENT, "times", std::to_string(request.num_times) + " numbers", expected);
  }
  std::vector<double> times(request.times, request.times + request.num_times);
  if (!is_time_grid(times)) fail(TOPOS_E_ARGUMENT, "times", "others", expected);
  if ((request.set & TOPOS_SET_STEPS) != 0 && request.steps != request.num_times - 1) {
    fail(TOPOS_E_ARGUMENT, "steps", std::to_string(request.steps),
         std::to_string(request.num_times - 1) + ", as times has", "leave out TOPOS_SET_STEPS");
  }
  if ((request.set & TOPOS_SET_SHIFT) != 0 && request.shift != 1) {
    fail(TOPOS_E_ARGUMENT, "shift", std::to_string(request.shift), "1, as times are the grid",
         "leave out TOPOS_SET_SHIFT");
  }
  return times;
}

}  // namespace

Settings settled(const topos_request& request, const ModelData& model) {
  const uint32_t known = TOPOS_SET_TIMES * 2 - 1;
  if ((request.set & ~known) != 0) {
    fail(TOPOS_E_ARGUMENT, "topos_request.set", std::to_string(request.set), "bits of TOPOS_SET_*");
  }
  if (request.preset > model.presets.size()) {
    fail(TOPOS_E_ARGUMENT, "preset", std::to_string(request.preset), "0 to " + std::to_string(model.presets.size()));
  }
  const auto sets = [&request](uint32_t bit) { return (request.set & bit) != 0; };
  const size_t number = request.preset == 0 ? model.size[kDefaultPreset] : request.preset - 1;
  const PackPreset& preset = model.presets[number];
  Settings made;
  SamplerSettings& run = made.sampler;
  made.preset = model.preset_names[number];
  const uint32_t solver = sets(TOPOS_SET_SOLVER) ? static_cast<uint32_t>(request.solver) : preset.solver;
  if (solver >= kSolvers) {
    fail(TOPOS_E_ARGUMENT, "solver", std::to_string(request.solver), "0 to " + std::to_string(kSolvers - 1));
  }
  run.solver = static_cast<Solver>(solver);
  const double own_guidance = std::isnan(preset.guidance) ? model.number[kGuidance] : preset.guidance;
  run.guidance = real("guidance", sets(TOPOS_SET_GUIDANCE) ? request.guidance : own_guidance, 0, kMaxGuidance);
  const bool moves = sets(TOPOS_SET_INTERVAL);
  run.low = real("guidance interval", moves ? request.interval[0] : preset.low, 0, 1);
  run.high = real("guidance interval", moves ? request.interval[1] : preset.high, run.low, 1);
  run.reuse = static_cast<int>(whole("guidance reuse", sets(TOPOS_SET_REUSE) ? request.reuse : preset.reuse));
  made.own_temperature = !sets(TOPOS_SET_TEMPERATURE) && std::isnan(preset.temperature);
  const double own_temperature = made.own_temperature ? model.number[kTemperature] : preset.temperature;
  made.temperature =
      real("temperature", sets(TOPOS_SET_TEMPERATURE) ? request.temperature : own_temperature, 0, kMaxTemperature);
  if (sets(TOPOS_SET_TIMES)) {
    run.times = given_times(request);
    made.times_given = true;
  } else if (!preset.times.empty() && !sets(TOPOS_SET_STEPS) && !sets(TOPOS_SET_SHIFT)) {
    run.times = preset.times;
    made.times_given = true;
  } else {
    const uint32_t steps = whole("steps", sets(TOPOS_SET_STEPS) ? request.steps : preset.steps);
    made.shift = real("shift", sets(TOPOS_SET_SHIFT) ? request.shift : preset.shift, 1 / kMaxShift, kMaxShift);
    run.times = time_grid(static_cast<int>(steps), made.shift);
  }
  return made;
}

}  // namespace topos
