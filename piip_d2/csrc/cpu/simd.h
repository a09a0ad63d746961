// Vectors of numbers, on the compilers' vector extension: N lanes become
// whatever registers the instruction set of the including file has.
//
// Everything lies in a namespace of that instruction set's name, so that the
// linker cannot mix up what was compiled for different ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "../sampling.h"

// Older versions of GCC have neither the builtin nor a way to ask for it.
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define PIIP_D2_HAS_SHUFFLEVECTOR
#endif
#endif

namespace piip_d2 {
namespace PIIP_D2_INSTRUCTION_SET {

template <int bytes>
struct IntegerOfSize;
template <>
struct IntegerOfSize<2> {
  using Type = int16_t;
};
template <>
struct IntegerOfSize<4> {
  using Type = int32_t;
};
template <>
struct IntegerOfSize<8> {
  using Type = int64_t;
};

template <class E, int N>
struct RawVector {
  typedef E Type __attribute__((vector_size(sizeof(E) * N)));
};

template <class E, int N>
struct Vec {
  using Raw = typename RawVector<E, N>::Type;
  using Element = E;
  using Whole = Vec<typename IntegerOfSize<sizeof(E)>::Type, N>;

  Raw raw;

  Vec() = default;
  PIIP_D2_INLINE Vec(Raw x) : raw(x) {}
  PIIP_D2_INLINE explicit Vec(E x) : raw(x - Raw{}) {}

  PIIP_D2_INLINE static Vec load(const E* from) {
    Vec x;
    std::memcpy(&x.raw, from, sizeof(Raw));
    return x;
  }
  PIIP_D2_INLINE void store(E* to) const { std::memcpy(to, &raw, sizeof(Raw)); }
};

#define PIIP_D2_OPERATOR(op)                                       \
  template <class E, int N>                                        \
  PIIP_D2_INLINE Vec<E, N> operator op(Vec<E, N> a, Vec<E, N> b) { \
    return Vec<E, N>(a.raw op b.raw);                              \
  }
PIIP_D2_OPERATOR(+)
PIIP_D2_OPERATOR(-)
PIIP_D2_OPERATOR(*)
PIIP_D2_OPERATOR(/)
PIIP_D2_OPERATOR(&)
PIIP_D2_OPERATOR(|)
#undef PIIP_D2_OPERATOR

template <class E, int N>
PIIP_D2_INLINE Vec<E, N> operator-(Vec<E, N> a, int b) {
  return Vec<E, N>(a.raw - E(b));
}

template <class E, int N>
PIIP_D2_INLINE Vec<E, N> operator<<(Vec<E, N> a, int distance) {
  return Vec<E, N>(a.raw << distance);
}

template <class To, class From, int N>
PIIP_D2_INLINE Vec<To, N> convert(Vec<From, N> x) {
  return Vec<To, N>(__builtin_convertvector(x.raw, typename Vec<To, N>::Raw));
}

template <class E, int N>
PIIP_D2_INLINE typename Vec<E, N>::Whole truncate(Vec<E, N> x) {
  return convert<typename Vec<E, N>::Whole::Element>(x);
}

template <class Real, class E, int N>
PIIP_D2_INLINE Real to_real(Vec<E, N> x) {
  return convert<typename Real::Element>(x);
}

template <class To, class From, int N>
PIIP_D2_INLINE Vec<To, N> reinterpret(Vec<From, N> x) {
  static_assert(sizeof(To) == sizeof(From));
  return Vec<To, N>((typename Vec<To, N>::Raw)x.raw);
}

// Lane i of the result is lane indices[i] of a and b, counted on through both.
template <int... indices, class E, int N>
PIIP_D2_INLINE Vec<E, N> shuffle(Vec<E, N> a, Vec<E, N> b) {
#if defined(__clang__)
  return Vec<E, N>(__builtin_shufflevector(a.raw, b.raw, indices...));
#else
  return Vec<E, N>(__builtin_shuffle(
      a.raw, b.raw, typename Vec<E, N>::Whole::Raw{indices...}));
#endif
}

template <class Order, class E, int N, int... lanes>
PIIP_D2_INLINE Vec<E, N> shuffle_by(Vec<E, N> a, Vec<E, N> b,
                                    std::integer_sequence<int, lanes...>) {
  return shuffle<Order::source(lanes, N)...>(a, b);
}

// Reorders lanes by a type with a function source(lane, N).
template <class Order, class E, int N>
PIIP_D2_INLINE Vec<E, N> shuffle_by(Vec<E, N> a, Vec<E, N> b) {
  return shuffle_by<Order>(a, b, std::make_integer_sequence<int, N>());
}

// Lane i gets the number of lane i ^ distance.
template <int distance>
struct Exchanged {
  static constexpr int source(int lane, int) { return lane ^ distance; }
};

// Every other lane of two vectors, beginning with lane `first`.
template <int first>
struct EveryOther {
  static constexpr int source(int lane, int) { return 2 * lane + first; }
};

// The lanes of two vectors in turns: their first or second halves.
template <bool second_half>
struct InTurns {
  static constexpr int source(int lane, int count) {
    return lane / 2 + (lane % 2) * count + (second_half ? count / 2 : 0);
  }
};

// `M` lanes from lane `first` on.
template <int first, int M, class E, int N, int... lanes>
PIIP_D2_INLINE Vec<E, M> part(Vec<E, N> x,
                              std::integer_sequence<int, lanes...>) {
#if defined(PIIP_D2_HAS_SHUFFLEVECTOR)
  return Vec<E, M>(__builtin_shufflevector(x.raw, x.raw, (first + lanes)...));
#else
  return Vec<E, M>(typename Vec<E, M>::Raw{x.raw[first + lanes]...});
#endif
}

template <int M, class E, int N>
PIIP_D2_INLINE Vec<E, M> low_part(Vec<E, N> x) {
  if constexpr (M == N) {
    return x;
  } else {
    return part<0, M>(x, std::make_integer_sequence<int, M>());
  }
}

template <class E, int N, int... lanes>
PIIP_D2_INLINE Vec<E, 2 * N> with_zeros(Vec<E, N> x,
                                        std::integer_sequence<int, lanes...>) {
#if defined(PIIP_D2_HAS_SHUFFLEVECTOR)
  return Vec<E, 2 * N>(
      __builtin_shufflevector(x.raw, Vec<E, N>(E(0)).raw, lanes...));
#else
  return Vec<E, 2 * N>(
      typename Vec<E, 2 * N>::Raw{(lanes < N ? x.raw[lanes % N] : E(0))...});
#endif
}

// The same lanes, followed by zeros.
template <int M, class E, int N>
PIIP_D2_INLINE Vec<E, M> widen(Vec<E, N> x) {
  if constexpr (M == N) {
    return x;
  } else {
    return widen<M>(with_zeros(x, std::make_integer_sequence<int, 2 * N>()));
  }
}

// Adds halves to each other until `M` lanes are left.
template <int M, class E, int N>
PIIP_D2_INLINE Vec<E, M> fold(Vec<E, N> x) {
  if constexpr (M == N) {
    return x;
  } else {
    using Half = std::make_integer_sequence<int, N / 2>;
    return fold<M>(low_part<N / 2>(x) + part<N / 2, N / 2>(x, Half()));
  }
}

template <class E, int N>
PIIP_D2_INLINE E sum(Vec<E, N> x) {
  const Vec<E, 2> pair = fold<2>(x);
  return pair.raw[0] + pair.raw[1];
}

}  // namespace PIIP_D2_INSTRUCTION_SET
}  // namespace piip_d2
