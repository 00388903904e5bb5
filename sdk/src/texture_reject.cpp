#include "texture_reject.h"

#include <cmath>

#include "colour.h"
#include "statistics.h"

namespace topos {
namespace {

constexpr size_t kInnerLips[] = {78,  95,  88,  178, 87,  14,  317, 402, 318, 324,
                                 308, 415, 310, 311, 312, 13,  82,  81,  80,  191};
constexpr size_t kMouthCorners[] = {61, 291}, kMouthMiddles[] = {13, 14}, kNoseBase = 2;
constexpr double kOpen = 0.06;  // of the mouth's width: a wider gap between the lips shows teeth
// How far off skin is allowed to be, in robust deviations: at the rim of the face, more for every share of the atlas
// further in, and more on features.
constexpr float kAtRim = 1.15F, kPerDepth = 9.0F, kOnFeatures = 5.0F, kSoft = 0.5F;
constexpr float kChromaUnits = 2.6F, kLuminanceUnits = 3.4F, kLeastSigma = 0.05F, kLeastChromaSigma = 0.035F;
constexpr float kSeen = 0.03F;
constexpr double kCovered = 0.5;                 // of the skin around the lips
constexpr float kBeard = -0.25F, kNear = 0.15F;  // log units: darker than the skin; beyond the colours of hair
constexpr double kBrowKept = 0.85, kBrowWorse = 0.92;
constexpr double kFeather = 7;  // cells
constexpr double kLikelySpectacles = 0.4;
constexpr size_t kFewCells = 64;
// Bounds of hair, as in texture_colours.cpp.
constexpr float kHairRedGreen[] = {0.05F, 0.75F}, kHairGreenBlue[] = {0.05F, 0.95F};

template <class F>
Grid made_of(const Grid& like, F value) {
  Grid made(like.height, like.width);
  for (size_t i = 0; i < made.cells(); ++i) made[i] = value(i);
  return made;
}

Grid as_grid(const Area& area) {
  Grid made(area.height, area.width);
  for (size_t i = 0; i < made.cells(); ++i) made[i] = area[i];
  return made;
}

struct Chroma {
  float red_green, green_blue;
};
Chroma chroma(const float* ratio) { return {ratio[0] - ratio[1], ratio[1] - ratio[2]}; }

// 1.4826 medians of what each value is away from the median.
float deviation(std::vector<float> values) {
  std::vector<float> sorted = values;
  const float middle = median(sorted);
  for (float& value : values) value = std::fabs(value - middle);
  return 1.4826F * median(values);
}

// How far from the face's own skin each cell is, in robust deviations.
Grid distance_of(const SeenCells& cells, const Grid& plain) {
  std::vector<float> core[3], own[2];
  for (size_t i = 0; i < plain.cells(); ++i) {
    if (!(plain[i] > 0.9F && cells.weight[i] > 0.5F)) continue;
    const float* ratio = cells.ratio.values.data() + 3 * i;
    for (size_t c = 0; c < 3; ++c) core[c].push_back(ratio[c]);
    own[0].push_back(chroma(ratio).red_green);
    own[1].push_back(chroma(ratio).green_blue);
  }
  if (core[0].size() < kFewCells) return Grid(plain.height, plain.width);
  float sigma = 0, units[2];
  for (size_t c = 0; c < 3; ++c) sigma += std::max(deviation(core[c]), kLeastSigma);
  for (size_t k = 0; k < 2; ++k) units[k] = std::max(deviation(own[k]), kLeastChromaSigma) * kChromaUnits;
  const float bright_unit = sigma / 3.0F * kLuminanceUnits;
  return made_of(plain, [&](size_t i) {
    const float* ratio = cells.ratio.values.data() + 3 * i;
    const float a = bounded(chroma(ratio).red_green / units[0], -6.0F, 6.0F);
    const float b = bounded(chroma(ratio).green_blue / units[1], -6.0F, 6.0F);
    const float bright = bounded(mean_of_channels(ratio) / bright_unit, -6.0F, 6.0F);
    return std::sqrt((a * a + b * b) + bright * bright);
  });
}

// Where beards grow: below the nose and up to the sideburns.
bool beard_grows(const Atlas& atlas, int y, int x) {
  const float* nose = atlas.landmark_uvs + 2 * kNoseBase;
  const float* corner = atlas.landmark_uvs + 2 * kMouthCorners[0];
  const double u = (x + 0.5) / kAtlasSide, v = (y + 0.5) / kAtlasSide;
  const double half = static_cast<double>(std::max(std::fabs(corner[0] - nose[0]), 1e-3F));
  const double across = std::fabs(u - static_cast<double>(nose[0])) / half;
  const double height = std::max(static_cast<double>(nose[1] - corner[1]), 1e-3);
  return v - static_cast<double>(1 - nose[1]) > -height * bounded(across - 1.6, 0.0, 2.5);
}

// Whether a cell is darker than the skin and coloured like hair.
bool like_hair(const float* ratio, const float* skin) {
  const float colour[] = {ratio[0] + skin[0], ratio[1] + skin[1], ratio[2] + skin[2]};
  const Chroma found = chroma(colour);
  const auto within = [](float value, const float* bounds) { return value > bounds[0] - kNear && value < bounds[1] + kNear; };
  return mean_of_channels(ratio) < kBeard && within(found.red_green, kHairRedGreen) &&
         within(found.green_blue, kHairGreenBlue);
}

double sum_of(const Grid& values) {
  double sum = 0;
  for (const float value : values.values) sum += static_cast<double>(value);
  return sum;
}

// What is rejected, with the lips only where the skin around them is: lipstick has any colour.
Grid lips_like_their_surroundings(const Grid& rejected, const Grid& lips, const Area& seen) {
  const Grid wide = blurred(lips, 5.0);
  const Grid around = made_of(lips, [&](size_t i) { return unit(2.5F * wide[i]) * (1 - lips[i]) * seen[i]; });
  const Grid lost = made_of(lips, [&](size_t i) { return rejected[i] * around[i]; });
  const bool covered = sum_of(lost) > kCovered * sum_of(around);
  return made_of(lips, [&](size_t i) {
    return covered ? std::max(rejected[i], lips[i] * seen[i]) : rejected[i] * (1 - unit(2 * lips[i]));
  });
}

double apart(const float* landmarks, const size_t (&pair)[2]) {
  const float x = landmarks[3 * pair[0]] - landmarks[3 * pair[1]];
  const float y = landmarks[3 * pair[0] + 1] - landmarks[3 * pair[1] + 1];
  return static_cast<double>(std::sqrt(x * x + y * y));
}

// Whether a place lies between the lips.
bool in_mouth(const float* landmarks, double x, double y) {
  bool inside = false;
  for (size_t i = 0; i < std::size(kInnerLips); ++i) {
    const float* a = landmarks + 3 * kInnerLips[i];
    const float* b = landmarks + 3 * kInnerLips[(i + 1) % std::size(kInnerLips)];
    const double ax = static_cast<double>(a[0]), ay = static_cast<double>(a[1]);
    const double bx = static_cast<double>(b[0]), by = static_cast<double>(b[1]);
    if (ay == by) continue;
    if (((ay > y) != (by > y)) && x < ax + (y - ay) * ((bx - ax) / (by - ay))) inside = !inside;
  }
  return inside;
}

// Adds what lies between open lips to what is rejected.
void reject_teeth(Grid& rejected, const Grid& lips, const Grid& count, const float* landmarks, const Grid& places) {
  const Grid wide = blurred(lips, 3.2);
  const Grid between = made_of(lips, [&](size_t i) {
    const auto x = static_cast<double>(places[2 * i]), y = static_cast<double>(places[2 * i + 1]);
    return in_mouth(landmarks, x, y) ? count[i] : 0.0F;
  });
  const Grid inside = blurred(between, 0.8);
  const Grid share = made_of(lips, [&](size_t i) { return inside[i] / (count[i] + 1e-3F) * unit(2.5F * wide[i]); });
  const Grid smooth = blurred(share, 0.7);
  for (size_t i = 0; i < rejected.cells(); ++i) rejected[i] = std::max(rejected[i], unit(2.5F * smooth[i] - 0.3F));
}

// Where a brow is to be left out, 0 to 1: the one of which less was kept, or both of little.
Grid poor_brows(const TexturePlan& plan, const Grid& brows, const Grid& kept) {
  const Grid wide = blurred(brows, 2.0);
  const int middle = brows.width / 2;
  double shares[2];
  for (const int side : {0, 1}) {
    double taken = 0, all = 0;
    for (int y = 0; y < brows.height; ++y) {
      for (int x = side == 0 ? 0 : middle; x < (side == 0 ? middle : brows.width); ++x) {
        taken += static_cast<double>(*kept.at(y, x) * *brows.at(y, x));
        all += static_cast<double>(*brows.at(y, x));
      }
    }
    shares[side] = taken / std::max(all, 1e-6);
  }
  const double best = std::max(shares[0], shares[1]);
  Grid poor(brows.height, brows.width);
  for (int y = 0; y < brows.height; ++y) {
    for (int x = 0; x < brows.width; ++x) {
      const double share = shares[x < middle ? 0 : 1];
      const bool out = share < kBrowKept && (share < kBrowWorse * best || !plan.mirrors || best < kBrowKept);
      *poor.at(y, x) = out ? unit(3 * *wide.at(y, x)) : 0.0F;
    }
  }
  return poor;
}

}  // namespace

Kept judge(const TexturePlan& plan, const Atlas& atlas, const SeenCells& cells, const float* landmarks, const Grid& places,
           const Vec3& skin) {
  const auto area = [&](AtlasArea which) { return part_of(atlas.area(which), plan.cells); };
  const Grid plain = area(kDetailArea), lips = area(kLipsArea), brows = area(kBrowsArea), eyes = area(kEyesArea),
             nose = area(kNoseArea), depth = part_of(plan.depth, plan.cells);
  const Grid& count = cells.weight;
  const float of_skin[] = {static_cast<float>(skin[0]), static_cast<float>(skin[1]), static_cast<float>(skin[2])};
  Grid distance = distance_of(cells, plain);
  for (int y = 0; y < distance.height; ++y) {
    for (int x = 0; x < distance.width; ++x) {
      const bool beard = beard_grows(atlas, plan.cells.top + y, plan.cells.left + x);
      if (beard && like_hair(cells.ratio.at(y, x), of_skin)) *distance.at(y, x) = 0;
    }
  }
  const Grid weighted = blurred(made_of(count, [&](size_t i) { return count[i] * distance[i]; }), 1.2);
  const Grid weights = blurred(count, 1.2), near = blurred(count, 1.0);
  Area seen(count.height, count.width), accepted = seen, middle = seen;
  Grid rejected(count.height, count.width);
  float deepest = 0;
  for (const float value : plan.depth.values) deepest = std::max(deepest, value);
  for (size_t i = 0; i < seen.cells(); ++i) {
    seen[i] = near[i] > kSeen ? 1 : 0;
    const float features = (1.3F * eyes[i] + 0.9F * brows[i]) + nose[i];
    const float limit = (kAtRim + kPerDepth * std::max(depth[i] - 0.03F, 0.0F)) + kOnFeatures * unit(features);
    rejected[i] = unit((weighted[i] / (weights[i] + 1e-4F) - limit) / kSoft) * seen[i];
    middle[i] = depth[i] > 0.5F * deepest && plain[i] > 0.9F ? 1 : 0;
  }
  rejected = lips_like_their_surroundings(rejected, lips, seen);
  Kept kept;
  kept.mouth_open = apart(landmarks, kMouthMiddles) / std::max(apart(landmarks, kMouthCorners), 1e-6);
  if (kept.mouth_open > kOpen) reject_teeth(rejected, lips, count, landmarks, places);
  for (size_t i = 0; i < seen.cells(); ++i) accepted[i] = seen[i] != 0 && rejected[i] < 0.35F ? 1 : 0;
  const Grid taken = as_grid(largest_piece(accepted, middle));
  const Grid wide = blurred(taken, kFeather / 2), narrow = blurred(taken, 1.0);
  kept.feather = made_of(count, [&](size_t i) {
    const bool on_lips = unit(lips[i] * 5) > 0.5F;
    const float share = on_lips ? unit((narrow[i] - 0.5F) / 0.45F) : unit((wide[i] - 0.55F) / 0.42F);
    return share * share * (3 - 2 * share);
  });
  const Grid poor = poor_brows(plan, brows, made_of(count, [&](size_t i) { return kept.feather[i] * unit(2 * count[i]); }));
  for (size_t i = 0; i < seen.cells(); ++i) kept.feather[i] *= 1 - poor[i];
  kept.spectacles = spectacles_probability(plan, atlas, cells) > kLikelySpectacles;
  if (kept.spectacles) {
    const Grid zone = part_of(spectacles_zone(atlas), plan.cells);
    for (size_t i = 0; i < seen.cells(); ++i) kept.feather[i] *= 1 - zone[i];
  }
  return kept;
}

}  // namespace topos
