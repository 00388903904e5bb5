// Every launcher of the package: what it computes, shapes, types, aliasing.
//
// Rules for all of them. Pointers are device addresses. Arrays are dense and row-major, rows of FP16 arrays and all
// of a layer's (weights, bias, gamma, beta) start at multiples of 16 bytes, everything else is aligned to its element.
// Nothing is allocated and nothing is waited for: work is put on `stream`, so every launcher may be captured into a
// CUDA graph. The status is 0, a cudaError_t (positive), or kUnsupported. Indices are trusted here; whoever makes the
// tables checks them, once (topos_rt/gpu/tables.py). Zero rows are no work and no error.
//
// The same sources build for the host (see launch.h): the tests run these launchers on machines without a GPU.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace topos {

using Stream = CUstream_st*;  // cudaStream_t

inline constexpr int kUnsupported = -1;  // a width that no instance was compiled for
inline constexpr int kGroups = 4;        // of the group norm, as released
inline constexpr float kGroupEps = 1e-3f;
inline constexpr int kChunk = 32;        // rows of a weight matrix that are packed, copied and multiplied together
inline constexpr int kWide = 128;        // from this width on: whole vectors of columns, means of groups taken off before
inline constexpr int kMaxTypes = 2;
inline constexpr int kMaxTerms = 4;

// The rows of x that a row of the output sums, for one edge type, as CSR.
// offsets null: exactly one source a row, sources[i]. Both null: the row itself.
struct Sources {
  const int32_t* offsets;  // [rows + 1]
  const int32_t* sources;  // [offsets[rows]]
};

// y = silu(norm(sum_t (sum of x over sources of type t) W_t + degree_t b_t) + residual), each part optional.
//
// One pass over the vertices: neighbours are summed in FP32 and rounded to FP16, tensor cores multiply with FP32
// accumulation, everything after stays in FP32 registers. A linear layer is the case types = 1 without offsets.
// Un-pooling costs nothing: tables that go through cluster[neighbour] read the coarser level's features.
struct GraphConv {
  const void* x;                // [inputs, c_in] FP16; c_in a multiple of 8
  Sources edges[kMaxTypes];
  int types;                    // 1 or 2
  int rows, c_in, c_out;        // c_out: even, and one of kWidths when rounded up to 8; inputs * c_in < 2^31
  const void* weights;          // FP16 [W_0; W_1] in the order of fragments, see topos_rt.gpu.layers.pack
  const float* bias;            // [types, c_out] or null
  const float* gamma;           // [c_out] of the group norm, or null: no norm. With one, and kWide columns or more, no
                                // row of the weights or biases has a mean in a group: see topos_rt.gpu.layers.centred
  const float* beta;            // [c_out], with gamma
  const void* residual;         // [., c_out] FP16, or null
  const int32_t* residual_rows; // [rows] row of `residual` for each row; null: the same
  int silu;                     // whether a SiLU comes last
  void* out;                    // [rows, c_out] FP16, or null; overlaps no input
  // Or, for the last layer, in place of `out`: out32[r] = y * scale + mean[r], with r = out_rows[row].
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
inline constexpr int kTileSteps = 8;      // of 16 sources that 16 rows may read
inline constexpr int kWindow = 2 * kChunk;
inline constexpr int kTiledWidths[] = {128, 256, 512};

// What each kTileRows rows of the output read, made once per topology (topos_rt.gpu.tables.Graph.tiled): one such table for
// every tile, copied as a whole. Of the types at most one has other than exactly one source a row; its sums are products
// with ones: for each 16 rows, the sources that they read, and which row reads which. So a number that is not finite
// spreads to all 16 rows whose sources it is among.
struct alignas(16) TileTable {
  int32_t sources[kTileSources];                  // rows of x, each once; where one is here is its slot
  int32_t count;                                  // of sources
  int32_t first;                                  // row of the output
  uint16_t steps[kTileWarps];                     // of 16 sources
  uint16_t slots[kTileWarps][16 * kTileSteps];    // of the sources of 16 rows
  uint8_t ones[kTileWarps][kTileSteps][32];       // for each lane, which numbers of its part of A are one: bit r + 4 h
                                                  // for half h of register r (csrc/mma.h)
  uint16_t degrees[kTileRows];                    // how many sources a row sums
  uint16_t single[kMaxTypes][kTileRows];          // the slot of each row's source, of types with exactly one
};

// The same as graph_conv, on GPUs of compute capability 9.0 and built for 9.0a only. c_in: a multiple of kWindow;
// c_out: one of kTiledWidths; weights and biases in the order of topos_rt.gpu.layers.pack_tiled. `bias` is not read, and
// of `edges` only whether there are offsets.
int graph_conv_tiled(const GraphConv& args, const TileTable* tiles, Stream stream);

// out = sum_i table[step][i] * terms[i], in FP32, i ascending; step is read from the device.
//
// One launch is one sum of the sampler. The table holds the weights of every sum, guidance included, so that one
// captured CUDA graph serves all steps. `out` may be one of the terms. Once every thread has read *step, it grows by
// one; a step outside of 0..steps-1 leaves `out` as it is.
struct FlowStep {
  const float* terms[kMaxTerms]; // [size] each, those past `count` unused
  int count;                     // 1..4
  const float* table;            // [steps, count]
  int32_t* step;                 // one number
  int steps;
  float* out;                    // [size]
  int64_t size;
};
int flow_step(const FlowStep& args, Stream stream);

// out[i] = FP16 of x[source_rows[i]], with zeros up to c_out columns.
struct PackRows {
  const float* x;               // [inputs, c_in] FP32
  const int32_t* source_rows;   // [rows], or null: the same row
  int rows, c_in, c_out;
  void* out;                    // [rows, c_out] FP16
};
int pack_rows(const PackRows& args, Stream stream);

// out = basis^T (basis x): the part of a vector that lies in a few orthonormal directions. FP32, fixed order.
struct Project {
  const float* x;       // [size]
  const float* basis;   // [directions, size]
  int directions, size;
  float* coordinates;   // [directions], scratch
  float* out;           // [size]; may be x
};
int project(const Project& args, Stream stream);

}  // namespace topos
