#include "warp.h"

#include <algorithm>
#include <cmath>

#include "resample.h"

namespace topos {
namespace {

constexpr int kMargin = 2;  // pixels around a region, so that the filter at its rim sees its neighbours

int rounded_down(double value) { return static_cast<int>(std::floor(value)); }

int inside(int at, int length) { return std::clamp(at, 0, length - 1); }

// Pillow's bilinear filter at one point: black beyond the picture, and its edge within half a pixel of it.
void sample(const Picture& picture, double x, double y, uint8_t* out) {
  if (x < 0.0 || x >= picture.width || y < 0.0 || y >= picture.height) {
    std::fill(out, out + picture.channels, uint8_t{0});
    return;
  }
  x -= 0.5;
  y -= 0.5;
  const int left = rounded_down(x), top = rounded_down(y);
  const double across = x - left, down = y - top;
  const int x0 = inside(left, picture.width), x1 = inside(left + 1, picture.width);
  const int y0 = inside(top, picture.height);
  const bool has_next = top + 1 >= 0 && top + 1 < picture.height;
  for (int c = 0; c < picture.channels; ++c) {
    const auto between = [&](int row) {
      const int a = picture.at(x0, row)[c], b = picture.at(x1, row)[c];
      return a + (b - a) * across;
    };
    const double upper = between(y0), lower = has_next ? between(top + 1) : upper;
    out[c] = static_cast<uint8_t>(upper + (lower - upper) * down);
  }
}

Picture transformed(const Picture& picture, int size, const std::array<double, 6>& map) {
  Picture made(size, size, picture.channels);
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      const double u = x + 0.5, v = y + 0.5;
      sample(picture, map[0] * u + map[1] * v + map[2], map[3] * u + map[4] * v + map[5], made.at(x, y));
    }
  }
  return made;
}

// The picture with its edges repeated.
Picture padded(const Picture& picture, const Box& by) {
  Picture made(picture.width + by.left + by.right, picture.height + by.top + by.bottom, picture.channels);
  for (int y = 0; y < made.height; ++y) {
    for (int x = 0; x < made.width; ++x) {
      const uint8_t* from = picture.at(inside(x - by.left, picture.width), inside(y - by.top, picture.height));
      std::copy(from, from + picture.channels, made.at(x, y));
    }
  }
  return made;
}

// What a square needs of a picture along one axis.
struct Reach {
  double from, to;  // whole pixels, which may lie beyond the picture
  int low, high;

  Reach(const std::array<double, 8>& corners, size_t axis, int length) {
    double least = corners[axis], most = corners[axis];
    for (size_t k = axis; k < 8; k += 2) {
      least = std::min(least, corners[k]);
      most = std::max(most, corners[k]);
    }
    from = std::floor(least) - kMargin;
    to = std::ceil(most) + kMargin;
    low = static_cast<int>(std::clamp(from, 0.0, static_cast<double>(length)));
    high = static_cast<int>(std::clamp(to, 0.0, static_cast<double>(length)));
  }

  int before(int shrink) const { return static_cast<int>(std::ceil((low - from) / shrink)); }
  int after(int shrink) const { return static_cast<int>(std::ceil((to - high) / shrink)); }
};

}  // namespace

std::array<double, 6> Square::matrix(int size) const {
  const double zoom = side / size, c = std::cos(angle) * zoom, s = std::sin(angle) * zoom;
  const double half = size / 2.0;
  // One product of the two is fused, as in the BLAS that NumPy calls, on every processor with AVX2 or NEON.
  return {c, -s, x - std::fma(c, half, -s * half), s, c, y - std::fma(s, half, c * half)};
}

std::array<double, 8> Square::corners() const {
  const std::array<double, 6> m = matrix(1);
  return {m[2], m[5], m[0] + m[2], m[3] + m[5], m[0] + m[1] + m[2], m[3] + m[4] + m[5], m[1] + m[2], m[4] + m[5]};
}

Picture cut(const Picture& picture, const Square& square, int size, bool filtered) {
  const int dense = filtered ? 2 * size : size;
  std::array<double, 6> map = square.matrix(dense);
  const std::array<double, 8> corners = square.corners();
  const Reach x(corners, 0, picture.width), y(corners, 1, picture.height);
  const int shrink = std::max(1, static_cast<int>(square.side / dense));
  if (x.high - x.low < 1 || y.high - y.low < 1) return Picture(size, size, picture.channels);
  const Box box = {x.low, y.low, x.high, y.high};
  Picture part = shrink > 1 ? reduced(picture, shrink, box) : cropped(picture, box);
  map[2] -= x.low;
  map[5] -= y.low;
  for (double& value : map) value /= shrink;
  if (filtered) {
    const Box by = {x.before(shrink), y.before(shrink), x.after(shrink), y.after(shrink)};
    if (std::max({by.left, by.top, by.right, by.bottom}) > 0) {
      part = padded(part, by);
      map[2] += by.left;
      map[5] += by.top;
    }
  }
  const Picture made = transformed(part, dense, map);
  return filtered ? reduced(made, 2, {0, 0, dense, dense}) : made;
}

std::vector<float> to_floats(const Picture& picture) {
  std::vector<float> made(picture.bytes());
  std::transform(picture.pixels.begin(), picture.pixels.end(), made.begin(),
                 [](uint8_t value) { return static_cast<float>(value) / 255.0F; });
  return made;
}

}  // namespace topos
