// Computes a graph convolution on Hopper (compute capability 9.0), tile by tile. See kernels.h.
//
// A block takes kTileRows rows of the output and the columns of whole groups of the norm. The rows of x that a tile
// reads are known, and are a third of its edges. In windows of 64 columns, each of them is copied to shared memory
// once, together with the weights of all types, one window ahead. Sums over neighbours are products as well, with ones
// and zeros. They are exact, and a lane's part of the sums is its part of A for the product with the weights. While one
// warpgroup sums, the others multiply.
//
// The rest must be short, because it is straight code that runs once. So biases are one more product, whose A is the
// degrees of the rows; there is no mean to subtract (topos_rt.gpu.layers.centred); and the residual is copied together
// with the last window.
//
// Source of the maths: TOPOS (arXiv 2605.14594), models/vae.py.
#include "epilogue.h"
#include "launch.h"
#include "wgmma.h"

namespace topos {
namespace {

// Columns: columns of a block. Slices: blocks that share the columns of a tile. Types: edge types. Residual, Silu:
// whether there is one. As branches they would divide the straight code at the end, for which the compiler would then
// not find enough registers.
template <int Columns, int Slices, int Types, bool Residual, bool Silu>
struct Body {
  static constexpr int kWarps = kTileRows / 16;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kBlocksPerSM = 1;
  static constexpr int kVector = 8;            // FP16 numbers in 16 bytes
  static constexpr int kVectorBytes = 16;
  static constexpr int kSlabs = kWindow / 16;  // slabs of weights for each type; an instruction takes one
  static constexpr int kSourceBytes = kWindow * static_cast<int>(sizeof(Half));  // a row of x in a window
  // Tiles of eight columns of x that are summed at a time, as many as registers allow.
  static constexpr int kSumTiles = Columns > 128 ? 2 : 4, kSumSlabs = kSumTiles / 2, kParts = kSlabs / kSumSlabs;
  static constexpr float kHalf = Silu ? 0.5f : 1.0f;  // silu_of_half takes half of its argument
  static constexpr int kOut = Columns * Slices, kGroupSize = kOut / kGroups, kBlockGroups = Columns / kGroupSize;
  static constexpr int kGroupTiles = kGroupSize / 8;
  static constexpr int kRunTiles = 4, kGroupRuns = kGroupTiles / kRunTiles;  // a run is a whole vector, as in Sums

  // The layout of shared memory, in bytes. There are two stages, each with a window's weights and rows of x. After the
  // last window, a stage holds biases and residuals.
  static constexpr int kSlab = 16 * Columns;  // in Half: the weights that one instruction takes
  static constexpr int kSlabBytes = kSlab * static_cast<int>(sizeof(Half));
  static constexpr int kWeights = Types * kSlabs * kSlabBytes;
  static constexpr int kRowBytes = Columns * static_cast<int>(sizeof(Half));  // a row of the residual
  static constexpr int kWindows = kWeights + kTileSources * kSourceBytes;
  static constexpr int kTail = kSlabBytes + kTileRows * kRowBytes;
  static constexpr int kStages = 2, kStage = kWindows > kTail ? kWindows : kTail;
  static constexpr int kTableAt = kStages * kStage;
  static constexpr int kNormAt = kTableAt + static_cast<int>(sizeof(TileTable));
  static constexpr int kShared = kNormAt + 2 * Columns * static_cast<int>(sizeof(float));

  using Vector = Run<float, kVector>;
  struct State {  // of one warp
    PerLane<FragmentD> d[Columns / 8];
  };
  struct Block {
    const TileTable* table;
    int column;                   // the first of the block
    const unsigned char* weights;
  };

  GraphConv args;
  const TileTable* tables;

