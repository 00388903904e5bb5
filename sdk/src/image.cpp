#include "image.h"

#include <algorithm>

#include "resample.h"

namespace topos {
namespace {

// Where EXIF's orientations take a pixel from: whether x and y change places, and which of the source's axes then
// run backwards.
struct Turn {
  bool swapped, back_x, back_y;
};

constexpr Turn kTurns[] = {
    {false, false, false}, {false, true, false}, {false, true, true}, {false, false, true},
    {true, false, false},  {true, false, true},  {true, true, true},  {true, true, false},
};

void copy_pixel(const uint8_t* from, PixelFormat format, uint8_t* to) {
  const bool blue_first = format == PixelFormat::kBgra;
  to[0] = from[blue_first ? 2 : 0];
  to[1] = from[1];
  to[2] = from[blue_first ? 0 : 2];
  if (format != PixelFormat::kRgb) to[3] = from[3];
}

Picture without_alpha(const Picture& picture) {
  Picture made(picture.width, picture.height, 3);
  const uint8_t* from = picture.pixels.data();
  for (uint8_t* to = made.pixels.data(); to != made.pixels.data() + made.bytes(); to += 3, from += 4) {
    std::copy(from, from + 3, to);
  }
  return made;
}

int scaled(int length, int by, int over) {
  return static_cast<int>(static_cast<int64_t>(length) * by / over);
}

// [H][W][channels] to [3][H][W] in 0..1. What is transparent turns black.
std::vector<float> planes(const Picture& picture) {
  const size_t count = picture.bytes() / picture.depth();
  std::vector<float> made(3 * count);
  for (size_t i = 0; i < count; ++i) {
    const uint8_t* pixel = picture.pixels.data() + i * picture.depth();
    for (size_t c = 0; c < 3; ++c) made[c * count + i] = static_cast<float>(pixel[c]) / 255.0F;
    if (picture.channels == 3) continue;
    for (size_t c = 0; c < 3; ++c) made[c * count + i] *= static_cast<float>(pixel[3]) / 255.0F;
  }
  return made;
}

}  // namespace

Taken take_picture(const RawPixels& raw, Picture* out) {
  const int channels = raw.format == PixelFormat::kRgb ? 3 : 4;
  const Turn turn = kTurns[raw.orientation - 1];
  const int64_t stride = raw.stride != 0 ? raw.stride : static_cast<int64_t>(raw.width) * channels;
  Picture made(turn.swapped ? raw.height : raw.width, turn.swapped ? raw.width : raw.height, channels);
  uint8_t lowest = 255, highest = 0;
  for (int y = 0; y < made.height; ++y) {
    for (int x = 0; x < made.width; ++x) {
      const int across = turn.swapped ? y : x, down = turn.swapped ? x : y;
      const int64_t column = turn.back_x ? raw.width - 1 - across : across;
      const int64_t row = turn.back_y ? raw.height - 1 - down : down;
      uint8_t* pixel = made.at(x, y);
      copy_pixel(raw.data + row * stride + column * channels, raw.format, pixel);
      if (channels == 3) continue;
      lowest = std::min(lowest, pixel[3]);
      highest = std::max(highest, pixel[3]);
    }
  }
  if (channels == 4 && highest == 0) return Taken::kTransparent;
  *out = channels == 4 && lowest == 255 ? without_alpha(made) : std::move(made);
  return Taken::kYes;
}

Picture on_black(const Picture& picture) {
  if (picture.channels == 3) return picture;
  Picture made(picture.width, picture.height, 3);
  const uint8_t* from = picture.pixels.data();
  for (uint8_t* to = made.pixels.data(); to != made.pixels.data() + made.bytes(); to += 3, from += 4) {
    for (int c = 0; c < 3; ++c) {
      // Pillow works with 7 bits below the unit, divides by 255 with rounding, and cuts those bits off.
      const uint32_t value = (static_cast<uint32_t>(from[c]) * from[3] << 7U) + (128U << 7U);
      to[c] = static_cast<uint8_t>(((value >> 8U) + value) >> 15U);
    }
  }
  return made;
}

Picture cropped(const Picture& picture, const Box& box) {
  Picture made(box.width(), box.height(), picture.channels);
  for (int y = 0; y < made.height; ++y) {
    const uint8_t* row = picture.at(box.left, box.top + y);
    std::copy(row, row + static_cast<size_t>(made.width) * made.depth(), made.at(0, y));
  }
  return made;
}

std::vector<float> pixels_of(const Picture& picture, int height, int width) {
  const int wide = std::min(picture.width, std::max(1, scaled(picture.height, width, height)));
  const int high = std::min(picture.height, std::max(1, scaled(picture.width, height, width)));
  const int left = (picture.width - wide) / 2, top = (picture.height - high) / 2;
  const Filter filter = picture.channels == 4 ? Filter::kBilinear : Filter::kLanczos;
  // The crop comes first: a filter with a box would see beyond the box.
  return planes(resized(cropped(picture, {left, top, left + wide, top + high}), width, height, filter));
}

std::vector<float> fitted_pixels(const Picture& picture, int height, int width) {
  const int left = (picture.width - width) / 2, top = (picture.height - height) / 2;
  return planes(cropped(picture, {left, top, left + width, top + height}));
}

}  // namespace topos
