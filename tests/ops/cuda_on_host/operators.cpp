// The operators for CUDA devices, as piip_d2_on_host and for the CPU; compiled
// with -include emulation.h and -Dpiip_d2=piip_d2_on_host.

#include "../../../piip_d2/csrc/cuda/backward.cu"
#include "../../../piip_d2/csrc/cuda/forward.cu"
#include "../../../piip_d2/csrc/library.cpp"

// How later calls are emulated.
extern "C" void set_emulation(int32_t schedule, bool always_wide) {
  on_host::schedule = static_cast<unsigned>(schedule);
  on_host::always_wide = always_wide;
}

extern "C" int32_t quotient(int32_t dividend, int32_t divisor) {
  return piip_d2::cuda::Divisor(divisor).quotient(dividend);
}
