#include "glb.h"

#include <algorithm>

#include "shims.h"

namespace {

struct RigArrays {
  const uint16_t* joints;
  const float* weights;
  uint64_t shapes;
  const int32_t* index;
  const float* delta;
  const int32_t* offsets;
};

struct PartArrays {
  const char* material;
  uint64_t vertices, triangles;
  const float *positions, *normals, *uvs;
  const int32_t* corners;
  const uint8_t* shade;
  RigArrays rig;
};

struct PictureBytes {
  const char *name, *mime, *bytes;
  uint64_t size;
};

// tests/sdk/numerics/scenes.py has the same.
struct SceneArrays {
  uint64_t vertices, copies, triangles;
  const float *positions, *normals;
  const int32_t *corners, *source, *copy_corners;
  const float* uvs;
  const uint8_t *surfaces, *shade;
  RigArrays rig;
  uint64_t has_rig, num_joints;
  const char *const *joint_names, *const* joint_roles;
  const int32_t* parents;
  const float* joint_positions;
  uint64_t num_shapes;
  const char* const* shape_names;
  uint64_t num_pictures;
  const PictureBytes* pictures;
  uint64_t has_parts, num_parts;
  const PartArrays* parts;
  const char* part_picture;
  uint64_t part_picture_size;
  const char* metadata;
};

topos::GlbRig rig_of(const RigArrays& from) {
  return {from.joints, from.weights, {from.shapes, from.index, from.delta, from.offsets}};
}

std::vector<std::string_view> texts(const char* const* from, uint64_t count) { return {from, from + count}; }

std::string made;  // the last file, until the next one

}  // namespace

// Returns the size of the file, whose bytes glb_bytes copies.
SHIM uint64_t glb_make(const SceneArrays* from) {
  topos::GlbScene scene;
  scene.head = {from->vertices, from->copies, from->triangles, from->positions, from->normals, from->corners,
                from->source, from->copy_corners, from->uvs, from->surfaces, from->shade, rig_of(from->rig)};
  scene.has_rig = from->has_rig != 0;
  scene.skeleton = {texts(from->joint_names, from->num_joints), texts(from->joint_roles, from->num_joints),
                    from->parents, from->joint_positions};
  scene.shape_names = texts(from->shape_names, from->num_shapes);
  for (uint64_t i = 0; i < from->num_pictures; ++i) {
    const PictureBytes& picture = from->pictures[i];
    scene.texture.push_back({picture.name, picture.mime, {picture.bytes, picture.size}});
  }
  scene.has_parts = from->has_parts != 0;
  for (uint64_t i = 0; i < from->num_parts; ++i) {
    const PartArrays& part = from->parts[i];
    scene.parts.push_back({part.material, part.vertices, part.triangles, part.positions, part.normals, part.uvs,
                           part.corners, part.shade, rig_of(part.rig)});
  }
  scene.part_picture = {from->part_picture, from->part_picture_size};
  scene.metadata = from->metadata;
  made = topos::glb_of(scene);
  return made.size();
}

SHIM void glb_bytes(char* out) { std::copy(made.begin(), made.end(), out); }
