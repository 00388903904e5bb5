#include "texture_look.h"

#include <cmath>

#include "raster.h"

namespace topos {
namespace {

constexpr int kMapSide = 256;     // pixels of the depth map
constexpr double kBias = 0.012;   // of the head's size: nearer surfaces hide what lies behind them by more
constexpr double kGrazing = 0.15, kFull = 0.70;  // cosines from which on a surface counts, and counts fully
constexpr int kRounds = 2;        // of smoothing over the mesh
constexpr double kFarthest = 0.25;  // of the outer-eye distance, that a landmark may be away from where the camera shows it
constexpr size_t kOuterEyes[] = {33, 263};

using Place = std::array<double, 2>;

// Half precision as a double.
double wide(uint16_t half) {
  const int exponent = half >> 10U & 31U, rest = half & 1023U;
  const double size = exponent == 0 ? std::ldexp(rest, -24) : std::ldexp(rest + 1024, exponent - 25);
  return (half & 0x8000U) != 0 ? -size : size;
}

// Which vertices nothing hides, by a depth map. depth: from the camera.
std::vector<bool> unhidden(const std::vector<Place>& places, const std::vector<double>& depth, const Atlas& atlas) {
  double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY}, near = INFINITY, far = -INFINITY;
  for (size_t i = 0; i < places.size(); ++i) {
    for (size_t k = 0; k < 2; ++k) {
      low[k] = std::min(low[k], places[i][k]);
      high[k] = std::max(high[k], places[i][k]);
    }
    near = std::min(near, depth[i]);
    far = std::max(far, depth[i]);
  }
  const double scale = (kMapSide - 4) / std::max(high[0] - low[0], high[1] - low[1]);
  std::vector<Vec3> screen;
  for (size_t i = 0; i < places.size(); ++i) {
    screen.push_back({(places[i][0] - low[0]) * scale + 2, (places[i][1] - low[1]) * scale + 2, depth[i]});
  }
  const std::vector<int32_t> corners(atlas.corners, atlas.corners + 3 * atlas.triangles);
  const Raster drawn = rasterize(screen, corners, kMapSide, kMapSide, true);
  GridOf<double> nearest(kMapSide, kMapSide, 1, INFINITY);
  for (size_t i = 0; i < nearest.cells(); ++i) {
    if (drawn.triangle[i] < 0) continue;
    double sum = 0;
    for (size_t k = 0; k < 3; ++k) {
      sum += depth[static_cast<size_t>(corners[3 * static_cast<size_t>(drawn.triangle[i]) + k])] *
             static_cast<double>(drawn.weights[3 * i + k]);
    }
    nearest[i] = sum;
  }
  std::vector<bool> seen;
  for (size_t i = 0; i < places.size(); ++i) {
    const int x = static_cast<int>(bounded(screen[i][0], 0.0, kMapSide - 1.0));
    const int y = static_cast<int>(bounded(screen[i][1], 0.0, kMapSide - 1.0));
    double around = -INFINITY;
    for (int row = std::max(y - 1, 0); row <= std::min(y + 1, kMapSide - 1); ++row) {
      for (int column = std::max(x - 1, 0); column <= std::min(x + 1, kMapSide - 1); ++column) {
        around = std::max(around, *nearest.at(row, column));
      }
    }
    seen.push_back(depth[i] <= around + kBias * (far - near));
  }
  return seen;
}

// Less where neighbours are hidden.
void erode(std::vector<double>& facing, const Atlas& atlas) {
  std::vector<std::vector<int32_t>> neighbours(facing.size());
  for (size_t i = 0; i < atlas.sides; ++i) {
    const int32_t a = atlas.ends[2 * i], b = atlas.ends[2 * i + 1];
    neighbours[static_cast<size_t>(a)].push_back(b);
    neighbours[static_cast<size_t>(b)].push_back(a);
  }
  for (std::vector<int32_t>& each : neighbours) std::sort(each.begin(), each.end());
  for (int round = 0; round < kRounds; ++round) {
    const std::vector<double> before = facing;
    for (size_t i = 0; i < facing.size(); ++i) {
      double sum = 0;
      for (const int32_t other : neighbours[i]) sum += before[static_cast<size_t>(other)];
      const double mean = sum / static_cast<double>(std::max<size_t>(neighbours[i].size(), 1));
      facing[i] = 0.5 * before[i] + 0.5 * std::min(before[i], mean);
    }
  }
}

// How far each landmark is from where the camera shows it, within bounds.
std::vector<Place> shifts_of(const Sitter& sitter) {
  const LandmarkMap& map = sitter.landmark_map;
  const auto found = [&](size_t i, size_t k) { return static_cast<double>(sitter.landmarks[3 * i + k]); };
  const double across = found(kOuterEyes[0], 0) - found(kOuterEyes[1], 0);
  const double down = found(kOuterEyes[0], 1) - found(kOuterEyes[1], 1);
  const double most = kFarthest * std::max(std::sqrt(across * across + down * down), 1.0);
  std::vector<Place> shifts;
  for (size_t i = 0; i < kSkinLandmarks; ++i) {
    Vec3 point = {};
    for (size_t k = 0; k < 3; ++k) {
      point += vec(sitter.positions + 3 * map.vertices[3 * i + k]) * static_cast<double>(map.weights[3 * i + k]);
    }
    const Place shown = sitter.camera.project(point);
    const double x = found(i, 0) - shown[0], y = found(i, 1) - shown[1];
    const double times = std::min(1.0, most / std::max(std::sqrt(x * x + y * y), 1e-9));
    shifts.push_back({x * times, y * times});
  }
  return shifts;
}

}  // namespace

