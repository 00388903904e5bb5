// The texture passes on the CPU, for Python: the same texels as the CUDA kernels, spread over threads. It needs neither
// CUDA nor a GPU. Addresses are integers; topos_rt/gpu/texture_ops.py makes all checks before it calls these.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "native_head.h"
#include "texture.h"
#include "texture_bindings.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

using topos::Address;
using topos::at;

// Calls work(i) for all i below count. Each i is worked on alone, so the result does not depend on the threads.
template <class F>
void spread(int64_t count, int threads, F work) {
  const int64_t share = (count + threads - 1) / threads;
  const auto part = [&](int number) {
    const int64_t end = std::min(count, (number + 1) * share);
    for (int64_t i = number * share; i < end; ++i) work(i);
  };
  std::vector<std::thread> others;
  for (int number = 1; number < threads; ++number) others.emplace_back(part, number);
  part(0);
  for (auto& other : others) other.join();
}

void project_texture(const topos::ProjectTexture& args, int threads) {
  const py::gil_scoped_release release;
  spread(args.texels, threads, [&](int64_t i) { topos::make_texel(args, i); });
}

// Where the compiler can, a function is built for wider vectors, too, and the processor decides when the module is loaded.
// AVX2 alone brings no fused products, so the bits are the same.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define TOPOS_WIDE __attribute__((target_clones("avx2", "default")))
#else
#define TOPOS_WIDE
#endif

// What rows of a texture share: where its columns and those of the window lie among their cells.
struct Columns {
  std::vector<topos::Between> whole, window;

  explicit Columns(const topos::FinishTexture& args) {
    for (int x = 0; x < args.side; ++x) whole.push_back(topos::between(x, args.step, args.side / args.step));
    for (int x = 0; x < args.width; ++x) window.push_back(topos::between(x, args.step, args.width / args.step));
  }
};

// Cells [count] between two rows of them.
TOPOS_WIDE void between_rows(const float* cells, topos::Between at, int count, float* out) {
  const float *upper = cells + static_cast<int64_t>(at.low) * count, *lower = cells + static_cast<int64_t>(at.high) * count;
  for (int k = 0; k < count; ++k) out[k] = upper[k] + (lower[k] - upper[k]) * at.share;
}

// What take_photograph does, for a row at once; whole: [3 * width] log colours, which it changes.
TOPOS_WIDE void photograph_row(const topos::FinishTexture& args, const Columns& columns, int row, float* whole) {
  const int width = args.width, count = 5 * (width / args.step);
  std::vector<float> cells(static_cast<size_t>(count)), own(static_cast<size_t>(width) * 5);  // colour, weight, face
  between_rows(args.window_cells, topos::between(row, args.step, args.height / args.step), count, cells.data());
  const int64_t first = static_cast<int64_t>(row) * width;
  for (int x = 0; x < width; ++x) {
    const topos::Between place = columns.window[x];
    const float *left = &cells[5 * place.low], *right = &cells[5 * place.high], *texel = args.texels + 4 * (first + x);
    float cell[5];  // feather, face, unevenness
    for (int c = 0; c < 5; ++c) cell[c] = left[c] + (right[c] - left[c]) * place.share;
    const float colour[3] = {texel[0] - cell[2], texel[1] - cell[3], texel[2] - cell[4]};
    const float mean = (colour[0] + colour[1] + colour[2]) / 3.0f;
    const float over = (mean > topos::kBright ? mean - topos::kBright : 0.0f) * topos::kDulled * args.skin[first + x];
    for (int c = 0; c < 3; ++c) own[5 * x + c] = colour[c] + (args.tone[c] - over);
    own[5 * x + 3] = topos::clamped(topos::kWeightGain * texel[3], 0.0f, 1.0f) * cell[0];
    own[5 * x + 4] = cell[1];
  }
  for (int x = 0; x < width; ++x) {
    const float *mine = &own[5 * x], *other = &own[5 * (width - 1 - x)];
    const float weight = mine[3];
    if (args.mirror) {
      const float share = other[3] * (1.0f - topos::clamped(2.0f * weight, 0.0f, 1.0f)) * mine[4];
      for (int c = 0; c < 3; ++c) whole[3 * x + c] += (other[c] - whole[3 * x + c]) * share;
    }
    for (int c = 0; c < 3; ++c) whole[3 * x + c] += (mine[c] - whole[3 * x + c]) * weight;
  }
}

// What make_texel does for FinishTexture, for a row at once, in loops that compilers vectorise.
TOPOS_WIDE void finish_row(const topos::FinishTexture& args, const Columns& columns, int y) {
  const int side = args.side, count = 4 * (side / args.step);
  const int64_t first = static_cast<int64_t>(y) * side;
  std::vector<float> cells(static_cast<size_t>(count)), whole(static_cast<size_t>(side) * 3);
  std::vector<float> hair(whole.size()), cover(whole.size());
  std::vector<int> steps(whole.size());
  between_rows(args.cells, topos::between(y, args.step, side / args.step), count, cells.data());
  for (int x = 0; x < side; ++x) {
    const topos::Between place = columns.whole[x];
    const float *left = &cells[4 * place.low], *right = &cells[4 * place.high], grain = args.grain[first + x];
    const float covered = topos::cover_of(left[3] + (right[3] - left[3]) * place.share, grain);
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
    const float skin = base[k] * topos::exp_bounded(topos::clamped(whole[k], -topos::kBound, topos::kBound));
    steps[k] = topos::srgb_step(skin + (hair[k] - skin) * cover[k]);
  }
  for (int k = 0; k < 3 * side; ++k) args.out[3 * first + k] = args.srgb[steps[k]];
}

void finish_texture(const topos::FinishTexture& args, int threads) {
  const py::gil_scoped_release release;
  const Columns columns(args);
  spread(args.side, threads, [&](int64_t row) { finish_row(args, columns, static_cast<int>(row)); });
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
void box_means_of(T* values, int64_t height, int64_t width, int64_t channels, const std::vector<int64_t>& radii) {
  for (const int64_t radius : radii) {
    box_rows(values, 1, height, width * channels, radius);
    box_rows(values, height, width, channels, radius);
  }
}

void box_means(Address values, bool wide, int64_t height, int64_t width, int64_t channels,
               const std::vector<int64_t>& radii) {
  const py::gil_scoped_release release;
  if (wide) {
    box_means_of(at<double>(values), height, width, channels, radii);
  } else {
    box_means_of(at<float>(values), height, width, channels, radii);
  }
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Passes on the CPU: textures, checked by topos_rt.gpu.texture_ops, and the C library's numbers of a head.";
  topos::define_project_texture<int>(m, "threads", project_texture);
  topos::define_finish_texture<int>(m, "threads", finish_texture);
  m.def("box_means", &box_means, py::kw_only(), "values"_a, "wide"_a, "height"_a, "width"_a, "channels"_a, "radii"_a);
  topos::define_head(m);
}
