// The colours of hair and irises. Twin of topos_rt/texture/hair.py and eyes.py.
#ifndef TOPOS_SDK_TEXTURE_COLOURS_H
#define TOPOS_SDK_TEXTURE_COLOURS_H

#include <optional>

#include "texture_look.h"
#include "texture_plan.h"

namespace topos {

// The part of a photograph around the face, and how pixels of the whole lie in it.
struct Photograph {
  Grid pixels;  // [h][w][3] linear
  double corner[2] = {}, scale = 1;

  std::array<double, 2> place(float x, float y) const {
    return {(static_cast<double>(x) - corner[0]) * scale, (static_cast<double>(y) - corner[1]) * scale};
  }
};

using Colour = std::array<float, 3>;  // linear
inline constexpr Colour kUsualHair = {0.030F, 0.021F, 0.015F};  // of heads without a photograph

// The albedo of the hair; nothing for a head that is bald. exposure: what a log colour of the photograph is over the
// albedo's; skin: log albedo.
std::optional<Colour> hair_colour(const TexturePlan& plan, const HeadSeen& seen, const Photograph& photograph,
                                  const Vec3& exposure, const Vec3& skin);

// The colour of the irises; nothing where they are too small or hidden to tell. landmarks: [478][3] of the whole.
std::optional<Colour> iris_colour(const Photograph& photograph, const float* landmarks, const Vec3& exposure);

// Paints the irises of an albedo [S][S][3].
void paint_irises(uint8_t* albedo, const TexturePlan& plan, const Colour& colour);

}  // namespace topos

#endif
