// What of a photograph is not the person's skin. Twin of topos_rt/texture/rejection.py and spectacles.py.
#ifndef TOPOS_SDK_TEXTURE_REJECT_H
#define TOPOS_SDK_TEXTURE_REJECT_H

#include <vector>

#include "texture_plan.h"
#include "vectors.h"

namespace topos {

// What a photograph showed in cells of the window: mean log ratios to the base, without the tone, and weights.
struct SeenCells {
  Grid ratio;   // [h][w][3]
  Grid weight;  // [h][w]
};

struct Kept {
  Grid feather;  // [h][w] of the window: what is taken, 0 to 1
  double mouth_open = 0;  // the gap between the lips, in widths of the mouth
  bool spectacles = false;
};

// landmarks: [478][3] pixels; places: [h][w][2] of the cells; skin: log colour of the skin in the photograph.
Kept judge(const TexturePlan& plan, const Atlas& atlas, const SeenCells& cells, const float* landmarks, const Grid& places,
           const Vec3& skin);

// How likely it is that a face wears spectacles, and where these may be, [kAtlasSide][kAtlasSide].
double spectacles_probability(const TexturePlan& plan, const Atlas& atlas, const SeenCells& cells);
Grid spectacles_zone(const Atlas& atlas);

}  // namespace topos

#endif
