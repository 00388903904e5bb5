// The operations that follow a graph convolution's product, on sums in the tensor cores' fragments: biases, group norm,
// residual, SiLU and the store. graph_conv_tiled.cu has its own form of them, but the same functions of one number.
#pragma once

#include <cmath>

#include "kernels.h"
#include "mma.h"

namespace topos {

// tanh.approx is one operation of the special-function unit, where an exponential and a quotient are two and a branch.
// Its relative error of 2^-11 is that of FP16, in which the result is kept.
TOPOS_HD float tanh_of(float z) {
#ifdef __CUDA_ARCH__
  float value;
  asm("tanh.approx.f32 %0, %1;" : "=f"(value) : "f"(z));
  return value;
#else
  return std::tanh(z);
#endif
}

// Returns silu(2 h), because z / (1 + exp(-z)) = z / 2 (1 + tanh(z / 2)).
TOPOS_HD float silu_of_half(float h) { return h * tanh_of(h) + h; }

TOPOS_HD float inverse_root(float z) {
#ifdef __CUDA_ARCH__
  return rsqrtf(z);
#else
  return 1.0f / std::sqrt(z);
#endif
}

// Consecutive numbers, which are moved as whole vectors.
template <class T, int Count>
struct alignas(sizeof(T) * Count < 16 ? sizeof(T) * Count : 16) Run {
  T at[Count];
};

// The sums of a block of kRows x kColumns. A fragment is 16 rows x 8 columns, a warp has RowTiles x ColumnTiles of
// them, and RowWarps x ColumnWarps warps lie side by side. GroupSize: columns of a group of the norm; a block has whole
// groups.
//
// A lane holds two adjacent columns of every tile. Where a warp has four tiles or more, the weights' columns are in
// another order (topos_rt.gpu.layers.pack), in which a lane's columns of four tiles are eight adjacent ones, 16 bytes.
template <int RowTiles, int ColumnTiles, int RowWarps, int ColumnWarps, int GroupSize>
struct Sums {
  static constexpr int kWarps = RowWarps * ColumnWarps;
  static constexpr int kRows = 16 * RowTiles * RowWarps;
  static constexpr int kColumns = 8 * ColumnTiles * ColumnWarps;
  static constexpr int kRunTiles = ColumnTiles % 4 == 0 ? 4 : 1;
  static constexpr int kRun = 2 * kRunTiles;
  static constexpr int kWarpColumns = 8 * ColumnTiles;
  static constexpr int kWarpGroups = kWarpColumns > GroupSize ? kWarpColumns / GroupSize : 1;  // of a warp
  static constexpr int kGroupWarps = kWarpColumns > GroupSize ? 1 : GroupSize / kWarpColumns;  // of a group
  static_assert(kWarpColumns * kGroupWarps == GroupSize * kWarpGroups, "groups begin where a warp's columns do");
  static_assert(GroupSize % kRun == 0 || kRun == 2, "a run is in one group");
  static constexpr int kPartials = kGroupWarps > 1 ? ColumnWarps * kRows * kWarpGroups : 0;  // floats, twice

  struct State {  // of one warp
    PerLane<FragmentD> d[RowTiles][ColumnTiles];
    PerLane<float> group[RowTiles][2][kWarpGroups];  // one number for each group of a row
  };

  const GraphConv& args;
  int first_row, first_column;  // of the block
  const float* degrees;         // [kRows, kMaxTypes]
  float* partials;              // [2, kPartials]

  TOPOS_HD void finish(PerWarp<State, kWarps>& state) const {
    if (args.bias) for_warps<kWarps>([&](int warp) { add_bias(state[warp], warp); });
    if (args.gamma) normalise(state);
    for_warps<kWarps>([&](int warp) { store_all(state[warp], warp); });
  }

  static TOPOS_HD void clear(State& state) {
    for_lanes([&](int lane) {
      TOPOS_UNROLL
      for (int i = 0; i < RowTiles; ++i) {
        TOPOS_UNROLL
        for (int j = 0; j < ColumnTiles; ++j) state.d[i][j][lane] = FragmentD{};
      }
    });
  }

 private:
  using Floats = Run<float, kRun>;
  using Halves = Run<Half2, kRun / 2>;

  // Returns the row in the block of registers 2 * upper and 2 * upper + 1 of a fragment.
  static TOPOS_HD int row_of(int warp, int lane, int i, int upper) {
    return (warp / ColumnWarps * RowTiles + i) * 16 + lane / 4 + 8 * upper;
  }
  // Returns the first column of a run, among all of the layer.
  TOPOS_HD int column_of(int warp, int lane, int run) const {
    return first_column + (warp % ColumnWarps) * kWarpColumns + run * 8 * kRunTiles + lane % 4 * kRun;
  }

