// Functions of the border: textures in the caller's memory.
#include <cstdlib>

#include "handles.h"
#include "structs.h"

using namespace topos;

namespace {

constexpr size_t kGreen = 1;

// A map of a head's texture.
struct Map {
  const HostVector<uint8_t>* pixels;
  int side;
  size_t channels;
};

Map map_of(const Head::Dress& texture, topos_map which) {
  switch (which) {
    case TOPOS_MAP_ALBEDO:
      return {&texture.albedo, texture.side, 3};
    case TOPOS_MAP_ORM:
      return {&texture.orm, kAtlasSide, 3};
    case TOPOS_MAP_NORMAL:
      return {&texture.relief, texture.relief_side, 3};
    case TOPOS_MAP_CONFIDENCE:
      return {&texture.confidence, kAtlasSide, 1};
    default:
      fail(TOPOS_E_ARGUMENT, "topos_texels.map", std::to_string(which), "one of TOPOS_MAP_*");
  }
}

// The bytes of a pixel, and which of its own channels each takes; 3: opaque.
struct Format {
  size_t bytes;
  size_t from[4];
};

Format format_of(topos_pixel_format format) {
  switch (format) {
    case TOPOS_PIXELS_RGB8:
      return {3, {0, 1, 2, 3}};
    case TOPOS_PIXELS_RGBA8:
      return {4, {0, 1, 2, 3}};
    case TOPOS_PIXELS_BGRA8:
      return {4, {2, 1, 0, 3}};
    case TOPOS_PIXELS_R8:
      return {1, {0, 0, 0, 0}};
    default:
      fail(TOPOS_E_ARGUMENT, "topos_texels.format", std::to_string(format), "TOPOS_PIXELS_RGB8, RGBA8, BGRA8 or R8");
  }
}

}  // namespace

extern "C" {

topos_status topos_head_get_texture(topos_head* head, topos_texture_info* out) {
  return guarded(nullptr, [=] {
    const Head& of = needed(head, "head");
    topos_texture_info info{};
    if (of.texture) {
      const Head::Dress& texture = *of.texture;
      info.texture = texture.projected ? TOPOS_TEXTURE_PROJECTED : TOPOS_TEXTURE_BASE;
      info.albedo_size = static_cast<uint32_t>(texture.side);
      info.orm_size = info.confidence_size = kAtlasSide;
      info.normal_size = static_cast<uint32_t>(texture.relief_side);
      info.seen = static_cast<float>(texture.seen);
      info.mirrored = static_cast<float>(texture.mirrored);
      info.turned = texture.turned ? 1 : 0;
      info.spectacles = texture.spectacles ? 1 : 0;
    }
    give(out, info, "topos_texture_info");
    return TOPOS_OK;
  });
}

topos_status topos_head_write_texture(topos_head* head, const topos_texels* out, topos_error* error) {
  return guarded(error, [=] {
    const Head& of = needed(head, "head");
    const topos_texels given = taken(out, "topos_texels");
    if (!of.texture) {
      fail(TOPOS_E_UNSUPPORTED, "a texture", "a head without one", "one that was asked for with topos_request.texture");
    }
    const Map map = map_of(*of.texture, given.map);
    const Format format = format_of(given.format);
    if ((given.flags & ~uint32_t{TOPOS_TEXELS_GREEN_DOWN}) != 0) {
      fail(TOPOS_E_ARGUMENT, "topos_texels.flags", std::to_string(given.flags), "bits of TOPOS_TEXELS_*");
    }
    if (given.data == nullptr) fail(TOPOS_E_ARGUMENT, "topos_texels.data", "NULL", "memory");
    const auto side = static_cast<uint64_t>(map.side), row = side * format.bytes;
    const uint64_t stride =
        given.row_stride == 0 ? row : static_cast<uint64_t>(std::llabs(static_cast<long long>(given.row_stride)));
    if (stride < row) {
      fail(TOPOS_E_ARGUMENT, "topos_texels.row_stride", std::to_string(given.row_stride), std::to_string(row) + " bytes or more");
    }
    const uint64_t needs = stride * (side - 1) + row;
    if (given.capacity < needs) {
      fail(TOPOS_E_CAPACITY, "topos_texels.capacity", std::to_string(given.capacity) + " bytes", std::to_string(needs));
    }
    const bool turned = (given.flags & TOPOS_TEXELS_GREEN_DOWN) != 0 && given.map == TOPOS_MAP_NORMAL;
    auto* to = static_cast<uint8_t*>(given.data);
    for (uint64_t y = 0; y < side; ++y, to += stride) {
      const uint8_t* from = map.pixels->data() + (given.row_stride < 0 ? side - 1 - y : y) * side * map.channels;
      uint8_t* pixel = to;
      for (uint64_t x = 0; x < side; ++x, from += map.channels) {
        for (size_t c = 0; c < format.bytes; ++c) {
          const size_t source = format.from[c];
          const uint8_t value = source == 3 ? uint8_t{255} : from[map.channels == 1 ? 0 : source];
          // 128 is zero, which stays.
          *pixel++ = turned && source == kGreen ? static_cast<uint8_t>(value == 0 ? 255 : 256 - value) : value;
        }
      }
    }
    return TOPOS_OK;
  });
}

}  // extern "C"
