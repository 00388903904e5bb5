// The rotation nearest to a matrix, and the similarity that takes points to points.
#ifndef TOPOS_SDK_ROTATION_H
#define TOPOS_SDK_ROTATION_H

#include "vectors.h"

namespace topos {

// Singular values in falling order, and the matrices of m = left diag(values) right^T; both may hold a reflection.
struct Svd {
  Mat3 left, right;
  Vec3 values;
};

Svd svd(const Mat3& m);

// The rotation nearest to a matrix (Kabsch).
Mat3 nearest_rotation(const Mat3& m);

double determinant(const Mat3& m);

// x -> scale rotation x + shift.
struct Similarity {
  double scale = 1;
  Mat3 rotation = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  Vec3 shift = {};

  Vec3 at(const Vec3& point) const { return rotation * point * scale + shift; }
};

// The least-squares similarity from points [n] to points [n] (Umeyama 1991). Neither all of one nor all of the other may
// coincide.
Similarity fit_similarity(const Vec3* from, const Vec3* to, size_t n);

}  // namespace topos

#endif
