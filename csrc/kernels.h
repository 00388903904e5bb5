// Every launcher of the package: what it computes, and the shapes, types and aliasing of its arrays.
//
// These rules hold for all of them. Pointers are device addresses. Arrays are dense and row-major. Rows of FP16 arrays
// and all arrays of a layer (weights, bias, gamma, beta) start at multiples of 16 bytes; every other array is aligned
// to its element. A launcher puts its work on `stream` and neither allocates nor waits, so it may be captured into a
// CUDA graph. The status is 0, a cudaError_t (positive), or kUnsupported. Indices are trusted here, because
// topos_rt/gpu/tables.py checks them once, when it makes the tables. Zero rows are no work and no error.
//
// The same sources build for the host (see launch.h), so the tests run these launchers on machines without a GPU.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace topos {

using Stream = CUstream_st*;  // cudaStream_t

inline constexpr int kUnsupported = -1;  // a width that no instance was compiled for
inline constexpr int kGroups = 4;        // of the group norm, as released
inline constexpr float kGroupEps = 1e-3f;
inline constexpr int kChunk = 32;        // rows of a weight matrix that are packed, copied and multiplied together
inline constexpr int kWide = 128;        // from this width on a lane has whole vectors of columns; layers are centred
inline constexpr int kMaxTypes = 2;
inline constexpr int kMaxTerms = 4;

// The rows of x that a row of the output sums, for one edge type, as CSR.
// Where offsets is null, each row has exactly one source, sources[i]; where both are null, it is the row itself.
struct Sources {
  const int32_t* offsets;  // [rows + 1]
  const int32_t* sources;  // [offsets[rows]]
};

// y = silu(norm(sum_t (sum of x over sources of type t) W_t + degree_t b_t) + residual), each part optional.
//
// It takes one pass over the vertices. Neighbours are summed in FP32 and rounded to FP16, tensor cores multiply with
// FP32 accumulation, and everything after that stays in FP32 registers. A linear layer is the case types = 1 without
// offsets. Un-pooling costs nothing: a gather table that goes through cluster[neighbour] reads the coarser level.
struct GraphConv {
  const void* x;                // [inputs, c_in] FP16; c_in a multiple of 8
  Sources edges[kMaxTypes];
  int types;                    // 1 or 2
  int rows, c_in, c_out;        // c_out: even, and one of kWidths when rounded up to 8; inputs * c_in < 2^31
  const void* weights;          // FP16 [W_0; W_1] in the order of fragments, see topos_rt.gpu.layers.pack
  const float* bias;            // [types, c_out] or null
  const float* gamma;           // [c_out] of the group norm, or null: no norm. With a norm and kWide columns or more,
                                // weights and biases must have no mean in a group: see topos_rt.gpu.layers.centred
  const float* beta;            // [c_out] where there is gamma
  const void* residual;         // [., c_out] FP16, or null
  const int32_t* residual_rows; // [rows] row of `residual` for each row; null: the same row
  int silu;                     // whether a SiLU comes last
  void* out;                    // [rows, c_out] FP16, or null; it must overlap no input
  // The last layer has these in place of `out`: out32[r] = y * scale + mean[r], with r = out_rows[row].
  float* out32;                 // [rows, c_out]
  const int32_t* out_rows;      // [rows], or null: the same row
  const float* scale;           // [c_out], or null: 1
  const float* mean;            // [rows, c_out], in the order of out32; or null: 0
};
inline constexpr int kWidths[] = {8, 16, 32, 48, 64, 96, 128, 256, 512};
int graph_conv(const GraphConv& args, Stream stream);

inline constexpr int kTileRows = 192;
inline constexpr int kTileSources = 352;  // different rows of x that a tile may read
inline constexpr int kTileWarps = kTileRows / 16;
inline constexpr int kTileSteps = 8;      // steps, of 16 sources each, that 16 rows may take
inline constexpr int kWindow = 2 * kChunk;
inline constexpr int kTiledWidths[] = {128, 256, 512};

