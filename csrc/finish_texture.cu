// Makes the colours of a texture from smooth fields and from a photograph. See kernels.h and texture.h.
#include "per_texel.h"

namespace topos {

int finish_texture(const FinishTexture& args, Stream stream) {
  return launch_per_texel(args, static_cast<int64_t>(args.side) * args.side, stream);
}

}  // namespace topos
