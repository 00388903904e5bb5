// Find the faces of a picture. Twin of topos_rt/faces/finder.py.
#ifndef TOPOS_SDK_FINDER_H
#define TOPOS_SDK_FINDER_H

#include "face.h"

namespace topos {

// The networks of the face stage, which someone else runs. Sizes are those of topos_rt/faces/networks.py. Each returns
// whether it ran; the search ends where one did not.
class FaceNetworks {
 public:
  virtual ~FaceNetworks() = default;
  // pixels: [192][192][3] in -1..1. boxes: [2304][16]; scores: [2304] before the sigmoid.
  virtual bool detect(const std::vector<float>& pixels, std::vector<float>& boxes, std::vector<float>& scores) = 0;
  // pixels: [256][256][3] in 0..1. points: [478][3] in the cut; logit: that there is a face.
  virtual bool landmarks(const std::vector<float>& pixels, std::vector<float>& points, float& logit) = 0;
  // points: [146][2]. scores: [52].
  virtual bool expression(const std::vector<float>& points, std::vector<float>& scores) = 0;
};

inline constexpr size_t kMostFaces = 50;

// The search for the faces of a picture, in steps of which each runs the detector once, or what looks at one face.
class FaceSearch {
 public:
  // picture: upright, RGB. At most `most` faces are found.
  FaceSearch(Picture picture, const CanonicalFace& canonical, size_t most);

  // Returns whether more is left. It ends where a network did not run.
  bool step(FaceNetworks& networks);
  bool failed() const { return failed_; }
  // Once it has ended: the largest first.
  std::vector<Face> take();

 private:
  enum class Outcome { kFound, kNone, kFailed };

  bool detect(FaceNetworks& networks);
  bool judge(FaceNetworks& networks);
  // The face in a square, if the landmark network sees one.
  Outcome refine(FaceNetworks& networks, Square square, Face& face) const;
  // The face of a sure detection in which no landmarks are found because it looks sideways.
  Outcome profile(const Detection& detection, Face& face) const;
  bool next_turn();

  Picture picture_;
  CanonicalFace canonical_;
  size_t most_;
  int turn_ = -1;
  std::vector<Square> squares_;          // of this turn; those before next_square_ are done
  std::vector<Detection> seen_, found_;  // in them; once all are done, one of each face
  size_t next_square_ = 0, next_found_ = 0;
  std::vector<Face> faces_;
  bool failed_ = false;
};

// Appends the faces of an upright RGB picture, the largest first, at most `most`. Returns whether the networks ran.
bool find_faces(const Picture& picture, const CanonicalFace& canonical, FaceNetworks& networks, size_t most,
                std::vector<Face>& faces);

// The aligned face, which the identity network and some models take, of one with landmarks: [150][150][3] in 0..1.
std::vector<float> identity_pixels(const Picture& picture, const Face& face);

}  // namespace topos

#endif
