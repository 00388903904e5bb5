// Computes one weighted sum of the sampler, whose weights are chosen on the device. See kernels.h.
//
// This is the simplest kernel here and the template for the next one: a body whose sizes are constants, one phase, and
// a launcher that turns arguments into blocks.
#include "launch.h"

namespace topos {
namespace {

struct Body {
  static constexpr int kThreads = 256;
  static constexpr int kBlocksPerSM = 4;
  static constexpr int kShared = 0;

  FlowStep args;

  TOPOS_HD void run(int block, unsigned char*) const {
    const int step = *args.step;
    if (step < 0 || step >= args.steps) return;
    const float* weights = args.table + static_cast<int64_t>(step) * args.count;
    for_threads<kThreads>([&](int thread) {
      const int64_t i = static_cast<int64_t>(block) * kThreads + thread;
      if (i >= args.size) return;
      float sum = 0.0f;
      TOPOS_UNROLL
      for (int k = 0; k < kMaxTerms; ++k) {
        if (k < args.count) sum += product(weights[k], args.terms[k][i]);
      }
      args.out[i] = sum;
    });
  }
};

// This is a launch of its own, so that every block of the sum has read the step before it grows.
struct Advance {
  static constexpr int kThreads = kWarp;
  static constexpr int kBlocksPerSM = 1;
  static constexpr int kShared = 0;

  int32_t* step;

  TOPOS_HD void run(int, unsigned char*) const {
    for_threads<kThreads>([&](int thread) {
      if (thread == 0) ++*step;
    });
  }
};

}  // namespace

int flow_step(const FlowStep& args, Stream stream) {
  const int status = launch(Body{args}, (args.size + Body::kThreads - 1) / Body::kThreads, stream);
  return status ? status : launch(Advance{args.step}, 1, stream);
}

}  // namespace topos
