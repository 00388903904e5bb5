// A z-buffer for triangles. Twin of topos_rt/pictures/raster.py, bit for bit.
#ifndef TOPOS_SDK_RASTER_H
#define TOPOS_SDK_RASTER_H

#include <cstdint>
#include <vector>

#include "grids.h"
#include "vectors.h"

namespace topos {

struct Raster {
  GridOf<int32_t> triangle;  // the number of the nearest one under each pixel's middle; -1: none
  Grid weights;              // [3] barycentric
};

// screen: x to the right and y down in pixels, depth, nearer where it is smaller and above zero. triangles: corners of the
// F that are drawn. cull: those that face away are left out.
Raster rasterize(const std::vector<Vec3>& screen, const std::vector<int32_t>& triangles, int height, int width, bool cull);

}  // namespace topos

#endif
