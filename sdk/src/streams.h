// A head's mesh in a renderer's memory: axes, formats, strides and indices.
#ifndef TOPOS_SDK_STREAMS_H
#define TOPOS_SDK_STREAMS_H

#include <array>
#include <cstddef>
#include <cstdint>

namespace topos {

// The numbers of topos_rt.h, so that a struct of the caller's needs no translation.
enum class Axes : int32_t { kGltf = 0, kUnity = 1, kUnreal = 2, kOpenGl = 3, kGodot = 4 };
enum class Attribute : uint32_t { kPosition = 1, kNormal, kTangent, kTexcoord, kJoints, kWeights, kSource };
enum class Format : uint32_t {
  kF32x2 = 1, kF32x3, kF32x4, kF16x2, kF16x4, kSnorm8x4, kSnorm16x4, kUnorm16x2, kUnorm8x4, kUnorm16x4, kU8x4, kU16x4,
  kU16, kU32,
};

// How an axes' vectors are made from those of glTF: coordinate i is sign[i] times coordinate from[i].
struct AxesFacts {
  std::array<int, 3> from;
  std::array<float, 3> sign;
  float unit;             // units a metre
  bool left_handed;       // the bitangents' signs turn
  bool clockwise;         // front faces, as they are seen
  bool v_from_bottom;
};

// Null for a number that names no axes.
const AxesFacts* axes_facts(Axes axes);

// What is written of one level of detail. A null array is one that the head does not have.
struct Surface {
  size_t count = 0;                 // W vertices to write
  const int32_t* source = nullptr;  // [W] rows of the arrays of a head; null: each its own
  const float* positions = nullptr, *normals = nullptr;  // [V][3], metres, in glTF's axes
  const float* tangents = nullptr;                       // [W][4], in glTF's axes
  const float* uvs = nullptr;                            // [W][2], v up
  const uint16_t* joints = nullptr;                      // [V][4]
  const float* weights = nullptr;                        // [V][4], rows of sum 1
  size_t num_joints = 0;
};

struct Stream {
  Attribute attribute;
  Format format;
  uint32_t offset, stride;  // bytes; stride 0: values lie close
  uint8_t* data;
  uint64_t capacity;  // bytes from data on
};

enum class StreamError { kNone, kAttribute, kFormat, kStride, kCapacity, kAbsent, kRange };

// Whether a stream can be written: its format fits the attribute, its values lie apart and inside its memory, the
// surface has what it wants, and the numbers fit the format.
StreamError check_stream(const Stream& stream, const Surface& surface);

// Writes streams that check_stream has passed, vertex after vertex, each value once and none twice: of values that
// are interleaved those with the lower address come first. Memory is never read. unit: units a metre; 0: the axes'.
void write_streams(const Surface& surface, const AxesFacts& axes, float unit, const Stream* streams, size_t count);

// Writes triangles [f][3] of 16-bit or 32-bit indices, turned over where front faces are clockwise.
void write_indices(const int32_t* triangles, size_t f, const AxesFacts& axes, Format format, void* out);

size_t format_size(Format format);

// The nearest number of half precision; ties go to the even one.
uint16_t half_of(float value);

}  // namespace topos

#endif
