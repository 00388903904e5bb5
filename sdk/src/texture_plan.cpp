#include "texture_plan.h"

#include <cmath>

#include "colour.h"
#include "noise.h"
#include "raster.h"

namespace topos {
namespace {

constexpr int kSamples = 25000;       // texels for the fit of the light, about
constexpr float kPlain = 0.6F;        // share of plain skin that they have
constexpr float kEdge = 0.02F;        // of the area of the face, at which the window ends
constexpr uint64_t kGrainSeed = 7;
constexpr double kGrain = 0.22;

std::vector<Vec3> on_screen(const Atlas& atlas, int side, const Window& window) {
  std::vector<Vec3> made;
  const auto wide = static_cast<float>(side);
  for (size_t i = 0; i < atlas.copies; ++i) {
    const double x = static_cast<double>(atlas.uvs[2 * i] * wide), y = static_cast<double>((1 - atlas.uvs[2 * i + 1]) * wide);
    made.push_back({x - window.left, y - window.top, 1.0});
  }
  return made;
}

// The triangles of a part, and their corners among the copies.
struct Chosen {
  std::vector<size_t> numbers;
  std::vector<int32_t> corners;

  Chosen(const Atlas& atlas, uint8_t part) {
    for (size_t i = 0; i < atlas.triangles; ++i) {
      const int32_t* ids = atlas.copy_corners + 3 * i;
      if (atlas.parts[ids[0]] != part) continue;
      numbers.push_back(i);
      corners.insert(corners.end(), ids, ids + 3);
    }
  }
};

Grid base_of(const Atlas& atlas, int side) {
  Grid made(atlas.base_side, atlas.base_side, 3);
  for (size_t i = 0; i < made.values.size(); ++i) made[i] = linear_of()[atlas.base[i]];
  if (atlas.base_side > side) return shrunk(made, atlas.base_side / side);
  return grown(made, side / atlas.base_side);
}

// An area of the skin at the vertices, zero for those of other parts.
std::vector<float> at_vertices(const Atlas& atlas, const Grid& area) {
  std::vector<float> found(atlas.vertices);
  const auto place = [](float at) { return static_cast<int>(bounded(at * kAtlasSide, 0.0F, kAtlasSide - 1.0F)); };
  for (size_t i = 0; i < 3 * atlas.triangles; ++i) {
    const auto copy = static_cast<size_t>(atlas.copy_corners[i]);
    if (atlas.parts[copy] != kSkinPart) continue;
    const int x = place(atlas.uvs[2 * copy]), y = place(1 - atlas.uvs[2 * copy + 1]);
    found[static_cast<size_t>(atlas.corners[i])] = *area.at(y, x);
  }
  return found;
}

// The part of each cell, of neighbours too where a cell is only touched: islands are apart.
Area parts_of(const Atlas& atlas) {
  Area found(kAtlasSide, kAtlasSide);
  const std::vector<Vec3> screen = on_screen(atlas, kAtlasSide, {});
  for (uint8_t part = kMouthPart; part < kAtlasParts; ++part) {
    const GridOf<int32_t> drawn = rasterize(screen, Chosen(atlas, part).corners, kAtlasSide, kAtlasSide, false).triangle;
    for (int y = 0; y < kAtlasSide; ++y) {
      for (int x = 0; x < kAtlasSide; ++x) {
        for (int k = 0; k < 9; ++k) {
          const int row = y + k / 3 - 1, column = x + k % 3 - 1;
          const bool inside = row >= 0 && column >= 0 && row < kAtlasSide && column < kAtlasSide;
          if (inside && *drawn.at(row, column) >= 0) *found.at(y, x) = part;
        }
      }
    }
  }
  return found;
}

Grid grain_of(int side) {
  Grid fine(side, side), hairs(side, side);
  noise(kGrainSeed, fine.values.data(), fine.values.size());
  double sum = 0;
  for (int y = 0; y < side; ++y) {
    const auto above = [&](int rows, int x) { return *fine.at((y + side - rows) % side, x); };
    for (int x = 0; x < side; ++x) {
      const float made = ((above(0, x) + above(1, x)) + above(2, x)) + 0.5F * above(3, x);
      *hairs.at(y, x) = made;
      sum += static_cast<double>(made);
    }
  }
  const double mean = sum / static_cast<double>(hairs.cells());
  double squares = 0;
  for (const float hair : hairs.values) squares += (static_cast<double>(hair) - mean) * (static_cast<double>(hair) - mean);
  const float deviation = static_cast<float>(std::sqrt(squares / static_cast<double>(hairs.cells())));
  for (float& hair : hairs.values) hair = 1 + static_cast<float>(kGrain) * hair / deviation;
  return hairs;
}

}  // namespace

// Columns that the mirror exchanges are paired.
Window face_cells(const Atlas& atlas) {
  const Grid area = atlas.area(kFaceArea);
  Window made = {kAtlasSide, 0, kAtlasSide, 0};
  for (int y = 0; y < kAtlasSide; ++y) {
    for (int x = 0; x < kAtlasSide; ++x) {
      if (!(*area.at(y, x) > kEdge)) continue;
      made.top = std::min(made.top, y);
      made.bottom = std::max(made.bottom, y + 1);
      made.left = std::min(made.left, x);
      made.right = std::max(made.right, x + 1);
    }
  }
  if (made.bottom == 0) return {};
  if (atlas.mirror != 0) {
    const int both = static_cast<int>(std::nearbyint(atlas.mirror * kAtlasSide));
    made.left = std::max({std::min(made.left, both - made.right), both - kAtlasSide, 0});
    made.right = both - made.left;
  }
  return made;
}

float TexturePlan::toned(uint8_t part) {
  return part == kEyesPart ? 0.0F : part == kTonguePart ? 0.2F : part == kMouthPart ? 0.35F : 1.0F;
}

TexturePlan::TexturePlan(const Atlas& atlas, int size) : side(size), step(size / kAtlasSide), mirrors(atlas.mirror > 0) {
  const Grid face = atlas.area(kFaceArea), detail = atlas.area(kDetailArea);
  cells = face_cells(atlas);
  window = {cells.top * step, cells.bottom * step, cells.left * step, cells.right * step};
  base = base_of(atlas, side);
  skin = grown(part_of(detail, cells), step);
  covered = Area(window.height(), window.width());
  const Chosen on_skin(atlas, kSkinPart);
  const Raster drawn = rasterize(on_screen(atlas, side, window), on_skin.corners, window.height(), window.width(), false);
  weights = drawn.weights.values;
  size_t inside = 0;
  for (int y = 0; y < window.height(); ++y) {
    for (int x = 0; x < window.width(); ++x) {
      const int32_t number = *drawn.triangle.at(y, x);
      *covered.at(y, x) = number >= 0 ? 1 : 0;
      inside += number >= 0 ? 1 : 0;
      const size_t triangle = number >= 0 ? on_skin.numbers[static_cast<size_t>(number)] : 0;
      vertices.insert(vertices.end(), atlas.corners + 3 * triangle, atlas.corners + 3 * triangle + 3);
      for (size_t c = 0; c < 3; ++c) {
        log_base.push_back(log_of(std::max(base.at(window.top + y, window.left + x)[c], kDarkestColour)));
      }
    }
  }
  const size_t every = std::max<size_t>(1, inside / kSamples);
  size_t plain = 0;
  for (size_t i = 0; i < covered.cells(); ++i) {
    if (covered[i] != 0 && skin[i] > kPlain && plain++ % every == 0) samples.push_back(i);
  }
  const Chosen on_eyes(atlas, kEyesPart);
  const GridOf<int32_t> of_eyes = rasterize(on_screen(atlas, side, {}), on_eyes.corners, side, side, false).triangle;
  for (size_t i = 0; i < of_eyes.cells(); ++i) {
    if (of_eyes[i] >= 0) eyes.push_back(i);
  }
  Area middle(kAtlasSide, kAtlasSide);
  for (size_t i = 0; i < middle.cells(); ++i) middle[i] = face[i] > 0.5F ? 1 : 0;
  depth = depth_inside(middle);
  for (float& value : depth.values) value /= static_cast<float>(kAtlasSide);
  scalp = at_vertices(atlas, atlas.area(kScalpArea));
  parts = parts_of(atlas);
  grain = grain_of(side);
}

}  // namespace topos
