#include "finder.h"

#include <algorithm>

namespace topos {
namespace {

constexpr double kPresent = 0.5, kSureProfile = 0.6;
constexpr double kLarge = 0.1;   // whoever fills so much of the picture is its subject
constexpr double kMargin = 1.5;  // of the cut around a face, as the landmark network was trained
constexpr int kPasses = 2;       // the second sees the face where the first found it

enum class Outcome { kFound, kNone, kFailed };

class Search {
 public:
  Search(const Picture& picture, const CanonicalFace& canonical, FaceNetworks& networks)
      : picture_(picture), canonical_(canonical), networks_(networks) {}

  bool detections(const std::vector<Square>& squares, std::vector<Detection>& found);
  // The face in a square, if the landmark network sees one.
  Outcome refine(Square square, Face& face);
  // The face of a sure detection in which no landmarks are found because it looks sideways.
  Outcome profile(const Detection& detection, Face& face) const;

 private:
  const Picture& picture_;
  const CanonicalFace& canonical_;
  FaceNetworks& networks_;
};

bool Search::detections(const std::vector<Square>& squares, std::vector<Detection>& found) {
  std::vector<Detection> all;
  for (const Square& square : squares) {
    std::vector<float> pixels = to_floats(cut(picture_, square, kDetectorSide)), boxes, scores;
    for (float& value : pixels) value = value * 2 - 1;
    if (!networks_.detect(pixels, boxes, scores)) return false;
    const std::vector<Detection> own = decoded(boxes.data(), scores.data(), square);
    all.insert(all.end(), own.begin(), own.end());
  }
  found = merged(std::move(all));
  return true;
}

Outcome Search::refine(Square square, Face& face) {
  std::vector<float> landmarks, scores;
  double confidence = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    std::vector<float> points;
    float logit = 0;
    if (!networks_.landmarks(to_floats(cut(picture_, square, kLandmarkCut)), points, logit)) return Outcome::kFailed;
    confidence = sigmoid(static_cast<double>(logit));
    if (confidence < kPresent) return Outcome::kNone;
    landmarks = landmarks_in(points.data(), square);
    square = square_around(landmarks);
  }
  if (!networks_.expression(expression_points(landmarks), scores)) return Outcome::kFailed;
  face = face_of(std::move(landmarks), std::move(scores), confidence, picture_.width, picture_.height, canonical_);
  return Outcome::kFound;
}

Outcome Search::profile(const Detection& detection, Face& face) const {
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

}  // namespace

bool find_faces(const Picture& picture, const CanonicalFace& canonical, FaceNetworks& networks, size_t most,
                std::vector<Face>& faces) {
  Search search(picture, canonical, networks);
  const double large = kLarge * std::max(picture.width, picture.height);
  for (int turn = 0;; ++turn) {
    const std::vector<Square> squares = search_turn(picture.width, picture.height, turn);
    if (squares.empty()) break;
    std::vector<Detection> found;
    if (!search.detections(squares, found)) return false;
    for (const Detection& detection : found) {
      std::vector<Sides> known;
      for (const Face& face : faces) known.push_back(face.sides());
      if (faces.size() >= most || overlaps(detection.box, known)) continue;
      Face face;
      Outcome outcome = search.refine(detection.square(kMargin), face);
      if (outcome == Outcome::kNone) outcome = search.profile(detection, face);
      if (outcome == Outcome::kFailed) return false;
      if (outcome == Outcome::kFound) faces.push_back(std::move(face));
    }
    if (std::any_of(faces.begin(), faces.end(), [large](const Face& face) { return face.size() >= large; })) break;
  }
  std::stable_sort(faces.begin(), faces.end(), [](const Face& a, const Face& b) { return a.size() > b.size(); });
  return true;
}

std::vector<float> identity_pixels(const Picture& picture, const Face& face) {
  return to_floats(cut(picture, identity_square(face.landmarks), kIdentityCut, true));
}

}  // namespace topos
