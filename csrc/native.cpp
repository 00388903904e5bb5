// The texture passes on the CPU, for Python: the same texels as the CUDA kernels, spread over threads. It needs neither
// CUDA nor a GPU. Addresses are integers; topos_rt/gpu/texture_ops.py makes all checks before it calls these.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <thread>
#include <vector>

#include "texture.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

using Address = std::uintptr_t;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

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

void project_texture(Address vertices, Address weights, Address attributes, Address picture, Address light, Address base,
                     int64_t texels, int height, int width, Address out, int threads) {
  topos::ProjectTexture args{};
  args.vertices = at<int32_t>(vertices), args.weights = at<float>(weights), args.attributes = at<float>(attributes);
  args.picture = at<float>(picture), args.light = at<float>(light), args.base = at<float>(base);
  args.texels = texels, args.height = height, args.width = width, args.out = at<float>(out);
  const py::gil_scoped_release release;
  spread(texels, threads, [&](int64_t i) { topos::project_texel(args, i); });
}

// What finish_texel does, for a row at once, in loops that compilers vectorise.
void finish_row(const topos::FinishTexture& args, int y) {
  const int side = args.side, step = args.step, cells = side / step;
  const topos::Between at = topos::between(y, step, cells);
  std::vector<float> between_rows(static_cast<size_t>(cells) * 4), whole(static_cast<size_t>(side) * 4);
  const float* upper = args.cells + static_cast<int64_t>(at.low) * cells * 4;
  const float* lower = args.cells + static_cast<int64_t>(at.high) * cells * 4;
  for (int k = 0; k < 4 * cells; ++k) between_rows[k] = upper[k] + (lower[k] - upper[k]) * at.share;
  for (int x = 0; x < side; ++x) {
    const topos::Between place = topos::between(x, step, cells);
    const float *left = &between_rows[4 * place.low], *right = &between_rows[4 * place.high];
    for (int c = 0; c < 4; ++c) whole[4 * x + c] = left[c] + (right[c] - left[c]) * place.share;
  }
  const int row = y - args.top;
  if (row >= 0 && row < args.height) {
    for (int x = 0; x < args.width; ++x) topos::take_photograph(args, row, x, &whole[4 * (args.left + x)]);
  }
  const int64_t first = static_cast<int64_t>(y) * side;
  std::vector<float> linear(static_cast<size_t>(side) * 3);
  for (int x = 0; x < side; ++x) {
    const float grain = args.grain[first + x], cover = topos::cover_of(whole[4 * x + 3], grain);
    for (int c = 0; c < 3; ++c) {
      const float skin = args.base[3 * (first + x) + c] *
                         topos::exp_bounded(topos::clamped(whole[4 * x + c], -topos::kBound, topos::kBound));
      linear[3 * x + c] = skin + (args.hair[c] * grain - skin) * cover;
    }
  }
  for (int k = 0; k < 3 * side; ++k) args.out[3 * first + k] = args.srgb[topos::srgb_step(linear[k])];
}

void finish_texture(Address base, Address cells, Address texels, Address window_cells, Address skin, Address grain,
                    Address hair, Address tone, Address srgb, const std::array<int, 6>& shape, bool mirror, Address out,
                    int threads) {
  topos::FinishTexture args{};
  args.base = at<float>(base), args.cells = at<float>(cells), args.texels = at<float>(texels);
  args.window_cells = at<float>(window_cells), args.skin = at<float>(skin), args.grain = at<float>(grain);
  args.hair = at<float>(hair), args.tone = at<float>(tone), args.srgb = at<uint8_t>(srgb);
  args.side = shape[0], args.step = shape[1], args.top = shape[2], args.left = shape[3];
  args.height = shape[4], args.width = shape[5];
  args.mirror = mirror, args.out = at<uint8_t>(out);
  const py::gil_scoped_release release;
  spread(args.side, threads, [&](int64_t row) { finish_row(args, static_cast<int>(row)); });
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Texture passes on the CPU; topos_rt.gpu.texture_ops is their checked entry.";
  m.def("project_texture", &project_texture, py::kw_only(), "vertices"_a, "weights"_a, "attributes"_a, "picture"_a,
        "light"_a, "base"_a, "texels"_a, "height"_a, "width"_a, "out"_a, "threads"_a);
  m.def("finish_texture", &finish_texture, py::kw_only(), "base"_a, "cells"_a, "texels"_a, "window_cells"_a, "skin"_a,
        "grain"_a, "hair"_a, "tone"_a, "srgb"_a, "shape"_a, "mirror"_a, "out"_a, "threads"_a);
}
