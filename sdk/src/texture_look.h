// Where a head is in its photograph, and the light there. Twin of topos_rt/texture/camera.py and light.py.
#ifndef TOPOS_SDK_TEXTURE_LOOK_H
#define TOPOS_SDK_TEXTURE_LOOK_H

#include <vector>

#include "atlas.h"
#include "head_fit.h"

namespace topos {

// A head with the expression of its photograph, [V][3] each, and how it was fitted to it.
struct Sitter {
  const float* positions = nullptr;
  const float* normals = nullptr;
  HeadCamera camera;
  LandmarkMap landmark_map;
  const float* landmarks = nullptr;  // [478][3] pixels of the upright picture
};

struct HeadSeen {
  std::vector<float> places;   // [V][2] pixels of the upright picture
  std::vector<float> facing;   // [V] 0: hidden or edge-on, to 1: facing the camera
  std::vector<float> normals;  // [V][3] in the camera's axes
};

HeadSeen look(const Sitter& sitter, const Atlas& atlas);

inline constexpr size_t kLightTerms = 9;

struct Light {
  float terms[kLightTerms][3] = {};  // log light by spherical harmonics
  Vec3 tone = {};                    // log of the skin's colour over the base material's
};

// Samples of a photograph, of which the light is told.
struct LitSample {
  Vec3 normal, excess;  // excess: log of the photograph over the base material
  double weight;
};
Light fit_light(const std::vector<LitSample>& samples);

}  // namespace topos

#endif
