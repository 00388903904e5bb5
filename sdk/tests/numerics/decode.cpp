#include "decode.h"

#include <algorithm>

#include "shims.h"

namespace {

topos::ImageFile read;  // the last file

}  // namespace

SHIM int32_t decodes_png() { return topos::decodes_png() ? 1 : 0; }
SHIM int32_t decodes_jpeg() { return topos::decodes_jpeg() ? 1 : 0; }

// Returns how it ended; size: width, height, channels and whether there was a profile.
SHIM int32_t decode_image(const uint8_t* bytes, uint64_t count, int32_t* size) {
  read = {};
  const topos::Decoded ended = topos::decode_image(bytes, count, &read);
  size[0] = read.picture.width;
  size[1] = read.picture.height;
  size[2] = read.picture.channels;
  size[3] = read.has_profile ? 1 : 0;
  return static_cast<int32_t>(ended);
}

SHIM void decoded_pixels(uint8_t* out) { std::copy(read.picture.pixels.begin(), read.picture.pixels.end(), out); }
