// Computes a graph convolution over a fixed topology, with everything that follows it. See kernels.h.
//
// A block takes kRows rows of the output and all of their columns, so that the group norm stays inside the block. The
// product [S_0 | S_1] [W_0; W_1] runs over chunks of 32 columns of S. While the tensor cores multiply one chunk, the
// neighbours of the next are gathered into registers and the weights of the one after are copied in the background, so
// that a chunk needs one barrier. Weights lie in global memory in the order of fragments, so that a chunk is one
// straight copy and a lane finds its operands side by side.
//
// Source of the maths: TOPOS (arXiv 2605.14594), models/vae.py.
#include "epilogue.h"
#include "launch.h"

namespace topos {
namespace {

constexpr int kVector = 8;                // FP16 numbers in 16 bytes
constexpr int kVectors = kChunk / kVector;
constexpr int kBatch = 4;                 // gathered rows in flight

TOPOS_HD Half8 load8(const Half* p) {
#ifdef __CUDA_ARCH__
  const uint4 raw = __ldg(reinterpret_cast<const uint4*>(p));
  Half8 value;
  static_assert(sizeof(raw) == sizeof(value), "");
  memcpy(&value, &raw, sizeof(value));
  return value;
#else
  Half8 value;
  std::memcpy(&value, p, sizeof(value));
  return value;
#endif
}

// The range of the table that holds a row's sources of one type. With last < 0 there is one source, the row `first`.
struct Range {
  int first, last;
};

TOPOS_HD Range range_of(const Sources& edges, int row, bool exists) {
  if (!exists) return Range{0, 0};
  if (edges.offsets) return Range{edges.offsets[row], edges.offsets[row + 1]};
  return Range{edges.sources ? edges.sources[row] : row, -1};
}

// Sums eight columns over a row's sources in FP32, in the order of the table.
TOPOS_HD Half8 gather(const Half* x, int c_in, int column, const Range& range, const int32_t* sources) {
  if (range.last < 0) return load8(x + range.first * c_in + column);
  float sum[kVector] = {};
  TOPOS_ROLLED  // unrolled, the loop would need more registers than there are
  for (int e = range.first; e < range.last; e += kBatch) {
    Half8 rows[kBatch];
    TOPOS_UNROLL
    for (int i = 0; i < kBatch; ++i) {
      if (e + i < range.last) rows[i] = load8(x + sources[e + i] * c_in + column);
    }
    TOPOS_UNROLL
    for (int i = 0; i < kBatch; ++i) {
      if (e + i < range.last) add(sum, rows[i]);
    }
  }
  return to_half8(sum);
}

// RowTiles, ColumnTiles: tiles of 16 rows and of 8 columns that one warp multiplies. A block has RowWarps x ColumnWarps
// warps.
template <int RowTiles, int ColumnTiles, int RowWarps, int ColumnWarps, int Stages, int BlocksPerSM>
struct Body {
  // A layer with a norm has exactly the columns of its instance.
  using Out = Sums<RowTiles, ColumnTiles, RowWarps, ColumnWarps, 8 * ColumnTiles * ColumnWarps / kGroups>;
  static constexpr int kWarps = Out::kWarps;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kBlocksPerSM = BlocksPerSM;
  static constexpr int kRows = Out::kRows;
  static constexpr int kTasks = kRows * kVectors / kThreads;  // 16-byte vectors of a chunk that a thread gathers
  static_assert(kTasks * kThreads == kRows * kVectors, "every vector has a thread");

  // The layout of shared memory.
  static constexpr int kTile = kRows * kChunk;            // in Half: one chunk of S
  static constexpr int kStage = Out::kColumns / 8 * kWarp;  // in Half8: one chunk of weights
  static constexpr int kWeightsAt = 2 * kTile * static_cast<int>(sizeof(Half));
  static constexpr int kPartialsAt = kWeightsAt + Stages * kStage * static_cast<int>(sizeof(Half8));
  static constexpr int kDegreesAt = kPartialsAt + 2 * Out::kPartials * static_cast<int>(sizeof(float));
  static constexpr int kShared = kDegreesAt + kRows * kMaxTypes * static_cast<int>(sizeof(float));

