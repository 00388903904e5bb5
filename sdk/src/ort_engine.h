// Networks that ONNX Runtime runs.
#ifndef TOPOS_SDK_ORT_ENGINE_H
#define TOPOS_SDK_ORT_ENGINE_H

#include "engine.h"
#include "engine_source.h"

namespace topos {

// How the sessions of a runtime are made.
struct SessionSettings {
  const Ort& ort;
  const Host& host;
  uint32_t threads;
  bool spins;
  const char* cache_dir;    // where graphs are kept as they were optimised, see session_cache.h; null: nowhere
  const char* rtx_library;  // null: none
};

class OrtEngine final : public Engine {
 public:
  // Throws a Fault for a graph that cannot be loaded or has tensors other than float32 of fixed shape.
  OrtEngine(const SessionSettings& settings, const EngineSource& source, topos_backend backend);
  ~OrtEngine() override { ort_.api().ReleaseSession(session_); }

  void run(const Bound& bound, const Stop* stop) const override;

 private:
  void describe();

  const Ort& ort_;
  OrtSession* session_ = nullptr;
};

}  // namespace topos

#endif
