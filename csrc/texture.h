// What one texel of a textured head takes: shared by the CUDA kernels (project_texture.cu, finish_texture.cu) and by
// the pass on the CPU (native.cpp). topos_rt/gpu/texture_reference.py has the same in NumPy.
#pragma once

#include <cmath>

#include "kernels.h"
#include "portable.h"

namespace topos {

inline constexpr float kDarkest = 1e-3f;       // linear colour: logarithms are taken of no less
inline constexpr float kLeastFacing = 0.01f;   // texels with less are not sampled
inline constexpr float kLowestLight = -1.3f, kHighestLight = 0.9f, kLightChroma = 0.6f;
inline constexpr float kWeightGain = 1.6f;     // of a texel's weight where the photograph is blended in
inline constexpr float kBright = 0.16f, kDulled = 0.7f;  // skin that is brighter shines: this share is taken away
inline constexpr float kBound = 2.5f;          // of log colours over the base
inline constexpr float kRagged = 3.0f;         // how much thin hair follows the grain
inline constexpr int kSrgbSteps = 4096;

TOPOS_HD float clamped(float value, float low, float high) {
  return value < low ? low : (value > high ? high : value);
}

TOPOS_HD void make_texel(const ProjectTexture& args, int64_t i) {
  float at[6] = {0, 0, 0, 0, 0, 0};
  for (int k = 0; k < 3; ++k) {
    const float* row = args.attributes + static_cast<int64_t>(args.vertices[3 * i + k]) * 6;
    const float weight = args.weights[3 * i + k];
    for (int c = 0; c < 6; ++c) at[c] += row[c] * weight;
  }
  float* out = args.out + 4 * i;
  out[0] = out[1] = out[2] = out[3] = 0.0f;
  const float x = at[0] - 0.5f, y = at[1] - 0.5f;
  const int wide = args.width, high = args.height;
  if (!(x >= 0 && y >= 0 && x <= static_cast<float>(wide - 1) && y <= static_cast<float>(high - 1))) return;
  if (!(at[2] > kLeastFacing)) return;
  const int left = static_cast<int>(x) < wide - 2 ? static_cast<int>(x) : wide - 2;
  const int top = static_cast<int>(y) < high - 2 ? static_cast<int>(y) : high - 2;
  const float u = x - static_cast<float>(left), v = y - static_cast<float>(top);
  const float* first = args.picture + (static_cast<int64_t>(top) * wide + left) * 3;
  const float* second = first + static_cast<int64_t>(wide) * 3;
  const float length = at[3] * at[3] + at[4] * at[4] + at[5] * at[5];
  const float scale = 1.0f / std::sqrt(length > 1e-12f ? length : 1e-12f);
  const float nx = at[3] * scale, ny = at[4] * scale, nz = at[5] * scale;
  const float terms[9] = {1.0f, nx, ny, nz, nx * ny, nx * nz, ny * nz, nx * nx - ny * ny, 3.0f * nz * nz - 1.0f};
  float shade[3] = {0, 0, 0};
  for (int k = 0; k < 9; ++k) {
    for (int c = 0; c < 3; ++c) shade[c] += terms[k] * args.light[3 * k + c];
  }
  const float mean = (shade[0] + shade[1] + shade[2]) / 3.0f;
  for (int c = 0; c < 3; ++c) {
    const float upper = first[c] * (1 - u) + first[3 + c] * u, lower = second[c] * (1 - u) + second[3 + c] * u;
    const float colour = upper * (1 - v) + lower * v;
    const float light = clamped(mean + kLightChroma * (shade[c] - mean), kLowestLight, kHighestLight);
    out[c] = std::log(colour > kDarkest ? colour : kDarkest) - light - args.base[3 * i + c];
  }
  out[3] = at[2];
}

// e^x for |x| <= kBound, 2e-6 of it off: (the series of e^(x/4))^4. It is the same everywhere, and compilers vectorise it.
TOPOS_HD float exp_bounded(float x) {
  const float y = 0.25f * x;
  const float series =
      1.0f + y * (1.0f + y * (0.5f + y * (1.0f / 6 + y * (1.0f / 24 + y * (1.0f / 120 + y * (1.0f / 720 + y / 5040))))));
  const float square = series * series;
  return square * square;
}

// Bilinear places in a grid of cells, `step` texels each.
struct Between {
  int low, high;
  float share;
};

TOPOS_HD Between between(int texel, int step, int count) {
  const float place = (static_cast<float>(texel) + 0.5f) / static_cast<float>(step) - 0.5f;
  const float inside = clamped(place, 0.0f, static_cast<float>(count - 1));
  const int low = static_cast<int>(inside);
  return {low, low + 1 < count ? low + 1 : count - 1, inside - static_cast<float>(low)};
}

template <int Channels>
TOPOS_HD void at_cell(const float* cells, int columns, Between row, Between column, float* out) {
  const float* a = cells + (static_cast<int64_t>(row.low) * columns + column.low) * Channels;
  const float* b = cells + (static_cast<int64_t>(row.low) * columns + column.high) * Channels;
  const float* c = cells + (static_cast<int64_t>(row.high) * columns + column.low) * Channels;
  const float* d = cells + (static_cast<int64_t>(row.high) * columns + column.high) * Channels;
  for (int k = 0; k < Channels; ++k) {
    const float upper = a[k] + (b[k] - a[k]) * column.share, lower = c[k] + (d[k] - c[k]) * column.share;
    out[k] = upper + (lower - upper) * row.share;
  }
}

// What the photograph gives at a texel of the window: log colours over the base, and the weight, 0 to 1.
TOPOS_HD float given(const FinishTexture& args, int y, int x, float* colour, float* face) {
  const int columns = args.width / args.step;
  float cell[5];  // feather, face, unevenness
  at_cell<5>(args.window_cells, columns, between(y, args.step, args.height / args.step),
             between(x, args.step, columns), cell);
  const int64_t i = static_cast<int64_t>(y) * args.width + x;
  const float* texel = args.texels + 4 * i;
  const float skin = args.skin[i];
  float mean = 0.0f;
  for (int c = 0; c < 3; ++c) {
    colour[c] = texel[c] - cell[2 + c];
    mean += colour[c];
  }
  mean /= 3.0f;
  const float over = (mean > kBright ? mean - kBright : 0.0f) * kDulled * skin;
  for (int c = 0; c < 3; ++c) colour[c] += args.tone[c] - over;
  *face = cell[1];
  return clamped(kWeightGain * texel[3], 0.0f, 1.0f) * cell[0];
}

// What the photograph makes of the log colours of a texel at (row, column) of the window.
TOPOS_HD void take_photograph(const FinishTexture& args, int row, int column, float* whole) {
  float own[3], other[3], face, unused;
  const float weight = given(args, row, column, own, &face);
  if (args.mirror && weight < 0.5f) {
    const float share =
        given(args, row, args.width - 1 - column, other, &unused) * (1.0f - clamped(2.0f * weight, 0.0f, 1.0f)) * face;
    for (int c = 0; c < 3; ++c) whole[c] += (other[c] - whole[c]) * share;
  }
  for (int c = 0; c < 3; ++c) whole[c] += (own[c] - whole[c]) * weight;
}

TOPOS_HD float cover_of(float cover, float grain) {
  return clamped(cover * (1.0f + (1.0f - cover) * kRagged * (grain - 1.0f)), 0.0f, 1.0f);
}

TOPOS_HD int srgb_step(float linear) {
  return static_cast<int>(clamped(linear * (kSrgbSteps - 1) + 0.5f, 0.0f, static_cast<float>(kSrgbSteps - 1)));
}

TOPOS_HD void make_texel(const FinishTexture& args, int64_t i) {
  const int y = static_cast<int>(i / args.side), x = static_cast<int>(i % args.side);
  const int cells = args.side / args.step;
  float whole[4];  // log colours over the base, and the cover of hair
  at_cell<4>(args.cells, cells, between(y, args.step, cells), between(x, args.step, cells), whole);
  const int row = y - args.top, column = x - args.left;
  if (row >= 0 && column >= 0 && row < args.height && column < args.width) take_photograph(args, row, column, whole);
  const float cover = cover_of(whole[3], args.grain[i]);
  for (int c = 0; c < 3; ++c) {
    const float linear = args.base[3 * i + c] * exp_bounded(clamped(whole[c], -kBound, kBound));
    args.out[3 * i + c] = args.srgb[srgb_step(linear + (args.hair[c] * args.grain[i] - linear) * cover)];
  }
}

}  // namespace topos
