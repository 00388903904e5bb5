#include "resample.h"

#include <algorithm>
#include <cmath>

namespace topos {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int kBits = 22;  // of a weight below the unit

double sinc(double x) { return x == 0.0 ? 1.0 : std::sin(x * kPi) / (x * kPi); }

double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double bilinear(double x) { return std::fabs(x) < 1.0 ? 1.0 - std::fabs(x) : 0.0; }

double hamming(double x) {
  x = std::fabs(x);
  if (x == 0.0) return 1.0;
  if (x >= 1.0) return 0.0;
  // Pillow's two constants are of single precision.
  return std::sin(x * kPi) / (x * kPi) * (0.54F + 0.46F * std::cos(x * kPi));
}

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

double lanczos(double x) { return -3.0 <= x && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

struct Kernel {
  double (*value)(double);
  double support;
};

constexpr Kernel kKernels[] = {{box, 0.5}, {bilinear, 1}, {hamming, 1}, {bicubic, 2}, {lanczos, 3}};

// The weights of each result along one axis: of `counts[i]` sources from `first[i]` on, `room` of them kept for each.
struct Weights {
  int room;
  std::vector<int> first, counts;
  std::vector<int32_t> values;

  Weights(int from, int to, Filter filter);
  const int32_t* of(int i) const { return values.data() + static_cast<size_t>(i) * static_cast<size_t>(room); }
};

Weights::Weights(int from, int to, Filter filter) {
  const Kernel kernel = kKernels[static_cast<int>(filter)];
  const double scale = static_cast<double>(from) / to, stretch = std::max(scale, 1.0), narrow = 1.0 / stretch;
  const double support = kernel.support * stretch;
  room = static_cast<int>(std::ceil(support)) * 2 + 1;
  values.resize(static_cast<size_t>(to) * static_cast<size_t>(room));
  std::vector<double> exact(static_cast<size_t>(room));
  for (int i = 0; i < to; ++i) {
    const double centre = (i + 0.5) * scale;
    const int low = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int count = std::min(static_cast<int>(centre + support + 0.5), from) - low;
    double total = 0;
    for (int k = 0; k < count; ++k) {
      exact[static_cast<size_t>(k)] = kernel.value((k + low - centre + 0.5) * narrow);
      total += exact[static_cast<size_t>(k)];
    }
    for (int k = 0; k < count; ++k) {
      double weight = exact[static_cast<size_t>(k)];
      if (total != 0.0) weight /= total;
      weight *= 1 << kBits;
      values[static_cast<size_t>(i) * static_cast<size_t>(room) + static_cast<size_t>(k)] =
          static_cast<int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    first.push_back(low);
    counts.push_back(count);
  }
}

uint8_t rounded(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kBits, 0, 255)); }

// One result: the weighted sums of `count` neighbours of kDepth bytes each, `step` bytes apart.
template <size_t kDepth>
void weighted(const uint8_t* from, size_t step, const int32_t* weights, int count, uint8_t* to) {
  int32_t sums[kDepth];
  std::fill(sums, sums + kDepth, 1 << (kBits - 1));
  for (int k = 0; k < count; ++k, from += step) {
    for (size_t c = 0; c < kDepth; ++c) sums[c] += from[c] * weights[k];
  }
  std::transform(sums, sums + kDepth, to, rounded);
}

// Rows `top` to `bottom` of a picture with another width.
Picture across(const Picture& picture, int width, Filter filter, int top, int bottom) {
  const Weights weights(picture.width, width, filter);
  Picture made(width, bottom - top, picture.channels);
  for (int y = 0; y < made.height; ++y) {
    for (int x = 0; x < width; ++x) {
      const auto i = static_cast<size_t>(x);
      const auto of_pixel = picture.channels == 3 ? weighted<3> : weighted<4>;
      of_pixel(picture.at(weights.first[i], top + y), picture.depth(), weights.of(x), weights.counts[i], made.at(x, y));
    }
  }
  return made;
}

// A picture with another height; `top` is the row of the original that its first one is.
Picture along(const Picture& picture, const Weights& weights, int height, int top) {
  Picture made(picture.width, height, picture.channels);
  const size_t row = static_cast<size_t>(picture.width) * picture.depth();
  for (int y = 0; y < height; ++y) {
    const auto i = static_cast<size_t>(y);
    const uint8_t* from = picture.at(0, weights.first[i] - top);
    uint8_t* to = made.at(0, y);
    for (size_t x = 0; x < row; ++x) weighted<1>(from + x, row, weights.of(y), weights.counts[i], to + x);
  }
  return made;
}

Picture resized_bands(const Picture& picture, int width, int height, Filter filter) {
  const Weights weights(picture.height, height, filter);
  if (width == picture.width) return along(picture, weights, height, 0);
  if (height == picture.height) return across(picture, width, filter, 0, height);
  // Pillow 13 begins with the height where that shrinks by more than twice as much; since 8 bits lie between the two
  // passes, their order shows.
  const int64_t shorter = picture.height - height, narrower = picture.width - width;
  if (shorter > 0 && shorter > 2 * narrower) {
    return across(along(picture, weights, height, 0), width, filter, 0, height);
  }
  const int top = weights.first.front(), bottom = weights.first.back() + weights.counts.back();
  return along(across(picture, width, filter, top, bottom), weights, height, top);
}

uint8_t times(uint8_t value, uint8_t alpha) {
  const uint32_t product = static_cast<uint32_t>(value) * alpha + 128;
  return static_cast<uint8_t>(((product >> 8U) + product) >> 8U);
}

uint8_t over(uint8_t value, uint8_t alpha) {
  if (alpha == 0 || alpha == 255) return value;
  return static_cast<uint8_t>(std::min(255 * value / alpha, 255));
}

Picture with_alpha(Picture picture, uint8_t (*apply)(uint8_t, uint8_t)) {
  for (size_t i = 0; i < picture.bytes(); i += 4) {
    uint8_t* pixel = picture.pixels.data() + i;
    for (int c = 0; c < 3; ++c) pixel[c] = apply(pixel[c], pixel[3]);
  }
  return picture;
}

// What a sum of `count` bytes is multiplied by, so that its upper 8 bits of 32 are their mean. Pillow divides in
// single precision.
uint32_t share(int count) {
  return static_cast<uint32_t>(4294967296.0F / static_cast<float>(256U * static_cast<uint32_t>(count)));
}

}  // namespace

Picture resized(const Picture& picture, int width, int height, Filter filter) {
  if (width == picture.width && height == picture.height) return picture;
  if (picture.channels == 3) return resized_bands(picture, width, height, filter);
  return with_alpha(resized_bands(with_alpha(picture, times), width, height, filter), over);
}

Picture reduced(const Picture& picture, int factor, const Box& box) {
  Picture made((box.width() + factor - 1) / factor, (box.height() + factor - 1) / factor, picture.channels);
  for (int y = 0; y < made.height; ++y) {
    const int top = box.top + y * factor, bottom = std::min(top + factor, box.bottom);
    for (int x = 0; x < made.width; ++x) {
      const int left = box.left + x * factor, right = std::min(left + factor, box.right);
      const int count = (right - left) * (bottom - top);
      for (int c = 0; c < picture.channels; ++c) {
        uint32_t sum = static_cast<uint32_t>(count / 2);
        for (int row = top; row < bottom; ++row) {
          const uint8_t* from = picture.at(left, row) + c;
          for (int k = left; k < right; ++k, from += picture.channels) sum += *from;
        }
        made.at(x, y)[c] = static_cast<uint8_t>(sum * share(count) >> 24U);
      }
    }
  }
  return made;
}

}  // namespace topos
