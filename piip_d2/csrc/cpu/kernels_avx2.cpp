// The kernels for processors with AVX2.
#include "call.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

// The compiler's own macros do not follow its target pragma.
#define PIIP_D2_AVX2
#define PIIP_D2_INSTRUCTION_SET avx2
#define PIIP_D2_REGISTER_BYTES 32
#include "kernels.h"

namespace piip_d2::cpu {

KernelSet avx2_kernels() { return avx2::make_kernel_set("avx2"); }

}  // namespace piip_d2::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
