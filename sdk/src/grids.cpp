#include "grids.h"

#include <cmath>

#include "texture_passes.h"

namespace topos {
namespace {

constexpr int kCoarsest = 4;  // cells along a side, from which `filled` comes back

// What Pillow's bilinear filter makes of `count` values in `step` times as many: the first of each, and the shares of two.
struct Between {
  std::vector<int> first, taken;
  std::vector<double> shares;  // [count * step][3]

  Between(int count, int step) {
    const double scale = 1.0 / step;
    for (int at = 0; at < count * step; ++at) {
      const double middle = (at + 0.5) * scale;
      const int low = std::max(0, static_cast<int>(middle - 1 + 0.5));
      const int number = std::min(count, static_cast<int>(middle + 1 + 0.5)) - low;
      double each[3] = {}, sum = 0;
      for (int k = 0; k < number; ++k) {
        const double away = std::fabs(low + k - middle + 0.5);
        each[k] = away < 1 ? 1 - away : 0;
        sum += each[k];
      }
      first.push_back(low);
      taken.push_back(number);
      for (const double share : each) shares.push_back(sum != 0 ? share / sum : share);
    }
  }

  template <class Get>
  float mix(int at, Get get) const {
    const auto i = static_cast<size_t>(at);
    double sum = 0;
    for (int k = 0; k < taken[i]; ++k) sum += static_cast<double>(get(first[i] + k)) * shares[3 * i + static_cast<size_t>(k)];
    return static_cast<float>(sum);
  }
};

Grid times(const Grid& values, const Grid& weights) {
  Grid made = values;
  for (size_t i = 0; i < values.cells(); ++i) {
    for (size_t c = 0; c < values.depth(); ++c) made[i * values.depth() + c] *= weights[i];
  }
  return made;
}

Grid scaled(Grid values, float by) {
  for (float& value : values.values) value *= by;
  return values;
}

}  // namespace

Grid blurred(const Grid& values, double sigma) {
  const double ideal = std::sqrt(4 * sigma * sigma + 1);
  const int whole = static_cast<int>(ideal), low = whole - (whole % 2 == 0 ? 1 : 0);
  const double many = std::nearbyint((12 * sigma * sigma - 3 * low * low - 12 * low - 9) / (-4 * low - 4));
  std::vector<int64_t> radii;
  for (int number = 0; number < 3; ++number) {
    const int radius = (number < many ? low : low + 2) / 2;
    if (radius > 0) radii.push_back(radius);
  }
  std::vector<double> wide(values.values.begin(), values.values.end());
  box_filter(wide.data(), values.height, values.width, values.channels, radii);
  Grid made(values.height, values.width, values.channels);
  for (size_t i = 0; i < wide.size(); ++i) made[i] = static_cast<float>(wide[i]);
  return made;
}

Grid shrunk(const Grid& values, int step) {
  if (step == 1) return values;
  Grid made(values.height / step, values.width / step, values.channels);
  const size_t row = static_cast<size_t>(values.width) * values.depth();
  const float share = static_cast<float>(1.0 / (step * step));
  std::vector<float> sums(row);
  for (int y = 0; y < made.height; ++y) {
    for (int k = 0; k < step; ++k) {
      const float* from = values.at(y * step + k, 0);
      for (size_t x = 0; x < row; ++x) sums[x] = k == 0 ? from[x] : sums[x] + from[x];
    }
    for (int x = 0; x < made.width; ++x) {
      for (size_t c = 0; c < values.depth(); ++c) {
        const float* first = sums.data() + static_cast<size_t>(x * step) * values.depth() + c;
        float sum = first[0];
        for (int k = 1; k < step; ++k) sum += first[static_cast<size_t>(k) * values.depth()];
        made.at(y, x)[c] = sum * share;
      }
    }
  }
  return made;
}

Grid grown(const Grid& values, int step) {
  if (step == 1) return values;
  const Between across(values.width, step), along(values.height, step);
  Grid wide(values.height, values.width * step, values.channels);
  for (int y = 0; y < wide.height; ++y) {
    for (int x = 0; x < wide.width; ++x) {
      for (size_t c = 0; c < values.depth(); ++c) wide.at(y, x)[c] = across.mix(x, [&](int k) { return values.at(y, k)[c]; });
    }
  }
  Grid made(values.height * step, wide.width, values.channels);
  for (int y = 0; y < made.height; ++y) {
    for (int x = 0; x < made.width; ++x) {
      for (size_t c = 0; c < values.depth(); ++c) made.at(y, x)[c] = along.mix(y, [&](int k) { return wide.at(k, x)[c]; });
    }
  }
  return made;
}

Grid filled(const Grid& values, const Grid& weights) {
  std::vector<Grid> down = {times(values, weights)}, weight = {weights};
  while (down.back().height > kCoarsest) {
    const Grid total = scaled(shrunk(down.back(), 2), 4), sums = scaled(shrunk(weight.back(), 2), 4);
    Grid keep = sums, kept = sums;
    for (size_t i = 0; i < sums.cells(); ++i) {
      keep[i] = std::min(1.0F, 1 / std::max(sums[i], 1e-8F));
      kept[i] = sums[i] * keep[i];
    }
    down.push_back(times(total, keep));
    weight.push_back(std::move(kept));
  }
  Grid out = down.back();
  const size_t depth = out.depth();
  for (size_t i = 0; i < out.values.size(); ++i) out[i] /= std::max(weight.back()[i / depth], 1e-6F);
  for (size_t level = down.size() - 1; level-- > 0;) {
    const Grid& finer = down[level];
    Grid up(finer.height, finer.width, finer.channels);
    for (int y = 0; y < up.height; ++y) {
      for (int x = 0; x < up.width; ++x) std::copy_n(out.at(y / 2, x / 2), depth, up.at(y, x));
    }
    box_filter(up.values.data(), up.height, up.width, up.channels, {1});
    for (size_t i = 0; i < up.values.size(); ++i) {
      up[i] = finer[i] + (1 - std::min(weight[level][i / depth], 1.0F)) * up[i];
    }
    out = std::move(up);
  }
  return out;
}

Area largest_piece(const Area& inside, const Area& seed) {
  Area reached(inside.height, inside.width);
  std::vector<std::pair<int, int>> open;
  const auto reach = [&](int y, int x) {
    if (y < 0 || x < 0 || y >= inside.height || x >= inside.width) return;
    if (*inside.at(y, x) == 0 || *reached.at(y, x) != 0) return;
    *reached.at(y, x) = 1;
    open.emplace_back(y, x);
  };
  for (int y = 0; y < inside.height; ++y) {
    for (int x = 0; x < inside.width; ++x) {
      if (*seed.at(y, x) != 0) reach(y, x);
    }
  }
  while (!open.empty()) {
    const auto [y, x] = open.back();
    open.pop_back();
    reach(y - 1, x);
    reach(y + 1, x);
    reach(y, x - 1);
    reach(y, x + 1);
  }
  return reached;
}

Grid depth_inside(const Area& area) {
  Grid depth(area.height, area.width);
  Area inside = area;
  for (bool any = true; any;) {
    any = false;
    Area next(area.height, area.width);
    for (int y = 0; y < area.height; ++y) {
      for (int x = 0; x < area.width; ++x) {
        if (*inside.at(y, x) == 0) continue;
        any = true;
        *depth.at(y, x) += 1;
        bool surrounded = y > 0 && x > 0 && y + 1 < area.height && x + 1 < area.width;
        for (int k = 0; surrounded && k < 9; ++k) surrounded = *inside.at(y + k / 3 - 1, x + k % 3 - 1) != 0;
        *next.at(y, x) = surrounded ? 1 : 0;
      }
    }
    inside = std::move(next);
  }
  return depth;
}

}  // namespace topos
