// Graph convolution over a fixed topology, with everything that follows it. See kernels.h.
//
// A block takes kRows rows of the output and all of its columns, so that the group norm stays inside the block. The
// product [S_0 | S_1] [W_0; W_1] runs over chunks of 32 columns of S. While the tensor cores multiply one chunk, the
// neighbours of the next are gathered into registers and the weights of the one after are copied in the background:
// one barrier a chunk. Weights lie in global memory in the order of fragments, so that a chunk is one straight copy
// and a lane finds its operands side by side.
//
// Source of the maths: TOPOS (arXiv 2605.14594), export/models/vae.py.
#include <cmath>

#include "launch.h"
#include "mma.h"

namespace topos {
namespace {

constexpr int kVector = 8;                // FP16 numbers in 16 bytes
constexpr int kVectors = kChunk / kVector;
constexpr int kBatch = 4;                 // gathered rows in flight
constexpr int kPitch = kChunk + kVector;  // 20 banks from row to row: the 8 rows that a load touches are disjoint

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

// Where a row's sources of one type are. last < 0: it is the one row `first`, not a range of the table.
struct Range {
  int first, last;
};

TOPOS_HD Range range_of(const Sources& edges, int row, bool exists) {
  if (!exists) return Range{0, 0};
  if (edges.offsets) return Range{edges.offsets[row], edges.offsets[row + 1]};
  return Range{edges.sources ? edges.sources[row] : row, -1};
}

// The sum of eight columns over a row's sources, in FP32, in the order of the table.
TOPOS_HD Half8 gather(const Half* x, int c_in, int column, const Range& range, const int32_t* sources) {
  if (range.last < 0) return load8(x + range.first * c_in + column);
  float sum[kVector] = {};
  TOPOS_ROLLED  // the compiler would go on unrolling, and run out of registers
  for (int e = range.first; e < range.last; e += kBatch) {
    Half8 rows[kBatch];
    TOPOS_UNROLL
    for (int i = 0; i < kBatch; ++i) {
      if (e + i < range.last) rows[i] = load8(x + sources[e + i] * c_in + column);
    }
    TOPOS_UNROLL
    for (int i = 0; i < kBatch; ++i) {
      if (e + i >= range.last) break;
      TOPOS_UNROLL
      for (int j = 0; j < kVector / 2; ++j) {
        sum[2 * j] += to_float(rows[i].pair[j].x);
        sum[2 * j + 1] += to_float(rows[i].pair[j].y);
      }
    }
  }
  Half8 rounded;
  TOPOS_UNROLL
  for (int j = 0; j < kVector / 2; ++j) rounded.pair[j] = to_half2(sum[2 * j], sum[2 * j + 1]);
  return rounded;
}

TOPOS_HD float silu(float z) {
#ifdef __CUDA_ARCH__
  return z / (1.0f + __expf(-z));
#else
  return z / (1.0f + std::exp(-z));
#endif
}

TOPOS_HD float inverse_root(float z) {
#ifdef __CUDA_ARCH__
  return rsqrtf(z);
#else
  return 1.0f / std::sqrt(z);
#endif
}

// RowTiles, ColumnTiles: tiles of 16 rows and of 8 columns that one warp multiplies. RowWarps x ColumnWarps warps.
template <int RowTiles, int ColumnTiles, int RowWarps, int ColumnWarps, int Stages, int BlocksPerSM>
struct Body {
  static constexpr int kWarps = RowWarps * ColumnWarps;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kBlocksPerSM = BlocksPerSM;
  static constexpr int kRows = 16 * RowTiles * RowWarps;
  static constexpr int kColumns = 8 * ColumnTiles * ColumnWarps;
  static constexpr int kGroupSize = kColumns / kGroups;  // a layer with a norm has all the columns of its instance
  static constexpr int kTasks = kRows * kVectors / kThreads;  // 16-byte vectors of S that a thread gathers a chunk
  static_assert(kTasks * kThreads == kRows * kVectors, "every vector has a thread");

