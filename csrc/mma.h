// The tensor cores' product of a tile, D[16,8] += A[16,16] B[16,8], with FP16 operands and FP32 sums.
//
// A lane holds these numbers (PTX ISA, "Matrix Fragments for mma.m16n8k16"), with g = lane / 4 and t = lane % 4:
//   A, 4 registers of two FP16: register r, half h is row g + 8 (r % 2), column 2 t + h + 8 (r / 2)
//   B, 2 registers of two FP16: register r, half h is row 2 t + h + 8 r, column g
//   D, 4 registers of one FP32: register r is row g + 8 (r / 2), column 2 t + r % 2
// The host takes fragments apart by the same rules, so a wrong layout gives a wrong result there too.
#pragma once

#include "portable.h"

namespace topos {

struct FragmentA {
  Half2 reg[4];
};
struct FragmentB {
  Half2 reg[2];
};
struct FragmentD {
  float reg[4];
};

// Makes A of both halves of 32 columns from eight adjacent columns, 8 t to 8 t + 7, of the rows g and g + 8. So the
// multiplication takes columns in another order than they lie in, and the weights' rows are packed in that order too.
TOPOS_HD void put_rows(PerLane<FragmentA> (&a)[2], int lane, const Half8& row, const Half8& row8) {
  TOPOS_UNROLL
  for (int half = 0; half < 2; ++half) {
    a[half][lane] = FragmentA{{row.pair[2 * half], row8.pair[2 * half], row.pair[2 * half + 1],
                               row8.pair[2 * half + 1]}};
  }
}

// Loads B of one half from weights that topos_rt.gpu.layers.pack has packed, where lanes lie side by side.
TOPOS_HD FragmentB load_b(const Half4* own) { return FragmentB{{own->pair[0], own->pair[1]}}; }

TOPOS_HD void mma(PerLane<FragmentD>& d, const PerLane<FragmentA>& a, const PerLane<FragmentB>& b) {
#ifdef __CUDA_ARCH__
  const uint32_t* x = reinterpret_cast<const uint32_t*>(a.own.reg);
  const uint32_t* y = reinterpret_cast<const uint32_t*>(b.own.reg);
  float* z = d.own.reg;
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(z[0]), "+f"(z[1]), "+f"(z[2]), "+f"(z[3])
      : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));
#else
  float left[16][16], right[16][8];
  for (int lane = 0; lane < kWarp; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int r = 0; r < 4; ++r) {
      const Float2 pair = to_floats(a[lane].reg[r]);
      left[g + 8 * (r % 2)][2 * t + 8 * (r / 2)] = pair.x;
      left[g + 8 * (r % 2)][2 * t + 1 + 8 * (r / 2)] = pair.y;
    }
    for (int r = 0; r < 2; ++r) {
      const Float2 pair = to_floats(b[lane].reg[r]);
      right[2 * t + 8 * r][g] = pair.x;
      right[2 * t + 1 + 8 * r][g] = pair.y;
    }
  }
  for (int lane = 0; lane < kWarp; ++lane) {
    for (int r = 0; r < 4; ++r) {
      const int row = lane / 4 + 8 * (r / 2), column = 2 * (lane % 4) + r % 2;
      float sum = d[lane].reg[r];
      for (int k = 0; k < 16; ++k) sum += left[row][k] * right[k][column];
      d[lane].reg[r] = sum;
    }
  }
#endif
}

// Loads four tiles of 8 x 8 numbers from shared memory, one to a register ("ldmatrix"). Lane 8 i + r gives the address
// of row r of tile i, which is 16 bytes. A lane gets two adjacent numbers of row lane / 4, as in A; transposed, it gets
// two of column lane / 4, as in B.
template <bool Transposed>
TOPOS_HD void load_tiles(PerLane<FragmentA>& to, const PerLane<const unsigned char*>& rows) {
#ifdef __CUDA_ARCH__
  uint32_t* r = reinterpret_cast<uint32_t*>(to.own.reg);
  const unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(rows.own));
  if (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
  }
#else
  for (int lane = 0; lane < kWarp; ++lane) {
    for (int tile = 0; tile < 4; ++tile) {
      Half pair[2];
      for (int i = 0; i < 2; ++i) {
        const int row = Transposed ? lane % 4 * 2 + i : lane / 4, column = Transposed ? lane / 4 : lane % 4 * 2 + i;
        pair[i] = reinterpret_cast<const Half*>(rows[8 * tile + row])[column];
      }
      to[lane].reg[tile] = Half2{pair[0].bits | uint32_t(pair[1].bits) << 16};
    }
  }
#endif
}

}  // namespace topos
