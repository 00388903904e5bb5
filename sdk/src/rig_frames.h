// The frames of a rig's fit: similarities at a few hundred nodes from the template to a head, blended between them.
#ifndef TOPOS_SDK_RIG_FRAMES_H
#define TOPOS_SDK_RIG_FRAMES_H

#include <cstdint>
#include <vector>

#include "vectors.h"

namespace topos {

class RigFrames {
 public:
  // points: the template's vertices, centred. parts: 0 for the skin, which frames are fitted to. sigma: the standard
  // deviation of the neighbourhoods.
  RigFrames(const std::vector<Vec3>& points, const uint8_t* parts, double sigma);

  size_t size() const { return nodes_.size(); }
  // The weights of the nodes at a point, [size()] float32.
  std::vector<float> shares_at(const Vec3& point) const;
  // The frames at the nodes of a centred head [V][3].
  std::vector<Mat3> nodes(const std::vector<float>& head) const;
  // The frames at all vertices, blended from those at the nodes, in float32 as they are kept.
  std::vector<std::array<float, 9>> vertices(const std::vector<Mat3>& nodes) const;

 private:
  std::vector<double> exponents_at(const Vec3& point) const;

  double sigma_, own_size_;
  std::vector<Vec3> nodes_, means_;
  std::vector<double> variance_;                 // of each neighbourhood: the trace of its covariance
  std::vector<float> weights_, blend_, points_;  // [nodes][V], [V][nodes], [V][3]
  std::vector<uint8_t> skin_;                    // [V]
};

// Root mean square distance of points from their mean.
double spread_of(const std::vector<Vec3>& points);

}  // namespace topos

#endif
