// The kernels for any processor, in vectors of 16 bytes.
#define PIIP_D2_INSTRUCTION_SET portable
#define PIIP_D2_REGISTER_BYTES 16
#include "kernels.h"

namespace piip_d2::cpu {

KernelSet portable_kernels() { return portable::make_kernel_set("portable"); }

}  // namespace piip_d2::cpu
