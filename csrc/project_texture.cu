// Lays a photograph on the texels of a mesh. See kernels.h and texture.h.
#include "per_texel.h"

namespace topos {

int project_texture(const ProjectTexture& args, Stream stream) { return launch_per_texel(args, args.texels, stream); }

}  // namespace topos
