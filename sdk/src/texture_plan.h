// What projecting a photograph needs of a topology and an atlas, worked out once for each size of texture. Twin of
// topos_rt/texture/plan.py, bit for bit.
#ifndef TOPOS_SDK_TEXTURE_PLAN_H
#define TOPOS_SDK_TEXTURE_PLAN_H

#include "atlas.h"

namespace topos {

// The rows and columns of cells around the area of the face; none where that is empty.
Window face_cells(const Atlas& atlas);

struct TexturePlan {
  // side: texels along a side, a multiple of kAtlasSide.
  TexturePlan(const Atlas& atlas, int side);

  int side, step;        // step: texels of a cell, along a side
  Window cells, window;  // what may show the photograph, in cells and in texels
  // Of the window's texels, row after row; those that are no skin have no weights.
  std::vector<int32_t> vertices;  // [n][3] of their triangles
  std::vector<float> weights;     // [n][3]
  Grid base;                      // [S][S][3] linear
  std::vector<float> log_base;    // [n][3]
  Grid depth;                     // [kAtlasSide][kAtlasSide]: how far inside the face, as a share of the side
  Grid skin;                      // of the window: the share of plain skin
  Area covered;                   // of the window: which texels are skin
  std::vector<size_t> samples;    // texels of the window that serve the fit of the light
  std::vector<size_t> eyes;       // texels of the whole texture
  std::vector<float> scalp;       // [V] the share of hair that vertices have
  Area parts;                     // [kAtlasSide][kAtlasSide] of AtlasPart
  Grid grain;                     // [S][S] around one: what the colour of short hairs is multiplied with
  bool mirrors;

  // How far the parts follow the tone of the skin.
  static float toned(uint8_t part);
};

}  // namespace topos

#endif
