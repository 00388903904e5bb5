// The networks of the face stage as a job runs them.
#ifndef TOPOS_SDK_FACE_ENGINES_H
#define TOPOS_SDK_FACE_ENGINES_H

#include <memory>
#include <optional>

#include "finder.h"
#include "model.h"

namespace topos {

class FaceEngines final : public FaceNetworks {
 public:
  // Takes the tensors of a run. Throws a Fault where the model was loaded without faces.
  FaceEngines(const Model& model, const Stop* stop);

  bool detect(const std::vector<float>& pixels, std::vector<float>& boxes, std::vector<float>& scores) override;
  bool landmarks(const std::vector<float>& pixels, std::vector<float>& points, float& logit) override;
  bool expression(const std::vector<float>& points, std::vector<float>& scores) override;

  // What people can be told apart by; pixels: [150][150][3] in 0..1. They are let go with the job.
  void identity(const std::vector<float>& pixels);
  const Tensor& embedding() const { return *outputs_[kFaceIdentity][0]; }
  const Tensor& features() const { return *outputs_[kFaceIdentity][1]; }

 private:
  void run(FaceGraph graph, const std::vector<float>& input);

  const Stop* stop_;
  std::unique_ptr<Tensor> inputs_[kFaceGraphs];
  std::vector<std::unique_ptr<Tensor>> outputs_[kFaceGraphs];
  std::optional<Bound> graphs_[kFaceGraphs];
};

}  // namespace topos

#endif
