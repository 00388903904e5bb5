// Makes the colours of a texture from smooth fields and from a photograph. See kernels.h and texture.h.
#include "launch.h"
#include "texture.h"

namespace topos {
namespace {

struct Texels {
  static constexpr int kThreads = 128;
  static constexpr int kBlocksPerSM = 4;
  static constexpr int kShared = 0;

  FinishTexture args;
  int64_t count;

  TOPOS_HD void run(int block, unsigned char*) const {
    for_threads<kThreads>([&](int thread) {
      const int64_t i = static_cast<int64_t>(block) * kThreads + thread;
      if (i < count) finish_texel(args, i);
    });
  }
};

}  // namespace

int finish_texture(const FinishTexture& args, Stream stream) {
  const int64_t count = static_cast<int64_t>(args.side) * args.side;
  return launch(Texels{args, count}, (count + Texels::kThreads - 1) / Texels::kThreads, stream);
}

}  // namespace topos
