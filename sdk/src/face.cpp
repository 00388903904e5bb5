#include "face.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdio>

namespace topos {

const std::array<const char*, kExpressions> kExpressionNames = {
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
};

const std::array<uint16_t, 146> kExpressionPoints = {
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80,
    81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153,
    154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251,
    263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318,
    321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
};

namespace {

constexpr double kSmallPx = 64;         // a face of fewer pixels across shows little of its shape
constexpr double kTurnedDegrees = 45;   // beyond this yaw half of the face is out of sight
constexpr double kMargin = 1.5;         // of the cut around a face, as the landmark network was trained
constexpr size_t kRightEye = 33, kLeftEye = 263;  // the outer corners
// The portrait shows a square of so many centimetres around the head's middle, a point of the canonical face.
constexpr double kPortraitCm = 33;
constexpr Vec3 kMiddleCm = {0, 1.3, -4.5};
constexpr double kRadians = 3.14159265358979323846 / 180;
// The eyes' corners and the root of the septum, in the order of dlib's five landmarks, and where they are in dlib's
// aligned picture, 1 wide; dlib pads it by a quarter.
constexpr size_t kFive[] = {263, 362, 33, 133, 2};
constexpr double kFiveAt[][2] = {{0.8595674595992, 0.2134981538014},
                                 {0.6460604764104, 0.2289674387677},
                                 {0.1205750620789, 0.2137274526848},
                                 {0.3340850613712, 0.2290642403242},
                                 {0.4901123135679, 0.6277975316475}};
constexpr double kPadding = 0.25;

std::string clause(const char* format, double value) {
  char text[120];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

}  // namespace

Face Face::moved(double x, double y) const {
  Face made = *this;
  made.box[0] += x;
  made.box[1] += y;
  made.placement.shift[0] += static_cast<double>(static_cast<float>(x));
  made.placement.shift[1] += static_cast<double>(static_cast<float>(y));
  for (size_t i = 0; i < made.landmarks.size(); i += 3) {
    made.landmarks[i] += static_cast<float>(x);
    made.landmarks[i + 1] += static_cast<float>(y);
  }
  return made;
}

std::vector<std::string> warnings_of(const std::array<double, 4>& box, double yaw, int width, int height) {
  const double large = std::max(box[2], box[3]);
  const double outside = std::max({-box[0], -box[1], box[0] + box[2] - width, box[1] + box[3] - height});
  std::vector<std::string> told;
  if (large < kSmallPx) told.push_back(clause("the face is only %.0f pixels large; 64 or more are best", large));
  if (outside > 0.02 * large) told.emplace_back("the face is cut off at the picture's edge");
  if (std::abs(yaw) > kTurnedDegrees) {
    told.push_back(clause("the face is turned by %.0f degrees; at most 45 is best", std::abs(yaw)));
  }
  return told;
}

std::vector<float> landmarks_in(const float* found, const Square& square) {
  const std::array<double, 6> m = square.matrix(kLandmarkCut);
  const float deep = static_cast<float>(square.side / kLandmarkCut);
  std::vector<float> made;
  for (size_t i = 0; i < kLandmarks; ++i) {
    const double x = static_cast<double>(found[3 * i]), y = static_cast<double>(found[3 * i + 1]);
    made.push_back(static_cast<float>(m[0] * x + m[1] * y + m[2]));
    made.push_back(static_cast<float>(m[3] * x + m[4] * y + m[5]));
    made.push_back(found[3 * i + 2] * deep);
  }
  return made;
}

Square square_around(const std::vector<float>& landmarks) {
  const float across = landmarks[3 * kLeftEye] - landmarks[3 * kRightEye];
  const float down = landmarks[3 * kLeftEye + 1] - landmarks[3 * kRightEye + 1];
  const double angle = std::atan2(static_cast<double>(down), static_cast<double>(across));
  const double c = std::cos(angle), s = std::sin(angle);
  double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
  for (size_t i = 0; i < kSkinLandmarks; ++i) {
    const double x = static_cast<double>(landmarks[3 * i]), y = static_cast<double>(landmarks[3 * i + 1]);
    const double turned[2] = {x * c + y * s, y * c - x * s};
    for (size_t k = 0; k < 2; ++k) {
      low[k] = std::min(low[k], turned[k]);
      high[k] = std::max(high[k], turned[k]);
    }
  }
  const double x = (low[0] + high[0]) / 2, y = (low[1] + high[1]) / 2;
  return {c * x - s * y, s * x + c * y, std::max(high[0] - low[0], high[1] - low[1]) * kMargin, angle};
}

std::vector<float> expression_points(const std::vector<float>& landmarks) {
  std::vector<float> made;
  for (const uint16_t point : kExpressionPoints) {
    made.push_back(landmarks[3 * point]);
    made.push_back(landmarks[3 * point + 1]);
  }
  return made;
}

Face face_of(std::vector<float> landmarks, std::vector<float> scores, double confidence, int width, int height,
             const CanonicalFace& canonical) {
  Face made;
  made.placement = placement_of(landmarks.data(), canonical);
  made.angles = angles_of(made.placement.turn);
  for (size_t axis = 0; axis < 2; ++axis) {
    float low = landmarks[axis], high = landmarks[axis];
    for (size_t i = axis; i < landmarks.size(); i += 3) {
      low = std::min(low, landmarks[i]);
      high = std::max(high, landmarks[i]);
    }
    made.box[axis] = static_cast<double>(low);
    made.box[2 + axis] = static_cast<double>(high - low);
  }
  made.warnings = warnings_of(made.box, made.angles.yaw, width, height);
  made.landmarks = std::move(landmarks);
  made.scores = std::move(scores);
  made.confidence = confidence;
  return made;
}

Square portrait_square(const Face& face) {
  const Mat3& turn = face.placement.turn;
  const auto [x, y] = face.placement.at(kMiddleCm);
  return {x, y, kPortraitCm * face.placement.scale, std::atan2(-turn[3], turn[0])};
}

Square identity_square(const std::vector<float>& landmarks) {
  using Complex = std::complex<double>;
  Complex target[5], points[5], middle = 0, centre = 0;
  for (size_t k = 0; k < 5; ++k) {
    const auto padded = [](double at) { return (at + kPadding) / (1 + 2 * kPadding) * kIdentityCut; };
    target[k] = {padded(kFiveAt[k][0]), padded(kFiveAt[k][1])};
    points[k] = {static_cast<double>(landmarks[3 * kFive[k]]), static_cast<double>(landmarks[3 * kFive[k] + 1])};
    middle += target[k] / 5.0;
    centre += points[k] / 5.0;
  }
  // The similarity from the cut to the picture, as a number.
  Complex turn = 0;
  double spread = 0;
  for (size_t k = 0; k < 5; ++k) {
    turn += (points[k] - centre) * std::conj(target[k] - middle);
    spread += std::norm(target[k] - middle);
  }
  turn /= spread;
  const Complex place = centre + turn * (Complex(kIdentityCut / 2.0, kIdentityCut / 2.0) - middle);
  return {place.real(), place.imag(), std::abs(turn) * kIdentityCut, std::arg(turn)};
}

std::vector<float> evidence_landmarks(const Face& face, const CanonicalFace& canonical) {
  const std::vector<double> wide = own_axes(face.landmarks.data(), face.placement, canonical);
  std::vector<float> made(wide.size());
  std::transform(wide.begin(), wide.end(), made.begin(), [](double value) { return static_cast<float>(value); });
  return made;
}

// The portrait's square takes the roll out.
std::array<float, 2> evidence_pose(const Face& face) {
  return {static_cast<float>(face.angles.yaw * kRadians), static_cast<float>(face.angles.pitch * kRadians)};
}

// How neutral a face is, the first score, is not kept with a face.
std::array<float, kExpressions> evidence_expression(const Face& face) {
  std::array<float, kExpressions> made = {};
  if (!face.scores.empty()) std::copy(face.scores.begin() + 1, face.scores.end(), made.begin() + 1);
  return made;
}

double sigmoid(double logit) { return 1 / (1 + std::exp(-logit)); }

}  // namespace topos
