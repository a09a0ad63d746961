// What the memory paths of a GPU can do with the rows that deformable attention
// asks for: reads through the L1 and the L2 cache, and reductions in the L2.
//
// A group of threads reads, or adds to, one row at a time, as the operator's
// kernels do for one query and head; nothing else is computed.

#include <cuda_runtime.h>

#include <cstdint>

namespace {

constexpr int kThreads = 256;

struct Rows {
  const int32_t* starts;  // (groups, samples), counted in vectors
  int64_t groups;
  int samples;
  int lanes;  // vectors per row
};

__device__ float sum(float x) { return x; }
__device__ float sum(float2 x) { return x.x + x.y; }
__device__ float sum(float4 x) { return (x.x + x.y) + (x.z + x.w); }

template <class Vector, bool kThroughL1>
__global__ void gather(const Vector* table, Rows rows, float* sink) {
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t group = thread / rows.lanes;
  if (group >= rows.groups) return;
  const int lane = thread % rows.lanes;
  const int32_t* start = rows.starts + group * rows.samples;
  float total = 0;
#pragma unroll 4
  for (int sample = 0; sample < rows.samples; ++sample) {
    const Vector* source = table + start[sample] + lane;
    total += sum(kThroughL1 ? __ldg(source) : __ldcg(source));
  }
  // Never true, but the compiler cannot know that the reads are for nothing.
  if (total == -1e38f) *sink = total;
}

// Reductions of one vector. Those of more than 4 bytes need compute capability
// 9.0, which the host checks.
struct AddF32 {
  using Vector = float;
  static __device__ void add(Vector* target) { atomicAdd(target, 1.f); }
};

struct AddF32x2 {
  using Vector = float2;
  static __device__ void add(Vector* target) {
#if __CUDA_ARCH__ >= 900
    atomicAdd(target, make_float2(1.f, 1.f));
#endif
  }
};

struct AddF32x4 {
  using Vector = float4;
  static __device__ void add(Vector* target) {
#if __CUDA_ARCH__ >= 900
    atomicAdd(target, make_float4(1.f, 1.f, 1.f, 1.f));
#endif
  }
};

// They add 1.0, which 0x3f80 is in bfloat16.
struct AddBf16x2 {
  using Vector = float;
  static __device__ void add(Vector* target) {
#if __CUDA_ARCH__ >= 900
    asm volatile("red.global.add.noftz.bf16x2 [%0], %1;" ::"l"(target),
                 "r"(0x3f803f80)
                 : "memory");
#endif
  }
};

struct AddBf16x8 {
  using Vector = float4;
  static __device__ void add(Vector* target) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "red.global.add.noftz.v4.bf16x2 [%0], {%1, %1, %1, %1};" ::"l"(target),
        "r"(0x3f803f80)
        : "memory");
#endif
  }
};

template <class Add>
__global__ void reduce(typename Add::Vector* table, Rows rows) {
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t group = thread / rows.lanes;
  if (group >= rows.groups) return;
  const int lane = thread % rows.lanes;
  const int32_t* start = rows.starts + group * rows.samples;
  for (int sample = 0; sample < rows.samples; ++sample) {
    Add::add(table + start[sample] + lane);
  }
}

unsigned blocks(const Rows& rows) {
  return (rows.groups * rows.lanes + kThreads - 1) / kThreads;
}

// Milliseconds per launch, or a negative number after an error.
template <class Launch>
float time_launches(int repeats, Launch launch) {
  cudaEvent_t begin, end;
  if (cudaEventCreate(&begin) != cudaSuccess) return -1;
  cudaEventCreate(&end);
  launch();
  cudaEventRecord(begin);
  for (int i = 0; i < repeats; ++i) launch();
  cudaEventRecord(end);
  cudaEventSynchronize(end);
  float elapsed = -1;
  cudaEventElapsedTime(&elapsed, begin, end);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return cudaGetLastError() == cudaSuccess ? elapsed / repeats : -1;
}

template <class Vector>
float time_gather(const void* table, Rows rows, bool through_l1, float* sink,
                  int repeats) {
  const auto* vectors = static_cast<const Vector*>(table);
  return time_launches(repeats, [&] {
    if (through_l1) {
      gather<Vector, true><<<blocks(rows), kThreads>>>(vectors, rows, sink);
    } else {
      gather<Vector, false><<<blocks(rows), kThreads>>>(vectors, rows, sink);
    }
  });
}

template <class Add>
float time_reduce(void* table, Rows rows, int repeats) {
  auto* vectors = static_cast<typename Add::Vector*>(table);
  return time_launches(
      repeats, [&] { reduce<Add><<<blocks(rows), kThreads>>>(vectors, rows); });
}

}  // namespace

// Both return milliseconds per pass over all rows, or a negative number if the
// kind is unknown or CUDA reports an error. Pointers are to device memory.

extern "C" float gather_ms(int vector_bytes, bool through_l1, const void* table,
                           const int32_t* starts, int64_t groups, int samples,
                           int lanes, float* sink, int repeats) {
  const Rows rows{starts, groups, samples, lanes};
  switch (vector_bytes) {
    case 4:
      return time_gather<float>(table, rows, through_l1, sink, repeats);
    case 8:
      return time_gather<float2>(table, rows, through_l1, sink, repeats);
    case 16:
      return time_gather<float4>(table, rows, through_l1, sink, repeats);
    default:
      return -1;
  }
}

// Kinds in the order of REDUCTIONS in gpu_floor.py.
extern "C" float reduction_ms(int kind, void* table, const int32_t* starts,
                              int64_t groups, int samples, int lanes,
                              int repeats) {
  const Rows rows{starts, groups, samples, lanes};
  switch (kind) {
    case 0:
      return time_reduce<AddF32>(table, rows, repeats);
    case 1:
      return time_reduce<AddF32x2>(table, rows, repeats);
    case 2:
      return time_reduce<AddF32x4>(table, rows, repeats);
    case 3:
      return time_reduce<AddBf16x2>(table, rows, repeats);
    case 4:
      return time_reduce<AddBf16x8>(table, rows, repeats);
    default:
      return -1;
  }
}