  TOPOS_HD void run(int index, unsigned char* shared) const {
    const TileTable& table = *reinterpret_cast<TileTable*>(shared + kTableAt);
    float* norm = reinterpret_cast<float*>(shared + kNormAt);
    const int tile = index / Slices, slice = index % Slices;
    const int windows = args.c_in / kWindow;
    const Block block{tables + tile, slice * Columns,
                      static_cast<const unsigned char*>(args.weights) +
                          static_cast<int64_t>(slice) * (windows * kWeights + kSlabBytes)};

    PerWarp<State, kWarps> sums;
    for_warps<kWarps>([&](int warp) {
      copy_rows<kRounds>(warp, block.table->sources, block.table->count, 0, shared);
      copy(warp, shared, block.weights, kWeights);
      copy(warp, shared + kTableAt, block.table, sizeof(TileTable));
      copy_commit();
      begin(warp, block, norm, sums[warp]);
    });
    int window = 0;
    do {
      copy_wait<0>();
      share_with_tensor_cores();
      wgmma_wait<0>();
      sync();  // now this window is complete, and nobody reads the last one any more
      for_warps<kWarps>([&](int warp) {
        unsigned char* next = shared + (window + 1) % kStages * kStage;
        if (window + 1 < windows) {
          copy_rows<2>(warp, table.sources, table.count, window + 1, next);
          copy(warp, next, block.weights + (window + 1) * kWeights, kWeights);
        } else {
          copy(warp, next, block.weights + windows * kWeights, kSlabBytes);
          copy_residual(warp, table.first, block, next + kSlabBytes);
        }
        copy_commit();
        multiply(warp, table, shared + window % kStages * kStage, sums[warp]);
      });
    } while (++window < windows);
    const unsigned char* tail = shared + windows % kStages * kStage;
    copy_wait<0>();
    share_with_tensor_cores();
    wgmma_wait<0>();
    sync();
    for_warps<kWarps>([&](int warp) { add_bias(warp, table, tail, sums[warp]); });
    wgmma_wait<0>();
    for_warps<kWarps>([&](int warp) {
      wgmma_end(sums[warp].d);
      finish(warp, table.first, block, norm, tail + kSlabBytes, sums[warp]);
    });
  }

 private:
  // Copies whole vectors, side by side.
  static TOPOS_HD void copy(int warp, unsigned char* to, const void* from, int bytes) {
    for_lanes([&](int lane) {
      TOPOS_ROLLED  // unrolled, the addresses would occupy registers all the time
      for (int i = (warp * kWarp + lane) * kVectorBytes; i < bytes; i += kThreads * kVectorBytes) {
        copy16_async(to + i, static_cast<const unsigned char*>(from) + i);
      }
    });
  }

  // Loads the norm's factors, halved where silu_of_half follows, and sets the sums to zero.
  TOPOS_HD void begin(int warp, const Block& block, float* norm, State& state) const {
    for_lanes([&](int lane) {
      const int column = warp * kWarp + lane;
      if (column < Columns) {
        norm[column] = kHalf * (args.gamma ? args.gamma[block.column + column] : 1.0f);
        norm[Columns + column] = kHalf * (args.gamma ? args.beta[block.column + column] : 0.0f);
      }
      TOPOS_UNROLL
      for (int j = 0; j < Columns / 8; ++j) state.d[j][lane] = FragmentD{};
    });
  }

  static constexpr int kRowVectors = kWindow / kVector, kRowsAtOnce = kThreads / kRowVectors;
  static constexpr int kRounds = (kTileSources + kRowsAtOnce - 1) / kRowsAtOnce;
  static_assert(kRowsAtOnce % kRowVectors == 0, "a thread's vectors all go to the same place of their rows");

  // Returns the offset of a vector of a slot. The vectors of a row are permuted, differently in each of eight rows, so
  // that reading one vector of each of eight rows meets no bank twice if their slots differ modulo 8.
  static TOPOS_HD int place_in_window(int slot, int vector) {
    return slot * kSourceBytes + (vector ^ slot % kRowVectors) * kVectorBytes;
  }

  // AtOnce: how many sources a thread looks up at once; they may come from global memory.
  template <int AtOnce>
  TOPOS_HD void copy_rows(int warp, const int32_t* sources, int count, int window, unsigned char* stage) const {
    const Half* x = static_cast<const Half*>(args.x) + window * kWindow;
    for_lanes([&](int lane) {
      const int thread = warp * kWarp + lane, first = thread / kRowVectors, vector = thread % kRowVectors;
      unsigned char* to = stage + kWeights + place_in_window(first, vector);
      TOPOS_ROLLED
      for (int slot = first; slot < count; slot += AtOnce * kRowsAtOnce) {
        int32_t found[AtOnce];
        TOPOS_UNROLL
        for (int i = 0; i < AtOnce; ++i) {
          if (slot + i * kRowsAtOnce < count) found[i] = sources[slot + i * kRowsAtOnce];
        }
        TOPOS_UNROLL
        for (int i = 0; i < AtOnce; ++i, to += kRowsAtOnce * kSourceBytes) {
          if (slot + i * kRowsAtOnce >= count) break;
          copy16_async(to, x + static_cast<int64_t>(found[i]) * args.c_in + vector * kVector);
        }
      }
    });
  }