  // Shared memory.
  static constexpr int kTile = kRows * kPitch;                     // Half: one chunk of S
  static constexpr int kStage = kColumns / 8 * kWarp;              // Half8: one chunk of weights
  static constexpr int kPartials = ColumnWarps * kRows * kGroups;  // float: sums of a warp's columns by row, group
  static constexpr int kWeightsAt = 2 * kTile * static_cast<int>(sizeof(Half));
  static constexpr int kPartialsAt = kWeightsAt + Stages * kStage * static_cast<int>(sizeof(Half8));
  static constexpr int kDegreesAt = kPartialsAt + 2 * kPartials * static_cast<int>(sizeof(float));
  static constexpr int kShared = kDegreesAt + kRows * kMaxTypes * static_cast<int>(sizeof(float));

  struct Gathered {
    Half8 vector[kTasks];
  };
  struct Ranges {
    Range range[kTasks][kMaxTypes];
  };
  struct State {  // of one warp
    PerLane<FragmentD> d[RowTiles][ColumnTiles];
    PerLane<Ranges> ranges;
  };

  GraphConv args;

  TOPOS_HD void run(int block, unsigned char* shared) const {
    Half* tiles = reinterpret_cast<Half*>(shared);
    Half8* weights = reinterpret_cast<Half8*>(shared + kWeightsAt);
    float* partials = reinterpret_cast<float*>(shared + kPartialsAt);
    float* degrees = reinterpret_cast<float*>(shared + kDegreesAt);
    const int first = block * kRows;
    const int chunks = (args.types * args.c_in + kChunk - 1) / kChunk;

    PerWarp<State, kWarps> state;
    for_warps<kWarps>([&](int warp) {
      begin(state[warp], warp, first, degrees);
      for (int chunk = 0; chunk < Stages - 1; ++chunk) copy_weights(warp, chunk, chunks, weights);
      PerLane<Gathered> next;
      gather_chunk(state[warp], warp, 0, next);
      store_chunk(next, warp, tiles);
    });
    for (int chunk = 0; chunk < chunks; ++chunk) {
      copy_wait<Stages - 2>();
      sync();  // this chunk is whole, and nobody reads what is overwritten next
      for_warps<kWarps>([&](int warp) {
        copy_weights(warp, chunk + Stages - 1, chunks, weights);
        PerLane<Gathered> next;
        const bool more = chunk + 1 < chunks;
        if (more) gather_chunk(state[warp], warp, chunk + 1, next);
        multiply(state[warp], warp, tiles + chunk % 2 * kTile, weights + chunk % Stages * kStage);
        if (more) store_chunk(next, warp, tiles + (chunk + 1) % 2 * kTile);
      });
    }
    for_warps<kWarps>([&](int warp) { add_bias(state[warp], warp, degrees); });
    if (args.gamma) normalise(state, partials);
    for_warps<kWarps>([&](int warp) { finish(state[warp], warp, first); });
  }

 private:
  TOPOS_HD void begin(State& state, int warp, int first, float* degrees) const {
    for_lanes([&](int lane) {
      TOPOS_UNROLL
      for (int i = 0; i < RowTiles; ++i) {
        TOPOS_UNROLL
        for (int j = 0; j < ColumnTiles; ++j) state.d[i][j][lane] = FragmentD{};
      }
      const int thread = warp * kWarp + lane;
      TOPOS_UNROLL
      for (int task = 0; task < kTasks; ++task) {
        const int local = (thread + task * kThreads) / kVectors, row = first + local;
        TOPOS_UNROLL
        for (int type = 0; type < kMaxTypes; ++type) {
          const Range range = range_of(args.edges[type], row, row < args.rows && type < args.types);
          state.ranges[lane].range[task][type] = range;
          const int degree = range.last < 0 ? 1 : range.last - range.first;
          if (thread % kVectors == 0) degrees[local * kMaxTypes + type] = static_cast<float>(degree);
        }
      }
    });
  }

  // Closes a batch also where there is nothing to copy, so that `copy_wait` counts right at the end.
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

