// Enough of CUDA to run the sources of kernels, and of the operators that
// launch them, on a CPU, thread for thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "fibers.h"

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __syncthreads() on_host::running->meet_block(__LINE__)
#define __shfl_down_sync(mask, term, step) \
  on_host::shuffle_down(__LINE__, mask, term, step)
#define __reduce_max_sync(mask, term) on_host::reduce_max(__LINE__, mask, term)
#define PIIP_D2_SHARED_MEMORY(name) \
  unsigned char* const name = on_host::running->shared_memory()

struct dim3 {
  unsigned x = 0;
};
inline dim3 blockIdx, blockDim, gridDim;
#define threadIdx (dim3{on_host::running->thread()})

struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

template <class T>
T __ldg(const T* source) {
  if (reinterpret_cast<uintptr_t>(source) % sizeof(T) != 0) {
    throw std::runtime_error("a load is not aligned");
  }
  return *source;
}

template <class T>
void atomicAdd(T* target, T term) {
  *target += term;
}

inline void atomicMax(int32_t* target, int32_t number) {
  if (number > *target) *target = number;
}

namespace on_host {

// Leaves `term` for the other lanes of the warp; returns those of all lanes
// when they have come, too.
template <class T>
const uint64_t* exchange(int line, unsigned mask, T term) {
  if (mask != 0xffffffffu) throw std::runtime_error("not all lanes in a mask");
  Warp& warp = running->warp();
  uint64_t* const slots = warp.slots[warp.meeting.held % 2];
  std::memcpy(&slots[running->thread() % kWarp], &term, sizeof(term));
  running->meet_warp(line);
  return slots;
}

template <class T>
T shuffle_down(int line, unsigned mask, T term, unsigned step) {
  const uint64_t* slots = exchange(line, mask, term);
  const unsigned lane = running->thread() % kWarp;
  T result;
  std::memcpy(&result, &slots[lane + step < kWarp ? lane + step : lane],
              sizeof(result));
  return result;
}

inline int32_t reduce_max(int line, unsigned mask, int32_t term) {
  const uint64_t* slots = exchange(line, mask, term);
  int32_t result = term;
  for (int lane = 0; lane < kWarp; ++lane) {
    int32_t other;
    std::memcpy(&other, &slots[lane], sizeof(other));
    result = std::max(result, other);
  }
  return result;
}

}  // namespace on_host

#include <torch/csrc/stable/library.h>

#include "../../../piip_d2/csrc/cuda/device.cuh"

// What is registered for CUDA devices becomes what is for the CPU.
#undef STABLE_TORCH_LIBRARY_IMPL
#define STABLE_TORCH_LIBRARY_IMPL(name, key, library) \
  _STABLE_TORCH_LIBRARY_IMPL(name, CPU, library, C10_UID)

// In place of those of libtorch, which need a device.
extern "C" AOTITorchError aoti_torch_create_device_guard(
    int32_t, DeviceGuardHandle* guard) {
  *guard = nullptr;
  return AOTI_TORCH_SUCCESS;
}

extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t,
                                                             void** stream) {
  *stream = nullptr;
  return AOTI_TORCH_SUCCESS;
}

namespace piip_d2::cuda {

template <class Argument>
void launch(void (*kernel)(Argument), const LaunchSize& size, void*,
            const Argument& argument) {
  if (size.blocks < 1 || size.threads < 1 || size.threads > kMaxThreads ||
      size.shared_bytes > kMaxSharedBytes) {
    throw std::runtime_error("a launch is outside of the limits");
  }
  blockDim.x = size.threads;
  gridDim.x = static_cast<unsigned>(size.blocks);
  on_host::Block block(size.threads, size.shared_bytes);
  on_host::running = &block;
  for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) {
    block.run([&] { kernel(argument); });
  }
}

}  // namespace piip_d2::cuda

namespace on_host {

// Has 64-bit indices used also where 32 bits are enough.
inline bool always_wide = false;

inline bool wants_wide_index(const piip_d2::Problem& problem) {
  return always_wide || piip_d2::cuda::needs_wide_index(problem);
}

}  // namespace on_host

#define needs_wide_index on_host::wants_wide_index
