// A head's channels at one position: W numbers, held in vectors.
#pragma once

#include "element.h"

namespace piip_d2 {
namespace PIIP_D2_INSTRUCTION_SET {

constexpr int power_of_two_from(int count) {
  int power = 2;
  while (power < count) power *= 2;
  return power;
}

constexpr int power_of_two_up_to(int count) {
  int power = 1;
  while (power * 2 <= count) power *= 2;
  return power;
}

// W numbers as full vectors and a last one that may be partly empty.
template <class T, int W>
struct PlainRow {
  using A = ComputeType<T>;
  static constexpr int kLanes =
      W >= kMaxLanes<A> ? kMaxLanes<A> : power_of_two_from(W);
  static constexpr int kCount = W < kLanes ? W : kLanes;
  using Rest = PlainRow<T, W - kCount>;

  Vec<A, kLanes> first;
  Rest rest;

  PIIP_D2_INLINE static PlainRow zero() {
    return {Vec<A, kLanes>(A(0)), Rest::zero()};
  }

  PIIP_D2_INLINE static PlainRow load(const T* from) {
    return {load_first<kLanes, kCount>(from), Rest::load(from + kCount)};
  }

  // Adds `weight` times the numbers at `from`.
  PIIP_D2_INLINE void add(const T* from, A weight) {
    first = first + load_first<kLanes, kCount>(from) * Vec<A, kLanes>(weight);
    rest.add(from + kCount, weight);
  }

  PIIP_D2_INLINE void add(const PlainRow& other) {
    first = first + other.first;
    rest.add(other.rest);
  }

  PIIP_D2_INLINE void store(T* to) const {
    store_first<kCount>(first, to);
    rest.store(to + kCount);
  }

  // The scalar product with the numbers at `from`, not yet summed up.
  PIIP_D2_INLINE Vec<A, kLanes> products(const T* from) const {
    return rest.add_products(from + kCount,
                             first * load_first<kLanes, kCount>(from));
  }

  template <int N>
  PIIP_D2_INLINE Vec<A, N> add_products(const T* from, Vec<A, N> sums) const {
    const auto product = first * load_first<kLanes, kCount>(from);
    return rest.add_products(from + kCount, sums + widen<N>(product));
  }
};

template <class T>
struct PlainRow<T, 0> {
  using A = ComputeType<T>;

  PIIP_D2_INLINE static PlainRow zero() { return {}; }
  PIIP_D2_INLINE static PlainRow load(const T*) { return {}; }
  PIIP_D2_INLINE void add(const T*, A) {}
  PIIP_D2_INLINE void add(const PlainRow&) {}
  PIIP_D2_INLINE void store(T*) const {}
  template <int N>
  PIIP_D2_INLINE Vec<A, N> add_products(const T*, Vec<A, N> sums) const {
    return sums;
  }
};

// An even number of bfloat16 numbers, read two at a time as words of 32 bits:
// with zeros behind it, each half of a word is a float. Even and odd channels
// are kept apart, and so no bits have to be moved between lanes.
template <int W>
struct PairRow {
  static constexpr int kLanes =
      W / 2 >= kMaxLanes<float> ? kMaxLanes<float> : power_of_two_from(W / 2);
  static constexpr int kCount = W / 2 < kLanes ? W / 2 : kLanes;
  using Real = Vec<float, kLanes>;
  using Word = Vec<uint32_t, kLanes>;
  using Rest = std::conditional_t<W == 2 * kCount, PlainRow<BFloat16, 0>,
                                  PairRow<W - 2 * kCount>>;

  Real even, odd;
  Rest rest;

  PIIP_D2_INLINE static PairRow zero() {
    return {Real(0.0f), Real(0.0f), Rest::zero()};
  }

  PIIP_D2_INLINE static PairRow load(const BFloat16* from) {
    const Word words = load_words(from);
    return {even_of(words), odd_of(words), Rest::load(from + 2 * kCount)};
  }

  PIIP_D2_INLINE void add(const BFloat16* from, float weight) {
    const Word words = load_words(from);
    even = even + even_of(words) * Real(weight);
    odd = odd + odd_of(words) * Real(weight);
    rest.add(from + 2 * kCount, weight);
  }

  PIIP_D2_INLINE void add(const PairRow& other) {
    even = even + other.even;
    odd = odd + other.odd;
    rest.add(other.rest);
  }

  PIIP_D2_INLINE void store(BFloat16* to) const {
    const Word words = bfloat16_bits(even) | (bfloat16_bits(odd) << 16);
    store_first<kCount>(reinterpret<float>(words),
                        reinterpret_cast<float*>(to));
    rest.store(to + 2 * kCount);
  }

  PIIP_D2_INLINE Real products(const BFloat16* from) const {
    const Word words = load_words(from);
    return rest.add_products(from + 2 * kCount,
                             even * even_of(words) + odd * odd_of(words));
  }

