// Pillow's resampling of 8-bit pictures, bit for bit.
#ifndef TOPOS_SDK_RESAMPLE_H
#define TOPOS_SDK_RESAMPLE_H

#include "image.h"

namespace topos {

enum class Filter { kBox, kBilinear, kHamming, kBicubic, kLanczos };

// Image.resize. RGBA is multiplied by its alpha before, and divided by it after.
Picture resized(const Picture& picture, int width, int height, Filter filter);

// Image.reduce of an RGB picture: the mean of blocks of factor x factor pixels of a box; those at its right and lower
// edge may be smaller.
Picture reduced(const Picture& picture, int factor, const Box& box);

}  // namespace topos

#endif
