#include "raster.h"

#include <cmath>
#include <cstring>

namespace topos {
namespace {

constexpr int64_t kEmpty = INT64_MAX;

struct Corners {
  double x[3], y[3], z[3], area;
};

constexpr int kSides[3][2] = {{0, 1}, {1, 2}, {2, 0}};

// Draws a triangle into the pixels' keys: the bits of its depth above its number, of which the lowest stays.
void draw(const Corners& t, int64_t number, int height, int width, std::vector<int64_t>& keys) {
  const double slope_x = ((t.z[1] - t.z[0]) * (t.y[2] - t.y[0]) - (t.z[2] - t.z[0]) * (t.y[1] - t.y[0])) / t.area;
  const double slope_y = ((t.z[2] - t.z[0]) * (t.x[1] - t.x[0]) - (t.z[1] - t.z[0]) * (t.x[2] - t.x[0])) / t.area;
  const double at_origin = t.z[0] - slope_x * t.x[0] - slope_y * t.y[0];
  const double lowest = std::min({t.y[0], t.y[1], t.y[2]}), highest = std::max({t.y[0], t.y[1], t.y[2]});
  const double top = std::max(std::ceil(lowest - 0.5), 0.0), bottom = std::min(std::floor(highest - 0.5), height - 1.0);
  if (!(top <= bottom)) return;
  for (int row = static_cast<int>(top); row <= static_cast<int>(bottom); ++row) {
    double left = -1, right = width + 1.0;
    for (const auto& [i, j] : kSides) {
      // Measured from the upper end, so that both triangles at an edge find the same crossing.
      if (t.y[i] == t.y[j]) continue;
      const bool down = t.y[i] < t.y[j];
      const double run = (down ? t.x[j] - t.x[i] : t.x[i] - t.x[j]) / std::fabs(t.y[j] - t.y[i]);
      const double cross = (down ? t.x[i] : t.x[j]) + (row + 0.5 - (down ? t.y[i] : t.y[j])) * run;
      if (down == (t.area < 0)) {
        left = std::max(left, cross);
      } else {
        right = std::min(right, cross);
      }
    }
    const double first = std::max(std::ceil(left - 0.5), 0.0), last = std::min(std::floor(right - 0.5), width - 1.0);
    if (!(first <= last)) continue;
    const double depth = at_origin + slope_x * (first + 0.5) + slope_y * (row + 0.5);
    int64_t* key = keys.data() + static_cast<size_t>(row) * static_cast<size_t>(width) + static_cast<size_t>(first);
    const int count = static_cast<int>(last - first) + 1;
    for (int step = 0; step < count; ++step, ++key) {
      const float z = static_cast<float>(std::max(depth + slope_x * step, 1e-30));
      int32_t bits;  // those of a positive float sort like the number itself
      std::memcpy(&bits, &z, sizeof bits);
      *key = std::min(*key, static_cast<int64_t>(bits) * (int64_t{1} << 32) + number);
    }
  }
}

// Weights that sum to one at the middle of a pixel.
void weigh(const Corners& t, int row, int column, float* out) {
  const double across = column + 0.5, down = row + 0.5;
  for (int number = 1; number < 3; ++number) {
    // Zero on the side from corner i to corner j, one at the third corner.
    const auto& [i, j] = kSides[number == 1 ? 2 : 0];
    const double per_x = (t.y[i] - t.y[j]) / t.area, per_y = (t.x[j] - t.x[i]) / t.area;
    const double constant = -per_x * t.x[i] - per_y * t.y[i];
    out[number] = unit(static_cast<float>(per_x * across + per_y * down + constant));
  }
  out[0] = std::max(1 - out[1] - out[2], 0.0F);
}

}  // namespace

Raster rasterize(const std::vector<Vec3>& screen, const std::vector<int32_t>& triangles, int height, int width, bool cull) {
  const auto corners = [&](size_t triangle) {
    Corners t;
    for (size_t k = 0; k < 3; ++k) {
      const Vec3& at = screen[static_cast<size_t>(triangles[3 * triangle + k])];
      t.x[k] = at[0];
      t.y[k] = at[1];
      t.z[k] = at[2];
    }
    t.area = (t.x[1] - t.x[0]) * (t.y[2] - t.y[0]) - (t.y[1] - t.y[0]) * (t.x[2] - t.x[0]);
    return t;
  };
  Raster made = {GridOf<int32_t>(height, width, 1, -1), Grid(height, width, 3)};
  std::vector<int64_t> keys(made.triangle.cells(), kEmpty);
  for (size_t number = 0; number < triangles.size() / 3; ++number) {
    const Corners t = corners(number);
    const bool drawn = cull ? t.area < 0 : t.area != 0;  // y points down
    if (drawn && std::min({t.z[0], t.z[1], t.z[2]}) > 0) draw(t, static_cast<int64_t>(number), height, width, keys);
  }
  for (int row = 0; row < height; ++row) {
    for (int column = 0; column < width; ++column) {
      const int64_t key = keys[made.triangle.index(row, column)];
      if (key == kEmpty) continue;
      const auto number = static_cast<int32_t>(key & 0xFFFFFFFF);
      *made.triangle.at(row, column) = number;
      weigh(corners(static_cast<size_t>(number)), row, column, made.weights.at(row, column));
    }
  }
  return made;
}

}  // namespace topos
