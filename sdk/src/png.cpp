#include <spng.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

#include "decode_formats.h"
#include "picture_files.h"

namespace topos {
namespace {

constexpr size_t kSignature = 8, kChunkFrame = 12;  // length, name and sum of a chunk
constexpr int kGrey = 0;                            // the colour type

struct FreeContext {
  void operator()(spng_ctx* context) const { spng_ctx_free(context); }
};
using Context = std::unique_ptr<spng_ctx, FreeContext>;

uint32_t big_endian(const uint8_t* bytes) {
  return static_cast<uint32_t>(bytes[0]) << 24U | static_cast<uint32_t>(bytes[1]) << 16U |
         static_cast<uint32_t>(bytes[2]) << 8U | bytes[3];
}

struct Chunks {
  bool animated = false, one_transparent = false;
};

// What chunks before the pixels say that the decoder does not.
Chunks read_chunks(const uint8_t* bytes, size_t size, RawImage* out) {
  constexpr std::string_view kXmp = "XML:com.adobe.xmp";
  Chunks found;
  for (size_t at = kSignature; size - at >= kChunkFrame;) {
    const size_t length = big_endian(bytes + at);
    if (length > size - at - kChunkFrame) break;
    const std::string_view name(reinterpret_cast<const char*>(bytes + at + 4), 4);
    const uint8_t* data = bytes + at + 8;
    if (name == "acTL") found.animated = length >= 4 && big_endian(data) > 1;
    if (name == "tRNS") found.one_transparent = true;
    if (name == "iCCP") out->has_profile = true;
    if (name == "eXIf") out->exif = exif_orientation(data, length);
    if (name == "iTXt" && length > kXmp.size() && std::memcmp(data, kXmp.data(), kXmp.size() + 1) == 0) {
      out->xmp = xmp_orientation(data, length);
    }
    at += kChunkFrame + length;
  }
  return found;
}

// 16-bit grey, which Python scales and rounds; other 16-bit samples lose their lower half.
Decoded decode_wide_grey(spng_ctx* context, RawImage* out) {
  const size_t count = static_cast<size_t>(out->width) * static_cast<size_t>(out->height);
  std::vector<uint16_t> wide(count);
  if (spng_decode_image(context, wide.data(), 2 * count, SPNG_FMT_PNG, 0) != 0) return Decoded::kDamaged;
  for (const uint16_t value : wide) {
    out->pixels.insert(out->pixels.end(), 3, static_cast<uint8_t>(std::rint(value / 257.0)));
  }
  return Decoded::kYes;
}

}  // namespace

bool decodes_png() { return true; }

Decoded decode_png(const uint8_t* bytes, size_t size, RawImage* out) {
  const Context context(spng_ctx_new(0));
  spng_ihdr header;
  if (context == nullptr || size < kSignature || spng_set_png_buffer(context.get(), bytes, size) != 0 ||
      spng_get_ihdr(context.get(), &header) != 0) {
    return Decoded::kDamaged;
  }
  if (const Decoded fits = check_size(header.width, header.height); fits != Decoded::kYes) return fits;
  const Chunks chunks = read_chunks(bytes, size, out);
  if (chunks.animated) return Decoded::kAnimated;
  out->width = static_cast<int>(header.width);
  out->height = static_cast<int>(header.height);
  const bool wide = header.bit_depth == 16;
  if (wide && header.color_type == kGrey) return decode_wide_grey(context.get(), out);
  if (wide && chunks.one_transparent) return Decoded::kUnsupported;
  out->channels = 4;
  out->pixels.resize(static_cast<size_t>(out->width) * static_cast<size_t>(out->height) * 4);
  const int failed = spng_decode_image(context.get(), out->pixels.data(), out->pixels.size(), SPNG_FMT_RGBA8,
                                       SPNG_DECODE_TRNS);
  return failed != 0 ? Decoded::kDamaged : Decoded::kYes;
}

std::string encode_png(const uint8_t* pixels, int side) {
  const Context context(spng_ctx_new(SPNG_CTX_ENCODER));
  spng_ihdr header = {};
  header.width = static_cast<uint32_t>(side);
  header.height = static_cast<uint32_t>(side);
  header.color_type = SPNG_COLOR_TYPE_TRUECOLOR;
  header.bit_depth = 8;
  const size_t size = 3 * static_cast<size_t>(side) * static_cast<size_t>(side);
  if (context == nullptr || spng_set_option(context.get(), SPNG_ENCODE_TO_BUFFER, 1) != 0 ||
      spng_set_ihdr(context.get(), &header) != 0 ||
      spng_encode_image(context.get(), pixels, size, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE) != 0) {
    return "";
  }
  int failed = 0;
  size_t length = 0;
  const std::unique_ptr<void, void (*)(void*)> file(spng_get_png_buffer(context.get(), &length, &failed), std::free);
  return file == nullptr || failed != 0 ? "" : std::string(static_cast<const char*>(file.get()), length);
}

}  // namespace topos
