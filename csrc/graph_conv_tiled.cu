// Graph convolution for Hopper (compute capability 9.0), tile by tile. See kernels.h.
//
// A block takes kTileRows rows of the output and the columns of whole groups of the norm. The rows of x that a tile
// reads are known: a third of its edges. Window by window of 64 columns each of them is copied to shared memory once,
// together with the weights of all types, one window ahead. From there a lane sums the neighbours of two rows, eight
// columns each: that is A as the tensor cores want it, in registers. While a warpgroup sums, the others multiply.
//
// What is left then is short, because all of it is straight code that runs once: biases are one more product, with a
// row's degrees for A; the mean of a group is not there (packing.centred); the residual came with the last window.
//
// Source of the maths: TOPOS (arXiv 2605.14594), export/models/vae.py.
#include "epilogue.h"
#include "launch.h"
#include "wgmma.h"

namespace topos {
namespace {

// Columns: of a block. Types: of edges.
template <int Columns, int GroupSize, int Types>
struct Body {
  static constexpr int kWarps = kTileRows / 16;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kBlocksPerSM = 1;
  static constexpr int kVector = 8;            // FP16 numbers in 16 bytes
  static constexpr int kVectorBytes = 16;
  static constexpr int kSlabs = kWindow / 16;  // of weights, one for each instruction, and for each type
  static constexpr int kHalf = kChunk * static_cast<int>(sizeof(Half));  // bytes
  static constexpr int kBatch = Columns > 128 ? 2 : 4;  // sources in flight while a row is summed: as registers allow
  static constexpr int kGroupTiles = GroupSize / 8, kBlockGroups = Columns / GroupSize;
  static constexpr int kRunTiles = 4, kRuns = Columns / 8 / kRunTiles;  // see Sums: a run is a whole vector

  // Shared memory, in bytes: two stages, each of a window's weights and rows of x; the last is followed by a stage of
  // biases and residuals.
  static constexpr int kSlab = 16 * Columns;  // Half: what one instruction multiplies with
  static constexpr int kSlabBytes = kSlab * static_cast<int>(sizeof(Half));
  static constexpr int kWeights = Types * kSlabs * kSlabBytes;
  static constexpr int kRowBytes = Columns * static_cast<int>(sizeof(Half));  // of the residual
  static constexpr int kWindows = kWeights + kTileSources * kWindow * static_cast<int>(sizeof(Half));
  static constexpr int kTail = kSlabBytes + kTileRows * kRowBytes;
  static constexpr int kStages = 2, kStage = kWindows > kTail ? kWindows : kTail;
  static constexpr int kTableAt = kStages * kStage;
  static constexpr int kNormAt = kTableAt + static_cast<int>(sizeof(TileTable));
  static constexpr int kShared = kNormAt + 2 * Columns * static_cast<int>(sizeof(float));

  using Vector = Run<float, kVector>;
  struct State {  // of one warp
    PerLane<FragmentD> d[Columns / 8];
    PerLane<float> scale[2][kBlockGroups];  // of a row's groups
  };
  struct Block {
    const TileTable* table;
    int first, column;            // first row, first column
    const unsigned char* weights;
  };

  GraphConv args;
  const TileTable* tables;

