// ONNX Runtime, loaded at run time by its C API. Only ort.cpp and engine.cpp know it.
#ifndef TOPOS_SDK_ORT_H
#define TOPOS_SDK_ORT_H

#include <onnxruntime_c_api.h>

#include <string>

#include "host.h"

namespace topos {

class Ort {
 public:
  // base, or the library at path, or, where both are NULL, the one beside this library. Throws a Fault.
  Ort(const void* base, const char* path);
  ~Ort();
  Ort(const Ort&) = delete;
  Ort& operator=(const Ort&) = delete;

  const OrtApi& api() const { return *api_; }
  OrtEnv* env() const { return env_; }
  const OrtMemoryInfo* memory() const { return memory_; }
  uint32_t number() const { return number_; }
  const char* version() const { return version_.c_str(); }
  const char* path() const { return path_.c_str(); }

  // Throws a Fault for a status that is an error, and frees it.
  void check(OrtStatus* status, const char* what) const;

 private:
  const OrtApi* api_ = nullptr;
  OrtEnv* env_ = nullptr;
  OrtMemoryInfo* memory_ = nullptr;
  uint32_t number_ = 0;
  std::string version_, path_;
};

}  // namespace topos

#endif
