// Graph convolution for Hopper (compute capability 9.0), tile by tile. See kernels.h.
//
// A block takes kTileRows rows of the output and the columns of whole groups of the norm. The rows of x that a tile
// reads are known: a third of its edges. Window by window of 64 columns each of them is copied to shared memory once,
// together with the weights of all types, one window ahead. From there a lane sums the neighbours of two rows, eight
// columns each: that is A as the tensor cores want it, in registers. While a warpgroup sums, the others multiply.
//
// Source of the maths: TOPOS (arXiv 2605.14594), export/models/vae.py.
#include "epilogue.h"
#include "launch.h"
#include "wgmma.h"

namespace topos {
namespace {

// Where a row's sources of one type are, in the tile's list of edges.
struct Range {
  uint16_t first, last;
};

// Columns: of a block. Types: of edges.
template <int Columns, int GroupSize, int Types>
struct Body {
  using Out = Sums<1, Columns / 8, kTileRows / 16, 1, GroupSize>;
  static_assert(Out::kRows == kTileRows && Out::kPartials == 0, "a warp has whole rows of its groups");
  static constexpr int kWarps = Out::kWarps;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kBlocksPerSM = 1;
  static constexpr int kVector = 8;            // FP16 numbers in 16 bytes
  static constexpr int kSlabs = kWindow / 16;  // of weights, one for each instruction, and for each type
  static constexpr int kHalf = kChunk * static_cast<int>(sizeof(Half));  // bytes
  static constexpr int kStages = 2;
  static constexpr int kBatch = Columns > 128 ? 2 : 4;  // sources in flight while a row is summed: as registers allow

  // Shared memory, in bytes.
  static constexpr int kSlab = 16 * Columns;  // Half: what one instruction multiplies with
  static constexpr int kWeights = Types * kSlabs * kSlab * static_cast<int>(sizeof(Half));             // of a window
  static constexpr int kStage = kWeights + kTileSources * kWindow * static_cast<int>(sizeof(Half));  // and rows of x
  static constexpr int kSourcesAt = kStages * kStage;
  static constexpr int kDegreesAt = kSourcesAt + kTileSources * static_cast<int>(sizeof(int32_t));
  static constexpr int kRangesAt = kDegreesAt + kTileRows * kMaxTypes * static_cast<int>(sizeof(float));
  static constexpr int kStartsAt = kRangesAt + kTileRows * Types * static_cast<int>(sizeof(Range));
  static constexpr int kShared = kStartsAt + kTileEdges * static_cast<int>(sizeof(uint16_t));

  struct Tile {
    int index, first, sources;  // number, first row, rows of x
    int slice;                  // which columns
  };

  GraphConv args;
  Tiles tiles;

  TOPOS_HD void run(int block, unsigned char* shared) const {
    int32_t* sources = reinterpret_cast<int32_t*>(shared + kSourcesAt);
    float* degrees = reinterpret_cast<float*>(shared + kDegreesAt);
    Range* ranges = reinterpret_cast<Range*>(shared + kRangesAt);
    uint16_t* starts = reinterpret_cast<uint16_t*>(shared + kStartsAt);
    const int slices = args.c_out / Columns, index = block / slices;
    const Tile tile{index, index * kTileRows, tiles.offsets[index + 1] - tiles.offsets[index], block % slices};
    const int windows = args.c_in / kWindow;

    PerWarp<typename Out::State, kWarps> sums;
    for_warps<kWarps>([&](int warp) {
      copy_weights(warp, tile, 0, shared);  // goes on while tables are read
      Out::clear(sums[warp]);
      begin(warp, tile, sources, degrees, ranges, starts);
    });
    sync();
    for_warps<kWarps>([&](int warp) { copy_rows(warp, tile, 0, sources, shared); });
    for (int window = 0; window < windows; ++window) {
      copy_wait<0>();
      share_with_tensor_cores();
      wgmma_wait<0>();
      sync();  // this window is whole, and of the last one nothing is read any more
      for_warps<kWarps>([&](int warp) {
        copy_weights(warp, tile, window + 1, shared);
        copy_rows(warp, tile, window + 1, sources, shared);
        const unsigned char* stage = shared + window % kStages * kStage;
        const Half* weights = reinterpret_cast<const Half*>(stage);
        TOPOS_UNROLL
        for (int type = 0; type < Types; ++type) {
          TOPOS_UNROLL
          for (int half = 0; half < 2; ++half) {
            if (type + half) wgmma_wait<0>();  // A's registers are free
            PerLane<FragmentA> a[2];
            gather_rows(warp, type, half * kHalf, stage + kWeights, ranges, starts, a);
            wgmma_begin();
            TOPOS_UNROLL
            for (int slab = 0; slab < 2; ++slab) {
              wgmma(sums[warp].d[0], a[slab], weights + (type * kSlabs + 2 * half + slab) * kSlab);
            }
            wgmma_commit();
          }
        }
      });
    }
    wgmma_wait<0>();
    for_warps<kWarps>([&](int warp) { wgmma_end(sums[warp].d[0]); });
    Out{args, tile.first, tile.slice * Columns, degrees, nullptr}.finish(sums);
  }

