// Which kernels this processor can run, and threads for them.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "../problem.h"
#include "call.h"

namespace piip_d2::cpu {

// The best set of kernels for this processor. The environment variable
// PIIP_D2_CPU_CAPABILITY ("portable", "avx2") asks for a lesser one.
inline const KernelSet& kernel_set() {
  static const KernelSet set = [] {
    const char* wanted = std::getenv("PIIP_D2_CPU_CAPABILITY");
    const auto allows = [wanted](const char* name) {
      return wanted == nullptr || std::strcmp(wanted, name) == 0 ||
             (std::strcmp(wanted, "portable") != 0 &&
              std::strcmp(wanted, "avx2") != 0);
    };
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool has_avx2 = __builtin_cpu_supports("avx2") &&
                          __builtin_cpu_supports("fma") &&
                          __builtin_cpu_supports("f16c");
    const bool has_avx512 = __builtin_cpu_supports("avx512f") &&
                            __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512vl") &&
                            __builtin_cpu_supports("avx512dq");
    if (has_avx2 && has_avx512 && allows("avx512")) return avx512_kernels();
    if (has_avx2 && allows("avx2")) return avx2_kernels();
#endif
    return portable_kernels();
  }();
  return set;
}

inline const Kernels& kernels_for(ScalarType value_type) {
  const KernelSet& set = kernel_set();
  switch (value_type) {
    case ScalarType::Float:
      return set.float32;
    case ScalarType::Double:
      return set.float64;
    case ScalarType::BFloat16:
      return set.bfloat16;
    case ScalarType::Half:
      return set.float16;
    default:
      STD_TORCH_CHECK(false,
                      "value must be float32, float64, bfloat16 or float16");
  }
}

// Working memory for several threads, each aligned to cache lines and allocated
// by itself.
class Scratch {
 public:
  Scratch(size_t bytes, int64_t threads) {
    const size_t size = (bytes / kAlignment + 1) * kAlignment;
    for (int64_t i = 0; i < threads; ++i) {
      slices_.emplace_back(std::aligned_alloc(kAlignment, size));
      STD_TORCH_CHECK(slices_.back() != nullptr, "no memory for ", size,
                      " bytes");
    }
  }

  void* of(int64_t thread) const { return slices_[thread].get(); }

 private:
  static constexpr size_t kAlignment = 64;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::vector<std::unique_ptr<void, Free>> slices_;
};

// Does tasks 0 to count - 1, each in a thread of PyTorch's pool.
template <class Task>
void for_each_task(int64_t count, const Task& task) {
  torch::stable::parallel_for(0, count, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) task(i);
  });
}

// Where part `index` of `count` even parts of `total` begins.
inline int64_t part_start(int64_t total, int64_t index, int64_t count) {
  return total / count * index + std::min(index, total % count);
}

}  // namespace piip_d2::cpu
