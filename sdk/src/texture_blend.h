// From what a photograph showed to a whole skin. Twin of topos_rt/texture/blending.py.
#ifndef TOPOS_SDK_TEXTURE_BLEND_H
#define TOPOS_SDK_TEXTURE_BLEND_H

#include "texture_reject.h"

namespace topos {

struct Blend {
  Grid cells;       // [kAtlasSide][kAtlasSide][3] log colour over the base material
  Grid window;      // [h][w][5] in cells of the window: share kept, face, unevenness
  Grid confidence;  // [kAtlasSide][kAtlasSide]
};

// Of a head of which nothing is known.
Blend blend_of_nothing(const TexturePlan& plan);

// feather: [h][w] what to keep; tone: log of the person's skin over the base material's.
Blend blend(const TexturePlan& plan, const Atlas& atlas, const SeenCells& cells, const Grid& feather, const Vec3& tone);

}  // namespace topos

#endif
