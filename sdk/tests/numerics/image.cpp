#include "image.h"

#include <algorithm>

#include "resample.h"
#include "shims.h"
#include "warp.h"

namespace {

topos::Picture picture_of(const uint8_t* pixels, int64_t width, int64_t height, int64_t channels) {
  topos::Picture made(static_cast<int>(width), static_cast<int>(height), static_cast<int>(channels));
  std::copy_n(pixels, made.bytes(), made.pixels.begin());
  return made;
}

void copy_out(const topos::Picture& picture, uint8_t* out) {
  std::copy(picture.pixels.begin(), picture.pixels.end(), out);
}

topos::Box box_of(const int32_t* box) { return {box[0], box[1], box[2], box[3]}; }

}  // namespace

// Returns the channels of the picture, 0 where nothing of it can be seen. size: its width and height.
SHIM int32_t take_picture(const uint8_t* data, int64_t width, int64_t height, int64_t stride, int64_t format,
                          int64_t orientation, uint8_t* out, int32_t* size) {
  topos::Picture made;
  const topos::RawPixels raw = {data, static_cast<int>(width), static_cast<int>(height), stride,
                                static_cast<topos::PixelFormat>(format), static_cast<int>(orientation)};
  if (topos::take_picture(raw, &made) != topos::Taken::kYes) return 0;
  copy_out(made, out);
  size[0] = made.width;
  size[1] = made.height;
  return made.channels;
}

SHIM void on_black(const uint8_t* pixels, int64_t width, int64_t height, int64_t channels, uint8_t* out) {
  copy_out(topos::on_black(picture_of(pixels, width, height, channels)), out);
}

SHIM void resized(const uint8_t* pixels, int64_t width, int64_t height, int64_t channels, int64_t wide, int64_t high,
                  int64_t filter, uint8_t* out) {
  copy_out(topos::resized(picture_of(pixels, width, height, channels), static_cast<int>(wide), static_cast<int>(high),
                          static_cast<topos::Filter>(filter)), out);
}

SHIM void reduced(const uint8_t* pixels, int64_t width, int64_t height, int64_t factor, const int32_t* box,
                  uint8_t* out) {
  copy_out(topos::reduced(picture_of(pixels, width, height, 3), static_cast<int>(factor), box_of(box)), out);
}

SHIM void pixels_of(const uint8_t* pixels, int64_t width, int64_t height, int64_t channels, int64_t high, int64_t wide,
                    float* out) {
  const auto made = topos::pixels_of(picture_of(pixels, width, height, channels), static_cast<int>(high),
                                     static_cast<int>(wide));
  std::copy(made.begin(), made.end(), out);
}

SHIM void fitted_pixels(const uint8_t* pixels, int64_t width, int64_t height, int64_t high, int64_t wide, float* out) {
  const auto made =
      topos::fitted_pixels(picture_of(pixels, width, height, 3), static_cast<int>(high), static_cast<int>(wide));
  std::copy(made.begin(), made.end(), out);
}

SHIM void square_matrix(const double* square, int64_t size, double* out) {
  const auto made = topos::Square{square[0], square[1], square[2], square[3]}.matrix(static_cast<int>(size));
  std::copy(made.begin(), made.end(), out);
}

SHIM void square_corners(const double* square, double* out) {
  const auto made = topos::Square{square[0], square[1], square[2], square[3]}.corners();
  std::copy(made.begin(), made.end(), out);
}

SHIM void cut(const uint8_t* pixels, int64_t width, int64_t height, const double* square, int64_t size,
              int64_t filtered, float* floats, uint8_t* out) {
  const topos::Square from = {square[0], square[1], square[2], square[3]};
  const auto made = topos::cut(picture_of(pixels, width, height, 3), from, static_cast<int>(size), filtered != 0);
  copy_out(made, out);
  const auto values = topos::to_floats(made);
  std::copy(values.begin(), values.end(), floats);
}
