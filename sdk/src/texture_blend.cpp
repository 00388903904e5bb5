#include "texture_blend.h"

#include <array>
#include <cmath>

#include "texture_passes.h"

namespace topos {
namespace {

constexpr double kEven = 1.0 / 36;  // of the areas' side: what is smoother than this is made symmetric
constexpr float kEvenLuminance = 0.7F, kEvenChroma = 0.7F, kMostEven = 0.8F;
constexpr double kPull = 0.012, kPullOutside = 0.25;  // towards the toned base material, within the face and without
// Shares of the lips' change that the inside of the mouth follows.
constexpr float kMouth = 0.7F, kTongue = 0.4F;
constexpr double kMostMouth = 0.7, kLipsEnough = 30;  // cells
constexpr float kMirrored = 0.5F;                     // confidence

// The same cell on the other side of the window.
size_t across(const Grid& grid, size_t cell) {
  const auto width = static_cast<size_t>(grid.width);
  return cell - cell % width + (width - 1 - cell % width);
}

// The smooth difference between the sides of the face: light that the fit has left. ratio: times weight.
Grid uneven_of(const Grid& weight, const Grid& ratio, const Grid& plain) {
  Grid both(weight.height, weight.width, 4);
  for (size_t i = 0; i < weight.cells(); ++i) {
    for (size_t c = 0; c < 3; ++c) both[4 * i + c] = ratio[3 * i + c] * plain[i];
    both[4 * i + 3] = weight[i] * plain[i];
  }
  const Grid sums = blurred(both, kAtlasSide * kEven);
  Grid smooth(weight.height, weight.width, 3), made = smooth;
  const auto share = [&](size_t i) { return sums[4 * i + 3] + 2e-3F; };
  for (size_t i = 0; i < weight.cells(); ++i) {
    for (size_t c = 0; c < 3; ++c) smooth[3 * i + c] = sums[4 * i + c] / share(i);
  }
  for (size_t i = 0; i < weight.cells(); ++i) {
    const size_t other = across(weight, i);
    const float common = unit(6 * std::min(share(i), share(other)));
    float half[3], rest[3];
    for (size_t c = 0; c < 3; ++c) {
      half[c] = (smooth[3 * i + c] - smooth[3 * other + c]) / 2 * common;
      rest[c] = smooth[3 * i + c] - half[c];
    }
    // What is common to both sides and differs from the middle stays, less its colour cast.
    const float mean = mean_of_channels(rest);
    for (size_t c = 0; c < 3; ++c) {
      made[3 * i + c] = bounded((half[c] + kEvenLuminance * mean) + kEvenChroma * (rest[c] - mean), -kMostEven, kMostEven);
    }
  }
  return made;
}

// Smooth log ratios for the whole atlas; other: [h][w], what is mirrored. ratio: times weight.
Grid field_of(const TexturePlan& plan, const Grid& weight, const Grid& ratio, const Grid& face, Grid& other) {
  Grid whole(kAtlasSide, kAtlasSide, 3), everywhere(kAtlasSide, kAtlasSide, 1, static_cast<float>(kPull + kPullOutside));
  for (size_t i = 0; i < weight.cells(); ++i) {
    const size_t there = across(weight, i);
    float total = weight[i], values[3] = {ratio[3 * i], ratio[3 * i + 1], ratio[3 * i + 2]};
    if (plan.mirrors) {
      other[i] = weight[there] * (1 - unit(2.5F * weight[i]));
      const float half = 0.5F * other[i];
      total += half;
      for (size_t c = 0; c < 3; ++c) values[c] += ratio[3 * there + c] / std::max(weight[there], 1e-5F) * half;
    }
    for (float& value : values) value /= std::max(total, 1e-5F);
    const float trust = total * std::sqrt(total);
    const float outside = static_cast<float>(kPullOutside) * unit(1 - 1.5F * face[i]) * (1 - unit(3 * total));
    const float pull = static_cast<float>(kPull) + outside;
    const int y = plan.cells.top + static_cast<int>(i) / weight.width, x = plan.cells.left + static_cast<int>(i) % weight.width;
    *everywhere.at(y, x) = unit(trust + pull);
    for (size_t c = 0; c < 3; ++c) whole.at(y, x)[c] = values[c] * (trust / (trust + pull));
  }
  return filled(whole, everywhere);
}

// The mouth and the tongue follow the lips, and the eyes stay as they are.
void follow_lips(Grid& field, const TexturePlan& plan, const Atlas& atlas) {
  const Grid lips = atlas.area(kLipsArea);
  double area = 0, sums[3] = {};
  for (size_t i = 0; i < lips.cells(); ++i) {
    area += static_cast<double>(lips[i]);
    for (size_t c = 0; c < 3; ++c) sums[c] += static_cast<double>(field[3 * i + c] * lips[i]);
  }
  float change[3] = {};
  for (size_t c = 0; c < 3 && area > kLipsEnough; ++c) {
    change[c] = static_cast<float>(bounded(sums[c] / area, -kMostMouth, kMostMouth));
  }
  for (size_t i = 0; i < lips.cells(); ++i) {
    const uint8_t part = plan.parts[i];
    if (part != kEyesPart && part != kMouthPart && part != kTonguePart) continue;
    const float share = part == kEyesPart ? 0.0F : part == kMouthPart ? kMouth : kTongue;
    for (size_t c = 0; c < 3; ++c) field[3 * i + c] = share * change[c];
  }
}

}  // namespace

Blend blend_of_nothing(const TexturePlan& plan) {
  return {Grid(kAtlasSide, kAtlasSide, 3), Grid(plan.cells.height(), plan.cells.width(), 5), Grid(kAtlasSide, kAtlasSide)};
}

Blend blend(const TexturePlan& plan, const Atlas& atlas, const SeenCells& cells, const Grid& feather, const Vec3& tone) {
  Blend made = blend_of_nothing(plan);
  const Grid face = part_of(atlas.area(kFaceArea), plan.cells);
  Grid weight(feather.height, feather.width), ratio(feather.height, feather.width, 3), other = weight, uneven = ratio;
  for (size_t i = 0; i < weight.cells(); ++i) {
    weight[i] = unit(kTexelGain * cells.weight[i]) * feather[i];
    for (size_t c = 0; c < 3; ++c) ratio[3 * i + c] = cells.ratio[3 * i + c] * weight[i];
  }
  if (plan.mirrors) uneven = uneven_of(weight, ratio, part_of(atlas.area(kDetailArea), plan.cells));
  for (size_t i = 0; i < ratio.values.size(); ++i) ratio[i] = (cells.ratio[i] - uneven[i]) * weight[i / 3];
  made.cells = field_of(plan, weight, ratio, face, other);
  follow_lips(made.cells, plan, atlas);
  for (size_t i = 0; i < made.cells.cells(); ++i) {
    const float follows = TexturePlan::toned(plan.parts[i]);
    for (size_t c = 0; c < 3; ++c) made.cells[3 * i + c] += static_cast<float>(tone[c]) * follows;
  }
  for (int y = 0; y < weight.height; ++y) {
    for (int x = 0; x < weight.width; ++x) {
      const size_t i = weight.index(y, x);
      *made.confidence.at(plan.cells.top + y, plan.cells.left + x) = std::max(weight[i], kMirrored * other[i]);
      float* to = made.window.at(y, x);
      to[0] = feather[i];
      to[1] = face[i];
      std::copy_n(uneven.values.data() + 3 * i, 3, to + 2);
    }
  }
  return made;
}

}  // namespace topos
