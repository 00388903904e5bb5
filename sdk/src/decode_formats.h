// What decode.cpp, png.cpp and jpeg.cpp share.
#ifndef TOPOS_SDK_DECODE_FORMATS_H
#define TOPOS_SDK_DECODE_FORMATS_H

#include <vector>

#include "decode.h"

namespace topos {

// Pixels as a file has them, before they are turned upright.
struct RawImage {
  int width = 0, height = 0, channels = 3;
  std::vector<uint8_t> pixels;
  int exif = 0, xmp = 0;  // orientations, 0 where none is told
  bool has_profile = false;
};

Decoded decode_png(const uint8_t* bytes, size_t size, RawImage* out);
Decoded decode_jpeg(const uint8_t* bytes, size_t size, RawImage* out);

// kYes for a size that is taken.
Decoded check_size(uint64_t width, uint64_t height);

}  // namespace topos

#endif
