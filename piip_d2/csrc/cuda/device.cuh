// What the kernels need of the machine: packed loads and stores, reductions in
// global memory and among the lanes of a warp, launches.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstring>
#include <type_traits>

#include "call.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#include <torch/csrc/stable/macros.h>

// Declares the block's dynamic shared memory.
#define PIIP_D2_SHARED_MEMORY(name) \
  extern __shared__ __align__(16) unsigned char name[]
#endif

namespace piip_d2::cuda {

struct LaunchSize {
  int64_t blocks;
  int32_t threads;
  int64_t shared_bytes;
};

#if defined(__CUDACC__)
template <class Argument>
void launch(void (*kernel)(Argument), const LaunchSize& size, void* stream,
            const Argument& argument) {
  kernel<<<static_cast<unsigned>(size.blocks), size.threads, size.shared_bytes,
           static_cast<cudaStream_t>(stream)>>>(argument);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}
#endif

// Neighbouring channels that are loaded and stored at once.
template <class T, int kSize>
struct alignas(sizeof(T) * kSize) Pack {
  T data[kSize];
};

template <int kBytes>
struct Word;
template <>
struct Word<2> {
  using type = unsigned short;
};
template <>
struct Word<4> {
  using type = unsigned int;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<16> {
  using type = uint4;
};

// The same pointer, of which the compiler forgets the origin. It then adds an
// offset by one instruction, where it would add up all parts anew.
template <class T>
__device__ __forceinline__ T* opaque(T* pointer) {
#if defined(__CUDA_ARCH__)
  asm("" : "+l"(pointer));
#endif
  return pointer;
}

// Loads through the read-only path; zeros where `condition` is false.
template <int kSize, class T>
__device__ __forceinline__ Pack<T, kSize> load_if(bool condition,
                                                  const T* source) {
  using Bits = typename Word<sizeof(T) * kSize>::type;
  Bits bits = {};
  if (condition) bits = __ldg(reinterpret_cast<const Bits*>(source));
  Pack<T, kSize> pack;
  memcpy(&pack, &bits, sizeof(pack));
  return pack;
}

template <class T, int kSize>
__device__ __forceinline__ void store(T* target, const Pack<T, kSize>& pack) {
  *reinterpret_cast<Pack<T, kSize>*>(target) = pack;
}

#if defined(__CUDA_ARCH__)
// Reductions by one instruction each, which takes the condition in: branches
// would keep them from overlapping. What atomicAdd is compiled to for such
// pointers also looks whether they point to shared memory.
#define PIIP_D2_REDUCE_IF(type, operands, condition)      \
  "{\n.reg .pred wanted;\nsetp.ne.s32 wanted, " condition \
  ", 0;\n"                                                \
  "@wanted red.relaxed.gpu.global.add" type " [%0], " operands ";\n}"

__device__ __forceinline__ void reduce_if(bool condition, double* target,
                                          const double (&terms)[1]) {
  asm volatile(PIIP_D2_REDUCE_IF(".f64", "%1",
                                 "%2")::"l"(__cvta_generic_to_global(target)),
               "d"(terms[0]), "r"(int32_t{condition}));
}

__device__ __forceinline__ void reduce_if(bool condition, float* target,
                                          const float (&terms)[1]) {
  asm volatile(PIIP_D2_REDUCE_IF(".f32", "%1",
                                 "%2")::"l"(__cvta_generic_to_global(target)),
               "f"(terms[0]), "r"(int32_t{condition}));
}

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ void reduce_if(bool condition, float* target,
                                          const float (&terms)[2]) {
  asm volatile(PIIP_D2_REDUCE_IF(".v2.f32", "{%1, %2}",
                                 "%3")::"l"(__cvta_generic_to_global(target)),
               "f"(terms[0]), "f"(terms[1]), "r"(int32_t{condition}));
}

__device__ __forceinline__ void reduce_if(bool condition, float* target,
                                          const float (&terms)[4]) {
  asm volatile(PIIP_D2_REDUCE_IF(".v4.f32", "{%1, %2, %3, %4}",
                                 "%5")::"l"(__cvta_generic_to_global(target)),
               "f"(terms[0]), "f"(terms[1]), "f"(terms[2]), "f"(terms[3]),
               "r"(int32_t{condition}));
}
#endif
#undef PIIP_D2_REDUCE_IF
#else
template <class Real>
__device__ void reduce_if(bool condition, Real* target,
                          const Real (&terms)[1]) {
  if (condition) atomicAdd(target, terms[0]);
}
#endif

// Adds to kSize neighbours in global memory that are aligned as one. From
// Hopper on, up to four floats are reduced at once.
template <int kSize, class Real>
__device__ __forceinline__ void add_if(bool condition, Real* target,
                                       const Real (&terms)[kSize]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  constexpr int kWidest = std::is_same_v<Real, float> ? 4 : 1;
#else
  constexpr int kWidest = 1;
#endif
  constexpr int kAtOnce = kSize < kWidest ? kSize : kWidest;
#pragma unroll
  for (int i = 0; i < kSize; i += kAtOnce) {
    Real part[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) part[j] = terms[i + j];
    reduce_if(condition, target + i, part);
  }
}

// Sums over a group of `size` neighbouring lanes of a warp, of which the caller
// is the one at `place`; the first of them gets the sums. The group may have
// any size; `first_step` is half of the power of two that is it or above. The
// whole warp must take part.
template <class Real, int kCount>
__device__ __forceinline__ void sum_over_group(Real (&terms)[kCount],
                                               int32_t place, int32_t size,
                                               int32_t first_step) {
  for (int32_t step = first_step; step > 0; step /= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const Real other = __shfl_down_sync(0xffffffffu, terms[i], step);
      if (place + step < size) terms[i] += other;
    }
  }
}

// Calls `body` with the number of T that `bytes` hold, as a constant.
template <class T, class Body>
void with_pack_size(int64_t bytes, const Body& body) {
  const auto size = bytes / static_cast<int64_t>(sizeof(T));
  if (size == 1) return body(std::integral_constant<int, 1>());
  if (size == 2) return body(std::integral_constant<int, 2>());
  if constexpr (sizeof(T) <= 4) {
    if (size == 4) return body(std::integral_constant<int, 4>());
  }
  if constexpr (sizeof(T) <= 2) {
    if (size == 8) return body(std::integral_constant<int, 8>());
  }
}

}  // namespace piip_d2::cuda
