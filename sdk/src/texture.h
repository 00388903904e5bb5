// Lay a photograph on a head: the way from pixels to a skin. Twin of topos_rt/texture/projection.py, material.py and stage.py.
#ifndef TOPOS_SDK_TEXTURE_H
#define TOPOS_SDK_TEXTURE_H

#include <string>
#include <vector>

#include "image.h"
#include "texture_blend.h"
#include "texture_colours.h"

namespace topos {

inline constexpr int kTextureSides[] = {512, 1024, 2048};
inline constexpr int kTurnedDegrees = 45, kSmallFace = 64, kReliefFace = 300;  // the latter two in pixels

// Square pictures, row by row from the top, which is v = 1.
struct TextureMaps {
  int side = 0, relief_side = 0;
  std::vector<uint8_t> albedo;      // [side][side][3] sRGB
  std::vector<uint8_t> orm;         // [kAtlasSide][kAtlasSide][3]: occlusion, roughness, metalness
  std::vector<uint8_t> relief;      // [relief_side][relief_side][3]: normals in tangent space, +Y up in the picture
  std::vector<uint8_t> confidence;  // [kAtlasSide][kAtlasSide]
  bool projected = false;
  double seen = 0, mirrored = 0, mouth_open = 0;  // shares of the face, and of the mouth's width
  bool turned = false, spectacles = false;
  std::vector<std::string> notes;  // what the user should know

  // As members of a head's metadata, "texture":{...}.
  std::string facts() const;
};

// The texture of a head of which nothing is known.
TextureMaps base_texture(const TexturePlan& plan, const Atlas& atlas);

// The texture that a photograph, upright, shows of a face. face_size: pixels; yaw: degrees.
TextureMaps projected_texture(const TexturePlan& plan, const Atlas& atlas, const Sitter& sitter, const Picture& picture,
                              double face_size, double yaw);

// Occlusion, roughness and metalness of skin, lips, eyes and hair.
std::vector<uint8_t> orm_of(const TexturePlan& plan, const Atlas& atlas);

// Normals of the skin's fine relief, from an albedo [S][S][3]. strength: [kAtlasSide][kAtlasSide], 0 to 1.
GridOf<uint8_t> relief_of(const std::vector<uint8_t>& albedo, int side, const Atlas& atlas, const Grid& strength);

}  // namespace topos

#endif
