// Networks for tests of programs and of this library: deterministic, quick and made of nothing, so that no ONNX Runtime
// is needed. Heads are the rig's template, a little different for every latent; every picture has a face in its middle.
#ifndef TOPOS_SDK_FAKE_H
#define TOPOS_SDK_FAKE_H

#include "engine.h"
#include "model_data.h"

namespace topos {

class FakeEngine final : public Engine {
 public:
  FakeEngine(const ModelData& data, Graph graph);
  FakeEngine(const ModelData& data, FaceGraph graph);

  void run(const Bound& bound, const Stop* stop) const override;

 private:
  void fill(const Named& output, double key) const;
  void fill_head(float* vertices, size_t count, double key) const;
  void fill_detections(const Named& output) const;
  void fill_landmarks(const Named& output) const;

  const ModelData& data_;
  bool decodes_ = false, detects_ = false, marks_ = false;
};

}  // namespace topos

#endif
