// PNG and JPEG files in memory, where libspng and libjpeg-turbo were found. Twin of the reading half of
// topos_rt/pictures/image.py; colours stay as they are, for there is no engine for ICC profiles here.
#ifndef TOPOS_SDK_DECODE_H
#define TOPOS_SDK_DECODE_H

#include "image.h"

namespace topos {

enum class Decoded {
  kYes,
  kForeign,      // neither PNG nor JPEG, or this build does not read it
  kDamaged,
  kTooSmall,     // fewer than kMinSide pixels on a side
  kTooLarge,     // more than kMaxPixels
  kTransparent,  // nothing can be seen
  kAnimated,     // several frames
  kUnsupported,  // CMYK, or 16 bits with one colour that is transparent
};

struct ImageFile {
  Picture picture;           // upright, RGB or RGBA
  bool has_profile = false;  // an ICC profile, which was not applied
};

// Sizes are checked before the pixels' memory is taken.
Decoded decode_image(const uint8_t* bytes, size_t size, ImageFile* out);

bool decodes_png();
bool decodes_jpeg();

// The orientation 1 to 8 that EXIF data (a TIFF header and its directory) tells; 0 where it tells none.
int exif_orientation(const uint8_t* bytes, size_t size);
// The same of an XMP packet.
int xmp_orientation(const uint8_t* bytes, size_t size);

}  // namespace topos

#endif
