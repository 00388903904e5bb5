// What a model needs to find faces, and to fit its heads to them.
#include <string>

#include "face.h"
#include "model_checks.h"
#include "model_data.h"

namespace topos {

void ModelData::read_faces() {
  canonical.positions = pack.exactly<float>(Kind::kFacePositions, kSkinLandmarks, 3).data;
  const auto weights = pack.exactly<float>(Kind::kFaceWeights, kSkinLandmarks, 1);
  canonical.weights = weights.data;
  float total = 0;
  for (size_t at = 0; at < weights.rows; ++at) total += weights[at];
  require_finite(weights, "face_weights");
  require_finite(pack.rows<float>(Kind::kFacePositions, 3), "face_positions");
  if (!(total > 0)) wrong("face_weights", "a sum that is not above 0", "weights");
  const auto points = pack.exactly<int32_t>(Kind::kScorePoints, kExpressionPoints.size(), 1);
  bool known = pack.strings(Kind::kScoreNames) == kExpressions && number[kSideCm] == 33 && number[kMiddleX] == 0 &&
               number[kMiddleY] == 1.3 && number[kMiddleZ] == -4.5;
  for (size_t at = 0; at < points.rows; ++at) known = known && points[at] == kExpressionPoints[at];
  for (size_t at = 0; known && at < kExpressions; ++at) {
    known = std::string(pack.string(Kind::kScoreNames, at)) == kExpressionNames[at];
  }
  if (!known) {
    fail(TOPOS_E_UNSUPPORTED, "the face stage of the pack", "other rules than this library has", "",
         "use a later version of this library");
  }
  for (size_t at = 0; at < kArkitShapes; ++at) {
    arkit_shapes[at] = -1;
    for (uint32_t shape = 0; shape < rig.shapes; ++shape) {
      if (std::string(pack.string(Kind::kShapeNames, shape)) == arkit_name(at)) arkit_shapes[at] = static_cast<int>(shape);
    }
  }
  if (!pack.has(Kind::kLandmarkVertices)) return;
  const auto corners = pack.exactly<int32_t>(Kind::kLandmarkVertices, kSkinLandmarks, 3);
  const auto shares = pack.exactly<float>(Kind::kLandmarkWeights, kSkinLandmarks, 3);
  const auto noise = pack.exactly<float>(Kind::kLandmarkNoise, kSkinLandmarks, 1);
  const auto mirrored = pack.exactly<int32_t>(Kind::kLandmarkMirrored, kSkinLandmarks, 1);
  const auto irises = pack.rows<int32_t>(Kind::kLandmarkIrises, 1);
  require_below(corners, 0, size[kVertices], "landmark_vertices");
  require_finite(shares, "landmark_weights");
  require_finite(noise, "landmark_noise");
  for (size_t at = 0; at < noise.rows; ++at) {
    if (!(noise[at] > 0)) wrong("landmark_noise", "a number that is not above 0", "numbers above 0");
  }
  require_below(mirrored, 0, static_cast<int64_t>(kSkinLandmarks), "landmark_mirrored");
  require_below(irises, 0, size[kVertices], "landmark_irises");
  if (irises.rows != 0 && irises.rows != 2) wrong("landmark_irises", std::to_string(irises.rows), "0 or 2");
  landmarks = {corners.data, shares.data, noise.data, mirrored.data, irises.rows == 2 ? irises.data : nullptr};
}

bool ModelData::biometric() const {
  for (const Evidence* seen : evidence) {
    if (seen->biometric) return true;
  }
  return false;
}

EngineSource ModelData::face_graph(FaceGraph which) const {
  static constexpr const char* kNames[kFaceGraphs] = {"face_detector", "face_landmarks", "face_expression",
                                                      "face_identity"};
  EngineSource source;
  source.name = kNames[which];
  source.graph = pack.hashed_file(Kind::kFaceGraph, static_cast<uint16_t>(which));
  return source;
}

}  // namespace topos
