// The exponential function, and a softmax over the points of every head.
#pragma once

#include "mask.h"

namespace piip_d2 {
namespace PIIP_D2_INSTRUCTION_SET {

// What exp(x) needs to know of a type: x below `lowest` gives zero; adding
// `magic` rounds to a whole number, whose bits are then the last ones; ln 2 in
// two parts, of which the first times a whole number is exact; and the degree
// of the Taylor series that reaches the type's precision on [-ln 2, ln 2] / 2.
template <class A>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float lowest = -87.0f;
  static constexpr float magic = 12582912.0f;  // 3 << 22
  static constexpr float ln2_first = 0.693145751953125f;
  static constexpr float ln2_rest = 1.42860677e-6f;
  static constexpr int degree = 7;
  static constexpr int mantissa_bits = 23;
};

template <>
struct ExpConstants<double> {
  static constexpr double lowest = -708.0;
  static constexpr double magic = 6755399441055744.0;  // 3 << 51
  static constexpr double ln2_first = 0.693147180369123816490;
  static constexpr double ln2_rest = 1.90821492927058770002e-10;
  static constexpr int degree = 14;
  static constexpr int mantissa_bits = 52;
};

// For x <= 0, NaN included.
template <class A, int N>
PIIP_D2_INLINE Vec<A, N> exponential(Vec<A, N> x) {
  using Constants = ExpConstants<A>;
  using Real = Vec<A, N>;
  const Real lowest(Constants::lowest);
  const auto too_low = x < lowest;
  const Real argument = select(too_low, lowest, x);
  const Real magic(Constants::magic);
  const Real shifted = argument * Real(A(1.4426950408889634)) + magic;
  const Real exponent = shifted - magic;
  const Real rest = argument - exponent * Real(Constants::ln2_first) -
                    exponent * Real(Constants::ln2_rest);
  Real series(A(1));
  for (int i = Constants::degree; i > 0; --i) {
    series = Real(A(1)) + series * rest * Real(A(1) / A(i));
  }
  using Bits = typename IntegerOfSize<sizeof(A)>::Type;
  const auto power = reinterpret<Bits>(shifted) << Constants::mantissa_bits;
  const auto result = reinterpret<A>(reinterpret<Bits>(series) + power);
  // The bits of NaN are none to calculate with; the difference is zero
  // otherwise.
  return select(too_low, Real(A(0)), result) + (argument - argument);
}

template <int distance, class A, int N, class Join>
PIIP_D2_INLINE Vec<A, N> join_pairs(Vec<A, N> x, int64_t count,
                                    const Join& join) {
  if constexpr (distance < N) {
    if (count <= distance) return x;
    return join_pairs<2 * distance>(
        join(x, shuffle_by<Exchanged<distance>>(x, x)), count, join);
  } else {
    return x;
  }
}

// Every lane gets what its group of `count` lanes, a power of two, gives when
// all are joined.
template <class A, int N, class Join>
PIIP_D2_INLINE Vec<A, N> join_groups(Vec<A, N> x, int64_t count,
                                     const Join& join) {
  return join_pairs<1>(x, count, join);
}

struct Maximum {
  template <class Real>
  PIIP_D2_INLINE Real operator()(Real a, Real b) const {
    return maximum(a, b);
  }
};

struct Sum {
  template <class Real>
  PIIP_D2_INLINE Real operator()(Real a, Real b) const {
    return a + b;
  }
};

// Softmax of every group of `group` lanes in `size` numbers; a power of two
// that fits a vector.
template <int N, class A>
PIIP_D2_INLINE void softmax_groups(const A* logits_of, int64_t size,
                                   int64_t group, A* numbers) {
  using Real = Vec<A, N>;
  for (int64_t i = 0; i < size; i += N) {
    const Real logits = Real::load(logits_of + i);
    const Real shift = join_groups(logits, group, Maximum());
    const Real powers = exponential(logits - shift);
    (powers / join_groups(powers, group, Sum())).store(numbers + i);
  }
}

// Softmax of `size` numbers, whole vectors.
template <int N, class A>
PIIP_D2_INLINE void softmax_vectors(const A* logits, int64_t size, A* numbers) {
  using Real = Vec<A, N>;
  Real shift = Real::load(logits);
  for (int64_t i = N; i < size; i += N) {
    shift = maximum(shift, Real::load(logits + i));
  }
  shift = join_groups(shift, N, Maximum());
  Real sum(A(0));
  for (int64_t i = 0; i < size; i += N) {
    const Real powers = exponential(Real::load(logits + i) - shift);
    powers.store(numbers + i);
    sum = sum + powers;
  }
  sum = join_groups(sum, N, Sum());
  for (int64_t i = 0; i < size; i += N) {
    (Real::load(numbers + i) / sum).store(numbers + i);
  }
}

}  // namespace PIIP_D2_INSTRUCTION_SET
}  // namespace piip_d2
