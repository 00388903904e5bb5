// The launchers, for Python. Addresses are integers, and 0 is null. topos_rt/gpu/ops.py makes all checks before it
// calls them. A status other than 0 raises RuntimeError.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <stdexcept>
#include <string>

#include "kernels.h"
#include "texture_bindings.h"
#ifdef TOPOS_CUDA
#include <cuda_runtime_api.h>
#else
#include "launch.h"
#endif

namespace py = pybind11;
using namespace py::literals;

namespace {

using topos::Address;
using topos::at;

topos::Stream stream_at(Address stream) { return at<CUstream_st>(stream); }

void check(int status) {
  if (status == 0) return;
  if (status == topos::kUnsupported) throw std::runtime_error("no instance was compiled for this width");
#ifdef TOPOS_CUDA
  const auto error = static_cast<cudaError_t>(status);
  throw std::runtime_error(std::string(cudaGetErrorName(error)) + ", " + cudaGetErrorString(error));
#else
  throw std::runtime_error("status " + std::to_string(status));
#endif
}

using Edges = std::array<Address, 2>;  // offsets, sources

// tiles: address of the TileTables, for graph_conv_tiled; 0 asks for graph_conv.
void graph_conv(Address x, const std::vector<Edges>& edges, Address tiles, int rows, int c_in, int c_out,
                Address weights, Address bias, Address gamma, Address beta, Address residual, Address residual_rows,
                bool silu, Address out, Address out32, Address out_rows, Address scale, Address mean, Address stream) {
  topos::GraphConv args{};
  args.x = at<void>(x);
  args.types = static_cast<int>(edges.size());
  for (int i = 0; i < args.types; ++i) args.edges[i] = {at<int32_t>(edges[i][0]), at<int32_t>(edges[i][1])};
  args.rows = rows, args.c_in = c_in, args.c_out = c_out;
  args.weights = at<void>(weights), args.bias = at<float>(bias);
  args.gamma = at<float>(gamma), args.beta = at<float>(beta);
  args.residual = at<void>(residual), args.residual_rows = at<int32_t>(residual_rows);
  args.silu = silu;
  args.out = at<void>(out);
  args.out32 = at<float>(out32), args.out_rows = at<int32_t>(out_rows);
  args.scale = at<float>(scale), args.mean = at<float>(mean);
  if (!tiles) return check(topos::graph_conv(args, stream_at(stream)));
  check(topos::graph_conv_tiled(args, at<topos::TileTable>(tiles), stream_at(stream)));
}

void flow_step(const std::vector<Address>& terms, Address table, Address step, int steps, Address out, int64_t size,
               Address stream) {
  topos::FlowStep args{};
  args.count = static_cast<int>(terms.size());
  for (int i = 0; i < args.count; ++i) args.terms[i] = at<float>(terms[i]);
  args.table = at<float>(table), args.step = at<int32_t>(step), args.steps = steps;
  args.out = at<float>(out), args.size = size;
  check(topos::flow_step(args, stream_at(stream)));
}

void pack_rows(Address x, Address source_rows, int rows, int c_in, int c_out, Address out, Address stream) {
  const topos::PackRows args{at<float>(x), at<int32_t>(source_rows), rows, c_in, c_out, at<void>(out)};
  check(topos::pack_rows(args, stream_at(stream)));
}

void project(Address x, Address basis, int directions, int size, Address coordinates, Address out, Address stream) {
  const topos::Project args{at<float>(x),           at<float>(basis), directions, size,
                            at<float>(coordinates), at<float>(out)};
  check(topos::project(args, stream_at(stream)));
}

void add_moves(Address coordinates, Address rows, Address base, int directions, int vertices, int moved, int columns,
               Address out, Address stream) {
  const topos::AddMoves args{at<float>(coordinates), at<float>(rows), at<float>(base), directions, vertices,
                             moved,                  columns,         at<float>(out)};
  check(topos::add_moves(args, stream_at(stream)));
}

}  // namespace

PYBIND11_MODULE(_kernels, m) {
  m.doc() = "CUDA kernels of topos_rt; topos_rt.gpu.ops is their checked entry.";
  m.attr("WIDTHS") = py::tuple(py::cast(std::vector<int>(std::begin(topos::kWidths), std::end(topos::kWidths))));
  m.attr("TILED_WIDTHS") =
      py::tuple(py::cast(std::vector<int>(std::begin(topos::kTiledWidths), std::end(topos::kTiledWidths))));
  m.attr("TILE") =
      py::make_tuple(topos::kTileRows, topos::kTileSources, topos::kTileSteps, sizeof(topos::TileTable));
  m.attr("MAX_TERMS") = topos::kMaxTerms;
#ifdef TOPOS_CUDA
  m.attr("CUDA_VERSION") = CUDART_VERSION;
  m.attr("ARCHITECTURES") = TOPOS_ARCHITECTURES;
  m.attr("TILED") = std::string(TOPOS_ARCHITECTURES).find("90a") != std::string::npos;
#else
  m.attr("TILED") = true;
  m.def("record", [](py::object take) {
    if (take.is_none()) {
      topos::recorder() = nullptr;
      return;
    }
    topos::recorder() = [take](const char* file, const char* type, int64_t blocks, int threads, int shared,
                               const void* body, size_t size) {
      take(file, type, blocks, threads, shared, py::bytes(static_cast<const char*>(body), size));
    };
  }, "take"_a);
  m.def("reverse_warps", [](bool reverse) { topos::reverse_warps() = reverse; }, "reverse"_a);
#endif
  // They take keywords only, because nobody can tell so many addresses and sizes apart by their positions.
  m.def("graph_conv", &graph_conv, py::kw_only(), "x"_a, "edges"_a, "tiles"_a = 0, "rows"_a, "c_in"_a, "c_out"_a,
        "weights"_a, "bias"_a = 0, "gamma"_a = 0, "beta"_a = 0, "residual"_a = 0, "residual_rows"_a = 0,
        "silu"_a = false, "out"_a = 0, "out32"_a = 0, "out_rows"_a = 0, "scale"_a = 0, "mean"_a = 0, "stream"_a);
  m.def("flow_step", &flow_step, py::kw_only(), "terms"_a, "table"_a, "step"_a, "steps"_a, "out"_a, "size"_a,
        "stream"_a);
  m.def("pack_rows", &pack_rows, py::kw_only(), "x"_a, "source_rows"_a = 0, "rows"_a, "c_in"_a, "c_out"_a, "out"_a,
        "stream"_a);
  m.def("project", &project, py::kw_only(), "x"_a, "basis"_a, "directions"_a, "size"_a, "coordinates"_a, "out"_a,
        "stream"_a);
  m.def("add_moves", &add_moves, py::kw_only(), "coordinates"_a, "rows"_a, "base"_a, "directions"_a, "vertices"_a,
        "moved"_a, "columns"_a, "out"_a, "stream"_a);
  topos::define_project_texture<Address>(m, "stream", [](const topos::ProjectTexture& args, Address stream) {
    check(topos::project_texture(args, stream_at(stream)));
  });
  topos::define_finish_texture<Address>(m, "stream", [](const topos::FinishTexture& args, Address stream) {
    check(topos::finish_texture(args, stream_at(stream)));
  });
}