  // Returns the offset of a byte of the residual. Eight lanes read at a time, four of them 64 bytes of one row; so in
  // every second row these 64 bytes and the next 64 are swapped.
  static TOPOS_HD int place_of(int row, int byte) { return row * kRowBytes + (byte ^ row % 2 * 64); }

  TOPOS_HD void copy_residual(int warp, int first, const Block& block, unsigned char* to) const {
    if (!Residual) return;
    constexpr int kVectors = Columns / kVector, kRows = kThreads / kVectors;
    const Half* from = static_cast<const Half*>(args.residual) + block.column;
    for_lanes([&](int lane) {
      const int thread = warp * kWarp + lane, column = thread % kVectors * kVector;
      TOPOS_ROLLED
      for (int local = thread / kVectors; local < kTileRows; local += kRows) {
        const int row = min_of(first + local, args.rows - 1);  // past the last row any row will do
        const int64_t source = args.residual_rows ? args.residual_rows[row] : row;
        copy16_async(to + place_of(local, column * static_cast<int>(sizeof(Half))),
                     from + source * kOut + column);
      }
    });
  }

  static TOPOS_HD int min_of(int a, int b) { return a < b ? a : b; }

  TOPOS_HD void multiply(int warp, const TileTable& table, const unsigned char* stage, State& state) const {
    const Half* weights = reinterpret_cast<const Half*>(stage);
    const unsigned char* rows = stage + kWeights;
    PerLane<FragmentA> a[kSumSlabs];
    TOPOS_UNROLL
    for (int part = 0; part < Types * kParts; ++part) {
      const int type = part / kParts, first = part % kParts * kSumSlabs;  // its first slab in the window
      if (args.edges[type].offsets) {
        PerLane<FragmentD> sums[kSumTiles];
        sum(warp, table, 2 * first, rows, sums);
        wgmma_wait<0>();  // now the registers of the last A are free
        round_sums(sums, a);
      } else {
        wgmma_wait<0>();
        load(warp, table, type, 2 * first, rows, a);
      }
      wgmma_begin(a);
      TOPOS_UNROLL
      for (int slab = 0; slab < kSumSlabs; ++slab) {
        wgmma(state.d, a[slab], weights + (type * kSlabs + first + slab) * kSlab);
      }
      wgmma_commit();
    }
  }

  // Sums the columns from `vector` on over the sources, which are B in shared memory; A is ones and zeros.
  static TOPOS_HD void sum(int warp, const TileTable& table, int vector, const unsigned char* rows,
                           PerLane<FragmentD> (&sums)[kSumTiles]) {
    for_lanes([&](int lane) {
      TOPOS_UNROLL
      for (int j = 0; j < kSumTiles; ++j) sums[j][lane] = FragmentD{};
    });
    TOPOS_ROLLED
    for (int step = 0; step < table.steps[warp]; ++step) {
      PerLane<FragmentA> ones;
      PerLane<int> slots;
      for_lanes([&](int lane) {
        ones[lane] = ones_of(table.ones[warp][step][lane]);
        slots[lane] = table.slots[warp][step * 16 + lane % 16];
      });
      TOPOS_UNROLL
      for (int j = 0; j < kSumTiles; j += 2) {
        const PerLane<FragmentA> found = tiles<true>(rows, slots, vector + j);
        PerLane<FragmentB> b[2];
        for_lanes([&](int lane) {
          TOPOS_UNROLL
          for (int i = 0; i < 2; ++i) b[i][lane] = FragmentB{{found[lane].reg[2 * i], found[lane].reg[2 * i + 1]}};
        });
        TOPOS_UNROLL
        for (int i = 0; i < 2; ++i) mma(sums[j + i], ones, b[i]);
      }
    }
  }

