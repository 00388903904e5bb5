// A face in a picture, and what is worked out from its landmarks. Twin of topos_rt/faces/face.py, expression.py,
// evidence.py and portrait.portrait_square.
#ifndef TOPOS_SDK_FACE_H
#define TOPOS_SDK_FACE_H

#include <array>
#include <string>
#include <vector>

#include "detection.h"
#include "face_pose.h"

namespace topos {

inline constexpr double kHiddenDegrees = 60;  // beyond this yaw the landmarks are guesses
inline constexpr size_t kExpressions = 52;
inline constexpr int kLandmarkCut = 256, kIdentityCut = 150;

// In the order of the expression network's outputs. The first says how neutral a face is, and is no expression.
extern const std::array<const char*, kExpressions> kExpressionNames;
// The landmarks that the expression network takes, in its order.
extern const std::array<uint16_t, 146> kExpressionPoints;

struct Face {
  std::array<double, 4> box = {};        // x, y, width and height of the landmarks, pixels
  std::vector<float> landmarks;          // [478][3]; none where it looks too far sideways
  Angles angles = {};
  std::vector<float> scores;             // [52]; none likewise
  double confidence = 0;
  Placement placement;
  std::vector<std::string> warnings;

  double size() const { return std::max(box[2], box[3]); }
  bool hidden() const { return std::abs(angles.yaw) > kHiddenDegrees || landmarks.empty(); }
  Sides sides() const { return {box[0], box[1], box[0] + box[2], box[1] + box[3]}; }
  // The face in a picture of which this face's picture is a part, from (x, y) on.
  Face moved(double x, double y) const;
};

// What may spoil a head made from a face, one clause each.
std::vector<std::string> warnings_of(const std::array<double, 4>& box, double yaw, int width, int height);

// Takes the landmark network's points [478][3] in a cut of a square to the picture's pixels.
std::vector<float> landmarks_in(const float* found, const Square& square);

// The square to cut for landmarks: the eyes are level, and the face fills two thirds of it.
Square square_around(const std::vector<float>& landmarks);

// What the expression network takes: [146][2].
std::vector<float> expression_points(const std::vector<float>& landmarks);

// A face with landmarks; the scores are the expression network's.
Face face_of(std::vector<float> landmarks, std::vector<float> scores, double confidence, int width, int height,
             const CanonicalFace& canonical);

// The square around the head of a face that the model gets to see, in which the eyes are level.
Square portrait_square(const Face& face);

// The square whose cut shows a face as the identity network was trained.
Square identity_square(const std::vector<float>& landmarks);

// What a model takes of a face besides the pixels, for a face with landmarks.
std::vector<float> evidence_landmarks(const Face& face, const CanonicalFace& canonical);  // [478][3]
std::array<float, 2> evidence_pose(const Face& face);
std::array<float, kExpressions> evidence_expression(const Face& face);

// 1 / (1 + exp(-logit)).
double sigmoid(double logit);

}  // namespace topos

#endif
