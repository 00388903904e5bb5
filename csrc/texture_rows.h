// The texture passes on the CPU, row after row: for Python's extension (native.cpp) and for the C library
// (sdk/src/texture_passes.cpp), whose textures therefore have the same bits.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "texture.h"

// Where the compiler can, a function is built for wider vectors, too, and the processor decides when the module is loaded.
// AVX2 alone brings no fused products, so the bits are the same. Who includes this may define TOPOS_WIDE as nothing.
#if !defined(TOPOS_WIDE) && defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define TOPOS_WIDE __attribute__((target_clones("avx2", "default")))
#elif !defined(TOPOS_WIDE)
#define TOPOS_WIDE
#endif

namespace topos {
namespace {  // who includes this has its own

// What rows of a texture share: where its columns and those of the window lie among their cells.
struct Columns {
  std::vector<Between> whole, window;

  explicit Columns(const FinishTexture& args) {
    for (int x = 0; x < args.side; ++x) whole.push_back(between(x, args.step, args.side / args.step));
    for (int x = 0; x < args.width; ++x) window.push_back(between(x, args.step, args.width / args.step));
  }
};

// Cells [count] between two rows of them.
TOPOS_WIDE void between_rows(const float* cells, Between at, int count, float* out) {
  const float *upper = cells + static_cast<int64_t>(at.low) * count, *lower = cells + static_cast<int64_t>(at.high) * count;
  for (int k = 0; k < count; ++k) out[k] = upper[k] + (lower[k] - upper[k]) * at.share;
}

// What take_photograph does, for a row at once; whole: [3 * width] log colours, which it changes.
TOPOS_WIDE void photograph_row(const FinishTexture& args, const Columns& columns, int row, float* whole) {
  const int width = args.width, count = 5 * (width / args.step);
  std::vector<float> cells(static_cast<size_t>(count)), own(static_cast<size_t>(width) * 5);  // colour, weight, face
  between_rows(args.window_cells, between(row, args.step, args.height / args.step), count, cells.data());
  const int64_t first = static_cast<int64_t>(row) * width;
  for (int x = 0; x < width; ++x) {
    const Between place = columns.window[x];
    const float *left = &cells[5 * place.low], *right = &cells[5 * place.high], *texel = args.texels + 4 * (first + x);
    float cell[5];  // feather, face, unevenness
    for (int c = 0; c < 5; ++c) cell[c] = left[c] + (right[c] - left[c]) * place.share;
    const float colour[3] = {texel[0] - cell[2], texel[1] - cell[3], texel[2] - cell[4]};
    const float mean = (colour[0] + colour[1] + colour[2]) / 3.0f;
    const float over = (mean > kBright ? mean - kBright : 0.0f) * kDulled * args.skin[first + x];
    for (int c = 0; c < 3; ++c) own[5 * x + c] = colour[c] + (args.tone[c] - over);
    own[5 * x + 3] = clamped(kWeightGain * texel[3], 0.0f, 1.0f) * cell[0];
    own[5 * x + 4] = cell[1];
  }
  for (int x = 0; x < width; ++x) {
    const float *mine = &own[5 * x], *other = &own[5 * (width - 1 - x)];
    const float weight = mine[3];
    if (args.mirror) {
      const float share = other[3] * (1.0f - clamped(2.0f * weight, 0.0f, 1.0f)) * mine[4];
      for (int c = 0; c < 3; ++c) whole[3 * x + c] += (other[c] - whole[3 * x + c]) * share;
    }
    for (int c = 0; c < 3; ++c) whole[3 * x + c] += (mine[c] - whole[3 * x + c]) * weight;
  }
}

// What make_texel does for FinishTexture, for a row at once, in loops that compilers vectorise.
TOPOS_WIDE void finish_row(const FinishTexture& args, const Columns& columns, int y) {
  const int side = args.side, count = 4 * (side / args.step);
  const int64_t first = static_cast<int64_t>(y) * side;
  std::vector<float> cells(static_cast<size_t>(count)), whole(static_cast<size_t>(side) * 3);
  std::vector<float> hair(whole.size()), cover(whole.size());
  std::vector<int> steps(whole.size());
  between_rows(args.cells, between(y, args.step, side / args.step), count, cells.data());
  for (int x = 0; x < side; ++x) {
    const Between place = columns.whole[x];
    const float *left = &cells[4 * place.low], *right = &cells[4 * place.high], grain = args.grain[first + x];
    const float covered = cover_of(left[3] + (right[3] - left[3]) * place.share, grain);
    for (int c = 0; c < 3; ++c) {
      whole[3 * x + c] = left[c] + (right[c] - left[c]) * place.share;
      hair[3 * x + c] = args.hair[c] * grain;
      cover[3 * x + c] = covered;
    }
  }
  const int row = y - args.top;
  if (row >= 0 && row < args.height) photograph_row(args, columns, row, &whole[3 * static_cast<size_t>(args.left)]);
  const float* base = args.base + 3 * first;
  for (int k = 0; k < 3 * side; ++k) {
    const float skin = base[k] * exp_bounded(clamped(whole[k], -kBound, kBound));
    steps[k] = srgb_step(skin + (hair[k] - skin) * cover[k]);
  }
  for (int k = 0; k < 3 * side; ++k) args.out[3 * first + k] = args.srgb[steps[k]];
}

// Replaces values [outer,count,inner] by their means over 2 * radius + 1 neighbours along the middle axis; beyond the rim
// lies what lies on it. Differences of running sums, in the order of NumPy's cumsum: the bits are those of the twin.
template <class T>
TOPOS_WIDE void box_rows(T* values, int64_t outer, int64_t count, int64_t inner, int64_t radius) {
  const int64_t width = 2 * radius + 1;
  std::vector<T> sums(static_cast<size_t>((count + width) * inner));
  for (int64_t row = 0; row < outer; ++row, values += count * inner) {
    for (int64_t k = 0; k < inner; ++k) sums[k] = values[k];
    for (int64_t i = 1; i < count + width; ++i) {
      const T* source = values + std::clamp<int64_t>(i - radius - 1, 0, count - 1) * inner;
      const T* before = &sums[(i - 1) * inner];
      T* sum = &sums[i * inner];
      for (int64_t k = 0; k < inner; ++k) sum[k] = before[k] + source[k];
    }
    const T *low = sums.data(), *high = sums.data() + width * inner;
    for (int64_t k = 0; k < count * inner; ++k) values[k] = (high[k] - low[k]) / static_cast<T>(width);
  }
}

template <class T>
void box_means(T* values, int64_t height, int64_t width, int64_t channels, const std::vector<int64_t>& radii) {
  for (const int64_t radius : radii) {
    box_rows(values, 1, height, width * channels, radius);
    box_rows(values, height, width, channels, radius);
  }
}

}  // namespace
}  // namespace topos
