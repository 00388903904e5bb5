// The tensor cores' tile: D[16,8] += A[16,16] B[16,8], FP16 in, FP32 sums.
//
// Which lane holds what (PTX ISA, "Matrix Fragments for mma.m16n8k16"), with g = lane / 4 and t = lane % 4:
//   A, 4 registers of two FP16: register r, half h is row g + 8 (r % 2), column 2 t + h + 8 (r / 2)
//   B, 2 registers of two FP16: register r, half h is row 2 t + h + 8 r, column g
//   D, 4 registers of one FP32: register r is row g + 8 (r / 2), column 2 t + r % 2
// The host takes the fragments apart by the same rules, so a wrong layout is a wrong result there too.
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

// A at (row, column) of a tile in shared memory, rows `pitch` elements apart.
TOPOS_HD FragmentA load_a(const Half* tile, int pitch, int lane) {
  const int g = lane / 4, t = lane % 4;
  FragmentA a;
  TOPOS_UNROLL
  for (int r = 0; r < 4; ++r) {
    a.reg[r] = *reinterpret_cast<const Half2*>(tile + (g + 8 * (r % 2)) * pitch + 2 * t + 8 * (r / 2));
  }
  return a;
}

// B of one half, 16 rows, of a chunk packed as topos_rt.packing.pack does.
TOPOS_HD FragmentB load_b(const Half8* both, int half) {
#ifdef __CUDA_ARCH__
  const uint2 raw = reinterpret_cast<const uint2*>(both)[half];
  FragmentB b;
  static_assert(sizeof(raw) == sizeof(b), "");
  memcpy(&b, &raw, sizeof(b));
  return b;
#else
  return FragmentB{{both->pair[2 * half], both->pair[2 * half + 1]}};
#endif
}

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
      left[g + 8 * (r % 2)][2 * t + 8 * (r / 2)] = to_float(a[lane].reg[r].x);
      left[g + 8 * (r % 2)][2 * t + 1 + 8 * (r / 2)] = to_float(a[lane].reg[r].y);
    }
    for (int r = 0; r < 2; ++r) {
      right[2 * t + 8 * r][g] = to_float(b[lane].reg[r].x);
      right[2 * t + 1 + 8 * r][g] = to_float(b[lane].reg[r].y);
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

}  // namespace topos
