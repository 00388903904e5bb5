// Where faces are looked for, and what the detector's numbers mean. Twin of topos_rt/faces/detection.py.
#ifndef TOPOS_SDK_DETECTION_H
#define TOPOS_SDK_DETECTION_H

#include <array>
#include <vector>

#include "warp.h"

namespace topos {

inline constexpr int kDetectorSide = 192;
inline constexpr size_t kDetectorCells = 48 * 48;

// Left, top, right and bottom, pixels.
using Sides = std::array<double, 4>;

struct Detection {
  double score = 0;
  Sides box = {};
  std::array<std::array<double, 2>, 6> points = {};  // the eyes (the right one first), nose tip, mouth, and the ears

  double side() const;
  // The square around the box, `margin` times as large, turned so that the eyes are level.
  Square square(double margin) const;
};

// The squares of a turn of the search, from 0 on; empty past the last one. First comes the whole picture, then the same
// turned by quarters, then overlapping tiles of half the size of those before.
std::vector<Square> search_turn(int width, int height, int turn);

// The faces in one square: boxes [cells][16] and scores [cells] before the sigmoid, as the network makes them.
std::vector<Detection> decoded(const float* boxes, const float* scores, const Square& square);

// One detection for each face, the mean of those that overlap, the largest first.
std::vector<Detection> merged(std::vector<Detection> found);

// Whether a box shares enough with one of the others to hold the same face.
bool overlaps(const Sides& box, const std::vector<Sides>& others);

}  // namespace topos

#endif
