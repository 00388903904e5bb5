// Projects a vector on the span of a few orthonormal rows, and adds what its coordinates move. See kernels.h.
#include "launch.h"

namespace topos {
namespace {

// Each direction has a warp, whose lanes stride over the vector and then add up in a fixed tree.
struct Coordinates {
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kBlocksPerSM = 4;
  static constexpr int kShared = 0;

  Project args;

  TOPOS_HD void run(int block, unsigned char*) const {
    for_warps<kWarps>([&](int warp) {
      const int direction = block * kWarps + warp;
      if (direction >= args.directions) return;
      const float* row = args.basis + static_cast<int64_t>(direction) * args.size;
      PerLane<float> sum;
      for_lanes([&](int lane) {
        sum[lane] = 0.0f;
        for (int i = lane; i < args.size; i += kWarp) sum[lane] += row[i] * args.x[i];
      });
      warp_sum(sum);
      for_lanes([&](int lane) {
        if (lane == 0) args.coordinates[direction] = sum[lane];
      });
    });
  }
};

struct Combine {
  static constexpr int kThreads = 128;
  static constexpr int kBlocksPerSM = 4;
  static constexpr int kShared = 0;

  Project args;

  TOPOS_HD void run(int block, unsigned char*) const {
    for_threads<kThreads>([&](int thread) {
      const int64_t i = static_cast<int64_t>(block) * kThreads + thread;
      if (i >= args.size) return;
      float sum = 0.0f;
      for (int64_t k = 0; k < args.directions; ++k) sum += args.coordinates[k] * args.basis[k * args.size + i];
      args.out[i] = sum;
    });
  }
};

struct Moves {
  static constexpr int kThreads = 128;
  static constexpr int kBlocksPerSM = 4;
  static constexpr int kShared = 0;

  AddMoves args;

  TOPOS_HD void run(int block, unsigned char*) const {
    const int64_t stride = static_cast<int64_t>(args.vertices) * args.moved;
    for_threads<kThreads>([&](int thread) {
      const int64_t i = static_cast<int64_t>(block) * kThreads + thread;
      if (i >= static_cast<int64_t>(args.vertices) * args.columns) return;
      const int64_t vertex = i / args.columns;
      const int column = static_cast<int>(i - vertex * args.columns);
      float sum = args.base[i];
      if (column < args.moved) {
        const float* row = args.rows + vertex * args.moved + column;
        for (int64_t k = 0; k < args.directions; ++k) sum += args.coordinates[k] * row[k * stride];
      }
      args.out[i] = sum;
    });
  }
};

}  // namespace

int add_moves(const AddMoves& args, Stream stream) {
  const int64_t threads = static_cast<int64_t>(args.vertices) * args.columns;
  return launch(Moves{args}, (threads + Moves::kThreads - 1) / Moves::kThreads, stream);
}

int project(const Project& args, Stream stream) {
  const int64_t warps = args.directions, threads = args.size;
  const int status = launch(Coordinates{args}, (warps + Coordinates::kWarps - 1) / Coordinates::kWarps, stream);
  return status ? status : launch(Combine{args}, (threads + Combine::kThreads - 1) / Combine::kThreads, stream);
}

}  // namespace topos
