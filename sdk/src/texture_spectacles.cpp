// Spectacles, told by their rims on the skin around the eyes.
#include <array>
#include <cmath>

#include "spectacles_weights.h"
#include "texture_reject.h"

namespace topos {
namespace {

constexpr size_t kOuter[] = {33, 263}, kNose = 1;
// The grid, in half distances of the outer corners of the eyes across, and in their distance from the tip of the nose
// downwards: its outer end, top and bottom.
constexpr double kAcross = 1.55, kTop = -0.75, kBottom = 0.75;
constexpr double kSmooth = 4;  // cells: what changes more slowly is shading
constexpr float kSeen = 0.1F, kMost = 0.6F;
constexpr double kFloor = 0.01;

// The place of a cell: across from the middle of the face, and down from the eyes.
struct Frame {
  double middle, half, eyes, down;

  explicit Frame(const Atlas& atlas) {
    const float *left = atlas.landmark_uvs + 2 * kOuter[0], *right = atlas.landmark_uvs + 2 * kOuter[1];
    const float *nose = atlas.landmark_uvs + 2 * kNose, high = 1 - (left[1] + right[1]) / 2;
    middle = static_cast<double>((left[0] + right[0]) / 2);
    half = static_cast<double>(std::max(std::fabs(right[0] - left[0]) / 2, 1e-3F));
    eyes = static_cast<double>(high);
    down = static_cast<double>(std::max(1 - nose[1] - high, 1e-3F));
  }
  double x(int column) const { return ((column + 0.5) / kAtlasSide - middle) / half; }
  double y(int row) const { return ((row + 0.5) / kAtlasSide - eyes) / down; }
};

double square(double x) { return x * x; }

}  // namespace

double spectacles_probability(const TexturePlan& plan, const Atlas& atlas, const SeenCells& cells) {
  constexpr int kAll = kSpectaclesBins * kSpectaclesBins;
  Grid both(cells.weight.height, cells.weight.width, 2);
  for (size_t i = 0; i < both.cells(); ++i) {
    both[2 * i + 1] = cells.weight[i] > kSeen ? 1.0F : 0.0F;
    both[2 * i] = mean_of_channels(cells.ratio.values.data() + 3 * i) * both[2 * i + 1];
  }
  const Grid smooth = blurred(both, kSmooth);
  const Frame frame(atlas);
  std::array<double, kAll> count = {}, sums[2] = {};
  for (int y = 0; y < both.height; ++y) {
    for (int x = 0; x < both.width; ++x) {
      const double column = std::floor(std::fabs(frame.x(plan.cells.left + x)) / kAcross * kSpectaclesBins);
      const double row = std::floor((frame.y(plan.cells.top + y) - kTop) / (kBottom - kTop) * kSpectaclesBins);
      if (!(column < kSpectaclesBins && row >= 0 && row < kSpectaclesBins)) continue;
      const auto bin = static_cast<size_t>(row) * kSpectaclesBins + static_cast<size_t>(column);
      const float *own = both.at(y, x), *around = smooth.at(y, x);
      const float uneven = (own[0] - around[0] / std::max(around[1], 0.05F)) * own[1];
      count[bin] += static_cast<double>(own[1]);
      sums[0][bin] += static_cast<double>(std::min(std::fabs(uneven), kMost));
      sums[1][bin] += static_cast<double>(std::min(std::max(-uneven, 0.0F), kMost));
    }
  }
  double logit = static_cast<double>(kSpectaclesBias);
  for (size_t i = 0; i < 2 * size_t{kAll}; ++i) {
    const double mean = sums[i / kAll][i % kAll] / std::max(count[i % kAll], 1e-3);
    logit += std::log(mean + kFloor) * static_cast<double>(kSpectaclesWeights[i]);
  }
  return 1 / (1 + std::exp(-bounded(logit, -50.0, 50.0)));
}

Grid spectacles_zone(const Atlas& atlas) {
  const Grid nose = blurred(atlas.area(kNoseArea), 1.5), face = atlas.area(kFaceArea);
  const Frame frame(atlas);
  Grid zone(kAtlasSide, kAtlasSide);
  for (int row = 0; row < kAtlasSide; ++row) {
    for (int column = 0; column < kAtlasSide; ++column) {
      const double x = frame.x(column), y = frame.y(row), away = std::fabs(x);
      const double rims = unit(2.2 - 2 * (square((away - 0.72) / 1.15) + square((y - 0.15) / 1.02)));
      const double bridge = std::exp(-square(x / 0.35) - square((y + 0.02) / 0.22));
      const double temples = std::exp(-square((y + 0.12) / 0.34)) * unit((away - 0.8) / 0.2);
      const double together = std::max({rims, unit(2 * bridge), unit(2 * temples)});
      const float free = 1 - unit(3 * *nose.at(row, column) - 0.6F) * (y > 0.3 ? 1.0F : 0.0F);
      const double shown = together * static_cast<double>(free) * static_cast<double>(unit(*face.at(row, column) * 2));
      *zone.at(row, column) = static_cast<float>(shown);
    }
  }
  return zone;
}

}  // namespace topos