  // Calls begin(first column) for each run of a lane, and what that returns with (row in the block, values of the run).
  template <class F>
  TOPOS_HD void for_runs(State& state, int warp, int lane, F begin) const {
    TOPOS_UNROLL
    for (int run = 0; run < ColumnTiles / kRunTiles; ++run) {
      const int column = column_of(warp, lane, run);
      if (column >= args.c_out) continue;
      const auto work = begin(column);
      TOPOS_UNROLL
      for (int i = 0; i < RowTiles; ++i) {
        TOPOS_UNROLL
        for (int upper = 0; upper < 2; ++upper) {
          Floats values;
          TOPOS_UNROLL
          for (int k = 0; k < kRun; ++k) {
            values.at[k] = state.d[i][run * kRunTiles + k / 2][lane].reg[2 * upper + k % 2];
          }
          work(row_of(warp, lane, i, upper), values);
          TOPOS_UNROLL
          for (int k = 0; k < kRun; ++k) {
            state.d[i][run * kRunTiles + k / 2][lane].reg[2 * upper + k % 2] = values.at[k];
          }
        }
      }
    }
  }

  // Adds the bias once per edge, which is degree times, in FP32.
  TOPOS_HD void add_bias(State& state, int warp) const {
    TOPOS_UNROLL
    for (int type = 0; type < kMaxTypes; ++type) {
      if (type >= args.types) break;
      for_lanes([&](int lane) {
        for_runs(state, warp, lane, [&](int column) {
          const Floats bias = load_run<Floats>(args.bias + type * args.c_out + column);
          return [=](int row, Floats& values) {
            const float degree = degrees[row * kMaxTypes + type];
            TOPOS_UNROLL
            for (int k = 0; k < kRun; ++k) values.at[k] += degree * bias.at[k];
          };
        });
      });
    }
  }

  // In wide layers weights and biases have no mean in a group (topos_rt.gpu.layers.centred), so neither have these
  // sums. In others it is subtracted before the squares are summed: the mean of the squares less the square of the
  // mean would cancel.
  TOPOS_HD void normalise(PerWarp<State, kWarps>& state) const {
    constexpr float share = 1.0f / static_cast<float>(GroupSize);
    if (kColumns < kWide) {
      sum_groups(state, partials, [](float z) { return z; });
      for_warps<kWarps>([&](int warp) {
        for_values(state[warp], [&](float& value, float sum) { value -= share * sum; });
      });
    }
    sum_groups(state, partials + kPartials, [](float z) { return z * z; });
    for_warps<kWarps>([&](int warp) {
      for_lanes([&](int lane) {
        TOPOS_UNROLL
        for (int i = 0; i < RowTiles * 2 * kWarpGroups; ++i) {
          float& sum = state[warp].group[i / 2 / kWarpGroups][i / kWarpGroups % 2][i % kWarpGroups][lane];
          sum = inverse_root(share * sum + kGroupEps);
        }
      });
      for_values(state[warp], [](float& value, float scale) { value *= scale; });
      for_lanes([&](int lane) {
        for_runs(state[warp], warp, lane, [&](int column) {
          const Floats gamma = load_run<Floats>(args.gamma + column), beta = load_run<Floats>(args.beta + column);
          return [=](int, Floats& values) {
            TOPOS_UNROLL
            for (int k = 0; k < kRun; ++k) values.at[k] = values.at[k] * gamma.at[k] + beta.at[k];
          };
        });
      });
    });
  }

  // Returns the group of a tile among those of the warp, or of a lane's part of it where groups divide tiles.
  static TOPOS_HD int group_of(int lane, int j) {
    return (GroupSize % 8 ? 8 * j + lane % 4 * 2 : 8 * j) / GroupSize;
  }

  // Calls work(value, the number that `group` holds for its row and group).
  template <class F>
  TOPOS_HD void for_values(State& state, F work) const {
    for_lanes([&](int lane) {
      TOPOS_UNROLL
      for (int i = 0; i < RowTiles; ++i) {
        TOPOS_UNROLL
        for (int j = 0; j < ColumnTiles; ++j) {
          TOPOS_UNROLL
          for (int r = 0; r < 4; ++r) {
            float kept = state.group[i][r / 2][0][lane];
            TOPOS_UNROLL
            for (int group = 1; group < kWarpGroups; ++group) {
              const float other = state.group[i][r / 2][group][lane];
              kept = group_of(lane, j) == group ? other : kept;
            }
            work(state.d[i][j][lane].reg[r], kept);
          }
        }
      }
    });
  }

