// What a pack says of a model, with every number checked that anything is indexed or sized by.
#ifndef TOPOS_SDK_MODEL_DATA_H
#define TOPOS_SDK_MODEL_DATA_H

#include <cmath>
#include <vector>

#include "atlas.h"
#include "engine_source.h"
#include "head_fit.h"
#include "pack.h"
#include "parts.h"

namespace topos {

// What an image encoder may take besides the pixels: the table of topos_rt/model/evidence.py.
struct Evidence {
  const char* name;
  std::vector<int64_t> shape;
  bool biometric;
};
const std::vector<Evidence>& evidence_table();

// One level of detail: vertices with copies for UV seams, of which the first are the level's own.
struct MeshData {
  uint32_t vertices = 0;
  Rows<int32_t> source, triangles;
  Rows<float> uvs;
  Rows<uint8_t> surfaces, shade;  // of triangles and vertices; only with parts
  std::vector<int32_t> corners;  // the triangles without copies: of the level's own vertices
};

struct PackRig {
  uint32_t joints = 0, shapes = 0;
  Rows<int32_t> parents;
  Rows<float> joint_positions, skin_weights, shape_delta;
  Rows<uint16_t> skin_joints;
  Rows<int32_t> shape_index, shape_offsets;
  // How it is fitted; without these, a head has the rig as it is.
  Rows<float> head, joint_weight;
  Rows<int32_t> joint_index, joint_offsets, contact_pairs, contact_offsets;
  Rows<uint8_t> parts;
};

struct PackPreset {
  uint32_t steps, solver, reuse;
  double guidance, shift, low, high, temperature;  // NaN: the model's own
  std::vector<double> times;  // of a preset with its own grid; else none
};

struct ModelData {
  // Throws a Fault for a pack whose sections do not fit together.
  explicit ModelData(const Pack& pack);

  Pack pack;
  uint32_t size[kSizesCount] = {};
  double number[kNumbersCount] = {};
  float rotation[9] = {};
  const uint8_t* topology_id = nullptr;
  std::vector<const char*> about, preset_names;
  std::vector<PackPreset> presets;
  std::vector<MeshData> meshes, atlas_meshes;  // the latter: levels with the UVs of textures
  Atlas atlas;  // without vertices: heads have no textures
  PackRig rig;
  bool has_parts = false;
  PartKit parts;
  PartJoints part_joints;
  std::vector<int32_t> motion_shapes;
  Rows<float> variation;  // directions of the latent
  Rows<double> memory;  // measured; no rows where nobody did
  Rows<int32_t> region_offsets, region_vertices;
  CanonicalFace canonical;
  LandmarkMap landmarks;  // without vertices: no face can be fitted
  std::array<int, kArkitShapes> arkit_shapes;  // the rig's number of each; -1: none
  std::vector<const Evidence*> evidence;  // what the image encoder takes, in its order

  size_t latent() const { return size_t{size[kLatentTokens]} * size[kLatentChannels]; }
  size_t vertices() const { return size[kVertices]; }
  // Whether the image encoder estimates the latent, and the flow makes what is missing, over kResidualScale.
  bool estimates() const { return !std::isnan(number[kResidualScale]); }
  EngineSource graph(Graph which, bool half = false) const;  // half: with FP16 operands, where the pack has that
  EngineSource face_graph(FaceGraph which) const;
  bool textured() const { return atlas.vertices > 0; }
  bool biometric() const;  // whether it takes what people can be told apart by

 private:
  void read_settings();
  void read_presets();
  void read_meshes();
  std::vector<MeshData> levels_from(uint16_t first) const;
  void read_atlas();
  void read_rig();
  void read_binding();
  void read_regions();
  void read_parts();
  void read_faces();
};

}  // namespace topos

#endif
