// The code of graph_rows.h for one instruction set. A source file sets the options of the compiler for that set and defines
// TOPOS_ROWS_LANES, numbers in a vector, TOPOS_ROWS_HEIGHT, rows, and TOPOS_ROWS_WIDTH, vectors, of which sums stay in
// registers, before it includes this. It must not use anything that is inline in other sources, such as the standard
// library's templates: the linker would keep one copy of that, perhaps one that only some processors can run.
#include <string.h>

#include "graph_rows.h"

namespace topos {
namespace {

constexpr int kLanes = TOPOS_ROWS_LANES, kHeight = TOPOS_ROWS_HEIGHT, kWidth = TOPOS_ROWS_WIDTH;
static_assert(kBlockRows % kHeight == 0, "a block is whole tiles");

typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));
typedef float Quad __attribute__((vector_size(4 * sizeof(float))));
typedef int32_t IntLanes __attribute__((vector_size(kLanes * sizeof(float))));

inline Lanes load(const float* p) {
  Lanes v;
  memcpy(&v, p, sizeof(v));
  return v;
}

inline void store(float* p, Lanes v) { memcpy(p, &v, sizeof(v)); }

inline Lanes all(float value) { return value - Lanes{}; }  // not a sum: -0 + 0 would be 0

// a b + c, rounded once where the set can. Said in words for single numbers: GCC would take some sums apart.
inline float fused(float a, float b, float c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

inline int padded(int n) { return (n + kLanes - 1) / kLanes * kLanes; }

// Vectors in the panel of columns that begins at vector `at` of `count`: all panels are about equally wide.
inline int panel(int at, int count) {
  const int left = count - at, panels = (left + kWidth - 1) / kWidth;
  return (left + panels - 1) / panels;
}

// e^x within 2 units in the last place, between -87 and 88 (Cody and Waite's reduction, Taylor's series).
inline Lanes exponential(Lanes x) {
  const Lanes low = all(-87.0F), high = all(88.0F);
  x = x < low ? low : x;
  x = x > high ? high : x;
  const float magic = 12582912.0F;  // 1.5 * 2^23: adding it rounds to a whole number
  const Lanes shifted = x * 1.44269504F + magic, n = shifted - magic;
  const Lanes r = (x - n * 0.693359375F) - n * -2.12194440e-4F;
  Lanes p = all(1.0F / 5040);
  p = p * r + 1.0F / 720;
  p = p * r + 1.0F / 120;
  p = p * r + 1.0F / 24;
  p = p * r + 1.0F / 6;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  IntLanes bits, power;
  memcpy(&bits, &p, sizeof(bits));
  memcpy(&power, &shifted, sizeof(power));
  bits += power << 23;  // the low bits of `shifted` are n
  memcpy(&p, &bits, sizeof(p));
  return p;
}

// Sums rows of x over one row's sources of one type.
inline void gather(const GraphRows& a, const RowSources& of, int row, float* to) {
  if (!of.offsets) {
    memcpy(to, a.x + static_cast<size_t>(of.indices ? of.indices[row] : row) * a.c_in, sizeof(float) * a.c_in);
    return;
  }
  const int begin = of.offsets[row], end = of.offsets[row + 1];
  int column = 0;
  for (; column + kLanes <= a.c_in; column += kLanes) {
    Lanes sum = {};
    for (int e = begin; e < end; ++e) sum += load(a.x + static_cast<size_t>(of.indices[e]) * a.c_in + column);
    store(to + column, sum);
  }
  for (; column < a.c_in; ++column) {
    float sum = 0;
    for (int e = begin; e < end; ++e) sum += a.x[static_cast<size_t>(of.indices[e]) * a.c_in + column];
    to[column] = sum;
  }
}

// Multiplies kHeight rows of s [.][k] with a panel of Vectors vectors of columns.
template <int Vectors>
void multiply(const float* s, int k, const float* weights, float* out, int stride) {
  Lanes sums[kHeight][Vectors] = {};
  for (int i = 0; i < k; ++i, weights += Vectors * kLanes) {
    Lanes w[Vectors];
    for (int v = 0; v < Vectors; ++v) w[v] = load(weights + v * kLanes);
    for (int row = 0; row < kHeight; ++row) {
      const Lanes value = all(s[static_cast<size_t>(row) * k + i]);
      for (int v = 0; v < Vectors; ++v) sums[row][v] += value * w[v];
    }
  }
  for (int row = 0; row < kHeight; ++row) {
    for (int v = 0; v < Vectors; ++v) store(out + static_cast<size_t>(row) * stride + v * kLanes, sums[row][v]);
  }
}

void multiply_block(const float* s, int rows, int k, int c_out, const float* weights, float* y) {
  const int width = padded(c_out), count = width / kLanes;
  for (int at = 0, vectors = 0; at < count; at += vectors) {
    vectors = panel(at, count);
    for (int row = 0; row < rows; row += kHeight) {
      const float* from = s + static_cast<size_t>(row) * k;
      float* to = y + static_cast<size_t>(row) * width + at * kLanes;
      switch (vectors) {
        case 1: multiply<1>(from, k, weights, to, width); break;
        case 2: multiply<2>(from, k, weights, to, width); break;
        default: multiply<3>(from, k, weights, to, width);
      }
    }
    weights += static_cast<size_t>(k) * vectors * kLanes;
  }
}

// Adds up numbers, or with `squared` the squares of what they exceed `middle` by: four sums side by side in every
// instruction set, so that the order is the same. size: an even number.
template <bool squared>
inline float sum_of(const float* p, int size, float middle) {
  Quad sums = {};
  int j = 0;
  for (; j + 4 <= size; j += 4) {
    Quad v;
    memcpy(&v, p + j, sizeof(v));
    if (squared) {
      v -= middle;
      sums += v * v;
    } else {
      sums += v;
    }
  }
  for (; j < size; ++j) sums[j % 2] = squared ? fused(p[j] - middle, p[j] - middle, sums[j % 2]) : sums[j % 2] + p[j];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// Normalises one row by groups of its columns.
inline void normalise(float* y, int c_out, const float* gamma, const float* beta) {
  const int size = c_out / kRowGroups;
  const float share = 1.0F / static_cast<float>(size);
  float mean[kRowGroups], scale[kRowGroups];
  for (int group = 0; group < kRowGroups; ++group) mean[group] = sum_of<false>(y + group * size, size, 0) * share;
  for (int group = 0; group < kRowGroups; ++group) {
    scale[group] = fused(sum_of<true>(y + group * size, size, mean[group]), share, kRowEpsilon);
  }
  for (int group = 0; group < kRowGroups; ++group) scale[group] = 1.0F / __builtin_sqrtf(scale[group]);
  for (int group = 0; group < kRowGroups; ++group) {
    for (int j = group * size; j < (group + 1) * size; ++j) {
      y[j] = fused((y[j] - mean[group]) * scale[group], gamma[j], beta[j]);
    }
  }
}

size_t scratch_of(int k, int c_out) {
  return static_cast<size_t>(kBlockRows) * (static_cast<size_t>(k) + static_cast<size_t>(padded(c_out)));
}

void block(const GraphRows& a, int first, float* scratch) {
  const int k = a.types * a.c_in, width = padded(a.c_out);
  const int rows = a.rows - first < kBlockRows ? a.rows - first : kBlockRows;
  const int whole = (rows + kHeight - 1) / kHeight * kHeight;
  float *s = scratch, *y = scratch + static_cast<size_t>(kBlockRows) * k;
  for (int row = 0; row < rows; ++row) {
    for (int type = 0; type < a.types; ++type) {
      gather(a, a.sources[type], first + row, s + static_cast<size_t>(row) * k + type * a.c_in);
    }
  }
  for (int row = rows; row < whole; ++row) memset(s + static_cast<size_t>(row) * k, 0, sizeof(float) * k);
  multiply_block(s, whole, k, a.c_out, a.weights, y);
  for (int row = 0; row < rows; ++row) {
    const int at = first + row;
    float* line = y + static_cast<size_t>(row) * width;
    for (int type = 0; a.bias && type < a.types; ++type) {
      const RowSources& of = a.sources[type];
      const float degree = of.offsets ? static_cast<float>(of.offsets[at + 1] - of.offsets[at]) : 1.0F;
      for (int j = 0; j < a.c_out; ++j) {
        line[j] = fused(degree, a.bias[type * a.c_out + j], line[j]);
      }
    }
    if (a.gamma) normalise(line, a.c_out, a.gamma, a.beta);
    if (a.residual) {
      const float* more = a.residual + static_cast<size_t>(a.residual_rows ? a.residual_rows[at] : at) * a.c_out;
      for (int j = 0; j < a.c_out; ++j) line[j] += more[j];
    }
    if (a.silu) {
      for (int j = 0; j < width; j += kLanes) {
        const Lanes v = load(line + j);
        store(line + j, v / (exponential(-v) + 1.0F));
      }
    }
    memcpy(a.out + static_cast<size_t>(at) * a.c_out, line, sizeof(float) * a.c_out);
  }
}

void pack(const float* matrix, int k, int n, float* packed) {
  const int count = padded(n) / kLanes;
  for (int at = 0, vectors = 0; at < count; at += vectors) {
    vectors = panel(at, count);
    for (int i = 0; i < k; ++i) {
      for (int j = at * kLanes; j < (at + vectors) * kLanes; ++j) {
        *packed++ = j < n ? matrix[static_cast<size_t>(i) * n + j] : 0.0F;
      }
    }
  }
}

void weighted_sum(const float* weights, const float* rows, int count, size_t n, size_t first, size_t last, float* out) {
  constexpr size_t kPart = 4 * kLanes;
  size_t at = first;
  for (; at + kPart <= last; at += kPart) {
    Lanes sums[4] = {};
    for (int i = 0; i < count; ++i) {
      const float* row = rows + static_cast<size_t>(i) * n + at;
      for (int v = 0; v < 4; ++v) sums[v] += load(row + v * kLanes) * weights[i];
    }
    for (int v = 0; v < 4; ++v) store(out + at + v * kLanes, sums[v]);
  }
  for (; at < last; ++at) {
    float sum = 0;
    for (int i = 0; i < count; ++i) sum = fused(rows[static_cast<size_t>(i) * n + at], weights[i], sum);
    out[at] = sum;
  }
}

}  // namespace
}  // namespace topos
