// Pictures in memory: from a host's pixels to what the image encoder takes. Twin of topos_rt/pictures/image.py.
#ifndef TOPOS_SDK_IMAGE_H
#define TOPOS_SDK_IMAGE_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace topos {

inline constexpr int kMinSide = 16;
inline constexpr int64_t kMaxPixels = 64 * 1024 * 1024;

// Rows of 8-bit RGB or RGBA without gaps, the upper left pixel first.
struct Picture {
  int width = 0, height = 0, channels = 3;
  std::vector<uint8_t> pixels;

  Picture() = default;
  Picture(int wide, int high, int depth) : width(wide), height(high), channels(depth), pixels(bytes()) {}

  size_t bytes() const { return static_cast<size_t>(width) * static_cast<size_t>(height) * depth(); }
  size_t depth() const { return static_cast<size_t>(channels); }
  uint8_t* at(int x, int y) { return pixels.data() + offset(x, y); }
  const uint8_t* at(int x, int y) const { return pixels.data() + offset(x, y); }

 private:
  size_t offset(int x, int y) const {
    return (static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)) * depth();
  }
};

struct Box {
  int left = 0, top = 0, right = 0, bottom = 0;

  int width() const { return right - left; }
  int height() const { return bottom - top; }
};

enum class PixelFormat { kRgb, kRgba, kBgra };

// Pixels as a host has them.
struct RawPixels {
  const uint8_t* data = nullptr;  // the first pixel of the upper row
  int width = 0, height = 0;
  int64_t stride = 0;  // bytes from a row to the one below it, negative where rows rise in memory; 0: rows lie close
  PixelFormat format = PixelFormat::kRgb;
  int orientation = 1;  // as EXIF counts, 1 to 8
};

enum class Taken { kYes, kTransparent };

// Makes the upright picture: RGB, or RGBA where a pixel is not opaque. kTransparent: nothing of it can be seen, and
// `out` is as it was. The caller has checked sizes and addresses.
Taken take_picture(const RawPixels& raw, Picture* out);

// The picture as RGB, on black where it is transparent; equal to Pillow's alpha_composite.
Picture on_black(const Picture& picture);

// A part of a picture that lies inside it.
Picture cropped(const Picture& picture, const Box& box);

// The centred part with the aspect ratio of the result, resized: [3][height][width] in 0..1.
std::vector<float> pixels_of(const Picture& picture, int height, int width);

// The centred part, height x width, of an RGB picture: [3][height][width] in 0..1.
std::vector<float> fitted_pixels(const Picture& picture, int height, int width);

}  // namespace topos

#endif
