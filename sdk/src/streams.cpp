#include "streams.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace topos {
namespace {

constexpr AxesFacts kAxes[] = {
    {{0, 1, 2}, {1, 1, 1}, 1, false, false, false},
    {{0, 1, 2}, {-1, 1, 1}, 1, true, true, true},
    {{2, 0, 1}, {1, -1, 1}, 100, true, false, false},
    {{0, 1, 2}, {1, 1, 1}, 1, false, false, true},
    {{0, 1, 2}, {1, 1, 1}, 1, false, true, false},
};

enum class Kind { kFloat, kHalf, kSigned, kUnsigned, kInteger };

struct FormatFacts {
  Kind kind;
  size_t bytes, values;  // of a value, and how many
};

constexpr FormatFacts kFormats[] = {
    {},
    {Kind::kFloat, 4, 2}, {Kind::kFloat, 4, 3}, {Kind::kFloat, 4, 4}, {Kind::kHalf, 2, 2}, {Kind::kHalf, 2, 4},
    {Kind::kSigned, 1, 4}, {Kind::kSigned, 2, 4}, {Kind::kUnsigned, 2, 2}, {Kind::kUnsigned, 1, 4},
    {Kind::kUnsigned, 2, 4}, {Kind::kInteger, 1, 4}, {Kind::kInteger, 2, 4}, {Kind::kInteger, 2, 1},
    {Kind::kInteger, 4, 1},
};

constexpr uint32_t bit(Format format) { return 1U << static_cast<uint32_t>(format); }

constexpr uint32_t kVectors = bit(Format::kF32x4) | bit(Format::kF16x4);
constexpr uint32_t kUnits = kVectors | bit(Format::kSnorm8x4) | bit(Format::kSnorm16x4);

// The formats of each attribute.
constexpr uint32_t kAllowed[] = {
    0,
    bit(Format::kF32x3) | kVectors,
    bit(Format::kF32x3) | kUnits,
    kUnits,
    bit(Format::kF32x2) | bit(Format::kF16x2) | bit(Format::kUnorm16x2),
    bit(Format::kU8x4) | bit(Format::kU16x4),
    kVectors | bit(Format::kUnorm8x4) | bit(Format::kUnorm16x4),
    bit(Format::kU16) | bit(Format::kU32),
};

const FormatFacts& facts(Format format) { return kFormats[static_cast<size_t>(format)]; }

template <class T>
void store(uint8_t* to, size_t place, T value) {
  std::memcpy(to + place * sizeof value, &value, sizeof value);
}

int32_t rounded(float value, float low, int32_t limit) {
  return static_cast<int32_t>(std::rint(std::clamp(static_cast<double>(value), static_cast<double>(low), 1.0) * limit));
}

void store_float(uint8_t* to, const FormatFacts& format, size_t place, float value) {
  if (format.kind == Kind::kFloat) return store(to, place, value);
  if (format.kind == Kind::kHalf) return store(to, place, half_of(value));
  const bool wide = format.bytes == 2;
  if (format.kind == Kind::kSigned) {
    const int32_t made = rounded(value, -1, wide ? 0x7FFF : 0x7F);
    return wide ? store(to, place, static_cast<int16_t>(made)) : store(to, place, static_cast<int8_t>(made));
  }
  const int32_t made = rounded(value, 0, wide ? 0xFFFF : 0xFF);
  return wide ? store(to, place, static_cast<uint16_t>(made)) : store(to, place, static_cast<uint8_t>(made));
}

void store_integer(uint8_t* to, const FormatFacts& format, size_t place, uint32_t value) {
  if (format.bytes == 1) return store(to, place, static_cast<uint8_t>(value));
  if (format.bytes == 2) return store(to, place, static_cast<uint16_t>(value));
  store(to, place, value);
}

// Weights as integers that keep their sum: the largest takes what rounding leaves.
void store_weights(uint8_t* to, const FormatFacts& format, const float* weights) {
  if (format.kind != Kind::kUnsigned) {
    for (size_t k = 0; k < 4; ++k) store_float(to, format, k, weights[k]);
    return;
  }
  const int32_t whole = format.bytes == 2 ? 0xFFFF : 0xFF;
  int32_t made[4], left = whole;
  for (size_t k = 0; k < 4; ++k) left -= made[k] = rounded(weights[k], 0, whole);
  *std::max_element(made, made + 4) += left;
  for (size_t k = 0; k < 4; ++k) store_integer(to, format, k, static_cast<uint32_t>(made[k]));
}

struct Writer {
  const Surface& surface;
  const AxesFacts& axes;
  float unit;

  // One value of a stream, of vertex i, at `to`.
  void write(const Stream& stream, size_t i, uint8_t* to) const {
    const FormatFacts& format = facts(stream.format);
    const size_t row = surface.source == nullptr ? i : static_cast<size_t>(surface.source[i]);
    switch (stream.attribute) {
      case Attribute::kPosition:
        return vector(to, format, surface.positions + 3 * row, unit, 1);
      case Attribute::kNormal:
        return vector(to, format, surface.normals + 3 * row, 1, 0);
      case Attribute::kTangent: {
        const float sign = surface.tangents[4 * i + 3];
        return vector(to, format, surface.tangents + 4 * i, 1, axes.left_handed ? -sign : sign);
      }
      case Attribute::kTexcoord: {
        const float v = surface.uvs[2 * i + 1];
        store_float(to, format, 0, surface.uvs[2 * i]);
        return store_float(to, format, 1, axes.v_from_bottom ? v : 1 - v);
      }
      case Attribute::kJoints:
        for (size_t k = 0; k < 4; ++k) {
          // Joints that hold nothing are 0, as glTF wants them.
          store_integer(to, format, k, surface.weights[4 * row + k] > 0 ? surface.joints[4 * row + k] : 0U);
        }
        return;
      case Attribute::kWeights:
        return store_weights(to, format, surface.weights + 4 * row);
      case Attribute::kSource:
        return store_integer(to, format, 0, static_cast<uint32_t>(row));
    }
  }