  struct Gathered {
    Half8 vector[kTasks];
  };
  struct Ranges {
    Range range[kTasks][kMaxTypes];
  };

  GraphConv args;

  TOPOS_HD void run(int block, unsigned char* shared) const {
    Half* tiles = reinterpret_cast<Half*>(shared);
    Half8* weights = reinterpret_cast<Half8*>(shared + kWeightsAt);
    float* partials = reinterpret_cast<float*>(shared + kPartialsAt);
    float* degrees = reinterpret_cast<float*>(shared + kDegreesAt);
    const int first = block * kRows;
    const int chunks = (args.types * args.c_in + kChunk - 1) / kChunk;

    PerWarp<PerLane<Ranges>, kWarps> ranges;
    PerWarp<typename Out::State, kWarps> sums;
    for_warps<kWarps>([&](int warp) {
      Out::clear(sums[warp]);
      begin(ranges[warp], warp, first, degrees);
      for (int chunk = 0; chunk < Stages - 1; ++chunk) copy_weights(warp, chunk, chunks, weights);
      PerLane<Gathered> next;
      gather_chunk(ranges[warp], warp, 0, next);
      store_chunk(next, warp, tiles);
    });
    for (int chunk = 0; chunk < chunks; ++chunk) {
      copy_wait<Stages - 2>();
      sync();  // now this chunk is complete, and nobody reads what is overwritten next
      for_warps<kWarps>([&](int warp) {
        copy_weights(warp, chunk + Stages - 1, chunks, weights);
        PerLane<Gathered> next;
        const bool more = chunk + 1 < chunks;
        if (more) gather_chunk(ranges[warp], warp, chunk + 1, next);
        multiply(sums[warp], warp, tiles + chunk % 2 * kTile, weights + chunk % Stages * kStage);
        if (more) store_chunk(next, warp, tiles + (chunk + 1) % 2 * kTile);
      });
    }
    Out{args, first, 0, degrees, partials}.finish(sums);
  }

 private:
  TOPOS_HD void begin(PerLane<Ranges>& ranges, int warp, int first, float* degrees) const {
    for_lanes([&](int lane) {
      const int thread = warp * kWarp + lane;
      TOPOS_UNROLL
      for (int task = 0; task < kTasks; ++task) {
        const int local = (thread + task * kThreads) / kVectors, row = first + local;
        TOPOS_UNROLL
        for (int type = 0; type < kMaxTypes; ++type) {
          const Range range = range_of(args.edges[type], row, row < args.rows && type < args.types);
          ranges[lane].range[task][type] = range;
          const int degree = range.last < 0 ? 1 : range.last - range.first;
          if (thread % kVectors == 0) degrees[local * kMaxTypes + type] = static_cast<float>(degree);
        }
      }
    });
  }

  // Closes a batch even where there is nothing to copy, so that `copy_wait` still counts right at the end.
  TOPOS_HD void copy_weights(int warp, int chunk, int chunks, Half8* weights) const {
    if (chunk < chunks) {
      const Half8* from = static_cast<const Half8*>(args.weights) + static_cast<int64_t>(chunk) * kStage;
      Half8* to = weights + chunk % Stages * kStage;
      for_lanes([&](int lane) {
        TOPOS_UNROLL
        for (int i = warp * kWarp + lane; i < kStage; i += kThreads) copy16_async(to + i, from + i);
      });
    }
    copy_commit();
  }