  template <int N>
  PIIP_D2_INLINE Vec<float, N> add_products(const BFloat16* from,
                                            Vec<float, N> sums) const {
    return sums + widen<N>(products(from));
  }

 private:
  // Memory is little-endian, so the first of two numbers is the lower half.
  PIIP_D2_INLINE static Word load_words(const BFloat16* from) {
    return reinterpret<uint32_t>(
        load_first<kLanes, kCount>(reinterpret_cast<const float*>(from)));
  }
  PIIP_D2_INLINE static Real even_of(Word words) {
    return reinterpret<float>(words << 16);
  }
  PIIP_D2_INLINE static Real odd_of(Word words) {
    return reinterpret<float>(words & Word(0xffff0000u));
  }
};

template <class T, int W>
struct RowOf {
  using Type = PlainRow<T, W>;
};
template <int W>
struct RowOf<BFloat16, W> {
  static constexpr int kSmall = 8;  // not worth two vectors
  using Type = std::conditional_t<(W % 2 == 0 && W > kSmall), PairRow<W>,
                                  PlainRow<BFloat16, W>>;
};
template <class T, int W>
using Row = typename RowOf<T, W>::Type;

// W numbers as vectors that are all full, so that what one store has written
// the next load finds whole in the processor's store buffer.
template <class T, int W>
struct ExactRow {
  using A = ComputeType<T>;
  static constexpr int kLanes =
      W >= kMaxLanes<A> ? kMaxLanes<A> : power_of_two_up_to(W);
  using Rest = ExactRow<T, W - kLanes>;
  using Weight = Vec<A, kLanes>;  // enough lanes for every part of the row

  Vec<A, kLanes> first;
  Rest rest;

  PIIP_D2_INLINE static ExactRow load(const T* from) {
    return {PIIP_D2_INSTRUCTION_SET::load<kLanes>(from),
            Rest::load(from + kLanes)};
  }

  // Adds this row times `weight`, which all lanes hold, to the numbers at `to`.
  template <int N>
  PIIP_D2_INLINE void add_to(A* to, Vec<A, N> weight) const {
    (Vec<A, kLanes>::load(to) + first * low_part<kLanes>(weight)).store(to);
    rest.add_to(to + kLanes, weight);
  }
};

template <class T>
struct ExactRow<T, 1> {
  using A = ComputeType<T>;
  using Weight = Vec<A, 2>;

  A number;

  PIIP_D2_INLINE static ExactRow load(const T* from) {
    return {load_first<2, 1>(from).raw[0]};
  }
  template <int N>
  PIIP_D2_INLINE void add_to(A* to, Vec<A, N> weight) const {
    *to += number * weight.raw[0];
  }
};

template <class T>
struct ExactRow<T, 0> {
  using A = ComputeType<T>;

  PIIP_D2_INLINE static ExactRow load(const T*) { return {}; }
  template <int N>
  PIIP_D2_INLINE void add_to(A*, Vec<A, N>) const {}
};

// For summing the lanes of several vectors at once: in every group of four, the
// numbers `a b` of one vector in turns with those of another ...
template <int a, int b>
struct SingleTurns {
  static constexpr int source(int lane, int count) {
    const int position = lane % 4;
    return lane - position + (position < 2 ? a : b) + position % 2 * count;
  }
};

// ... or the pair `a a + 1` of one vector before that of another.
template <int a>
struct PairTurns {
  static constexpr int source(int lane, int count) {
    const int position = lane % 4;
    return lane - position + a + position % 2 + position / 2 * count;
  }
};

// Sums the lanes of four vectors, and puts or adds the sums to `to`.
template <class A, int N>
PIIP_D2_INLINE void store_sums(Vec<A, N> a, Vec<A, N> b, Vec<A, N> c,
                               Vec<A, N> d, A* to, bool add) {
  if constexpr (N >= 4) {
    const auto left = shuffle_by<SingleTurns<0, 1>>(a, b) +
                      shuffle_by<SingleTurns<2, 3>>(a, b);
    const auto right = shuffle_by<SingleTurns<0, 1>>(c, d) +
                       shuffle_by<SingleTurns<2, 3>>(c, d);
    const auto sums = fold<4>(shuffle_by<PairTurns<0>>(left, right) +
                              shuffle_by<PairTurns<2>>(left, right));
    (add ? sums + Vec<A, 4>::load(to) : sums).store(to);
  } else {
    const A sums[4] = {sum(a), sum(b), sum(c), sum(d)};
    for (int i = 0; i < 4; ++i) to[i] = add ? to[i] + sums[i] : sums[i];
  }
}

}  // namespace PIIP_D2_INSTRUCTION_SET
}  // namespace piip_d2
