#include "texture_colours.h"

#include <cmath>

#include "colour.h"
#include "statistics.h"

namespace topos {
namespace {

constexpr double kHairLowest = 0.006, kHairHighest = 0.16;  // luminance of cropped hair; hats may have any
constexpr double kRedGreen[] = {0.05, 0.75}, kGreenBlue[] = {0.05, 0.95};  // logs of ratios that hair has
constexpr double kLikeSkin = 0.30;   // log units: hair that differs by less from the skin is none
constexpr double kStrange = 0.25;    // log units beyond those bounds: no hair but a hat
constexpr size_t kLeastVertices = 24;  // of the scalp that must be seen
constexpr double kDarker = 0.4;        // of their colours: the share that is darker than the hair's

constexpr size_t kIrises[2][5] = {{468, 469, 470, 471, 472}, {473, 474, 475, 476, 477}};  // the middle, then the edge
constexpr double kRing[] = {0.50, 0.85};  // radii between pupil and edge
constexpr double kLeastPx = 3;            // of an iris's radius: a smaller one shows the lashes' colour, too
constexpr double kIrisLowest = 0.012, kIrisHighest = 0.22;
constexpr float kDark = 0.30F, kBlack = 0.016F;  // luminance of the base material: above is the white, below the pupil
constexpr float kStrength = 0.85F;
constexpr double kInShade = 0.4;  // log units by which lids darken an iris

using Columns = std::array<std::vector<float>, 3>;

Vec3 log_over(const Colour& colour, const Vec3& exposure) {
  Vec3 made;
  for (size_t c = 0; c < 3; ++c) {
    made[c] = std::log(std::max(static_cast<double>(colour[c]), 1e-3)) - exposure[c];
  }
  return made;
}

// What covers the scalp in a photograph; nothing where too little is seen.
std::optional<Colour> over_scalp(const TexturePlan& plan, const HeadSeen& seen, const Photograph& photograph) {
  const Grid& pixels = photograph.pixels;
  Columns colours;
  for (size_t i = 0; i < plan.scalp.size(); ++i) {
    if (!(plan.scalp[i] > 0.8F && seen.facing[i] > 0.05F)) continue;
    const auto [x, y] = photograph.place(seen.places[2 * i], seen.places[2 * i + 1]);
    if (!(x >= 0 && y >= 0 && x < pixels.width - 1 && y < pixels.height - 1)) continue;
    const float* pixel = pixels.at(static_cast<int>(y), static_cast<int>(x));
    for (size_t c = 0; c < 3; ++c) colours[c].push_back(pixel[c]);
  }
  const size_t count = colours[0].size();
  if (count < kLeastVertices) return std::nullopt;
  Colour found;
  for (size_t c = 0; c < 3; ++c) {
    found[c] = of_rank(colours[c], static_cast<size_t>(kDarker * static_cast<double>(count - 1)));
  }
  return found;
}

// The median colour of the ring of an iris.
std::optional<Colour> ring_of(const Photograph& photograph, const float* landmarks, const size_t (&ids)[5]) {
  const Grid& pixels = photograph.pixels;
  const auto at = [&](size_t id) { return photograph.place(landmarks[3 * id], landmarks[3 * id + 1]); };
  const auto [middle_x, middle_y] = at(ids[0]);
  double radius = 0;
  for (size_t k = 1; k < 5; ++k) {
    const auto [x, y] = at(ids[k]);
    radius += std::sqrt((x - middle_x) * (x - middle_x) + (y - middle_y) * (y - middle_y));
  }
  radius /= 4;
  const double left = std::floor(middle_x - radius), top = std::floor(middle_y - radius);
  const double right = std::ceil(middle_x + radius) + 1, bottom = std::ceil(middle_y + radius) + 1;
  if (!(radius >= kLeastPx && left >= 0 && top >= 0 && right <= pixels.width && bottom <= pixels.height)) return std::nullopt;
  Columns ring;
  for (int y = static_cast<int>(top); y < static_cast<int>(bottom); ++y) {
    for (int x = static_cast<int>(left); x < static_cast<int>(right); ++x) {
      const double away = std::hypot(x + 0.5 - middle_x, y + 0.5 - middle_y) / radius;
      // The upper half lies in the shadow of the lashes.
      if (!(away > kRing[0] && away < kRing[1] && y + 0.5 > middle_y - 0.2 * radius)) continue;
      for (size_t c = 0; c < 3; ++c) ring[c].push_back(pixels.at(y, x)[c]);
    }
  }
  if (ring[0].empty()) return std::nullopt;
  return Colour{median(ring[0]), median(ring[1]), median(ring[2])};
}

}  // namespace

std::optional<Colour> hair_colour(const TexturePlan& plan, const HeadSeen& seen, const Photograph& photograph,
                                  const Vec3& exposure, const Vec3& skin) {
  const std::optional<Colour> covering = over_scalp(plan, seen, photograph);
  if (!covering) return kUsualHair;
  const Vec3 log = log_over(*covering, exposure), off = log - skin;
  if (std::max({std::fabs(off[0]), std::fabs(off[1]), std::fabs(off[2])}) < kLikeSkin) return std::nullopt;
  const auto strange = [](double ratio, const double* bounds) {
    return ratio < bounds[0] - kStrange || ratio > bounds[1] + kStrange;
  };
  if (strange(log[0] - log[1], kRedGreen) || strange(log[1] - log[2], kGreenBlue)) return kUsualHair;
  const double luminance = bounded(dot(kLuminance, exps(log)), kHairLowest, kHairHighest);
  const Vec3 natural = {log[1] + bounded(log[0] - log[1], kRedGreen[0], kRedGreen[1]), log[1],
                        log[1] - bounded(log[1] - log[2], kGreenBlue[0], kGreenBlue[1])};
  const Vec3 colour = exps(natural);
  const double own = dot(kLuminance, colour);
  Colour made;
  for (size_t c = 0; c < 3; ++c) made[c] = static_cast<float>(colour[c] * luminance / own);
  return made;
}

std::optional<Colour> iris_colour(const Photograph& photograph, const float* landmarks, const Vec3& exposure) {
  Colour mean = {};
  int count = 0;
  for (const auto& ids : kIrises) {
    const std::optional<Colour> found = ring_of(photograph, landmarks, ids);
    if (!found) continue;
    for (size_t c = 0; c < 3; ++c) mean[c] += (*found)[c];
    ++count;
  }
  if (count == 0) return std::nullopt;
  for (float& value : mean) value /= static_cast<float>(count);
  const Vec3 log = log_over(mean, exposure), colour = exps(log + Vec3{kInShade, kInShade, kInShade});
  const double luminance = dot(kLuminance, colour);
  Colour made;
  for (size_t c = 0; c < 3; ++c) {
    made[c] = static_cast<float>(colour[c] * bounded(luminance, kIrisLowest, kIrisHighest) / std::max(luminance, 1e-6));
  }
  return made;
}

void paint_irises(uint8_t* albedo, const TexturePlan& plan, const Colour& colour) {
  const auto luminance_of = [](const float* texel) {
    return (texel[0] * static_cast<float>(kLuminance[0]) + texel[1] * static_cast<float>(kLuminance[1])) +
           texel[2] * static_cast<float>(kLuminance[2]);
  };
  std::vector<size_t> iris;
  double sum = 0;
  for (const size_t texel : plan.eyes) {
    const float luminance = luminance_of(plan.base.values.data() + 3 * texel);
    if (!(luminance < kDark && luminance > kBlack)) continue;
    iris.push_back(texel);
    sum += static_cast<double>(luminance);
  }
  if (iris.empty()) return;
  const auto mean = static_cast<float>(sum / static_cast<double>(iris.size()));
  for (const size_t texel : iris) {
    const float* base = plan.base.values.data() + 3 * texel;
    const float bright = luminance_of(base) / mean;
    for (size_t c = 0; c < 3; ++c) {
      albedo[3 * texel + c] = srgb_byte(base[c] + kStrength * (colour[c] * bright - base[c]));
    }
  }
}

}  // namespace topos
