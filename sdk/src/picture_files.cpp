#include "picture_files.h"

#include <algorithm>
#include <array>
#include <new>

namespace topos {
namespace {

constexpr size_t kMostStored = 0xFFFF;  // bytes of a block of deflate that is not compressed
constexpr uint32_t kAdler = 65521;

using SumTable = std::array<uint32_t, 256>;

// The sums of PNG's chunks (CRC-32 of ISO 3309).
uint32_t sum_of(const std::string& bytes) {
  static const SumTable kTable = [] {
    SumTable made;
    for (uint32_t i = 0; i < made.size(); ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value & 1U) != 0 ? 0xEDB88320U ^ (value >> 1U) : value >> 1U;
      made[i] = value;
    }
    return made;
  }();
  uint32_t sum = 0xFFFFFFFFU;
  for (const char byte : bytes) sum = kTable[(sum ^ static_cast<uint8_t>(byte)) & 0xFFU] ^ (sum >> 8U);
  return ~sum;
}

void number(std::string& to, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) to += static_cast<char>(value >> static_cast<unsigned>(shift) & 0xFFU);
}

void chunk(std::string& to, const std::string& name, const std::string& data) {
  number(to, static_cast<uint32_t>(data.size()));
  to += name + data;
  number(to, sum_of(name + data));
}

// A zlib stream of blocks that are not compressed.
std::string stored(const std::string& bytes) {
  std::string made = "\x78\x01";
  uint32_t a = 1, b = 0;
  for (const char byte : bytes) {
    a = (a + static_cast<uint8_t>(byte)) % kAdler;
    b = (b + a) % kAdler;
  }
  for (size_t at = 0; at < bytes.size(); at += kMostStored) {
    const size_t size = std::min(kMostStored, bytes.size() - at);
    made += static_cast<char>(at + size == bytes.size() ? 1 : 0);
    for (const size_t value : {size, ~size}) {
      made += static_cast<char>(value & 0xFFU);
      made += static_cast<char>(value >> 8U & 0xFFU);
    }
    made.append(bytes, at, size);
  }
  number(made, b << 16U | a);
  return made;
}

#if defined(TOPOS_WITH_PNG) || defined(TOPOS_WITH_JPEG)
std::string known(std::string file) {
  if (file.empty()) throw std::bad_alloc();
  return file;
}
#endif

}  // namespace

std::string plain_png(const uint8_t* pixels, int side) {
  std::string made = "\x89PNG\r\n\x1a\n", header, rows;
  number(header, static_cast<uint32_t>(side));
  number(header, static_cast<uint32_t>(side));
  header += {8, 2, 0, 0, 0};  // bits, RGB, deflate, filters by row, not interlaced
  const size_t row = 3 * static_cast<size_t>(side);
  for (size_t y = 0; y < static_cast<size_t>(side); ++y) {
    rows += '\0';  // no filter
    rows.append(reinterpret_cast<const char*>(pixels) + y * row, row);
  }
  chunk(made, "IHDR", header);
  chunk(made, "IDAT", stored(rows));
  chunk(made, "IEND", "");
  return made;
}

#ifdef TOPOS_WITH_PNG
std::string png_file(const uint8_t* pixels, int side) { return known(encode_png(pixels, side)); }
#else
std::string png_file(const uint8_t* pixels, int side) { return plain_png(pixels, side); }
#endif

#ifdef TOPOS_WITH_JPEG
bool encodes_jpeg() { return true; }
std::string jpeg_file(const uint8_t* pixels, int side) { return known(encode_jpeg(pixels, side)); }
#else
bool encodes_jpeg() { return false; }
std::string jpeg_file(const uint8_t*, int) { return ""; }
#endif

}  // namespace topos
