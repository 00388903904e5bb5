#include "finder.h"

#include <algorithm>
#include <utility>

namespace topos {
namespace {

constexpr double kPresent = 0.5, kSureProfile = 0.6;
constexpr double kLarge = 0.1;   // whoever fills so much of the picture is its subject
constexpr double kMargin = 1.5;  // of the cut around a face, as the landmark network was trained
constexpr int kPasses = 2;       // the second sees the face where the first found it

}  // namespace

FaceSearch::FaceSearch(Picture picture, const CanonicalFace& canonical, size_t most)
    : picture_(std::move(picture)), canonical_(canonical), most_(most) {
  next_turn();
}

bool FaceSearch::step(FaceNetworks& networks) {
  if (squares_.empty()) return false;
  if (next_square_ < squares_.size()) return detect(networks);
  return judge(networks);
}

// Looks into the next square of this turn.
bool FaceSearch::detect(FaceNetworks& networks) {
  const Square& square = squares_[next_square_++];
  std::vector<float> pixels = to_floats(cut(picture_, square, kDetectorSide)), boxes, scores;
  for (float& value : pixels) value = value * 2 - 1;
  if (!networks.detect(pixels, boxes, scores)) {
    failed_ = true;
    return false;
  }
  const std::vector<Detection> own = decoded(boxes.data(), scores.data(), square);
  seen_.insert(seen_.end(), own.begin(), own.end());
  if (next_square_ < squares_.size()) return true;
  found_ = merged(std::move(seen_));
  return found_.empty() ? next_turn() : true;
}

// Looks at the next detection of this turn.
bool FaceSearch::judge(FaceNetworks& networks) {
  const Detection& detection = found_[next_found_++];
  std::vector<Sides> known;
  for (const Face& face : faces_) known.push_back(face.sides());
  if (faces_.size() < most_ && !overlaps(detection.box, known)) {
    Face face;
    Outcome outcome = refine(networks, detection.square(kMargin), face);
    if (outcome == Outcome::kNone) outcome = profile(detection, face);
    failed_ = outcome == Outcome::kFailed;
    if (failed_) return false;
    if (outcome == Outcome::kFound) faces_.push_back(std::move(face));
  }
  return next_found_ < found_.size() ? true : next_turn();
}

bool FaceSearch::next_turn() {
  const double large = kLarge * std::max(picture_.width, picture_.height);
  const bool done = std::any_of(faces_.begin(), faces_.end(), [large](const Face& face) { return face.size() >= large; });
  squares_ = done ? std::vector<Square>() : search_turn(picture_.width, picture_.height, ++turn_);
  seen_.clear();
  found_.clear();
  next_square_ = next_found_ = 0;
  return !squares_.empty();
}

FaceSearch::Outcome FaceSearch::refine(FaceNetworks& networks, Square square, Face& face) const {
  std::vector<float> landmarks, scores;
  double confidence = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    std::vector<float> points;
    float logit = 0;
    if (!networks.landmarks(to_floats(cut(picture_, square, kLandmarkCut)), points, logit)) return Outcome::kFailed;
    confidence = sigmoid(static_cast<double>(logit));
    if (confidence < kPresent) return Outcome::kNone;
    landmarks = landmarks_in(points.data(), square);
    square = square_around(landmarks);
  }
  if (!networks.expression(expression_points(landmarks), scores)) return Outcome::kFailed;
  face = face_of(std::move(landmarks), std::move(scores), confidence, picture_.width, picture_.height, canonical_);
  return Outcome::kFound;
}

FaceSearch::Outcome FaceSearch::profile(const Detection& detection, Face& face) const {
  face = Face();
  face.placement = placement_of(detection.points, canonical_);
  face.angles = angles_of(face.placement.turn);
  if (detection.score < kSureProfile || std::abs(face.angles.yaw) < kHiddenDegrees) return Outcome::kNone;
  const Sides& box = detection.box;
  face.box = {box[0], box[1], box[2] - box[0], box[3] - box[1]};
  face.confidence = detection.score;
  face.warnings = warnings_of(face.box, face.angles.yaw, picture_.width, picture_.height);
  return Outcome::kFound;
}

std::vector<Face> FaceSearch::take() {
  std::stable_sort(faces_.begin(), faces_.end(), [](const Face& a, const Face& b) { return a.size() > b.size(); });
  return std::move(faces_);
}

bool find_faces(const Picture& picture, const CanonicalFace& canonical, FaceNetworks& networks, size_t most,
                std::vector<Face>& faces) {
  FaceSearch search(picture, canonical, most);
  while (search.step(networks)) {
  }
  if (search.failed()) return false;
  faces = search.take();
  return true;
}

std::vector<float> identity_pixels(const Picture& picture, const Face& face) {
  return to_floats(cut(picture, identity_square(face.landmarks), kIdentityCut, true));
}

}  // namespace topos
