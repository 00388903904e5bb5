// Runs make_texel(args, i) of texture.h for every texel i: what project_texture and finish_texture share.
#pragma once

#include "launch.h"
#include "texture.h"

namespace topos {
namespace {  // each .cu has its own: tests/ptx finds kernels by that

template <class Args>
struct PerTexel {
  static constexpr int kThreads = 128;
  static constexpr int kBlocksPerSM = 4;
  static constexpr int kShared = 0;

  Args args;
  int64_t count;

  TOPOS_HD void run(int block, unsigned char*) const {
    for_threads<kThreads>([&](int thread) {
      const int64_t i = static_cast<int64_t>(block) * kThreads + thread;
      if (i < count) make_texel(args, i);
    });
  }
};

template <class Args>
int launch_per_texel(const Args& args, int64_t count, Stream stream) {
  constexpr int kThreads = PerTexel<Args>::kThreads;
  return launch(PerTexel<Args>{args, count}, (count + kThreads - 1) / kThreads, stream);
}

}  // namespace
}  // namespace topos
