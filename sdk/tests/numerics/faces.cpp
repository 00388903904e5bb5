#include <algorithm>

#include "finder.h"
#include "shims.h"

namespace {

struct Callbacks {
  int32_t (*detect)(const float* pixels, float* boxes, float* scores);
  int32_t (*landmarks)(const float* pixels, float* points, float* logit);
  int32_t (*expression)(const float* points, float* scores);
};

class Called : public topos::FaceNetworks {
 public:
  explicit Called(const Callbacks& callbacks) : callbacks_(callbacks) {}

  bool detect(const std::vector<float>& pixels, std::vector<float>& boxes, std::vector<float>& scores) override {
    boxes.resize(16 * topos::kDetectorCells);
    scores.resize(topos::kDetectorCells);
    return callbacks_.detect(pixels.data(), boxes.data(), scores.data()) == 0;
  }
  bool landmarks(const std::vector<float>& pixels, std::vector<float>& points, float& logit) override {
    points.resize(3 * topos::kLandmarks);
    return callbacks_.landmarks(pixels.data(), points.data(), &logit) == 0;
  }
  bool expression(const std::vector<float>& points, std::vector<float>& scores) override {
    scores.resize(topos::kExpressions);
    return callbacks_.expression(points.data(), scores.data()) == 0;
  }

 private:
  const Callbacks& callbacks_;
};

topos::Picture picture_of(const uint8_t* pixels, int64_t width, int64_t height) {
  topos::Picture made(static_cast<int>(width), static_cast<int>(height), 3);
  std::copy_n(pixels, made.bytes(), made.pixels.begin());
  return made;
}

void put(const topos::Square& square, double* out) {
  out[0] = square.x;
  out[1] = square.y;
  out[2] = square.side;
  out[3] = square.angle;
}

// scale, turn, shift
void put(const topos::Placement& placement, double* out) {
  out[0] = placement.scale;
  std::copy(placement.turn.begin(), placement.turn.end(), out + 1);
  std::copy(placement.shift.begin(), placement.shift.end(), out + 10);
}

std::vector<topos::Face> found;  // of the last search

}  // namespace

// Returns the number of faces, -1 where a network failed.
SHIM int64_t faces_find(const uint8_t* pixels, int64_t width, int64_t height, const float* positions,
                        const float* weights, const Callbacks* callbacks, uint64_t most) {
  Called networks(*callbacks);
  found.clear();
  const bool ran = topos::find_faces(picture_of(pixels, width, height), {positions, weights}, networks, most, found);
  return ran ? static_cast<int64_t>(found.size()) : -1;
}

// numbers: box, yaw, pitch, roll, confidence, placement (12), portrait's square (4). Returns whether it has landmarks.
SHIM int32_t faces_get(uint64_t number, double dx, double dy, double* numbers, float* landmarks, float* scores,
                       char* warnings) {
  const topos::Face face = found[number].moved(dx, dy);
  std::copy(face.box.begin(), face.box.end(), numbers);
  numbers[4] = face.angles.yaw;
  numbers[5] = face.angles.pitch;
  numbers[6] = face.angles.roll;
  numbers[7] = face.confidence;
  put(face.placement, numbers + 8);
  put(topos::portrait_square(face), numbers + 20);
  std::copy(face.landmarks.begin(), face.landmarks.end(), landmarks);
  std::copy(face.scores.begin(), face.scores.end(), scores);
  for (const std::string& warning : face.warnings) warnings = std::copy(warning.begin(), warning.end(), warnings);
  *warnings = 0;
  return face.landmarks.empty() ? 0 : 1;
}

// Evidence of a face of the last search, and what the identity network takes of it.
SHIM void faces_evidence(uint64_t number, const float* positions, const float* weights, const uint8_t* pixels,
                         int64_t width, int64_t height, float* landmarks, float* pose, float* expression, float* cut) {
  const topos::Face& face = found[number];
  const auto own = topos::evidence_landmarks(face, {positions, weights});
  std::copy(own.begin(), own.end(), landmarks);
  const auto angles = topos::evidence_pose(face);
  std::copy(angles.begin(), angles.end(), pose);
  const auto scores = topos::evidence_expression(face);
  std::copy(scores.begin(), scores.end(), expression);
  const auto aligned = topos::identity_pixels(picture_of(pixels, width, height), face);
  std::copy(aligned.begin(), aligned.end(), cut);
}

// Returns the number of squares of a turn; out: [n][4], null to count.
SHIM uint64_t search_turn(int64_t width, int64_t height, int64_t turn, double* out) {
  const auto squares = topos::search_turn(static_cast<int>(width), static_cast<int>(height), static_cast<int>(turn));
  for (size_t i = 0; out != nullptr && i < squares.size(); ++i) put(squares[i], out + 4 * i);
  return squares.size();
}

// Faces in a square, merged: rows of score, box and points. Returns their number.
SHIM uint64_t detections(const float* boxes, const float* scores, const double* square, double* out) {
  const auto made = topos::merged(topos::decoded(boxes, scores, {square[0], square[1], square[2], square[3]}));
  for (const topos::Detection& face : made) {
    *out++ = face.score;
    out = std::copy(face.box.begin(), face.box.end(), out);
    for (const auto& point : face.points) out = std::copy(point.begin(), point.end(), out);
  }
  return made.size();
}

SHIM void square_around(const float* landmarks, double* out) {
  put(topos::square_around({landmarks, landmarks + 3 * topos::kLandmarks}), out);
}

SHIM void identity_square(const float* landmarks, double* out) {
  put(topos::identity_square({landmarks, landmarks + 3 * topos::kLandmarks}), out);
}

SHIM void place_landmarks(const float* landmarks, const float* positions, const float* weights, double* out) {
  put(topos::placement_of(landmarks, {positions, weights}), out);
}

SHIM void place_points(const double* points, const float* positions, const float* weights, double* out) {
  std::array<std::array<double, 2>, 6> six;
  for (size_t i = 0; i < 12; ++i) six[i / 2][i % 2] = points[i];
  put(topos::placement_of(six, {positions, weights}), out);
}

SHIM void angles_of(const double* turn, double* out, double* back) {
  topos::Mat3 m;
  std::copy_n(turn, 9, m.begin());
  const topos::Angles made = topos::angles_of(m);
  out[0] = made.yaw;
  out[1] = made.pitch;
  out[2] = made.roll;
  const topos::Mat3 again = topos::rotation_of(made);
  std::copy(again.begin(), again.end(), back);
}

SHIM const char* expression_name(uint64_t i) { return topos::kExpressionNames[i]; }
SHIM int32_t expression_point(uint64_t i) { return topos::kExpressionPoints[i]; }
