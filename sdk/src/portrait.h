// Choose the face of a picture, check it, and cut the portrait that a model gets to see. Twin of
// topos_rt/faces/portrait.py.
#ifndef TOPOS_SDK_PORTRAIT_H
#define TOPOS_SDK_PORTRAIT_H

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "finder.h"

namespace topos {

enum class Crop { kAuto, kNone, kBox };

struct FaceChoice {
  uint32_t face = 0;  // 0: the largest; else its number from there
  Crop crop = Crop::kAuto;
  Box box;
  bool check = true;

  // Whether faces are looked for at all.
  bool looks() const { return check || crop == Crop::kAuto; }
};

// What a model gets to see of a picture.
struct Portrait {
  Picture picture;  // upright, RGB or RGBA
  std::optional<Face> face;
  Crop crop = Crop::kNone;
  Box box;
  Square square;  // which is seen; with kAuto it is cut out, else it tells what is
  std::vector<std::string> warnings;

  // What the image encoder takes: [3][height][width] in 0..1.
  std::vector<float> pixels(int height, int width) const;
  // What was found, as members of a head's metadata; more: warnings of later stages.
  std::string facts(const std::vector<std::string>& more) const;
};

// The search for the faces of an upright picture that a choice looks for. Throws a Fault where the crop is not inside it.
FaceSearch search_of(const Picture& picture, const FaceChoice& choice, const CanonicalFace& canonical);

// faces: what that search found. Throws a Fault where there is no face, it looks too far sideways, or the crop is not
// inside the picture.
Portrait portrait_of(Picture picture, const FaceChoice& choice, std::vector<Face> faces);

}  // namespace topos

#endif
