// Defines the function of call.h that hands out the kernels of the instruction
// set the including file is compiled for.
#pragma once

#include "backward.h"
#include "forward.h"

namespace piip_d2 {
namespace PIIP_D2_INSTRUCTION_SET {

template <class T>
size_t scratch_size(const Call& call) {
  return Points<T>::bytes(call);
}

template <class T>
void round(const void* from, void* to, int64_t count) {
  using A = ComputeType<T>;
  write<T, kMaxLanes<A>>(static_cast<const A*>(from), count, true, to, 0);
}

template <class T>
cpu::Kernels make_kernels() {
  return {&scratch_size<T>, &forward<T>, &backward<T>, &round<T>};
}

inline cpu::KernelSet make_kernel_set(const char* name) {
  return {name, make_kernels<float>(), make_kernels<double>(),
          make_kernels<BFloat16>(), make_kernels<Float16>()};
}

}  // namespace PIIP_D2_INSTRUCTION_SET
}  // namespace piip_d2
