// The fit of a rig to a head. Twin of topos_rt/head/rig.py and rig_fit.py, which say what is done and why.
#ifndef TOPOS_SDK_RIG_H
#define TOPOS_SDK_RIG_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace topos {

// A bundle's rig, with the head that it was made on; the arrays are the caller's and must fit each other.
struct RigData {
  size_t vertices = 0, joints = 0, shapes = 0;
  const int32_t* shape_index = nullptr;    // [K]
  const float* shape_delta = nullptr;      // [K][3], metres
  const int32_t* shape_offsets = nullptr;  // [shapes + 1], to K
  // The binding.
  const float* head = nullptr;  // [vertices][3], metres
  const int32_t* joint_index = nullptr;
  const float* joint_weight = nullptr;
  const int32_t* joint_offsets = nullptr;    // [joints + 1]
  const int32_t* contact_pairs = nullptr;    // [C][2]
  const int32_t* contact_offsets = nullptr;  // [shapes + 1], to C
  const uint8_t* parts = nullptr;            // [vertices]; 0: skin
};

// What is the same for every head is computed once, in the constructor; fit may run on several threads at once.
class RigFit {
 public:
  explicit RigFit(const RigData& rig);
  ~RigFit();
  RigFit(const RigFit&) = delete;
  RigFit& operator=(const RigFit&) = delete;

  // positions: [vertices][3] of a head. Writes joints [joints][3] and offsets [K][3] of its blendshapes.
  void fit(const float* positions, float* joint_positions, float* shape_delta) const;

 private:
  struct Prepared;
  std::unique_ptr<const Prepared> prepared_;
};

}  // namespace topos

#endif