// What a tile of kTileRows rows of the output reads. topos_rt.gpu.tables.Neighbours.tiled makes one such table for
// every tile, once per topology, and a block copies its table as a whole. At most one of the types may have other than
// exactly one source a row. Its sums are products with ones: the table holds the sources that each 16 rows read, and
// which row reads which. So a number that is not finite spreads to all 16 rows as soon as one of them reads it.
struct alignas(16) TileTable {
  int32_t sources[kTileSources];                  // rows of x, each once; the position of a row here is its slot
  int32_t count;                                  // how many sources there are
  int32_t first;                                  // first row of the output
  uint16_t steps[kTileWarps];                     // how many steps of 16 sources each 16 rows take
  uint16_t slots[kTileWarps][16 * kTileSteps];    // the slots of those sources
  uint8_t ones[kTileWarps][kTileSteps][32];       // for each lane, which numbers of its part of A are one: bit r + 4 h
                                                  // for half h of register r (csrc/mma.h)
  uint16_t degrees[kTileRows];                    // how many sources a row sums
  uint16_t single[kMaxTypes][kTileRows];          // the slot of each row's source, for types with exactly one
};

// Computes the same as graph_conv, on GPUs of compute capability 9.0 and only where it was built for 9.0a. c_in must be
// a multiple of kWindow and c_out one of kTiledWidths; weights and biases are in the order of
// topos_rt.gpu.layers.pack_tiled. `bias` is not read, and of `edges` only whether there are offsets.
int graph_conv_tiled(const GraphConv& args, const TileTable* tiles, Stream stream);

// out = sum_i table[step][i] * terms[i] in FP32, with i ascending; step is read from the device.
//
// One launch is one sum of the sampler. The table holds the weights of every sum, guidance included, so that one
// captured CUDA graph serves all steps. `out` may be one of the terms. Once every thread has read *step, it grows by
// one; a step outside of 0..steps-1 leaves `out` as it is.
struct FlowStep {
  const float* terms[kMaxTerms]; // [size] each; those past `count` are unused
  int count;                     // 1..4
  const float* table;            // [steps, count]
  int32_t* step;                 // one number
  int steps;
  float* out;                    // [size]
  int64_t size;
};
int flow_step(const FlowStep& args, Stream stream);

// out[i] = x[source_rows[i]] in FP16, with zeros up to c_out columns.
struct PackRows {
  const float* x;               // [inputs, c_in] FP32
  const int32_t* source_rows;   // [rows], or null: the same row
  int rows, c_in, c_out;
  void* out;                    // [rows, c_out] FP16
};
int pack_rows(const PackRows& args, Stream stream);

// out = basis^T (basis x), the part of a vector that lies in a few orthonormal directions, in FP32 and a fixed order.
struct Project {
  const float* x;       // [size]
  const float* basis;   // [directions, size]
  int directions, size;
  float* coordinates;   // [directions], scratch
  float* out;           // [size]; may be x
};
int project(const Project& args, Stream stream);

// out = base, with coordinates times rows added to the first columns: a linear decoder's vertices, in FP32.
struct AddMoves {
  const float* coordinates;  // [directions]
  const float* rows;         // [directions, vertices, moved]
  const float* base;         // [vertices, columns]
  int directions, vertices, moved, columns;
  float* out;                // [vertices, columns]; may be base
};
int add_moves(const AddMoves& args, Stream stream);

// For every texel of a mesh: log(photograph) - log light - base, and how well it is seen. See topos_rt.gpu.texture_ops.
struct ProjectTexture {
  const int32_t* vertices;   // [texels, 3] corners of the texel's triangle
  const float* weights;      // [texels, 3] barycentric
  const float* attributes;   // [., 6] of each vertex: x, y in pixels, weight, normal
  const float* picture;      // [height, width, 3] linear
  const float* light;        // [9, 3] log light by spherical harmonics
  const float* base;         // [texels, 3] log of the base colour
  int64_t texels;
  int height, width;         // two or more each
  float* out;                // [texels, 4]
};
int project_texture(const ProjectTexture& args, Stream stream);

// The colours of a whole texture from smooth fields in cells of step x step texels, and from the texels of a window.
struct FinishTexture {
  const float* base;          // [side, side, 3] linear base colour
  const float* cells;         // [side / step, side / step, 4] log colour over the base, cover of hair
  const float* texels;        // [height, width, 4] as project_texture makes them, less the tone; zero where there is none
  const float* window_cells;  // [height / step, width / step, 5] share to keep, face, and unevenness to take away
  const float* skin;          // [height, width] share of plain skin, which may shine
  const float* grain;         // [side, side] of hair, around one
  const float* hair;          // [3] linear
  const float* tone;          // [3] log, added to the texels
  const uint8_t* srgb;        // [4096] of linear 0..1
  int side, step, top, left, height, width;
  int mirror;                 // whether the window's columns mirror each other
  uint8_t* out;               // [side, side, 3]
};
int finish_texture(const FinishTexture& args, Stream stream);

}  // namespace topos
