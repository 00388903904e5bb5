// A head as a GLB file, with the bytes of topos_rt/formats/glb.py and its default options.
#ifndef TOPOS_SDK_GLB_H
#define TOPOS_SDK_GLB_H

#include <string>
#include <string_view>
#include <vector>

#include "morphs.h"

namespace topos {

struct GlbSkeleton {
  std::vector<std::string_view> names;
  std::vector<std::string_view> roles;  // of a humanoid, for each joint; empty: none
  const int32_t* parents = nullptr;
  const float* positions = nullptr;
};

// What hangs on the skeleton. Vertices are those of the surface that it belongs to.
struct GlbRig {
  const uint16_t* joints = nullptr;  // [n][4]
  const float* weights = nullptr;    // [n][4]
  Shapes shapes;
};

// The vertices that a file has of the head: V rows of arrays, W copies of them.
struct GlbHead {
  size_t vertices = 0, copies = 0, triangles = 0;
  const float* positions = nullptr;          // [V][3]
  const float* normals = nullptr;            // [V][3]
  const int32_t* corners = nullptr;          // [triangles][3] of V
  const int32_t* source = nullptr;           // [W], the first V count up
  const int32_t* copy_corners = nullptr;     // [triangles][3] of W
  const float* uvs = nullptr;                // [W][2], v up; null without
  const uint8_t* surfaces = nullptr;         // [triangles] of skin, eyes and mouth; null: all is skin
  const uint8_t* shade = nullptr;            // [V], with parts; null without
  GlbRig rig;
};

// Teeth or lashes.
struct GlbPart {
  std::string_view material;
  size_t vertices = 0, triangles = 0;
  const float* positions = nullptr, *normals = nullptr, *uvs = nullptr;  // v up
  const int32_t* corners = nullptr;
  const uint8_t* shade = nullptr;  // null for all the light
  GlbRig rig;
};

struct GlbPicture {
  std::string_view name, mime;
  std::string_view bytes;
};

struct GlbScene {
  GlbHead head;
  bool has_rig = false;  // whether skeleton and rigs count
  GlbSkeleton skeleton;
  std::vector<std::string_view> shape_names;
  std::vector<GlbPicture> texture;  // none, or albedo, orm and normal
  bool has_parts = false;
  std::vector<GlbPart> parts;     // teeth, then lashes
  std::string_view part_picture;  // the bytes of a PNG file
  std::string_view metadata = "{}";  // JSON without blanks
};

// The file. Its size stays below 4 GiB for any head that the caller has checked.
std::string glb_of(const GlbScene& scene);

}  // namespace topos

#endif
