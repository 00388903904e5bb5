// Teeth and lashes of a head. Twin of topos_rt/head/parts.py, part_kit.py and formats/materials.part_meshes.
#ifndef TOPOS_SDK_PARTS_H
#define TOPOS_SDK_PARTS_H

#include <string_view>
#include <vector>

#include "morphs.h"

namespace topos {

// A kit's arrays, which are the caller's, checked, and outlive what is made of them. m: vertices of the parts.
struct PartKit {
  static constexpr size_t kPieces = 6;  // upper teeth, lower teeth, left and right upper and lower lashes
  size_t vertices = 0, anchors_each = 0, quads = 0, motions = 0;
  const int32_t* anchors = nullptr;          // [kPieces][anchors_each] vertices of the head
  const uint16_t* weights = nullptr;         // [m][anchors_each], half precision
  const uint8_t* pieces = nullptr;           // [m], rising
  const int32_t* holders = nullptr;          // [m] vertices of the head whose skin each takes
  const uint16_t* corners = nullptr;         // [quads][4]
  const float* uvs = nullptr;                // [m][2]
  const float* rest = nullptr;               // [m][3]
  const int32_t* motion_shapes = nullptr;    // [motions] the head's blendshape of each; -1: it has none of that name
  const uint8_t* motion_pieces = nullptr;    // [motions]
  const float* motion_maps = nullptr;        // [motions][3][4]
  const uint8_t* shade = nullptr;            // [m]
};

// The joints that hold the teeth, in the head's rig; -1 where it has none.
struct PartJoints {
  int32_t head = -1, jaw = -1;
};

// The parts of one head. Its blendshapes are those of the head's rig.
struct Parts {
  std::vector<float> positions, normals;  // [m][3]
  std::vector<uint16_t> joints;           // [m][4]
  std::vector<float> weights;             // [m][4]
  std::vector<int32_t> shape_index, shape_offsets;
  std::vector<float> shape_delta;

  Shapes shapes() const {
    return {shape_offsets.empty() ? 0 : shape_offsets.size() - 1, shape_index.data(), shape_delta.data(),
            shape_offsets.data()};
  }
};

// head: [V][3]; shapes and skin: those fitted to it; without joints the parts get no rig.
Parts parts_of(const PartKit& kit, const float* head, size_t head_vertices, const Shapes& shapes, const Skin& skin,
               const PartJoints& named);

// The parts of one material as a surface of its own: "teeth" or "lashes".
struct PartSurface {
  std::string_view material;
  std::vector<int32_t> ids;      // of the parts' vertices
  std::vector<int32_t> corners;  // triangles
  bool shaded;                   // whether a vertex has less than all the light
};

// Both, in this order, but for those without vertices or quads. The same for every head.
std::vector<PartSurface> part_surfaces(const PartKit& kit);

// A number of half precision.
float float_of(uint16_t half);

}  // namespace topos

#endif
