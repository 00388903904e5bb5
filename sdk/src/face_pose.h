// The place of a head in a picture, from its landmarks. Twin of topos_rt/faces/pose.py.
#ifndef TOPOS_SDK_FACE_POSE_H
#define TOPOS_SDK_FACE_POSE_H

#include <vector>

#include "vectors.h"

namespace topos {

inline constexpr size_t kLandmarks = 478, kSkinLandmarks = 468;

// The face of average shape: positions [468][3], centimetres, +Y up, facing +Z; weights [468].
struct CanonicalFace {
  const float* positions = nullptr;
  const float* weights = nullptr;
};

// How the canonical face lies in a picture: pixels = scale (turn centimetres) + shift, y down.
struct Placement {
  Mat3 turn = {1, 0, 0, 0, 1, 0, 0, 0, 1};  // to the camera's axes: +X right, +Y up, +Z towards the camera
  double scale = 1;                         // pixels in a centimetre
  std::array<double, 2> shift = {};         // the picture's place of the canonical face's origin

  // The pixels of a point in the canonical face's centimetres.
  std::array<double, 2> at(const Vec3& point) const;
};

// Degrees.
struct Angles {
  double yaw, pitch, roll;
};

// From landmarks [478][3], pixels; `landmarks` may be the 468 of the skin alone.
Placement placement_of(const float* landmarks, const CanonicalFace& canonical);

// From the detector's six points.
Placement placement_of(const std::array<std::array<double, 2>, 6>& points, const CanonicalFace& canonical);

// Yaw, pitch and roll of a rotation that is roll(Z) -pitch(X) yaw(Y).
Angles angles_of(const Mat3& turn);
Mat3 rotation_of(const Angles& angles);

// Landmarks [478][3] in the head's own axes, centimetres of an average face.
std::vector<double> own_axes(const float* landmarks, const Placement& placement, const CanonicalFace& canonical);

}  // namespace topos

#endif
