// Runs a body over a grid of blocks: `body.run(block, shared)`, with Body::kThreads threads each.
//
// nvcc compiles it as a kernel. Any other compiler makes a loop over the blocks: before each, shared memory is filled
// with NaNs and fenced by guard bytes, so that the result shows a read of what was not written.
#pragma once

#include "kernels.h"
#include "portable.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include <cstdlib>
#include <functional>
#include <memory>
#include <typeinfo>
#endif

namespace topos {

#ifdef __CUDACC__
template <class Body>
__global__ void __launch_bounds__(Body::kThreads, Body::kBlocksPerSM) kernel(const __grid_constant__ Body body) {
  extern __shared__ __align__(16) unsigned char shared[];
  body.run(static_cast<int>(blockIdx.x), shared);
}

inline constexpr int kPlainShared = 48 << 10;  // a block gets so much without asking for it

template <class Body>
int launch(const Body& body, int64_t blocks, Stream stream) {
  if (blocks == 0) return 0;
  cudaError_t status = cudaSuccess;
  if constexpr (Body::kShared > kPlainShared) {
    status = cudaFuncSetAttribute(kernel<Body>, cudaFuncAttributeMaxDynamicSharedMemorySize, Body::kShared);
  }
  if (status == cudaSuccess) {
    cudaLaunchConfig_t how{};
    how.gridDim = dim3(static_cast<unsigned>(blocks));
    how.blockDim = dim3(Body::kThreads);
    how.dynamicSmemBytes = Body::kShared;
    how.stream = stream;
    status = cudaLaunchKernelEx(&how, kernel<Body>, body);
  }
  // This clears CUDA's last error, or a later call would take it for its own.
  if (status != cudaSuccess) cudaGetLastError();
  return status;
}
#else
inline constexpr int kGuard = 64;

// Takes launches in place of the loops, if it is set: the source, the type of the body, blocks, threads, shared memory,
// the body and its size. With it, tests run the PTX of the same body with the arguments of the same launcher.
using Recorder = std::function<void(const char*, const char*, int64_t, int, int, const void*, size_t)>;
inline Recorder& recorder() {
  static Recorder set;
  return set;
}

template <class Body>
int launch(const Body& body, int64_t blocks, Stream) {
  if (recorder()) {
    recorder()(__BASE_FILE__, typeid(Body).name(), blocks, Body::kThreads, Body::kShared, &body, sizeof(body));
    return 0;
  }
  const size_t size = Body::kShared + 2 * kGuard;
  struct Free {
    void operator()(unsigned char* p) const { std::free(p); }
  };
  const std::unique_ptr<unsigned char, Free> memory(
      static_cast<unsigned char*>(std::aligned_alloc(kGuard, (size + kGuard - 1) / kGuard * kGuard)));
  for (int64_t block = 0; block < blocks; ++block) {
    std::memset(memory.get(), 0xff, size);  // NaN as FP16 and as FP32
    body.run(static_cast<int>(block), memory.get() + kGuard);
    for (int i = 0; i < kGuard; ++i) {
      if (memory.get()[i] != 0xff || memory.get()[size - 1 - i] != 0xff) std::abort();
    }
  }
  return 0;
}
#endif

}  // namespace topos
