// Cuts the channels of a head into blocks whose widths are known to the
// compiler: common head widths are one block, others a few.
#pragma once

#include <cstdint>

#include "../sampling.h"

namespace piip_d2 {
namespace PIIP_D2_INSTRUCTION_SET {

template <int... widths>
struct Widths {};

// From the widest on; ends with 1, so that every width can be composed.
using BlockWidths = Widths<64, 40, 32, 24, 16, 12, 8, 6, 4, 2, 1>;

// `Work` names, for every width W, a function `Work::template function<W>`.
template <class Work>
class ChannelBlocks {
 public:
  using Function = typename Work::Function;

  explicit ChannelBlocks(int64_t width) : width_(width) {}

  // Calls do_block(function, first channel) for every block.
  template <class DoBlock>
  PIIP_D2_INLINE void for_each(const DoBlock& do_block) const {
    int64_t channel = 0;
    while (channel < width_) {
      channel +=
          first_block(width_ - channel, channel, do_block, BlockWidths());
    }
  }

 private:
  // Does the widest block that fits, and returns its width.
  template <class DoBlock, int W, int... narrower>
  PIIP_D2_INLINE static int64_t first_block(int64_t remaining, int64_t channel,
                                            const DoBlock& do_block,
                                            Widths<W, narrower...>) {
    if constexpr (W > 1) {
      if (remaining < W) {
        return first_block(remaining, channel, do_block, Widths<narrower...>());
      }
    }
    do_block(Work::template function<W>, channel);
    return W;
  }

  int64_t width_;
};

}  // namespace PIIP_D2_INSTRUCTION_SET
}  // namespace piip_d2
