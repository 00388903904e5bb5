// The product of Hopper's tensor cores, D[64,N] += A[64,16] B[16,N]. A warpgroup of four warps, each with 16 rows, does
// it in the background. A lies in registers as for mma.m16n8k16, and so does D, as N / 8 fragments side by side (PTX
// ISA, "wgmma.mma_async").
//
// B lies in shared memory, K-major and without a swizzle: in blocks of 8 columns x 8 rows, 128 bytes, column after
// column. The two blocks along K follow each other; then come those of the next columns. The host reads B by the same
// rules.
#pragma once

#include "mma.h"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define TOPOS_WGMMA
#endif

namespace topos {

inline constexpr int kCore = 64;                          // numbers in a block of B
inline constexpr int kLeading = kCore * sizeof(Half);     // bytes from block to block along K
inline constexpr int kStride = 2 * kCore * sizeof(Half);  // and along N

#ifdef TOPOS_WGMMA
TOPOS_HD uint64_t matrix_descriptor(const Half* b) {
  const uint64_t address = __cvta_generic_to_shared(b);
  return (address & 0x3ffff) >> 4 | uint64_t(kLeading >> 4) << 16 | uint64_t(kStride >> 4) << 32;
}

// The instruction's operands: the four registers of one fragment, of four, of sixteen; and the operands' numbers.
#define TOPOS_D1(j) "+f"(d[j].own.reg[0]), "+f"(d[j].own.reg[1]), "+f"(d[j].own.reg[2]), "+f"(d[j].own.reg[3])
#define TOPOS_D4(j) TOPOS_D1(j), TOPOS_D1(j + 1), TOPOS_D1(j + 2), TOPOS_D1(j + 3)
#define TOPOS_D16(j) TOPOS_D4(j), TOPOS_D4(j + 4), TOPOS_D4(j + 8), TOPOS_D4(j + 12)
#define TOPOS_N64                                                                                                  \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29," \
  "%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,"   \
  "%57,%58,%59,%60,%61,%62,%63"
#define TOPOS_N128                                                                                                  \
  TOPOS_N64                                                                                                         \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,"   \
  "%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114," \
  "%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define TOPOS_A(a) "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])

TOPOS_HD void wgmma_columns(PerLane<FragmentD> (&d)[16], const uint32_t* a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" TOPOS_N64
               "}, {%64,%65,%66,%67}, %68, 1, 1, 1, 0;"
               : TOPOS_D16(0)
               : TOPOS_A(a), "l"(b));
}
TOPOS_HD void wgmma_columns(PerLane<FragmentD> (&d)[32], const uint32_t* a, uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {" TOPOS_N128
               "}, {%128,%129,%130,%131}, %132, 1, 1, 1, 0;"
               : TOPOS_D16(0), TOPOS_D16(16)
               : TOPOS_A(a), "l"(b));
}
#undef TOPOS_D1
#undef TOPOS_D4
#undef TOPOS_D16
#undef TOPOS_N64
#undef TOPOS_N128
#undef TOPOS_A
#endif

// Begins to add a b to d, for this warp's 16 rows. Until a wait, the registers of a and d and the memory of b belong to
// the tensor cores.
template <int ColumnTiles>
TOPOS_HD void wgmma(PerLane<FragmentD> (&d)[ColumnTiles], const PerLane<FragmentA>& a, const Half* b) {
#ifdef TOPOS_WGMMA
  wgmma_columns(d, reinterpret_cast<const uint32_t*>(a.own.reg), matrix_descriptor(b));
#elif defined(__CUDA_ARCH__)
  (void)d, (void)a, (void)b;
  __trap();  // this was compiled for another GPU, where no launcher comes here
#else
  for (int j = 0; j < ColumnTiles; ++j) {
    PerLane<FragmentB> own;
    for_lanes([&](int lane) {
      const Half* at = b + j * 2 * kCore + lane / 4 * 8 + lane % 4 * 2;
      own[lane] = FragmentB{{load_run<Half2>(at), load_run<Half2>(at + kCore)}};
    });
    mma(d[j], a, own);
  }
#endif
}

// Begins a batch: makes what was written to the registers of a and d visible to the tensor cores. The empty assembly
// makes the compiler write the registers of a before, even those that hold constants.
template <int Count>
TOPOS_HD void wgmma_begin(PerLane<FragmentA> (&a)[Count]) {
#ifdef TOPOS_WGMMA
  TOPOS_UNROLL
  for (int i = 0; i < Count; ++i) {
    TOPOS_UNROLL
    for (int r = 0; r < 4; ++r) asm volatile("" : "+r"(a[i].own.reg[r].bits));
  }
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
  (void)a;
#endif
}
TOPOS_HD void wgmma_commit() {
#ifdef TOPOS_WGMMA
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
// Waits until at most `Left` batches of this warp are under way.
template <int Left>
TOPOS_HD void wgmma_wait() {
#ifdef TOPOS_WGMMA
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Left) : "memory");
#endif
}
// Ends the work on d after the last wait: keeps the compiler from reading d before it.
template <int ColumnTiles>
TOPOS_HD void wgmma_end(PerLane<FragmentD> (&d)[ColumnTiles]) {
#ifdef TOPOS_WGMMA
  TOPOS_UNROLL
  for (int j = 0; j < ColumnTiles; ++j) {
    TOPOS_UNROLL
    for (int r = 0; r < 4; ++r) asm volatile("" : "+f"(d[j].own.reg[r])::"memory");
  }
#else
  (void)d;
#endif
}

// Makes what this thread has written to shared memory visible to the tensor cores, after the next barrier.
TOPOS_HD void share_with_tensor_cores() {
#ifdef TOPOS_WGMMA
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

}  // namespace topos
