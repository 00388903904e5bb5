// The camera and the expression with which a head looks most like a face in a picture. Twin of topos_rt/faces/fit.py,
// camera.py and scores.py, which say what is done and why.
#ifndef TOPOS_SDK_HEAD_FIT_H
#define TOPOS_SDK_HEAD_FIT_H

#include <string>
#include <string_view>
#include <vector>

#include "face_pose.h"
#include "morphs.h"

namespace topos {

// A pinhole camera. A point p of the head lies at turn p + shift in its axes: +X right, +Y up, +Z back to the camera.
struct HeadCamera {
  Mat3 turn = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  Vec3 shift = {};                        // metres; its Z is negative
  double focal = 1;                       // pixels
  std::array<double, 2> centre = {};      // where the axis of the lens meets the picture, pixels

  std::array<double, 2> project(const Vec3& point) const;
  double distance() const { return length(shift); }
};

// Where landmarks lie on the heads of a topology; the arrays are the caller's.
struct LandmarkMap {
  const int32_t* vertices = nullptr;  // [468][3]
  const float* weights = nullptr;     // [468][3]
  const float* noise = nullptr;       // [468]
  const int32_t* mirrored = nullptr;  // [468]
  const int32_t* irises = nullptr;    // [2] vertices; null without eyeballs
};

// ARKit's 52 names in the order of a fit's weights.
inline constexpr size_t kArkitShapes = 52;
const char* arkit_name(size_t number);

struct HeadFit {
  HeadCamera camera;
  std::vector<double> weights;  // 0 to 1, of the fitter's shapes
  double residual = 0;          // percent of the outer-eye distance: the root mean square over the landmarks
};

class HeadFitter {
 public:
  // positions: [V][3] of the neutral head, metres. ids: the rig's number of each of ARKit's shapes, -1 where it has none.
  HeadFitter(const float* positions, const LandmarkMap& map, const Shapes& shapes, const std::array<int, kArkitShapes>& ids);

  // landmarks: [478][3] pixels. size: width and height of the picture whose middle the axis of the lens meets; null puts
  // that where the face is. focal: pixels; 0 leaves it open. scores: [52] of the expression network, or null.
  // Returns "", or what was wrong with the landmarks.
  std::string fit(const float* landmarks, const int* size, double focal, const float* scores, HeadFit* out) const;

  // Of each weight: the number of its name.
  const std::vector<size_t>& names() const { return names_; }

 private:
  friend class HeadProblem;

  std::vector<size_t> names_, seen_;
  Vec3 middle_ = {};
  std::vector<Vec3> rest_;                 // [L]
  std::vector<std::vector<Vec3>> moves_;   // [L][S]
  std::vector<double> precision_, share_;  // [L]
  double across_ = 0;
};

// A fit as members of a head's metadata, "pose":{...},"expression":{...}, rounded as Python rounds them.
std::string fit_facts(const HeadFit& fit, const std::vector<size_t>& names);

// A number that Python's round(value, digits) makes, as text.
std::string rounded_text(double value, int digits);

}  // namespace topos

#endif
