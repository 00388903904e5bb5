// Cut turned squares out of pictures. Twin of topos_rt/faces/warp.py.
#ifndef TOPOS_SDK_WARP_H
#define TOPOS_SDK_WARP_H

#include <array>

#include "image.h"

namespace topos {

// A square in a picture, in its pixels; angle in radians, clockwise as one sees it.
struct Square {
  double x = 0, y = 0;  // the centre
  double side = 0;
  double angle = 0;

  // The map [2][3] from points in a cut of size x size pixels to the picture's.
  std::array<double, 6> matrix(int size) const;
  // Top left, top right, bottom right, bottom left: [4][2].
  std::array<double, 8> corners() const;
};

// A square of an RGB picture as a picture of size x size; what lies beyond the picture is black.
// filtered: sample twice as densely and average, and continue the picture beyond its edges.
Picture cut(const Picture& picture, const Square& square, int size, bool filtered = false);

// A picture as [H][W][channels] in 0..1.
std::vector<float> to_floats(const Picture& picture);

}  // namespace topos

#endif
