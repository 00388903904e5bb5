// Blendshapes of a fitted head as renderers and files take them. Twin of topos_rt/formats/morphs.py, head/pose.py and
// rig.reduced_rig.
#ifndef TOPOS_SDK_MORPHS_H
#define TOPOS_SDK_MORPHS_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace topos {

// Blendshapes of a surface: shape s moves the vertices index[a:b] by delta[a:b], with a, b = offsets[s], offsets[s + 1].
struct Shapes {
  size_t count = 0;
  const int32_t* index = nullptr;    // [K], rising within a shape
  const float* delta = nullptr;      // [K][3]
  const int32_t* offsets = nullptr;  // [count + 1]

  size_t begin(size_t shape) const { return static_cast<size_t>(offsets[shape]); }
  size_t end(size_t shape) const { return static_cast<size_t>(offsets[shape + 1]); }
};

// How normals change with the blendshapes of one surface, whose arrays must outlive it.
class MorphNormals {
 public:
  MorphNormals(const float* positions, size_t n, const int32_t* triangles, size_t f);

  // What a shape adds to the normals of the vertices that it moves: [end - begin][3].
  void changes(const Shapes& shapes, size_t shape, float* out) const;

 private:
  std::array<float, 3> normal_at(const float* positions, size_t vertex) const;

  const float* positions_;
  const int32_t* triangles_;
  size_t count_;
  std::vector<size_t> first_, around_;  // the triangles at each vertex, rising
  std::vector<float> rest_;
};

// Shapes on some of the vertices: where new_ids [n] is below zero, an entry is left out.
struct ReducedShapes {
  std::vector<int32_t> index, offsets;
  std::vector<float> delta;

  ReducedShapes(const Shapes& shapes, const std::vector<int32_t>& new_ids);
  Shapes view() const { return {offsets.size() - 1, index.data(), delta.data(), offsets.data()}; }
};

// A skeleton at rest and how it holds the vertices of a surface.
struct Skin {
  size_t num_joints = 0;
  const int32_t* parents = nullptr;   // [J], -1 for a root, parents first
  const float* positions = nullptr;   // [J][3]
  const uint16_t* joints = nullptr;   // [n][4]
  const float* weights = nullptr;     // [n][4]
};

// The vertices [n][3] of a posed surface, float64. weights: of the shapes, null at rest; rotations: quaternions x, y, z,
// w of the joints about the head's axes, null at rest, of any length but zero.
std::vector<double> posed(const float* positions, size_t n, const Shapes& shapes, const float* weights,
                          const Skin& skin, const float* rotations);

}  // namespace topos

#endif
