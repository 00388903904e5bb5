// sRGB and linear colours. Twin of topos_rt/pictures/colour.py and texture/white.py.
#ifndef TOPOS_SDK_COLOUR_H
#define TOPOS_SDK_COLOUR_H

#include <array>
#include <cmath>
#include <cstdint>

#include "grids.h"
#include "texture_passes.h"
#include "vectors.h"

namespace topos {

using LinearTable = std::array<float, 256>;
const LinearTable& linear_of();  // of 8-bit sRGB
const std::array<uint8_t, kSrgbTable>& srgb_of();  // of steps of linear 0..1
uint8_t srgb_byte(float linear);

inline constexpr Vec3 kLuminance = {0.2126, 0.7152, 0.0722};
inline constexpr Vec3 kSkinColour = {0.46, 0.265, 0.185};  // linear albedo of the base material's skin
// Bounds of the logs of red / green and green / blue of skin's albedo.
inline constexpr double kSkinRedGreen[] = {0.30, 0.80}, kSkinGreenBlue[] = {0.10, 0.52};

template <class F>
Vec3 each(const Vec3& v, F apply) {
  return {apply(v[0]), apply(v[1]), apply(v[2])};
}
inline Vec3 logs(const Vec3& v) {
  return each(v, [](double x) { return std::log(x); });
}
inline Vec3 exps(const Vec3& v) {
  return each(v, [](double x) { return std::exp(x); });
}
// The logarithm of a float, that of a double rounded.
inline float log_of(float value) { return static_cast<float>(std::log(static_cast<double>(value))); }

// What to add to log colours so that skin has a natural colour, and a scale of chroma.
struct Balance {
  Vec3 shift;
  double chroma;
};
Balance balanced(const Vec3& skin);

// Whether linear pixels have no colours.
bool is_grey(const Grid& pixels);

}  // namespace topos

#endif