  // Loads two tiles of eight columns, from `vector` on, for the 16 slots that lanes 0 to 15 hold, and again 16 to 31.
  template <bool Transposed>
  static TOPOS_HD PerLane<FragmentA> tiles(const unsigned char* rows, const PerLane<int>& slots, int vector) {
    PerLane<const unsigned char*> at;
    for_lanes([&](int lane) { at[lane] = rows + place_in_window(slots[lane], vector + lane / 16); });
    PerLane<FragmentA> found;
    load_tiles<Transposed>(found, at);
    return found;
  }

  static TOPOS_HD FragmentA ones_of(uint32_t bits) {
    constexpr uint32_t kOne = 0x3c00;  // one in FP16
    const uint32_t spread = (bits & 15) | (bits & 0xf0) << 12;
    FragmentA ones;
    TOPOS_UNROLL
    for (int r = 0; r < 4; ++r) ones.reg[r] = Half2{(spread >> r & 0x10001) * kOne};
    return ones;
  }

  // Rounds D to A: a lane's part of the one is its part of the other.
  static TOPOS_HD void round_sums(const PerLane<FragmentD> (&sums)[kSumTiles], PerLane<FragmentA> (&a)[kSumSlabs]) {
    for_lanes([&](int lane) {
      TOPOS_UNROLL
      for (int slab = 0; slab < kSumSlabs; ++slab) {
        TOPOS_UNROLL
        for (int r = 0; r < 4; ++r) {
          const float* pair = sums[2 * slab + r / 2][lane].reg + r % 2 * 2;
          a[slab][lane].reg[r] = to_half2(pair[0], pair[1]);
        }
      }
    });
  }

  // Loads A where each row has exactly one source, so that there is nothing to sum.
  static TOPOS_HD void load(int warp, const TileTable& table, int type, int vector, const unsigned char* rows,
                            PerLane<FragmentA> (&a)[kSumSlabs]) {
    PerLane<int> slots;
    for_lanes([&](int lane) { slots[lane] = table.single[type][warp * 16 + lane % 16]; });
    TOPOS_UNROLL
    for (int slab = 0; slab < kSumSlabs; ++slab) a[slab] = tiles<false>(rows, slots, vector + 2 * slab);
  }

  // Returns the row in the tile of registers 2 * upper and 2 * upper + 1 of a fragment.
  static TOPOS_HD int row_of(int warp, int lane, int upper) { return warp * 16 + lane / 4 + 8 * upper; }

  // Adds the bias once per edge, as degree times bias. FP16 holds degrees exactly, and each bias is the sum of two rows
  // of the slab: the bias rounded to FP16, and the remainder.
  TOPOS_HD void add_bias(int warp, const TileTable& table, const unsigned char* slab, State& state) const {
    PerLane<FragmentA> a[1];
    for_lanes([&](int lane) {
      a[0][lane] = FragmentA{};
      if (lane % 4 >= Types) return;
      TOPOS_UNROLL
      for (int upper = 0; upper < 2; ++upper) {
        const bool sums = args.edges[lane % 4].offsets;
        const float degree = sums ? static_cast<float>(table.degrees[row_of(warp, lane, upper)]) : 1.0f;
        a[0][lane].reg[upper] = to_half2(degree, degree);
      }
    });
    wgmma_begin(a);
    wgmma(state.d, a[0], reinterpret_cast<const Half*>(slab));
    wgmma_commit();
  }

  // Computes one over the deviation of a row's group, whose mean is zero; one where there is no norm.
  TOPOS_HD void scale_of(const State& state, int group, int upper, PerLane<float>& scale) const {
    constexpr float share = 1.0f / static_cast<float>(kGroupSize);
    for_lanes([&](int lane) {
      scale[lane] = 0.0f;
      TOPOS_UNROLL
      for (int j = group * kGroupTiles; j < (group + 1) * kGroupTiles; ++j) {
        const float* pair = state.d[j][lane].reg + 2 * upper;
        scale[lane] += pair[0] * pair[0] + pair[1] * pair[1];
      }
    });
    quad_sum(scale);
    for_lanes([&](int lane) { scale[lane] = args.gamma ? inverse_root(share * scale[lane] + kGroupEps) : 1.0f; });
  }

