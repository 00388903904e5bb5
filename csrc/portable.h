// The functions with which one kernel body runs on the device and, warp after warp, on the host.
//
// A body is written as phases: `for_warps` and `for_lanes` say which threads work, and `sync` ends a phase. On the
// device a thread takes its one turn of those loops. On the host they are real loops, so that the tests run the same
// index maths, tile remainders and order of operations as the GPU. State that outlives a phase is a PerWarp of PerLane.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#define TOPOS_HD __host__ __device__ __forceinline__
#else
#define TOPOS_HD inline
#endif
#ifdef __CUDA_ARCH__
#define TOPOS_UNROLL _Pragma("unroll")
#define TOPOS_ROLLED _Pragma("unroll 1")
#else
#define TOPOS_UNROLL
#define TOPOS_ROLLED
#endif

namespace topos {

inline constexpr int kWarp = 32;

#ifndef __CUDA_ARCH__
// Reverses the order of the warps. If a body's result depends on it, a sync is missing.
inline bool& reverse_warps() {
  static bool reverse = false;
  return reverse;
}
#endif

template <class T, int Count>
struct Spread {  // one T for each of Count workers; on the device each of them holds its own
#ifdef __CUDA_ARCH__
  T own;
  TOPOS_HD T& operator[](int) { return own; }
  TOPOS_HD const T& operator[](int) const { return own; }
#else
  T all[Count];
  T& operator[](int i) { return all[i]; }
  const T& operator[](int i) const { return all[i]; }
#endif
};
template <class T>
using PerLane = Spread<T, kWarp>;
template <class T, int Warps>
using PerWarp = Spread<T, Warps>;

template <class F>
TOPOS_HD void for_lanes(F work) {
#ifdef __CUDA_ARCH__
  work(static_cast<int>(threadIdx.x % kWarp));
#else
  for (int lane = 0; lane < kWarp; ++lane) work(lane);
#endif
}

template <int Warps, class F>
TOPOS_HD void for_warps(F work) {
#ifdef __CUDA_ARCH__
  work(static_cast<int>(threadIdx.x / kWarp));
#else
  for (int i = 0; i < Warps; ++i) work(reverse_warps() ? Warps - 1 - i : i);
#endif
}

template <int Threads, class F>
TOPOS_HD void for_threads(F work) {
  for_warps<Threads / kWarp>([&](int warp) { for_lanes([&](int lane) { work(warp * kWarp + lane); }); });
}

TOPOS_HD void sync() {
#ifdef __CUDA_ARCH__
  __syncthreads();
#endif
}

// FP16 as bits, so that host and device have the same type.
struct Half {
  uint16_t bits;
};
struct Half2 {  // two numbers in a register, the first in its lower half
  uint32_t bits;
};
struct alignas(8) Half4 {
  Half2 pair[2];
};
struct alignas(16) Half8 {
  Half2 pair[4];
};
static_assert(sizeof(Half8) == 16, "a vector of eight");

// Loads several numbers at once; p must be aligned for that.
template <class R, class T>
TOPOS_HD R load_run(const T* p) {
  return *reinterpret_cast<const R*>(p);
}

#ifndef __CUDA_ARCH__
inline float bits_to_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
#endif

TOPOS_HD float to_float(Half h) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(h.bits));
#else
  const uint32_t sign = uint32_t(h.bits & 0x8000u) << 16, exponent = (h.bits >> 10) & 31u, rest = h.bits & 1023u;
  if (exponent == 31) return bits_to_float(sign | 0x7f800000u | rest << 13);
  if (exponent) return bits_to_float(sign | (exponent + 112) << 23 | rest << 13);
  const float small = float(rest) * 0x1p-24f;  // subnormal, or zero
  return sign ? -small : small;
#endif
}

// Rounds to nearest, ties to even.
TOPOS_HD Half to_half(float value) {
#ifdef __CUDA_ARCH__
  return Half{__half_as_ushort(__float2half_rn(value))};
#else
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return Half{uint16_t(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return Half{uint16_t(sign | 0x7c00u)};  // it rounds to 65536 or more
  if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 puts the last kept bit where floats round
    const float shifted = bits_to_float(magnitude) + 0.5f;
    uint32_t moved;
    std::memcpy(&moved, &shifted, 4);
    return Half{uint16_t(sign | (moved - 0x3f000000u))};
  }
  const uint32_t odd = magnitude >> 13 & 1u;
  return Half{uint16_t(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13))};
#endif
}

TOPOS_HD Half2 to_half2(float x, float y) {
#ifdef __CUDA_ARCH__
  const __half2 both = __floats2half2_rn(x, y);
  Half2 value;
  memcpy(&value, &both, sizeof(value));
  return value;
#else
  return Half2{to_half(x).bits | uint32_t(to_half(y).bits) << 16};
#endif
}

struct Float2 {
  float x, y;
};
TOPOS_HD Float2 to_floats(Half2 h) {
#ifdef __CUDA_ARCH__
  __half2 both;
  memcpy(&both, &h, sizeof(both));
  const float2 value = __half22float2(both);
  return Float2{value.x, value.y};
#else
  return Float2{to_float(Half{uint16_t(h.bits)}), to_float(Half{uint16_t(h.bits >> 16)})};
#endif
}

TOPOS_HD void add(float (&sum)[8], const Half8& more) {
  TOPOS_UNROLL
  for (int j = 0; j < 4; ++j) {
    const Float2 pair = to_floats(more.pair[j]);
    sum[2 * j] += pair.x;
    sum[2 * j + 1] += pair.y;
  }
}

TOPOS_HD Half8 to_half8(const float (&sum)[8]) {
  Half8 rounded;
  TOPOS_UNROLL
  for (int j = 0; j < 4; ++j) rounded.pair[j] = to_half2(sum[2 * j], sum[2 * j + 1]);
  return rounded;
}

// Rounds a product before anything is added to it. nvcc turns a * b + c into one operation with one rounding, whose
// result is not that of the host.
TOPOS_HD float product(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

// Gives each of the four lanes that share a row of a fragment the sum of the four, always added in the same order.
TOPOS_HD void quad_sum(PerLane<float>& values) {
#ifdef __CUDA_ARCH__
  values.own += __shfl_xor_sync(0xffffffffu, values.own, 1);
  values.own += __shfl_xor_sync(0xffffffffu, values.own, 2);
#else
  for (int base = 0; base < kWarp; base += 4) {
    const float sum = (values[base] + values[base + 1]) + (values[base + 2] + values[base + 3]);
    for (int i = 0; i < 4; ++i) values[base + i] = sum;
  }
#endif
}

// Gives every lane of a warp the sum of the warp's values, by a butterfly that is the same on host and device.
TOPOS_HD void warp_sum(PerLane<float>& values) {
#ifdef __CUDA_ARCH__
  TOPOS_UNROLL
  for (int step = kWarp / 2; step > 0; step /= 2) values.own += __shfl_xor_sync(0xffffffffu, values.own, step);
#else
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const PerLane<float> before = values;
    for (int lane = 0; lane < kWarp; ++lane) values[lane] = before[lane] + before[lane ^ step];
  }
#endif
}

// Begins to copy 16 bytes from global to shared memory in the background. `copy_commit` closes a batch, and `copy_wait`
// returns when at most `Left` of this thread's batches are still under way. The host copies at once.
TOPOS_HD void copy16_async(void* shared, const void* global) {
#ifdef __CUDA_ARCH__
  const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
#else
  std::memcpy(shared, global, 16);
#endif
}
TOPOS_HD void copy_commit() {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int Left>
TOPOS_HD void copy_wait() {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
#endif
}

}  // namespace topos
