// The settings of one run of the sampler. Twin of topos_rt/flow/settings.py.
#ifndef TOPOS_SDK_SETTINGS_H
#define TOPOS_SDK_SETTINGS_H

#include <string>

#include "model_data.h"
#include "solvers.h"
#include "topos_rt.h"

namespace topos {

struct Settings {
  SamplerSettings sampler;
  std::string preset;
  double shift = 1;
  bool times_given = false;
  double temperature = 1;
  bool own_temperature = true;  // the model's, with its variation

  uint32_t steps() const { return static_cast<uint32_t>(sampler.times.size()) - 1; }
};

// The settings of a request's preset, with what it replaces. Throws a Fault.
Settings settled(const topos_request& request, const ModelData& model);

}  // namespace topos

#endif
