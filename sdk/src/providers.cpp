#include "providers.h"

#include <cstring>
#include <vector>

#include "fault.h"
#include "utf8.h"

namespace topos {
namespace {

constexpr const char* kRtxProvider = "NvTensorRTRTXExecutionProvider";
constexpr const char* kRegistered = "topos_rt_nv_tensorrt_rtx";
constexpr const char* kOnCpu = "load the model with TOPOS_BACKEND_CPU";

// Throws a Fault that says what a status says, and frees it.
void require(const Ort& ort, OrtStatus* status, const std::string& what, const char* expected) {
  if (status == nullptr) return;
  const std::string message = ort.api().GetErrorMessage(status);
  ort.api().ReleaseStatus(status);
  fail(TOPOS_E_UNAVAILABLE, what, message, expected, kOnCpu);
}

std::vector<const OrtEpDevice*> rtx_devices(const Ort& ort) {
  const OrtEpDevice* const* all = nullptr;
  size_t count = 0;
  require(ort, ort.api().GetEpDevices(ort.env(), &all, &count), "the devices of ONNX Runtime", "");
  std::vector<const OrtEpDevice*> found;
  for (size_t at = 0; at < count; ++at) {
    if (std::strcmp(ort.api().EpDevice_EpName(all[at]), kRtxProvider) == 0) found.push_back(all[at]);
  }
  return found;
}

// The provider stays registered for the whole process, as ONNX Runtime's environment does: another runtime may use it.
void register_rtx(const Ort& ort, const char* library) {
  constexpr const char* kExpected = "ONNX Runtime's plug-in provider for TensorRT-RTX, and an NVIDIA driver";
  const std::string path = library == nullptr ? "" : library;
  const std::string what = "topos_runtime_options.rtx_library" + (path.empty() ? path : ", " + path);
  if (library == nullptr) fail(TOPOS_E_UNAVAILABLE, what, "NULL", kExpected, kOnCpu);
  if (path.find_first_of("/\\") == std::string::npos) {
    fail(TOPOS_E_UNAVAILABLE, what, "a name without a directory", "a full path", kOnCpu);
  }
#ifdef _WIN32
  const std::wstring name = wide(library);
#else
  const std::string& name = path;
#endif
  require(ort, ort.api().RegisterExecutionProviderLibrary(ort.env(), kRegistered, name.c_str()), what, kExpected);
}

void add(std::string& facts, const Ort& ort, const OrtKeyValuePairs* pairs) {
  const char* const* keys = nullptr;
  const char* const* values = nullptr;
  size_t count = 0;
  ort.api().GetKeyValuePairs(pairs, &keys, &values, &count);
  for (size_t at = 0; at < count; ++at) facts += std::string(keys[at]) + "=" + values[at] + "\n";
}

std::string use_rtx(const Ort& ort, const char* library, OrtSessionOptions* options) {
  std::vector<const OrtEpDevice*> devices = rtx_devices(ort);
  if (devices.empty()) {
    register_rtx(ort, library);
    devices = rtx_devices(ort);
  }
  if (devices.empty()) {
    fail(TOPOS_E_UNAVAILABLE, "devices of TensorRT-RTX", "none", "a GeForce RTX 30 or later with its driver", kOnCpu);
  }
  const OrtEpDevice* first = devices[0];
  require(ort, ort.api().SessionOptionsAppendExecutionProvider_V2(options, ort.env(), &first, 1, nullptr, nullptr, 0),
          "TensorRT-RTX", "a provider that works here");
  std::string facts = kRtxProvider;
  add(facts, ort, ort.api().EpDevice_EpMetadata(first));
  add(facts, ort, ort.api().HardwareDevice_Metadata(ort.api().EpDevice_Device(first)));
  return facts;
}

std::string use_cuda(const Ort& ort, OrtSessionOptions* options) {
  constexpr const char* kExpected = "an ONNX Runtime with CUDA, and an NVIDIA GPU";
  OrtCUDAProviderOptionsV2* cuda = nullptr;
  require(ort, ort.api().CreateCUDAProviderOptions(&cuda), "CUDA", kExpected);
  OrtStatus* status = ort.api().SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda);
  ort.api().ReleaseCUDAProviderOptions(cuda);
  require(ort, status, "CUDA", kExpected);
  return "CUDA";
}

}  // namespace

std::string use_backend(const Ort& ort, topos_backend backend, const char* rtx_library, OrtSessionOptions* options) {
  if (backend == TOPOS_BACKEND_TENSORRT_RTX) return use_rtx(ort, rtx_library, options);
  if (backend == TOPOS_BACKEND_CUDA) return use_cuda(ort, options);
  return "CPU";
}

}  // namespace topos
