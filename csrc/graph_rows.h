// Graph convolutions on the CPU in FP32, row by row: the arithmetic of graph_conv.cu for the decoder where there is no GPU.
// graph_rows_body.h has the code, which is compiled once for each instruction set; native_decoder.cpp runs it over threads.
//
// Every number of the output is one chain of fused products in the order of the sources, and then one of columns, whatever
// the rows that are computed together, the threads, and the width of vectors. So AVX2 and AVX-512 give the same bits; the
// plain code differs, because without these sets there is no fused product.
#ifndef TOPOS_GRAPH_ROWS_H
#define TOPOS_GRAPH_ROWS_H

#include <cstddef>
#include <cstdint>

namespace topos {

constexpr int kRowGroups = 4;             // of a group norm
constexpr float kRowEpsilon = 1e-3F;
constexpr int kBlockRows = 32;            // rows that are gathered and multiplied together

// The rows of x that a row sums. Without offsets it has one, and without both that is itself.
struct RowSources {
  const int32_t* offsets = nullptr;  // [rows + 1]
  const int32_t* indices = nullptr;
};

struct GraphRows {
  int rows = 0, c_in = 0, c_out = 0, types = 1;
  RowSources sources[2];
  const float* x = nullptr;         // [inputs][c_in]
  const float* weights = nullptr;   // as `pack` makes them
  const float* bias = nullptr;      // [types][c_out], or null
  const float* gamma = nullptr;     // [c_out], or null: no norm
  const float* beta = nullptr;
  const float* residual = nullptr;  // [.][c_out], or null
  const int32_t* residual_rows = nullptr;  // [rows], or null: its own
  bool silu = false;
  float* out = nullptr;  // [rows][c_out]
};

// What one instruction set offers. Columns are padded to whole vectors, of `lanes` numbers.
struct RowCode {
  const char* name;
  int lanes;
  // Numbers of scratch that `block` needs.
  size_t (*scratch)(int k, int c_out);
  // Computes the rows from `first` on, kBlockRows or as many as there are.
  void (*block)(const GraphRows& args, int first, float* scratch);
  // Puts a matrix [k][n] into the order in which `block` reads it: `packed_size` numbers.
  void (*pack)(const float* matrix, int k, int n, float* packed);
  // Adds up weights[i] * rows[i][first..last), each row of n numbers, over the count of them.
  void (*weighted_sum)(const float* weights, const float* rows, int count, size_t n, size_t first, size_t last, float* out);
};

extern const RowCode kPlainRows;
#ifdef TOPOS_ROWS_X86
extern const RowCode kAvx2Rows, kAvx512Rows;
#endif

}  // namespace topos

#endif