  // Leaves in state.group the sums of value(z) over each row's groups. Where several warps share a group, their sums go
  // through shared memory and are added in the order of the warps.
  template <class F>
  TOPOS_HD void sum_groups(PerWarp<State, kWarps>& state, float* shared, F value) const {
    for_warps<kWarps>([&](int warp) {
      TOPOS_UNROLL
      for (int i = 0; i < RowTiles; ++i) {
        TOPOS_UNROLL
        for (int upper = 0; upper < 2; ++upper) {
          TOPOS_UNROLL
          for (int group = 0; group < kWarpGroups; ++group) {
            PerLane<float>& sum = state[warp].group[i][upper][group];
            for_lanes([&](int lane) {
              sum[lane] = 0.0f;
              TOPOS_UNROLL
              for (int j = 0; j < ColumnTiles; ++j) {
                if (group_of(lane, j) != group) continue;
                const float* pair = state[warp].d[i][j][lane].reg + 2 * upper;
                sum[lane] += value(pair[0]) + value(pair[1]);
              }
            });
            quad_sum(sum);
            if (kGroupWarps == 1) continue;
            for_lanes([&](int lane) {
              const int row = row_of(warp, lane, i, upper);
              if (lane % 4 == 0) shared[(warp % ColumnWarps * kRows + row) * kWarpGroups + group] = sum[lane];
            });
          }
        }
      }
    });
    if (kGroupWarps == 1) return;
    sync();
    for_warps<kWarps>([&](int warp) {
      const int from = warp % ColumnWarps / kGroupWarps * kGroupWarps;
      for_lanes([&](int lane) {
        TOPOS_UNROLL
        for (int i = 0; i < RowTiles; ++i) {
          TOPOS_UNROLL
          for (int upper = 0; upper < 2; ++upper) {
            float sum = 0.0f;
            TOPOS_UNROLL
            for (int part = 0; part < kGroupWarps; ++part) {
              sum += shared[((from + part) * kRows + row_of(warp, lane, i, upper)) * kWarpGroups];
            }
            state[warp].group[i][upper][0][lane] = sum;  // with kGroupWarps > 1 a warp is in one group
          }
        }
      });
    });
  }

  TOPOS_HD void store_all(State& state, int warp) const {
    for_lanes([&](int lane) {
      for_runs(state, warp, lane, [&](int column) {
        return [=](int local, Floats& values) {
          const int row = first_row + local;
          if (row >= args.rows) return;
          if (args.residual) add_residual(row, column, values);
          if (args.silu) {
            TOPOS_UNROLL
            for (int k = 0; k < kRun; ++k) values.at[k] = silu_of_half(0.5f * values.at[k]);
          }
          if (args.out32) {
            store_wide(row, column, values);
          } else {
            store_half(row, column, values);
          }
        };
      });
    });
  }

  TOPOS_HD void add_residual(int64_t row, int column, Floats& values) const {
    const int64_t from = args.residual_rows ? args.residual_rows[row] : row;
    const Halves more = load_run<Halves>(static_cast<const Half*>(args.residual) + from * args.c_out + column);
    TOPOS_UNROLL
    for (int k = 0; k < kRun / 2; ++k) {
      const Float2 pair = to_floats(more.at[k]);
      values.at[2 * k] += pair.x;
      values.at[2 * k + 1] += pair.y;
    }
  }

  TOPOS_HD void store_half(int64_t row, int column, const Floats& values) const {
    Halves rounded;
    TOPOS_UNROLL
    for (int k = 0; k < kRun / 2; ++k) rounded.at[k] = to_half2(values.at[2 * k], values.at[2 * k + 1]);
    *reinterpret_cast<Halves*>(static_cast<Half*>(args.out) + row * args.c_out + column) = rounded;
  }

  TOPOS_HD void store_wide(int64_t row, int column, const Floats& values) const {
    const int64_t at = (args.out_rows ? args.out_rows[row] : row) * args.c_out + column;
    TOPOS_UNROLL
    for (int k = 0; k < kRun; ++k) {
      const float scaled = args.scale ? values.at[k] * args.scale[column + k] : values.at[k];
      args.out32[at + k] = args.mean ? scaled + args.mean[at + k] : scaled;
    }
  }
};

}  // namespace topos
