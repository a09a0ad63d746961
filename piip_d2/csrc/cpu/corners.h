// Four numbers a point, for the four pixels around it, in memory.
#pragma once

#include "simd.h"

namespace piip_d2 {
namespace PIIP_D2_INSTRUCTION_SET {

// Reads four numbers each of N points as four vectors.
template <int N, class A>
PIIP_D2_INLINE Corners<Vec<A, N>> load_corners(const A* from) {
  using Real = Vec<A, N>;
  const Real first = Real::load(from), second = Real::load(from + N);
  const Real third = Real::load(from + 2 * N), last = Real::load(from + 3 * N);
  const Real left_first = shuffle_by<EveryOther<0>>(first, second);
  const Real left_last = shuffle_by<EveryOther<0>>(third, last);
  const Real right_first = shuffle_by<EveryOther<1>>(first, second);
  const Real right_last = shuffle_by<EveryOther<1>>(third, last);
  return {shuffle_by<EveryOther<0>>(left_first, left_last),
          shuffle_by<EveryOther<0>>(right_first, right_last),
          shuffle_by<EveryOther<1>>(left_first, left_last),
          shuffle_by<EveryOther<1>>(right_first, right_last)};
}

// The other way round.
template <class A, int N>
PIIP_D2_INLINE void store_corners(const Corners<Vec<A, N>>& corners, A* to) {
  const auto left_first =
      shuffle_by<InTurns<false>>(corners.upper_left, corners.lower_left);
  const auto left_last =
      shuffle_by<InTurns<true>>(corners.upper_left, corners.lower_left);
  const auto right_first =
      shuffle_by<InTurns<false>>(corners.upper_right, corners.lower_right);
  const auto right_last =
      shuffle_by<InTurns<true>>(corners.upper_right, corners.lower_right);
  shuffle_by<InTurns<false>>(left_first, right_first).store(to);
  shuffle_by<InTurns<true>>(left_first, right_first).store(to + N);
  shuffle_by<InTurns<false>>(left_last, right_last).store(to + 2 * N);
  shuffle_by<InTurns<true>>(left_last, right_last).store(to + 3 * N);
}

}  // namespace PIIP_D2_INSTRUCTION_SET
}  // namespace piip_d2