 private:
  // The tile's tables to shared memory.
  TOPOS_HD void begin(int warp, const Tile& tile, int32_t* sources, float* degrees, Range* ranges,
                      uint16_t* starts) const {
    for_lanes([&](int lane) {
      const int thread = warp * kWarp + lane, rows = min_of(kTileRows, args.rows - tile.first);
      const int32_t* from = tiles.sources + tiles.offsets[tile.index];
      TOPOS_ROLLED
      for (int i = thread; i < tile.sources; i += kThreads) sources[i] = from[i];
      int begin = 0;
      TOPOS_UNROLL
      for (int type = 0; type < Types; ++type) {
        const int32_t* offsets = args.edges[type].offsets;
        auto offset = [&](int row) { return offsets ? offsets[tile.first + row] : tile.first + row; };
        const int origin = offset(0), count = offset(rows) - origin;
        TOPOS_ROLLED
        for (int i = thread; i < count; i += kThreads) {
          starts[begin + i] = static_cast<uint16_t>(start_of(tiles.places[type][origin + i]));
        }
        TOPOS_ROLLED
        for (int row = thread; row < kTileRows; row += kThreads) {
          // A row that is not there has a first source too, but none in all.
          const int first = row < rows ? offset(row) - origin : 0, last = row < rows ? offset(row + 1) - origin : 0;
          ranges[row * Types + type] = Range{static_cast<uint16_t>(begin + first), static_cast<uint16_t>(begin + last)};
          degrees[row * kMaxTypes + type] = static_cast<float>(last - first);
        }
        begin += count;
      }
    });
  }

  static TOPOS_HD int min_of(int a, int b) { return a < b ? a : b; }

  // Bytes from the first row to where a row's first half begins. Halves change places in every second row: eight lanes
  // read at a time, four of them a row, and would meet in the same banks.
  static TOPOS_HD int start_of(int row) { return (row * kWindow + row % 2 * kChunk) * static_cast<int>(sizeof(Half)); }

  // Eight columns of a row. half: bytes, 0 or those of a chunk.
  static TOPOS_HD Half8 at(const unsigned char* column, int start, int half) {
    return *reinterpret_cast<const Half8*>(column + (start ^ half));
  }

  // The sum of eight columns over a row's sources, in FP32, in the order of the table.
  static TOPOS_HD Half8 gather(const unsigned char* column, const uint16_t* start, const uint16_t* end, int half) {
    float sum[kVector] = {};
    TOPOS_ROLLED
    for (; start < end; start += kBatch) {
      Half8 found[kBatch];
      TOPOS_UNROLL
      for (int i = 0; i < kBatch; ++i) {
        if (start + i < end) found[i] = at(column, start[i], half);
      }
      TOPOS_UNROLL
      for (int i = 0; i < kBatch; ++i) {
        if (start + i < end) add(sum, found[i]);
      }
    }
    return to_half8(sum);
  }

