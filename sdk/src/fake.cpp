#include "fake.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "face.h"

namespace topos {
namespace {

constexpr double kGolden = 0.61803398874989484;
constexpr float kSpread = 0.01F;          // of heads, in units of the networks
constexpr int64_t kWidth = 8;             // of what the networks hand to each other
constexpr double kPixelsPerCm = 9;        // of the face in the cut of the landmark network
constexpr float kFaceSide = 64, kSure = 4;  // pixels of the detector's picture; a logit
constexpr size_t kMiddle = kDetectorCells / 2 + 24;

// A number in -0.5..0.5 that looks like chance.
float scattered(double key, size_t at) {
  const double turns = key * 7.31 + static_cast<double>(at) * kGolden;
  return static_cast<float>(turns - std::floor(turns) - 0.5);
}

}  // namespace

FakeEngine::FakeEngine(const ModelData& data, Graph graph)
    : Engine("fake"), data_(data), decodes_(graph == kVaeDecoder) {
  const auto number = [&data](Size which) { return static_cast<int64_t>(data.size[which]); };
  const Shape latent = {1, number(kLatentTokens), number(kLatentChannels)};
  const Shape tokens = {1, number(kTokens), number(kTokenChannels)}, block = {1, 1, number(kTokens), kWidth};
  const Shape modulation = {1, 6, kWidth};
  switch (graph) {
    case kImageEncoder:
      inputs_ = {{"pixels", {1, 3, number(kImageHeight), number(kImageWidth)}}};
      for (const Evidence* seen : data.evidence) inputs_.push_back({seen->name, seen->shape});
      outputs_ = {{"tokens", tokens}};
      if (data.estimates()) outputs_.push_back({"estimate", latent});
      break;
    case kDitModulation:
      inputs_ = {{"time", {1}}};
      outputs_ = {{"modulation", modulation}};
      break;
    case kDitContext:
      inputs_ = {{"tokens", tokens}};
      outputs_ = {{"keys", block}, {"values", block}};
      break;
    case kDitStepGuided:
    case kDitStep:
      inputs_ = {{"latent", latent}, {"modulation", modulation}, {"keys", block}, {"values", block}};
      outputs_ = {{"velocity", latent}};
      if (graph == kDitStep) break;
      inputs_.push_back({"guidance", {1}});
      outputs_.push_back({"difference", latent});
      break;
    default:
      inputs_ = {{"latent", latent}};
      outputs_ = {{"vertices", {1, number(kVertices), 6}}};
      break;
  }
}

FakeEngine::FakeEngine(const ModelData& data, FaceGraph graph)
    : Engine("fake"), data_(data), detects_(graph == kFaceDetector), marks_(graph == kFaceLandmarks) {
  switch (graph) {
    case kFaceDetector:
      inputs_ = {{"pixels", {1, 192, 192, 3}}};
      outputs_ = {{"boxes", {1, 2304, 16}}, {"scores", {1, 2304, 1}}};
      break;
    case kFaceLandmarks:
      inputs_ = {{"pixels", {1, 256, 256, 3}}};
      outputs_ = {{"landmarks", {1, 1, 1, 1434}}, {"face", {1, 1, 1, 1}}};
      break;
    case kFaceExpression:
      inputs_ = {{"points", {1, 146, 2}}};
      outputs_ = {{"scores", {52}}};
      break;
    default:
      inputs_ = {{"pixels", {1, 150, 150, 3}}};
      outputs_ = {{"embedding", {1, 128}}, {"features", {1, 128, 8, 8}}};
      break;
  }
}

void FakeEngine::run(const Bound& bound, const Stop*) const {
  double key = 0;
  for (const auto& [name, tensor] : bound.inputs()) {
    for (size_t at = 0; at < tensor->count(); ++at) key += static_cast<double>(tensor->data()[at]);
  }
  for (const Named& output : bound.outputs()) {
    if (decodes_) {
      fill_head(output.second->data(), output.second->count() / 6, key);
    } else if (detects_) {
      fill_detections(output);
    } else if (marks_) {
      fill_landmarks(output);
    } else {
      fill(output, key);
    }
  }
}

void FakeEngine::fill(const Named& output, double key) const {
  for (size_t at = 0; at < output.second->count(); ++at) output.second->data()[at] = scattered(key, at);
}

// The template in the frame of the networks, with a normal of some direction.
void FakeEngine::fill_head(float* vertices, size_t count, double key) const {
  const Rows<float>& head = data_.rig.head;
  const auto radius = static_cast<float>(data_.number[kRadius]);
  for (size_t at = 0; at < count; ++at) {
    float place[3] = {};
    for (size_t axis = 0; axis < 3; ++axis) {
      place[axis] = (head.rows == count ? head.row(at)[axis] / radius : scattered(0, 3 * at + axis));
      place[axis] += kSpread * scattered(key, axis);
    }
    for (size_t axis = 0; axis < 3; ++axis) {  // the rotation takes the networks' frame to ours
      vertices[6 * at + axis] = data_.rotation[axis] * place[0] + data_.rotation[3 + axis] * place[1] +
                                data_.rotation[6 + axis] * place[2];
      vertices[6 * at + 3 + axis] = axis == 0 ? 1.0F : 0.0F;
    }
  }
}

// One face in the middle, upright: the eyes (the right one first), nose tip, mouth and ears.
void FakeEngine::fill_detections(const Named& output) const {
  Tensor& tensor = *output.second;
  const bool scores = std::strcmp(output.first, "scores") == 0;
  std::fill_n(tensor.data(), tensor.count(), scores ? -kSure : 0.0F);
  if (scores) {
    tensor.data()[kMiddle] = kSure;
    return;
  }
  const float box[16] = {0,   0, kFaceSide, kFaceSide, -12, -12, 12, -12, 0, 2, 0, 14, -26, -8, 26, -8};
  std::copy(box, box + 16, tensor.data() + 16 * kMiddle);
}

// The canonical face, from the front; the irises lie at the middle of the eyes.
void FakeEngine::fill_landmarks(const Named& output) const {
  Tensor& tensor = *output.second;
  if (tensor.count() == 1) {
    tensor.data()[0] = kSure;
    return;
  }
  constexpr size_t kEyes[2] = {159, 386};
  for (size_t at = 0; at < kLandmarks; ++at) {
    const size_t from = at < kSkinLandmarks ? at : kEyes[(at - kSkinLandmarks) / 5];
    const float* place = data_.canonical.positions + 3 * from;
    const double sides[3] = {1, -1, -1};
    for (size_t axis = 0; axis < 3; ++axis) {
      const double middle = axis == 2 ? 0 : kLandmarkCut / 2.0, from_middle = sides[axis] * kPixelsPerCm;
      tensor.data()[3 * at + axis] = static_cast<float>(middle + from_middle * static_cast<double>(place[axis]));
    }
  }
}

}  // namespace topos
