// The passes over texels, shared with the Python package: csrc/texture_rows.h.
#ifndef TOPOS_SDK_TEXTURE_PASSES_H
#define TOPOS_SDK_TEXTURE_PASSES_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace topos {

inline constexpr float kDarkestColour = 1e-3F;  // of those that logarithms are taken of
inline constexpr float kTexelGain = 1.6F;       // of weights where the photograph is blended in
inline constexpr int kSrgbTable = 4096;

// A photograph at the texels of a mesh: see topos_rt.gpu.texture_ops.project_texture.
struct TexelsToProject {
  const int32_t* vertices = nullptr;  // [n][3]
  const float* weights = nullptr;     // [n][3]
  const float* attributes = nullptr;  // [V][6]
  const float* picture = nullptr;     // [height][width][3], two or more each way
  const float* light = nullptr;       // [9][3]
  const float* base = nullptr;        // [n][3]
  size_t texels = 0;
  int height = 0, width = 0;
};
void project_texels(const TexelsToProject& given, float* out);  // [n][4]

// The colours of a texture: see topos_rt.gpu.texture_reference.FinishTexture.
struct TexelsToFinish {
  const float* base = nullptr;    // [S][S][3]
  const float* cells = nullptr;   // [S / step][S / step][4]
  const float* texels = nullptr;  // [height][width][4]
  const float* window = nullptr;  // [height / step][width / step][5]
  const float* skin = nullptr;    // [height][width]
  const float* grain = nullptr;   // [S][S]
  const float* hair = nullptr;    // [3]
  const float* tone = nullptr;    // [3]
  const uint8_t* srgb = nullptr;  // [kSrgbTable]
  int side = 0, step = 0, top = 0, left = 0, height = 0, width = 0;
  bool mirror = false;
};
void finish_texels(const TexelsToFinish& given, uint8_t* out);  // [S][S][3]

// Blurs values [height][width][channels] by box filters, in place.
void box_filter(float* values, int height, int width, int channels, const std::vector<int64_t>& radii);
void box_filter(double* values, int height, int width, int channels, const std::vector<int64_t>& radii);

}  // namespace topos

#endif
