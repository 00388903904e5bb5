// Execution providers of ONNX Runtime other than its CPU. No GPU has run them yet: see docs/embedding.md.
#ifndef TOPOS_SDK_PROVIDERS_H
#define TOPOS_SDK_PROVIDERS_H

#include <string>

#include "ort.h"

namespace topos {

// Lets a session run on a backend, and returns what compiled graphs depend on: versions, the device and its driver.
// rtx_library: of the runtime; may be null. Throws a Fault, TOPOS_E_UNAVAILABLE where this machine or this ONNX Runtime
// cannot do it.
std::string use_backend(const Ort& ort, topos_backend backend, const char* rtx_library, OrtSessionOptions* options);

}  // namespace topos

#endif
