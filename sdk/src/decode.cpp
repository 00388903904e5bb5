#include "decode.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "decode_formats.h"

namespace topos {
namespace {

constexpr uint16_t kOrientationTag = 0x0112;
// TIFF's types of whole numbers, and how many bytes each takes.
constexpr uint16_t kByteType = 1, kShortType = 3, kLongType = 4;
constexpr size_t kEntry = 12;

// Numbers in the byte order that a TIFF header names.
class TiffReader {
 public:
  TiffReader(const uint8_t* bytes, size_t size) : bytes_(bytes), size_(size), big_(size > 1 && bytes[0] == 'M') {}

  bool has(size_t at, size_t count) const { return at <= size_ && count <= size_ - at; }
  uint32_t number(size_t at, size_t width) const {
    uint32_t made = 0;
    for (size_t k = 0; k < width; ++k) made |= static_cast<uint32_t>(bytes_[at + k]) << 8U * (big_ ? width - 1 - k : k);
    return made;
  }

 private:
  const uint8_t* bytes_;
  size_t size_;
  bool big_;
};

bool begins(const uint8_t* bytes, size_t size, std::string_view with) {
  return size >= with.size() && std::memcmp(bytes, with.data(), with.size()) == 0;
}

bool blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  return text;
}

}  // namespace

int exif_orientation(const uint8_t* bytes, size_t size) {
  if (!begins(bytes, size, {"II*\0", 4}) && !begins(bytes, size, {"MM\0*", 4})) return 0;
  const TiffReader tiff(bytes, size);
  if (!tiff.has(4, 4)) return 0;
  const size_t directory = tiff.number(4, 4);
  if (!tiff.has(directory, 2)) return 0;
  const size_t count = tiff.number(directory, 2);
  for (size_t i = 0; i < count; ++i) {
    const size_t at = directory + 2 + kEntry * i;
    if (!tiff.has(at, kEntry)) return 0;
    if (tiff.number(at, 2) != kOrientationTag) continue;
    const uint32_t type = tiff.number(at + 2, 2);
    const size_t width = type == kByteType ? 1 : type == kShortType ? 2 : type == kLongType ? 4 : 0;
    if (width == 0 || tiff.number(at + 4, 4) != 1) return 0;
    return static_cast<int>(std::min(tiff.number(at + 8, width), 9U));
  }
  return 0;
}

// tiff:Orientation="6" or <tiff:Orientation>6</…
int xmp_orientation(const uint8_t* bytes, size_t size) {
  constexpr std::string_view kName = "tiff:Orientation";
  const std::string_view all(reinterpret_cast<const char*>(bytes), size);
  for (size_t at = all.find(kName); at != std::string_view::npos; at = all.find(kName, at + 1)) {
    std::string_view rest = all.substr(at + kName.size());
    if (!rest.empty() && rest.front() == '>') {
      rest.remove_prefix(1);
    } else {
      rest = trimmed(rest);
      if (rest.empty() || rest.front() != '=') continue;
      rest = trimmed(rest.substr(1));
      if (rest.empty() || (rest.front() != '"' && rest.front() != '\'')) continue;
      rest.remove_prefix(1);
    }
    rest = trimmed(rest);
    if (rest.empty() || rest.front() < '1' || rest.front() > '8') continue;
    const std::string_view end = trimmed(rest.substr(1));
    if (!end.empty() && (end.front() == '"' || end.front() == '\'' || end.front() == '<')) return rest.front() - '0';
  }
  return 0;
}

Decoded check_size(uint64_t width, uint64_t height) {
  if (std::min(width, height) < kMinSide) return Decoded::kTooSmall;
  return width * height > static_cast<uint64_t>(kMaxPixels) ? Decoded::kTooLarge : Decoded::kYes;
}

Decoded decode_image(const uint8_t* bytes, size_t size, ImageFile* out) {
  RawImage raw;
  Decoded read = Decoded::kForeign;
  if (decodes_png() && begins(bytes, size, "\x89PNG")) read = decode_png(bytes, size, &raw);
  if (decodes_jpeg() && begins(bytes, size, "\xFF\xD8\xFF")) read = decode_jpeg(bytes, size, &raw);
  if (read != Decoded::kYes) return read;
  const int told = raw.exif != 0 ? raw.exif : raw.xmp;
  const RawPixels pixels = {raw.pixels.data(), raw.width, raw.height, 0,
                            raw.channels == 4 ? PixelFormat::kRgba : PixelFormat::kRgb, told >= 1 && told <= 8 ? told : 1};
  out->has_profile = raw.has_profile;
  return take_picture(pixels, &out->picture) == Taken::kYes ? Decoded::kYes : Decoded::kTransparent;
}

#ifndef TOPOS_WITH_PNG
bool decodes_png() { return false; }
Decoded decode_png(const uint8_t*, size_t, RawImage*) { return Decoded::kForeign; }
#endif
#ifndef TOPOS_WITH_JPEG
bool decodes_jpeg() { return false; }
Decoded decode_jpeg(const uint8_t*, size_t, RawImage*) { return Decoded::kForeign; }
#endif

}  // namespace topos
