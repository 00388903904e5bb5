#include "face_engines.h"

#include <algorithm>

#include "fault.h"

namespace topos {
namespace {

struct Ends {
  const char* input;
  std::vector<const char*> outputs;
};

const Ends& ends_of(int graph) {
  static const Ends kEnds[kFaceGraphs] = {
      {"pixels", {"boxes", "scores"}},
      {"pixels", {"landmarks", "face"}},
      {"points", {"scores"}},
      {"pixels", {"embedding", "features"}},
  };
  return kEnds[graph];
}

void copy_out(const Tensor& tensor, std::vector<float>& out) { out.assign(tensor.data(), tensor.data() + tensor.count()); }

}  // namespace

FaceEngines::FaceEngines(const Model& model, const Stop* stop) : stop_(stop) {
  for (int graph = 0; graph < kFaceGraphs; ++graph) {
    const Engine* engine = model.face_engine(static_cast<FaceGraph>(graph));
    if (engine == nullptr) {
      if (graph == kFaceIdentity && !model.data().biometric()) continue;
      fail(TOPOS_E_UNSUPPORTED, "looking for a face", "a model that was loaded without faces", "",
           "load it without TOPOS_LOAD_NO_FACES, or use TOPOS_CROP_NONE and TOPOS_REQUEST_NO_FACE_CHECK");
    }
    const Ends& ends = ends_of(graph);
    Host& host = model.host();
    const Ort* ort = model.runtime().ort();
    inputs_[graph] = std::make_unique<Tensor>(ort, host, engine->input(ends.input).shape);
    std::vector<Named> outputs;
    for (const char* name : ends.outputs) {
      outputs_[graph].push_back(std::make_unique<Tensor>(ort, host, engine->output(name).shape));
      outputs.push_back({name, outputs_[graph].back().get()});
    }
    graphs_[graph].emplace(*engine, std::vector<Named>{{ends.input, inputs_[graph].get()}}, outputs);
  }
}

void FaceEngines::run(FaceGraph graph, const std::vector<float>& input) {
  if (input.size() != inputs_[graph]->count()) {
    fail(TOPOS_E_INTERNAL, "input of a face network", std::to_string(input.size()) + " numbers",
         std::to_string(inputs_[graph]->count()));
  }
  std::copy(input.begin(), input.end(), inputs_[graph]->data());
  graphs_[graph]->run(stop_);
}

bool FaceEngines::detect(const std::vector<float>& pixels, std::vector<float>& boxes, std::vector<float>& scores) {
  run(kFaceDetector, pixels);
  copy_out(*outputs_[kFaceDetector][0], boxes);
  copy_out(*outputs_[kFaceDetector][1], scores);
  return true;
}

bool FaceEngines::landmarks(const std::vector<float>& pixels, std::vector<float>& points, float& logit) {
  run(kFaceLandmarks, pixels);
  copy_out(*outputs_[kFaceLandmarks][0], points);
  logit = outputs_[kFaceLandmarks][1]->data()[0];
  return true;
}

bool FaceEngines::expression(const std::vector<float>& points, std::vector<float>& scores) {
  run(kFaceExpression, points);
  copy_out(*outputs_[kFaceExpression][0], scores);
  return true;
}

void FaceEngines::identity(const std::vector<float>& pixels) { run(kFaceIdentity, pixels); }

}  // namespace topos