  TOPOS_HD void copy_weights(int warp, const Tile& tile, int window, unsigned char* stages) const {
    const int windows = args.c_in / kWindow;
    if (window >= windows) return;
    unsigned char* to = stages + window % kStages * kStage;
    const unsigned char* from = static_cast<const unsigned char*>(args.weights) +
                                (static_cast<int64_t>(tile.slice) * windows + window) * kWeights;
    for_lanes([&](int lane) {
      constexpr int kVector = sizeof(Half8);
      TOPOS_ROLLED  // unrolled, addresses would hold registers all the time
      for (int i = (warp * kWarp + lane) * kVector; i < kWeights; i += kThreads * kVector) {
        copy16_async(to + i, from + i);
      }
    });
  }

  TOPOS_HD void copy_rows(int warp, const Tile& tile, int window, const int32_t* sources, unsigned char* stages) const {
    constexpr int kVectors = kWindow / kVector, kRowsAtOnce = kThreads / kVectors;
    static_assert(kRowsAtOnce % 2 == 0, "a thread's rows all have their halves in the same places");
    if (window >= args.c_in / kWindow) return;
    const Half* x = static_cast<const Half*>(args.x) + window * kWindow;
    for_lanes([&](int lane) {
      const int thread = warp * kWarp + lane, first = thread / kVectors, column = thread % kVectors * kVector;
      unsigned char* to = stages + window % kStages * kStage + kWeights +
                          (start_of(first) ^ column * static_cast<int>(sizeof(Half)));
      TOPOS_ROLLED
      for (int row = first; row < tile.sources; row += kRowsAtOnce, to += start_of(kRowsAtOnce)) {
        copy16_async(to, x + static_cast<int64_t>(sources[row]) * args.c_in + column);
      }
    });
    copy_commit();
  }

  TOPOS_HD void gather_rows(int warp, int type, int half, const unsigned char* rows, const Range* ranges,
                            const uint16_t* starts, PerLane<FragmentA> (&a)[2]) const {
    for_lanes([&](int lane) {
      const unsigned char* column = rows + lane % 4 * sizeof(Half8);
      Half8 sums[2];
      TOPOS_UNROLL
      for (int upper = 0; upper < 2; ++upper) {
        const Range range = ranges[(warp * 16 + lane / 4 + 8 * upper) * Types + type];
        sums[upper] = args.edges[type].offsets ? gather(column, starts + range.first, starts + range.last, half)
                                               : at(column, starts[range.first], half);
      }
      put_rows(a, lane, sums[0], sums[1]);
    });
  }
};

template <int Columns, int GroupSize>
int launch_columns(const GraphConv& args, const Tiles& tiles, Stream stream) {
  const int64_t blocks =
      (static_cast<int64_t>(args.rows) + kTileRows - 1) / kTileRows * (args.c_out / Columns);
  if (args.types == 1) return launch(Body<Columns, GroupSize, 1>{args, tiles}, blocks, stream);
  return launch(Body<Columns, GroupSize, 2>{args, tiles}, blocks, stream);
}

}  // namespace

// One line for each width. A tile of 192 rows makes one wave of blocks of the official sizes on 132 multiprocessors:
// 126 of 24,049 rows; 512 columns take a fourth, one group of the norm, each, or 29 tiles would leave most idle.
int graph_conv_tiled(const GraphConv& args, const Tiles& tiles, Stream stream) {
  if (args.c_in % kWindow) return kUnsupported;
  switch (args.c_out) {
    case 128: return launch_columns<128, 32>(args, tiles, stream);
    case 256: return launch_columns<256, 64>(args, tiles, stream);
    case 512: return launch_columns<128, 128>(args, tiles, stream);
    default: return kUnsupported;
  }
}

}  // namespace topos
