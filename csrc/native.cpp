// The texture passes on the CPU, for Python: the same texels as the CUDA kernels, spread over threads. It needs neither
// CUDA nor a GPU. Addresses are integers; topos_rt/gpu/texture_ops.py makes all checks before it calls these.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "native_decoder.h"
#include "native_head.h"
#include "texture_bindings.h"
#include "texture_rows.h"

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

void finish_texture(const topos::FinishTexture& args, int threads) {
  const py::gil_scoped_release release;
  const topos::Columns columns(args);
  spread(args.side, threads, [&](int64_t row) { topos::finish_row(args, columns, static_cast<int>(row)); });
}

void box_means(Address values, bool wide, int64_t height, int64_t width, int64_t channels,
               const std::vector<int64_t>& radii) {
  const py::gil_scoped_release release;
  if (wide) {
    topos::box_means(at<double>(values), height, width, channels, radii);
  } else {
    topos::box_means(at<float>(values), height, width, channels, radii);
  }
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Passes on the CPU: textures, checked by topos_rt.gpu.texture_ops, the decoder, and the C library's numbers of a head.";
  topos::define_project_texture<int>(m, "threads", project_texture);
  topos::define_finish_texture<int>(m, "threads", finish_texture);
  m.def("box_means", &box_means, py::kw_only(), "values"_a, "wide"_a, "height"_a, "width"_a, "channels"_a, "radii"_a);
#ifdef TOPOS_ROWS  // not every compiler can build it
  topos::define_decoder(m);
#endif
  topos::define_head(m);
}