  TOPOS_HD void run(int index, unsigned char* shared) const {
    const TileTable& table = *reinterpret_cast<TileTable*>(shared + kTableAt);
    float* norm = reinterpret_cast<float*>(shared + kNormAt);
    const int slices = args.c_out / Columns, tile = index / slices, slice = index % slices;
    const int windows = args.c_in / kWindow;
    const Block block{tables + tile, tile * kTileRows, slice * Columns,
                      static_cast<const unsigned char*>(args.weights) +
                          static_cast<int64_t>(slice) * (windows * kWeights + kSlabBytes)};

    PerWarp<State, kWarps> sums;
    for_warps<kWarps>([&](int warp) {
      copy_rows(warp, block.table->sources, block.table->count, 0, shared);
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
      sync();  // this window is whole, and of the last one nothing is read any more
      for_warps<kWarps>([&](int warp) {
        unsigned char* next = shared + (window + 1) % kStages * kStage;
        if (window + 1 < windows) {
          copy_rows(warp, table.sources, table.count, window + 1, next);
          copy(warp, next, block.weights + (window + 1) * kWeights, kWeights);
        } else {
          copy(warp, next, block.weights + windows * kWeights, kSlabBytes);
          copy_residual(warp, block, next + kSlabBytes);
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
      scale_groups(sums[warp]);
      finish(warp, block, norm, tail + kSlabBytes, sums[warp]);
    });
  }

 private:
  // Whole vectors, side by side.
  static TOPOS_HD void copy(int warp, unsigned char* to, const void* from, int bytes) {
    for_lanes([&](int lane) {
      TOPOS_ROLLED  // unrolled, addresses would hold registers all the time
      for (int i = (warp * kWarp + lane) * kVectorBytes; i < bytes; i += kThreads * kVectorBytes) {
        copy16_async(to + i, static_cast<const unsigned char*>(from) + i);
      }
    });
  }

  // The norm's factors, halved where a SiLU of twice the result follows; the sums, which begin at zero.
  TOPOS_HD void begin(int warp, const Block& block, float* norm, State& state) const {
    const float half = half_of_silu();
    for_lanes([&](int lane) {
      const int column = warp * kWarp + lane;
      if (column < Columns) {
        norm[column] = half * (args.gamma ? args.gamma[block.column + column] : 1.0f);
        norm[Columns + column] = half * (args.gamma ? args.beta[block.column + column] : 0.0f);
      }
      TOPOS_UNROLL
      for (int j = 0; j < Columns / 8; ++j) state.d[j][lane] = FragmentD{};
    });
  }

  TOPOS_HD float half_of_silu() const { return args.silu ? 0.5f : 1.0f; }

  // Where a row of two halves begins. They change places in every second row: eight lanes read at a time, four of them
  // a row, and would meet in the same banks.
  static TOPOS_HD int start_of(int row) { return row * 2 * kHalf + row % 2 * kHalf; }

  TOPOS_HD void copy_rows(int warp, const int32_t* sources, int count, int window, unsigned char* stage) const {
    constexpr int kVectors = kWindow / kVector, kRowsAtOnce = kThreads / kVectors;
    static_assert(kRowsAtOnce % 2 == 0, "a thread's rows all have their halves in the same places");
    const Half* x = static_cast<const Half*>(args.x) + window * kWindow;
    for_lanes([&](int lane) {
      const int thread = warp * kWarp + lane, first = thread / kVectors, column = thread % kVectors * kVector;
      unsigned char* to = stage + kWeights + (start_of(first) ^ column * static_cast<int>(sizeof(Half)));
      TOPOS_ROLLED
      for (int row = first; row < count; row += kRowsAtOnce, to += start_of(kRowsAtOnce)) {
        copy16_async(to, x + static_cast<int64_t>(sources[row]) * args.c_in + column);
      }
    });
  }

  // Rows lie one after the other; 64 bytes change places with the next 64 in every second row, as above.
  static TOPOS_HD int place_of(int row, int byte) { return row * kRowBytes + (byte ^ row % 2 * kHalf); }

  TOPOS_HD void copy_residual(int warp, const Block& block, unsigned char* to) const {
    if (!args.residual) return;
    constexpr int kVectors = Columns / kVector, kRowsAtOnce = kThreads / kVectors;
    const Half* from = static_cast<const Half*>(args.residual) + block.column;
    const int rows = min_of(kTileRows, args.rows - block.first);
    for_lanes([&](int lane) {
      const int thread = warp * kWarp + lane, column = thread % kVectors * kVector;
      TOPOS_ROLLED
      for (int row = thread / kVectors; row < rows; row += kRowsAtOnce) {
        const int64_t source = args.residual_rows ? args.residual_rows[block.first + row] : block.first + row;
        copy16_async(to + place_of(row, column * static_cast<int>(sizeof(Half))), from + source * args.c_out + column);
      }
    });
  }

  static TOPOS_HD int min_of(int a, int b) { return a < b ? a : b; }

  TOPOS_HD void multiply(int warp, const TileTable& table, const unsigned char* stage, State& state) const {
    const Half* weights = reinterpret_cast<const Half*>(stage);
    TOPOS_UNROLL
    for (int type = 0; type < Types; ++type) {
      TOPOS_UNROLL
      for (int half = 0; half < 2; ++half) {
        if (type + half) wgmma_wait<0>();  // A's registers are free
        PerLane<FragmentA> a[2];
        gather_rows(warp, type, half * kHalf, stage + kWeights, table, a);
        wgmma_begin();
        TOPOS_UNROLL
        for (int slab = 0; slab < 2; ++slab) {
          wgmma(state.d, a[slab], weights + (type * kSlabs + 2 * half + slab) * kSlab);
        }
        wgmma_commit();
      }
    }
  }

  // Row in the tile of registers 2 * upper and 2 * upper + 1 of a fragment.
  static TOPOS_HD int row_of(int warp, int lane, int upper) { return warp * 16 + lane / 4 + 8 * upper; }

  TOPOS_HD void gather_rows(int warp, int type, int half, const unsigned char* rows, const TileTable& table,
                            PerLane<FragmentA> (&a)[2]) const {
    for_lanes([&](int lane) {
      const unsigned char* column = rows + lane % 4 * kVectorBytes;
      Half8 sums[2];
      TOPOS_UNROLL
      for (int upper = 0; upper < 2; ++upper) {
        const TileTable::Range range = table.ranges[row_of(warp, lane, upper)][type];
        sums[upper] = args.edges[type].offsets
                          ? gather(column, table.edges + range.first, table.edges + range.last, half)
                          : load_run<Half8>(column + (table.edges[range.first] ^ half));  // exactly one
      }
      put_rows(a, lane, sums[0], sums[1]);
    });
  }

  // The sum of eight columns over a row's sources, in FP32, in the order of the table. half: bytes, 0 or kHalf.
  static TOPOS_HD Half8 gather(const unsigned char* column, const uint16_t* edge, const uint16_t* end, int half) {
    float sum[kVector] = {};
    TOPOS_ROLLED
    for (; edge < end; edge += kBatch) {
      Half8 found[kBatch];
      TOPOS_UNROLL
      for (int i = 0; i < kBatch; ++i) {
        if (edge + i < end) found[i] = load_run<Half8>(column + (edge[i] ^ half));
      }
      TOPOS_UNROLL
      for (int i = 0; i < kBatch; ++i) {
        if (edge + i < end) add(sum, found[i]);
      }
    }
    return to_half8(sum);
  }

  // Degree times bias, once per edge: degrees are whole numbers, which FP16 has, and a bias is the sum of two rows of
  // the slab, what FP16 holds of it and what is left.
  TOPOS_HD void add_bias(int warp, const TileTable& table, const unsigned char* slab, State& state) const {
    PerLane<FragmentA> a;
    for_lanes([&](int lane) {
      a[lane] = FragmentA{};
      if (lane % 4 >= Types) return;
      TOPOS_UNROLL
      for (int upper = 0; upper < 2; ++upper) {
        const TileTable::Range range = table.ranges[row_of(warp, lane, upper)][lane % 4];
        const float degree = static_cast<float>(range.last - range.first);
        a[lane].reg[upper] = to_half2(degree, degree);
      }
    });
    wgmma_begin();
    wgmma(state.d, a, reinterpret_cast<const Half*>(slab));
    wgmma_commit();
  }

  // One over the deviation of each row's groups, around a mean of zero; one where there is no norm.
  TOPOS_HD void scale_groups(State& state) const {
    constexpr float share = 1.0f / static_cast<float>(GroupSize);
    TOPOS_UNROLL
    for (int upper = 0; upper < 2; ++upper) {
      TOPOS_UNROLL
      for (int group = 0; group < kBlockGroups; ++group) {
        PerLane<float>& scale = state.scale[upper][group];
        for_lanes([&](int lane) {
          scale[lane] = 0.0f;
          TOPOS_UNROLL
          for (int j = group * kGroupTiles; j < (group + 1) * kGroupTiles; ++j) {
            const float* pair = state.d[j][lane].reg + 2 * upper;
            scale[lane] += pair[0] * pair[0] + pair[1] * pair[1];
          }
        });
        quad_sum(scale);
        for_lanes([&](int lane) {
          scale[lane] = args.gamma ? inverse_root(share * scale[lane] + kGroupEps) : 1.0f;
        });
      }
    }
  }

  // Norm, residual, SiLU, and out; run by run of eight neighbouring columns a lane.
  TOPOS_HD void finish(int warp, const Block& block, const float* norm, const unsigned char* residual,
                       State& state) const {
    const float half = half_of_silu();
    for_lanes([&](int lane) {
      TOPOS_UNROLL
      for (int run = 0; run < kRuns; ++run) {
        const int column = (run * 4 + lane % 4) * kVector;
        const Vector gamma = load_run<Vector>(norm + column), beta = load_run<Vector>(norm + Columns + column);
        TOPOS_UNROLL
        for (int upper = 0; upper < 2; ++upper) {
          const int local = row_of(warp, lane, upper), row = block.first + local;
          const float scale = state.scale[upper][run * kRunTiles / kGroupTiles][lane];
          float values[kVector];
          TOPOS_UNROLL
          for (int k = 0; k < kVector; ++k) {
            const float sum = state.d[run * kRunTiles + k / 2][lane].reg[2 * upper + k % 2];
            values[k] = sum * scale * gamma.at[k] + beta.at[k];
          }
          if (row >= args.rows) continue;
          if (args.residual) {
            const Half8 more = load_run<Half8>(residual + place_of(local, column * static_cast<int>(sizeof(Half))));
            TOPOS_UNROLL
            for (int k = 0; k < kVector / 2; ++k) {
              const Float2 pair = to_floats(more.pair[k]);
              values[2 * k] += half * pair.x;
              values[2 * k + 1] += half * pair.y;
            }
          }
          if (args.silu) {
            TOPOS_UNROLL
            for (int k = 0; k < kVector; ++k) values[k] = silu_of_half(values[k]);
          }
          Half* out = static_cast<Half*>(args.out) + static_cast<int64_t>(row) * args.c_out + block.column + column;
          *reinterpret_cast<Half8*>(out) = to_half8(values);
        }
      }
    });
  }
};

template <int Columns, int GroupSize>
int launch_columns(const GraphConv& args, const TileTable* tiles, Stream stream) {
  const int64_t blocks =
      (static_cast<int64_t>(args.rows) + kTileRows - 1) / kTileRows * (args.c_out / Columns);
  if (args.types == 1) return launch(Body<Columns, GroupSize, 1>{args, tiles}, blocks, stream);
  return launch(Body<Columns, GroupSize, 2>{args, tiles}, blocks, stream);
}

}  // namespace

// One line for each width. A tile of 192 rows makes one wave of blocks of the official sizes on 132 multiprocessors:
// 126 of 24,049 rows; 512 columns take a fourth, one group of the norm, each, or 29 tiles would leave most idle.
int graph_conv_tiled(const GraphConv& args, const TileTable* tiles, Stream stream) {
  if (args.c_in % kWindow) return kUnsupported;
  switch (args.c_out) {
    case 128: return launch_columns<128, 32>(args, tiles, stream);
    case 256: return launch_columns<256, 64>(args, tiles, stream);
    case 512: return launch_columns<128, 128>(args, tiles, stream);
    default: return kUnsupported;
  }
}

}  // namespace topos
