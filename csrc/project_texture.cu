// Lays a photograph on the texels of a mesh. See kernels.h and texture.h.
#include "launch.h"
#include "texture.h"

namespace topos {
namespace {

struct Texels {
  static constexpr int kThreads = 128;
  static constexpr int kBlocksPerSM = 4;
  static constexpr int kShared = 0;

  ProjectTexture args;
  int64_t count;

  TOPOS_HD void run(int block, unsigned char*) const {
    for_threads<kThreads>([&](int thread) {
      const int64_t i = static_cast<int64_t>(block) * kThreads + thread;
      if (i < count) project_texel(args, i);
    });
  }
};

}  // namespace

int project_texture(const ProjectTexture& args, Stream stream) {
  const int64_t count = args.texels;
  return launch(Texels{args, count}, (count + Texels::kThreads - 1) / Texels::kThreads, stream);
}

}  // namespace topos
