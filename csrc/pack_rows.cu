// Packs FP32 rows as FP16 rows in another order. See kernels.h.
#include "launch.h"

namespace topos {
namespace {

struct Body {
  static constexpr int kThreads = 256;
  static constexpr int kBlocksPerSM = 4;
  static constexpr int kShared = 0;

  PackRows args;

  TOPOS_HD void run(int block, unsigned char*) const {
    for_threads<kThreads>([&](int thread) {
      const int64_t i = static_cast<int64_t>(block) * kThreads + thread;
      if (i >= static_cast<int64_t>(args.rows) * args.c_out) return;
      const int64_t row = i / args.c_out, column = i % args.c_out;
      const int64_t from = args.source_rows ? args.source_rows[row] : row;
      const float value = column < args.c_in ? args.x[from * args.c_in + column] : 0.0f;
      static_cast<Half*>(args.out)[i] = to_half(value);
    });
  }
};

}  // namespace

int pack_rows(const PackRows& args, Stream stream) {
  const int64_t size = static_cast<int64_t>(args.rows) * args.c_out;
  return launch(Body{args}, (size + Body::kThreads - 1) / Body::kThreads, stream);
}

}  // namespace topos