  // Applies norm, residual and SiLU, and stores the result: group by group, in runs of eight adjacent columns a lane.
  TOPOS_HD void finish(int warp, int first, const Block& block, const float* norm, const unsigned char* residual,
                       State& state) const {
    TOPOS_UNROLL
    for (int group = 0; group < kBlockGroups; ++group) {
      PerLane<float> scale[2];
      TOPOS_UNROLL
      for (int upper = 0; upper < 2; ++upper) scale_of(state, group, upper, scale[upper]);
      for_lanes([&](int lane) {
        TOPOS_UNROLL
        for (int run = group * kGroupRuns; run < (group + 1) * kGroupRuns; ++run) {
          const int column = (run * 4 + lane % 4) * kVector;
          const Vector gamma = load_run<Vector>(norm + column), beta = load_run<Vector>(norm + Columns + column);
          TOPOS_UNROLL
          for (int upper = 0; upper < 2; ++upper) {
            const int local = row_of(warp, lane, upper), row = first + local;
            float values[kVector];
            TOPOS_UNROLL
            for (int k = 0; k < kVector; ++k) {
              const float sum = state.d[run * kRunTiles + k / 2][lane].reg[2 * upper + k % 2];
              values[k] = sum * scale[upper][lane] * gamma.at[k] + beta.at[k];
            }
            if (Residual) {
              const Half8 more = load_run<Half8>(residual + place_of(local, column * static_cast<int>(sizeof(Half))));
              TOPOS_UNROLL
              for (int k = 0; k < kVector / 2; ++k) {
                const Float2 pair = to_floats(more.pair[k]);
                values[2 * k] += kHalf * pair.x;
                values[2 * k + 1] += kHalf * pair.y;
              }
            }
            if (Silu) {
              TOPOS_UNROLL
              for (int k = 0; k < kVector; ++k) values[k] = silu_of_half(values[k]);
            }
            Half* out = static_cast<Half*>(args.out) + static_cast<int64_t>(row) * kOut + block.column + column;
            if (row < args.rows) *reinterpret_cast<Half8*>(out) = to_half8(values);
          }
        }
      });
    }
  }
};

template <int Columns, int Slices, int Types, bool Residual>
int launch_silu(const GraphConv& args, const TileTable* tiles, int64_t blocks, Stream stream) {
  if (args.silu) return launch(Body<Columns, Slices, Types, Residual, true>{args, tiles}, blocks, stream);
  return launch(Body<Columns, Slices, Types, Residual, false>{args, tiles}, blocks, stream);
}

template <int Columns, int Slices, int Types>
int launch_types(const GraphConv& args, const TileTable* tiles, int64_t blocks, Stream stream) {
  if (args.residual) return launch_silu<Columns, Slices, Types, true>(args, tiles, blocks, stream);
  return launch_silu<Columns, Slices, Types, false>(args, tiles, blocks, stream);
}

template <int Columns, int Slices>
int launch_columns(const GraphConv& args, const TileTable* tiles, Stream stream) {
  const int64_t blocks = (static_cast<int64_t>(args.rows) + kTileRows - 1) / kTileRows * Slices;
  if (args.types == 1) return launch_types<Columns, Slices, 1>(args, tiles, blocks, stream);
  return launch_types<Columns, Slices, 2>(args, tiles, blocks, stream);
}

}  // namespace

// There is one line for each width. With tiles of 192 rows the official sizes are one wave of blocks on 132
// multiprocessors: 24,049 rows are 126 blocks. Blocks of 512 columns take a quarter of them each, one group of the
// norm, because 29 tiles would leave most multiprocessors idle.
int graph_conv_tiled(const GraphConv& args, const TileTable* tiles, Stream stream) {
  if (args.c_in % kWindow) return kUnsupported;
  switch (args.c_out) {
    case 128: return launch_columns<128, 1>(args, tiles, stream);
    case 256: return launch_columns<256, 1>(args, tiles, stream);
    case 512: return launch_columns<128, 4>(args, tiles, stream);
    default: return kUnsupported;
  }
}

}  // namespace topos
