// How skin, lips, eyes and hair reflect light, and the relief of the skin.
#include <array>
#include <cmath>

#include "colour.h"
#include "texture.h"

namespace topos {
namespace {

constexpr int kMostSide = 512;  // of the picture of normals
constexpr float kRoughness[kAtlasParts] = {0.56F, 0.32F, 0.12F, 0.38F, 0.5F, 0.6F};
struct Rough {
  AtlasArea area;
  float roughness;
};
constexpr Rough kRough[] = {
    {kLipsArea, 0.38F}, {kNoseArea, 0.48F}, {kScalpArea, 0.82F}, {kBrowsArea, 0.75F}, {kEarsArea, 0.6F}};
constexpr double kMouthLight = 0.55;  // occlusion inside the mouth
constexpr float kRelief = 0.9F;       // slope for one log unit of luminance from texel to texel
constexpr float kSteepest = 0.5F;

}  // namespace

std::vector<uint8_t> orm_of(const TexturePlan& plan, const Atlas& atlas) {
  Grid roughness(kAtlasSide, kAtlasSide);
  for (size_t i = 0; i < roughness.cells(); ++i) roughness[i] = kRoughness[plan.parts[i]];
  for (const Rough& rough : kRough) {
    const Grid area = atlas.area(rough.area);
    for (size_t i = 0; i < roughness.cells(); ++i) {
      if (plan.parts[i] == kSkinPart) roughness[i] = roughness[i] + (rough.roughness - roughness[i]) * area[i];
    }
  }
  const auto eight = [](double value) { return static_cast<uint8_t>(value * 255 + 0.5); };
  std::vector<uint8_t> made;
  for (size_t i = 0; i < roughness.cells(); ++i) {
    const double occlusion = plan.parts[i] == kMouthPart ? kMouthLight : 1.0;
    made.insert(made.end(), {eight(occlusion), eight(static_cast<double>(roughness[i])), eight(0)});
  }
  return made;
}

// Pores and wrinkles are darker than what is around them, so the logarithm of green serves as height.
GridOf<uint8_t> relief_of(const std::vector<uint8_t>& albedo, int side, const Atlas& atlas, const Grid& strength) {
  std::array<float, 256> logs;
  for (size_t i = 0; i < logs.size(); ++i) logs[i] = log_of(std::max(linear_of()[i], 1e-3F));
  Grid luminance(side, side);
  for (size_t i = 0; i < luminance.cells(); ++i) luminance[i] = logs[albedo[3 * i + 1]];
  luminance = shrunk(luminance, std::max(1, side / kMostSide));
  Grid height = blurred(luminance, 0.8), area = atlas.area(kDetailArea);
  const Grid smooth = blurred(luminance, 4.0);
  for (size_t i = 0; i < area.cells(); ++i) area[i] *= strength[i];
  area = grown(area, height.height / kAtlasSide);
  for (size_t i = 0; i < height.cells(); ++i) height[i] = (height[i] - smooth[i]) * area[i];
  const int size = height.height;
  GridOf<uint8_t> made(size, size, 3);
  const auto steep = [](float slope) { return bounded(slope * kRelief, -kSteepest, kSteepest); };
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      const float across = (*height.at(y, (x + 1) % size) - *height.at(y, (x + size - 1) % size)) / 2;
      const float down = (*height.at((y + 1) % size, x) - *height.at((y + size - 1) % size, x)) / 2;
      // +X of tangent space is +u; +Y is +v, which is up in the picture.
      const float normal[] = {steep(-across), steep(down), 1};
      const float length = std::sqrt((normal[0] * normal[0] + normal[1] * normal[1]) + normal[2] * normal[2]);
      for (size_t c = 0; c < 3; ++c) made.at(y, x)[c] = static_cast<uint8_t>(normal[c] / length * 127 + 128.5F);
    }
  }
  return made;
}

}  // namespace topos