  void vector(uint8_t* to, const FormatFacts& format, const float* from, float scale, float last) const {
    for (size_t k = 0; k < 3; ++k) {
      // Adding zero turns -0 into 0.
      const float value = from[axes.from[k]] * axes.sign[k] * scale + 0.0F;
      store_float(to, format, k, value);
    }
    if (format.values == 4) store_float(to, format, 3, last);
  }
};

size_t step_of(const Stream& stream) { return stream.stride != 0 ? stream.stride : format_size(stream.format); }

bool present(Attribute attribute, const Surface& surface) {
  switch (attribute) {
    case Attribute::kPosition:
      return surface.positions != nullptr;
    case Attribute::kNormal:
      return surface.normals != nullptr;
    case Attribute::kTangent:
      return surface.tangents != nullptr;
    case Attribute::kTexcoord:
      return surface.uvs != nullptr;
    case Attribute::kJoints:
    case Attribute::kWeights:
      return surface.joints != nullptr && surface.weights != nullptr;
    case Attribute::kSource:
      return true;
  }
  return false;
}

}  // namespace

const AxesFacts* axes_facts(Axes axes) {
  const auto number = static_cast<size_t>(axes);
  return number < std::size(kAxes) ? kAxes + number : nullptr;
}

size_t format_size(Format format) { return facts(format).bytes * facts(format).values; }

StreamError check_stream(const Stream& stream, const Surface& surface) {
  const auto attribute = static_cast<size_t>(stream.attribute);
  if (attribute == 0 || attribute >= std::size(kAllowed)) return StreamError::kAttribute;
  const auto format = static_cast<size_t>(stream.format);
  if (format >= std::size(kFormats) || (kAllowed[attribute] & bit(stream.format)) == 0) return StreamError::kFormat;
  if (!present(stream.attribute, surface)) return StreamError::kAbsent;
  const uint64_t size = format_size(stream.format), step = step_of(stream);
  if (step < size) return StreamError::kStride;
  if (surface.count == 0) return StreamError::kNone;
  if (stream.capacity < stream.offset + size) return StreamError::kCapacity;
  if ((stream.capacity - stream.offset - size) / step < surface.count - 1) return StreamError::kCapacity;
  if (stream.format == Format::kU8x4 && surface.num_joints > 0x100) return StreamError::kRange;
  if (stream.format == Format::kU16 && surface.count > 0xFFFF) return StreamError::kRange;
  return StreamError::kNone;
}

void write_streams(const Surface& surface, const AxesFacts& axes, float unit, const Stream* streams, size_t count) {
  std::vector<Stream> ordered(streams, streams + count);
  std::sort(ordered.begin(), ordered.end(),
            [](const Stream& a, const Stream& b) { return a.data + a.offset < b.data + b.offset; });
  const Writer writer = {surface, axes, unit != 0 ? unit : axes.unit};
  for (size_t i = 0; i < surface.count; ++i) {
    for (const Stream& stream : ordered) {
      uint8_t value[16];
      writer.write(stream, i, value);
      std::memcpy(stream.data + stream.offset + i * step_of(stream), value, format_size(stream.format));
    }
  }
}

void write_indices(const int32_t* triangles, size_t f, const AxesFacts& axes, Format format, void* out) {
  auto* to = static_cast<uint8_t*>(out);
  const size_t second = axes.clockwise ? 2 : 1;
  for (size_t i = 0; i < f; ++i) {
    const int32_t* ids = triangles + 3 * i;
    const size_t order[3] = {0, second, 3 - second};
    for (size_t k = 0; k < 3; ++k) store_integer(to, facts(format), 3 * i + k, static_cast<uint32_t>(ids[order[k]]));
  }
}

uint16_t half_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const auto sign = static_cast<uint16_t>((bits >> 16U) & 0x8000U);
  const uint32_t size = bits & 0x7FFFFFFFU;
  if (size > 0x7F800000U) {  // not a number: the upper bits of its payload, of which one at least stays
    const uint32_t payload = (size & 0x7FFFFFU) >> 13U;
    return static_cast<uint16_t>(sign | 0x7C00U | (payload != 0 ? payload : 1U));
  }
  if (size >= 0x477FF000U) return static_cast<uint16_t>(sign | 0x7C00U);  // rounds to 65,536 or more
  const bool small = size < 0x38800000U;                                  // below the smallest normal number
  const uint32_t exponent = size >> 23U;
  if (small && exponent < 102) return sign;
  const uint32_t from = small ? (size & 0x7FFFFFU) | 0x800000U : size - 0x38000000U;
  const uint32_t drop = small ? 126 - exponent : 13;
  const uint32_t kept = from >> drop, rest = from & ((1U << drop) - 1), half = 1U << (drop - 1);
  return static_cast<uint16_t>(sign | (kept + (rest > half || (rest == half && (kept & 1U) != 0) ? 1 : 0)));
}

}  // namespace topos
