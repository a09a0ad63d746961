// Truth values by lane, and what depends on them.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <type_traits>

#include "simd.h"

namespace piip_d2 {
namespace PIIP_D2_INSTRUCTION_SET {

// As vectors of whole numbers whose bits are all alike ...
template <class E, int N>
struct VectorMask {
  typename Vec<E, N>::Whole::Raw raw;

  PIIP_D2_INLINE VectorMask operator&(VectorMask other) const {
    return {raw & other.raw};
  }
};

template <class E, int N>
PIIP_D2_INLINE Vec<E, N> blend(VectorMask<E, N> condition, Vec<E, N> a,
                               Vec<E, N> b) {
  return Vec<E, N>(condition.raw ? a.raw : b.raw);
}

// ... or, where the instruction set has registers for it, as bits.
template <int N>
struct BitMask {
  uint16_t bits;

  PIIP_D2_INLINE BitMask operator&(BitMask other) const {
    return {static_cast<uint16_t>(bits & other.bits)};
  }
};

#if defined(PIIP_D2_AVX512)
PIIP_D2_INLINE BitMask<16> greater(Vec<float, 16> a, Vec<float, 16> b) {
  return {_mm512_cmp_ps_mask(a.raw, b.raw, _CMP_GT_OQ)};
}
PIIP_D2_INLINE BitMask<16> greater(Vec<int32_t, 16> a, Vec<int32_t, 16> b) {
  return {_mm512_cmpgt_epi32_mask((__m512i)a.raw, (__m512i)b.raw)};
}
PIIP_D2_INLINE Vec<float, 16> blend(BitMask<16> condition, Vec<float, 16> a,
                                    Vec<float, 16> b) {
  return Vec<float, 16>(_mm512_mask_blend_ps(condition.bits, b.raw, a.raw));
}
PIIP_D2_INLINE Vec<int32_t, 16> blend(BitMask<16> condition, Vec<int32_t, 16> a,
                                      Vec<int32_t, 16> b) {
  const __m512i blended =
      _mm512_mask_blend_epi32(condition.bits, (__m512i)b.raw, (__m512i)a.raw);
  return Vec<int32_t, 16>((Vec<int32_t, 16>::Raw)blended);
}

template <class E, int N>
using Mask = std::conditional_t<sizeof(E) == 4 && N == 16, BitMask<16>,
                                VectorMask<E, N>>;
PIIP_D2_INLINE BitMask<16> equal(Vec<float, 16> a, Vec<float, 16> b) {
  return {_mm512_cmp_ps_mask(a.raw, b.raw, _CMP_EQ_OQ)};
}
#else
template <class E, int N>
using Mask = VectorMask<E, N>;
#endif

template <class E, int N>
PIIP_D2_INLINE Mask<E, N> operator>(Vec<E, N> a, Vec<E, N> b) {
  if constexpr (std::is_same_v<Mask<E, N>, VectorMask<E, N>>) {
    return {a.raw > b.raw};
  } else {
    return greater(a, b);
  }
}

template <class E, int N>
PIIP_D2_INLINE Mask<E, N> operator<(Vec<E, N> a, Vec<E, N> b) {
  return b > a;
}

template <class E, int N>
PIIP_D2_INLINE Mask<E, N> is_zero(Vec<E, N> x) {
  const Vec<E, N> zero(E(0));
  if constexpr (std::is_same_v<Mask<E, N>, VectorMask<E, N>>) {
    return {x.raw == zero.raw};
  } else {
    return equal(x, zero);
  }
}

template <class E, int N, class Condition>
PIIP_D2_INLINE Vec<E, N> select(Condition condition, Vec<E, N> a, Vec<E, N> b) {
  if constexpr (std::is_same_v<Condition, BitMask<N>>) {
    return blend(condition, a, b);
  } else {
    return blend(VectorMask<E, N>{condition.raw}, a, b);
  }
}

// Of a number and NaN, the second argument.
template <class E, int N>
PIIP_D2_INLINE Vec<E, N> maximum(Vec<E, N> a, Vec<E, N> b) {
  return select(a > b, a, b);
}

}  // namespace PIIP_D2_INSTRUCTION_SET

// How the mathematics of sampling.h sees a vector.
template <class E, int N>
struct Lanes<PIIP_D2_INSTRUCTION_SET::Vec<E, N>> {
  using Int = typename PIIP_D2_INSTRUCTION_SET::Vec<E, N>::Whole;
  using Mask = PIIP_D2_INSTRUCTION_SET::Mask<E, N>;
};

}  // namespace piip_d2