  TOPOS_HD void gather_chunk(const State& state, int warp, int chunk, PerLane<Gathered>& next) const {
    for_lanes([&](int lane) {
      int column = chunk * kChunk + (warp * kWarp + lane) % kVectors * kVector;
      const int type = column >= args.c_in ? 1 : 0;
      if (type) column -= args.c_in;
      TOPOS_UNROLL
      for (int task = 0; task < kTasks; ++task) {
        Half8 vector = {};  // also of what lies past the last column
        if (type < args.types && column < args.c_in) {
          const Range range = type ? state.ranges[lane].range[task][1] : state.ranges[lane].range[task][0];
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
        Half* to = tile + index / kVectors * kPitch + index % kVectors * kVector;
        *reinterpret_cast<Half8*>(to) = next[lane].vector[task];
      }
    });
  }

  TOPOS_HD void multiply(State& state, int warp, const Half* tile, const Half8* weights) const {
    const Half* rows = tile + warp / ColumnWarps * RowTiles * 16 * kPitch;
    const Half8* columns = weights + warp % ColumnWarps * ColumnTiles * kWarp;
    TOPOS_UNROLL
    for (int half = 0; half < kChunk / 16; ++half) {
      PerLane<FragmentA> a[RowTiles];
      TOPOS_UNROLL
      for (int i = 0; i < RowTiles; ++i) {
        for_lanes([&](int lane) { a[i][lane] = load_a(rows + i * 16 * kPitch + half * 16, kPitch, lane); });
      }
      TOPOS_UNROLL
      for (int j = 0; j < ColumnTiles; ++j) {
        PerLane<FragmentB> b;
        for_lanes([&](int lane) { b[lane] = load_b(columns + j * kWarp + lane, half); });
        TOPOS_UNROLL
        for (int i = 0; i < RowTiles; ++i) mma(state.d[i][j], a[i], b);
      }
    }
  }

  // Row in the block of registers 2 * upper and 2 * upper + 1 of a fragment; and the first of its two columns.
  static TOPOS_HD int row_of(int warp, int lane, int i, int upper) {
    return (warp / ColumnWarps * RowTiles + i) * 16 + lane / 4 + 8 * upper;
  }
  static TOPOS_HD int column_of(int warp, int lane, int j) {
    return (warp % ColumnWarps * ColumnTiles + j) * 8 + lane % 4 * 2;
  }

  // Calls work(row in the block, column, two values) for all that a lane holds; columns past c_out are left out.
  template <class F>
  TOPOS_HD void for_pairs(State& state, int warp, int lane, F work) const {
    TOPOS_UNROLL
    for (int i = 0; i < RowTiles; ++i) {
      TOPOS_UNROLL
      for (int j = 0; j < ColumnTiles; ++j) {
        const int column = column_of(warp, lane, j);
        if (column >= args.c_out) continue;
        TOPOS_UNROLL
        for (int upper = 0; upper < 2; ++upper) {
          work(row_of(warp, lane, i, upper), column, state.d[i][j][lane].reg + 2 * upper);
        }
      }
    }
  }

  // Once per edge, so degree times; in FP32.
  TOPOS_HD void add_bias(State& state, int warp, const float* degrees) const {
    if (!args.bias) return;
    for_lanes([&](int lane) {
      for_pairs(state, warp, lane, [&](int row, int column, float* pair) {
        for (int type = 0; type < args.types; ++type) {
          const float* bias = args.bias + type * args.c_out + column;
          const float degree = degrees[row * kMaxTypes + type];
          pair[0] += degree * bias[0];
          pair[1] += degree * bias[1];
        }
      });
    });
  }

  // Mean first, then the squares around it: the sum of squares alone would cancel. Sums of a row and group come from
  // up to ColumnWarps warps and are added in their order.
  TOPOS_HD void normalise(PerWarp<State, kWarps>& state, float* partials) const {
    constexpr float share = 1.0f / static_cast<float>(kGroupSize);
    float* squares = partials + kPartials;
    for_warps<kWarps>([&](int warp) {
      sum_groups(state[warp], warp, partials, [](float z) { return z; });
    });
    sync();
    for_warps<kWarps>([&](int warp) {
      for_lanes([&](int lane) {
        for_pairs(state[warp], warp, lane, [&](int row, int column, float* pair) {
          const float mean = share * total(partials, row, column / kGroupSize);
          pair[0] -= mean;
          pair[1] -= mean;
        });
      });
      sum_groups(state[warp], warp, squares, [](float z) { return z * z; });
    });
    sync();
    for_warps<kWarps>([&](int warp) {
      for_lanes([&](int lane) {
        for_pairs(state[warp], warp, lane, [&](int row, int column, float* pair) {
          const float scale = inverse_root(share * total(squares, row, column / kGroupSize) + kGroupEps);
          pair[0] = pair[0] * scale * args.gamma[column] + args.beta[column];
          pair[1] = pair[1] * scale * args.gamma[column + 1] + args.beta[column + 1];
        });
      });
    });
  }

  static TOPOS_HD float total(const float* partials, int row, int group) {
    float sum = 0.0f;
    TOPOS_UNROLL
    for (int part = 0; part < ColumnWarps; ++part) sum += partials[(part * kRows + row) * kGroups + group];
    return sum;
  }

  template <class F>
  TOPOS_HD void sum_groups(State& state, int warp, float* partials, F value) const {
    TOPOS_UNROLL
    for (int i = 0; i < RowTiles; ++i) {
      TOPOS_UNROLL
      for (int upper = 0; upper < 2; ++upper) {
        TOPOS_UNROLL
        for (int group = 0; group < kGroups; ++group) {
          PerLane<float> sum;
          for_lanes([&](int lane) {
            sum[lane] = 0.0f;
            TOPOS_UNROLL
            for (int j = 0; j < ColumnTiles; ++j) {
              // both columns of a pair are in one group: group sizes are even
              if (column_of(warp, lane, j) / kGroupSize != group) continue;
              const float* pair = state.d[i][j][lane].reg + 2 * upper;
              sum[lane] += value(pair[0]) + value(pair[1]);
            }
          });
          quad_sum(sum);
          for_lanes([&](int lane) {
            const int row = row_of(warp, lane, i, upper);
            if (lane % 4 == 0) partials[(warp % ColumnWarps * kRows + row) * kGroups + group] = sum[lane];
          });
        }
      }
    }
  }

  TOPOS_HD void finish(State& state, int warp, int first) const {
    for_lanes([&](int lane) {
      for_pairs(state, warp, lane, [&](int local, int column, float* pair) {
        const int row = first + local;
        if (row >= args.rows) return;
        if (args.residual) {
          const int64_t from = args.residual_rows ? args.residual_rows[row] : row;
          const Half2 more = *reinterpret_cast<const Half2*>(
              static_cast<const Half*>(args.residual) + from * args.c_out + column);
          pair[0] += to_float(more.x);
          pair[1] += to_float(more.y);
        }
        if (args.silu) {
          pair[0] = silu(pair[0]);
          pair[1] = silu(pair[1]);
        }
        store(row, column, pair);
      });
    });
  }

  TOPOS_HD void store(int64_t row, int column, const float* pair) const {
    if (!args.out32) {
      *reinterpret_cast<Half2*>(static_cast<Half*>(args.out) + row * args.c_out + column) =
          to_half2(pair[0], pair[1]);
      return;
    }
    const int64_t at = (args.out_rows ? args.out_rows[row] : row) * args.c_out + column;
    TOPOS_UNROLL
    for (int i = 0; i < 2; ++i) {
      const float scaled = args.scale ? pair[i] * args.scale[column + i] : pair[i];
      args.out32[at + i] = args.mean ? scaled + args.mean[at + i] : scaled;
    }
  }
};

template <class Instance>
int launch_instance(const GraphConv& args, Stream stream) {
  const int64_t blocks = (static_cast<int64_t>(args.rows) + Instance::kRows - 1) / Instance::kRows;
  return launch(Instance{args}, blocks, stream);
}

}  // namespace

// One line for each width, 8 warps each. What limits the wide ones is the way of weights and rows from the L2 cache, so
// they take as many rows as their registers hold: 64 of 512 columns, 128 of 256.
int graph_conv(const GraphConv& args, Stream stream) {
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