HeadSeen look(const Sitter& sitter, const Atlas& atlas) {
  const HeadCamera& camera = sitter.camera;
  HeadSeen seen;
  std::vector<Place> places;
  std::vector<double> depth, facing;
  for (size_t i = 0; i < atlas.vertices; ++i) {
    const Vec3 point = vec(sitter.positions + 3 * i), turned = camera.turn * point + camera.shift;
    places.push_back(camera.project(point));
    depth.push_back(-turned[2]);
    const Vec3 normal = camera.turn * vec(sitter.normals + 3 * i);
    double cosine = 0;
    for (size_t k = 0; k < 3; ++k) {
      seen.normals.push_back(static_cast<float>(normal[k]));
      cosine += static_cast<double>(seen.normals.back()) * (-turned[k] / length(turned));
    }
    facing.push_back(std::pow(unit((cosine - kGrazing) / (kFull - kGrazing)), 1.5));
  }
  const std::vector<Place> shifts = shifts_of(sitter);
  for (size_t row = 0; row < atlas.warp_rows; ++row) {
    Place sum = {};
    for (size_t k = 0; k < atlas.warp_columns; ++k) {
      const double share = wide(atlas.warp[row * atlas.warp_columns + k]);
      const Place& shift = shifts[static_cast<size_t>(atlas.warp_landmarks[k])];
      for (size_t c = 0; c < 2; ++c) sum[c] += share * shift[c];
    }
    Place& place = places[static_cast<size_t>(atlas.warp_vertices[row])];
    for (size_t c = 0; c < 2; ++c) place[c] += sum[c];
  }
  const std::vector<bool> free = unhidden(places, depth, atlas);
  for (size_t i = 0; i < facing.size(); ++i) facing[i] *= free[i] ? 1 : 0;
  erode(facing, atlas);
  for (size_t i = 0; i < facing.size(); ++i) {
    seen.places.push_back(static_cast<float>(places[i][0]));
    seen.places.push_back(static_cast<float>(places[i][1]));
    seen.facing.push_back(static_cast<float>(facing[i]));
  }
  return seen;
}

}  // namespace topos