  TOPOS_HD void gather_chunk(const PerLane<Ranges>& ranges, int warp, int chunk, PerLane<Gathered>& next) const {
    for_lanes([&](int lane) {
      int column = chunk * kChunk + (warp * kWarp + lane) % kVectors * kVector;
      const int type = column >= args.c_in ? 1 : 0;
      if (type) column -= args.c_in;
      TOPOS_UNROLL
      for (int task = 0; task < kTasks; ++task) {
        Half8 vector = {};  // zeros past the last column
        if (type < args.types && column < args.c_in) {
          const Range range = type ? ranges[lane].range[task][1] : ranges[lane].range[task][0];
          const int32_t* sources = type ? args.edges[1].sources : args.edges[0].sources;
          vector = gather(static_cast<const Half*>(args.x), args.c_in, column, range, sources);
        }
        next[lane].vector[task] = vector;
      }
    });
  }

  TOPOS_HD void store_chunk(const PerLane<Gathered>& next, int warp, Half* tile) const {
    for_lanes([&](int lane) {
      TOPOS_UNROLL
      for (int task = 0; task < kTasks; ++task) {
        const int index = warp * kWarp + lane + task * kThreads;
        *reinterpret_cast<Half8*>(tile + index * kVector) = next[lane].vector[task];
      }
    });
  }

  // A lane's eight columns of a row serve both halves of a chunk; the order of the weights' rows is made for that.
  TOPOS_HD void multiply(typename Out::State& state, int warp, const Half* tile, const Half8* weights) const {
    const Half* rows = tile + warp / ColumnWarps * RowTiles * 16 * kChunk;
    const Half4* columns = reinterpret_cast<const Half4*>(weights + warp % ColumnWarps * ColumnTiles * kWarp);
    PerLane<FragmentA> a[RowTiles][2];
    TOPOS_UNROLL
    for (int i = 0; i < RowTiles; ++i) {
      for_lanes([&](int lane) {
        const Half* row = rows + (i * 16 + lane / 4) * kChunk + lane % 4 * kVector;
        put_rows(a[i], lane, *reinterpret_cast<const Half8*>(row), *reinterpret_cast<const Half8*>(row + 8 * kChunk));
      });
    }
    TOPOS_UNROLL
    for (int j = 0; j < ColumnTiles; ++j) {
      TOPOS_UNROLL
      for (int half = 0; half < 2; ++half) {
        PerLane<FragmentB> b;
        for_lanes([&](int lane) { b[lane] = load_b(columns + (2 * j + half) * kWarp + lane); });
        TOPOS_UNROLL
        for (int i = 0; i < RowTiles; ++i) mma(state.d[i][j], a[i][half], b);
      }
    }
  }
};

template <class Instance>
int launch_instance(const GraphConv& args, Stream stream) {
  const int64_t blocks = (static_cast<int64_t>(args.rows) + Instance::kRows - 1) / Instance::kRows;
  return launch(Instance{args}, blocks, stream);
}

}  // namespace

// There is one line for each width, with 8 warps each. Traffic of weights and rows from the L2 cache limits the wide
// ones, so they take as many rows as their registers hold: 64 of 512 columns, 128 of 256.
int graph_conv(const GraphConv& args, Stream stream) {
  if (args.c_out % 8 && args.c_out > 96) return kUnsupported;  // lanes of the wide ones have whole vectors
  switch ((args.c_out + 7) / 8 * 8) {
    case 8: return launch_instance<Body<1, 1, 8, 1, 3, 2>>(args, stream);
    case 16: return launch_instance<Body<1, 1, 4, 2, 3, 2>>(args, stream);
    case 32: return launch_instance<Body<1, 2, 4, 2, 3, 2>>(args, stream);
    case 48: return launch_instance<Body<1, 3, 4, 2, 3, 2>>(args, stream);
    case 64: return launch_instance<Body<2, 2, 2, 4, 3, 2>>(args, stream);
    case 96: return launch_instance<Body<2, 3, 2, 4, 3, 2>>(args, stream);
    case 128: return launch_instance<Body<2, 4, 2, 4, 3, 2>>(args, stream);
    case 256: return launch_instance<Body<4, 8, 2, 4, 3, 1>>(args, stream);
    case 512: return launch_instance<Body<4, 8, 1, 8, 2, 1>>(args, stream);
    default: return kUnsupported;
  }
}

}  // namespace topos
