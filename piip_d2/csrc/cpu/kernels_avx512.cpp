// The kernels for processors with AVX-512.
#include "call.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(                                               \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma,f16c"))), \
    apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,fma,f16c")
#endif

// The compiler's own macros do not follow its target pragma.
#define PIIP_D2_AVX512
#define PIIP_D2_INSTRUCTION_SET avx512
#define PIIP_D2_REGISTER_BYTES 64
#include "kernels.h"

namespace piip_d2::cpu {

KernelSet avx512_kernels() { return avx512::make_kernel_set("avx512"); }

}  // namespace piip_d2::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
