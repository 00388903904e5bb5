// How textures lie on the heads of a topology, and the material that every head has. Twin of topos_rt/head/atlas.py.
#ifndef TOPOS_SDK_ATLAS_H
#define TOPOS_SDK_ATLAS_H

#include <cstddef>
#include <cstdint>

#include "grids.h"

namespace topos {

inline constexpr int kAtlasSide = 256;  // cells of the areas, along a side
enum AtlasPart : uint8_t { kSkinPart, kMouthPart, kEyesPart, kTonguePart, kSocketPart, kNeckPart, kAtlasParts };
enum AtlasArea { kFaceArea, kLipsArea, kBrowsArea, kEyesArea, kNoseArea, kScalpArea, kEarsArea, kDetailArea, kAtlasAreas };

// The arrays are the caller's. Pictures have v = 1 in their first row.
struct Atlas {
  size_t vertices = 0, copies = 0, triangles = 0, sides = 0;
  const int32_t* corners = nullptr;       // [triangles][3] vertices
  const int32_t* copy_corners = nullptr;  // [triangles][3] copies of vertices, for seams
  const float* uvs = nullptr;             // [copies][2], v up
  const uint8_t* parts = nullptr;         // [copies] of AtlasPart
  const int32_t* ends = nullptr;          // [sides][2] vertices of polygon sides, each side once, rising
  const float* landmark_uvs = nullptr;    // [468][2]
  const uint8_t* masks = nullptr;         // [kAtlasAreas][kAtlasSide * kAtlasSide]
  const uint8_t* base = nullptr;          // [base_side][base_side][3] sRGB
  int base_side = 0;                      // a multiple of kAtlasSide, or a divisor of that
  double mirror = 0;                      // u + u' of points that mirror each other; 0 where nothing does
  // Spreads what is known at landmarks over vertices of the face.
  size_t warp_rows = 0, warp_columns = 0;
  const uint16_t* warp = nullptr;            // [rows][columns] halves
  const int32_t* warp_vertices = nullptr;    // [rows]
  const int32_t* warp_landmarks = nullptr;   // [columns]

  // An area as [kAtlasSide][kAtlasSide] in 0..1.
  Grid area(AtlasArea which) const {
    Grid made(kAtlasSide, kAtlasSide);
    const uint8_t* mask = masks + static_cast<size_t>(which) * made.cells();
    for (size_t i = 0; i < made.cells(); ++i) made[i] = static_cast<float>(mask[i]) / 255.0F;
    return made;
  }
};

}  // namespace topos

#endif
