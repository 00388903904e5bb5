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

// Appends the faces of an upright RGB picture, the largest first, at most `most`. Returns whether the networks ran.
bool find_faces(const Picture& picture, const CanonicalFace& canonical, FaceNetworks& networks, size_t most,
                std::vector<Face>& faces);

// What the identity network takes of a face with landmarks: [150][150][3] in 0..1.
std::vector<float> identity_pixels(const Picture& picture, const Face& face);

}  // namespace topos

#endif
