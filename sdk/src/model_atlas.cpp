// What a model needs to lay textures on its heads.
#include <cmath>
#include <string>

#include "face.h"
#include "model_checks.h"
#include "model_data.h"
#include "texture_plan.h"

namespace topos {
namespace {

constexpr int kLeastBase = 256, kMostBase = 4096;
constexpr uint16_t kHalfExponent = 0x7C00;

void require_within(const Rows<float>& numbers, const char* what) {
  for (size_t at = 0; at < numbers.count(); ++at) {
    if (!(numbers[at] >= 0 && numbers[at] <= 1)) wrong(what, "a number outside of 0 to 1", "UVs within 0 to 1");
  }
}

// The side of a square picture, a power of two.
int side_of(size_t pixels) {
  for (int side = kLeastBase; side <= kMostBase; side *= 2) {
    if (pixels == static_cast<size_t>(side) * static_cast<size_t>(side)) return side;
  }
  wrong("atlas_base", std::to_string(pixels) + " pixels", "a square of 256 to 4096, a power of two");
}

}  // namespace

void ModelData::read_atlas() {
  if (!pack.has(Kind::kAtlasBase)) return;
  constexpr auto kCells = size_t{kAtlasSide} * kAtlasSide;
  atlas_meshes = levels_from(kAtlasMesh);
  if (atlas_meshes.size() != meshes.size()) {
    wrong("meshes of the atlas", std::to_string(atlas_meshes.size()), std::to_string(meshes.size()));
  }
  for (size_t level = 0; level < meshes.size(); ++level) {
    const MeshData &own = atlas_meshes[level], &plain = meshes[level];
    if (own.uvs.rows == 0 || own.vertices != plain.vertices || own.triangles.rows != plain.triangles.rows) {
      wrong("mesh " + std::to_string(level) + " of the atlas", "another mesh", "that of the level, with UVs");
    }
    require_within(own.uvs, "mesh_uvs");
  }
  const MeshData& mesh = atlas_meshes.front();
  const auto of_copies = pack.exactly<uint8_t>(Kind::kMeshParts, mesh.source.rows, 1, kAtlasMesh);
  const auto sides = pack.rows<int32_t>(Kind::kAtlasSides, 2);
  const auto landmark_uvs = pack.exactly<float>(Kind::kAtlasLandmarkUvs, kSkinLandmarks, 2);
  const auto masks = pack.exactly<uint8_t>(Kind::kAtlasMasks, kAtlasAreas, kCells);
  const auto base = pack.rows<uint8_t>(Kind::kAtlasBase, 3);
  const auto warp = pack.rows<Half>(Kind::kAtlasWarp, 0);
  const auto warp_vertices = pack.exactly<int32_t>(Kind::kAtlasWarpVertices, warp.rows, 1);
  const auto warp_landmarks = pack.exactly<int32_t>(Kind::kAtlasWarpLandmarks, warp.columns, 1);
  require_below(of_copies, 0, kAtlasParts, "mesh_parts");
  if (sides.rows == 0) wrong("atlas_sides", "none", "those of the polygons");
  require_below(sides, 0, size[kVertices], "atlas_sides");
  require_within(landmark_uvs, "atlas_landmark_uvs");
  require_below(warp_vertices, 0, size[kVertices], "atlas_warp_vertices");
  require_below(warp_landmarks, 0, static_cast<int64_t>(kSkinLandmarks), "atlas_warp_landmarks");
  for (size_t at = 0; at < warp.count(); ++at) {
    if ((warp[at].bits & kHalfExponent) == kHalfExponent) wrong("atlas_warp", "NaN or infinite", "finite numbers");
  }
  if (!(number[kMirror] >= 0 && number[kMirror] <= 2)) wrong("atlas mirror", std::to_string(number[kMirror]), "0 to 2");
  Atlas found;
  found.vertices = size[kVertices];
  found.copies = mesh.source.rows;
  found.triangles = mesh.triangles.rows;
  found.sides = sides.rows;
  found.corners = mesh.corners.data();
  found.copy_corners = mesh.triangles.data;
  found.uvs = mesh.uvs.data;
  found.parts = of_copies.data;
  found.ends = sides.data;
  found.landmark_uvs = landmark_uvs.data;
  found.masks = masks.data;
  found.base = base.data;
  found.base_side = side_of(base.rows);
  found.mirror = number[kMirror];
  found.warp_rows = warp.rows;
  found.warp_columns = warp.columns;
  static_assert(sizeof(Half) == sizeof(uint16_t) && alignof(Half) == alignof(uint16_t));
  found.warp = reinterpret_cast<const uint16_t*>(warp.data);
  found.warp_vertices = warp_vertices.data;
  found.warp_landmarks = warp_landmarks.data;
  const Window window = face_cells(found);
  if (window.height() <= 0 || window.width() <= 0) wrong("atlas_masks", "an area of the face that is empty", "one");
  atlas = found;
}

}  // namespace topos
