// Reading and writing the four types a value can have as vectors of the type
// that is computed with.
#pragma once

#include "mask.h"

namespace piip_d2 {
namespace PIIP_D2_INSTRUCTION_SET {

struct BFloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

template <class T>
struct ComputeTypeOf {
  using Type = float;
};
template <>
struct ComputeTypeOf<double> {
  using Type = double;
};
template <class T>
using ComputeType = typename ComputeTypeOf<T>::Type;

// How many numbers fit the widest registers that are worth using.
template <class A>
constexpr int kMaxLanes = PIIP_D2_REGISTER_BYTES / static_cast<int>(sizeof(A));

template <int N>
PIIP_D2_INLINE Vec<float, N> widen_bfloat16(Vec<uint16_t, N> x) {
  return reinterpret<float>(convert<uint32_t>(x) << 16);
}

// Exponents of 16-bit numbers are moved up by a multiplication, which also
// takes care of the subnormal ones.
template <int N>
PIIP_D2_INLINE Vec<float, N> widen_float16(Vec<uint16_t, N> x) {
  using Bits = Vec<uint32_t, N>;
  const Bits all = convert<uint32_t>(x);
  const Bits magnitude = (all & Bits(0x7fffu)) << 13;
  const auto scale = reinterpret<float>(Bits((254u - 15u) << 23));
  const auto scaled = reinterpret<float>(magnitude) * scale;
  const Bits infinity(magnitude.raw > 0x0f7fffffu ? Bits(0x7f800000u).raw
                                                  : Bits(0u).raw);
  const Bits kept = reinterpret<uint32_t>(scaled) | infinity;
  return reinterpret<float>(kept | ((all & Bits(0x8000u)) << 16));
}

template <int N, class T>
PIIP_D2_INLINE Vec<ComputeType<T>, N> load(const T* from) {
  if constexpr (sizeof(T) != 2) {
    return Vec<T, N>::load(from);
  } else {
    const auto bits =
        Vec<uint16_t, N>::load(reinterpret_cast<const uint16_t*>(from));
    if constexpr (std::is_same_v<T, BFloat16>) {
      return widen_bfloat16(bits);
    } else {
#if defined(PIIP_D2_AVX512)
      if constexpr (N == 16) {
        return Vec<float, 16>(_mm512_cvtph_ps((__m256i)bits.raw));
      }
#endif
#if defined(PIIP_D2_AVX2) || defined(PIIP_D2_AVX512)
      if constexpr (N == 8) {
        return Vec<float, 8>(_mm256_cvtph_ps((__m128i)bits.raw));
      }
#endif
      return widen_float16(bits);
    }
  }
}

// Rounds to the nearest, ties to even; NaN stays NaN.
template <int N>
PIIP_D2_INLINE Vec<uint32_t, N> bfloat16_bits(Vec<float, N> x) {
  using Bits = Vec<uint32_t, N>;
  const Bits bits = reinterpret<uint32_t>(x);
  const Bits upper(bits.raw >> 16);
  const Bits rounded((bits + Bits(0x7fffu) + (upper & Bits(1u))).raw >> 16);
  return Bits(x.raw == x.raw ? rounded.raw : (upper | Bits(0x40u)).raw);
}

template <int N>
PIIP_D2_INLINE Vec<uint32_t, N> float16_bits(Vec<float, N> x) {
  using Bits = Vec<uint32_t, N>;
  const Bits bits = reinterpret<uint32_t>(x);
  const Bits magnitude = bits & Bits(0x7fffffffu);
  const Bits not_finite(magnitude.raw > 0x7f800000u ? Bits(0x7e00u).raw
                                                    : Bits(0x7c00u).raw);
  // Adding a half aligns what will be a subnormal number with its last bit.
  const Bits aligned = reinterpret<uint32_t>(reinterpret<float>(magnitude) +
                                             Vec<float, N>(0.5f)) -
                       Bits(0x3f000000u);
  const Bits odd = Bits(magnitude.raw >> 13) & Bits(1u);
  const Bits normal((magnitude + Bits(0xc8000fffu) + odd).raw >>
                    13);  // 0xc8... = -112 << 23
  Bits result(magnitude.raw < 0x38800000u ? aligned.raw : normal.raw);
  result = Bits(magnitude.raw >= 0x47800000u ? not_finite.raw : result.raw);
  return result | Bits((bits.raw >> 16) & 0x8000u);
}

// Rounds to one of the types of 16 bits.
template <class T, int N>
PIIP_D2_INLINE Vec<uint16_t, N> narrow(Vec<float, N> x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return convert<uint16_t>(bfloat16_bits(x));
  } else {
    return convert<uint16_t>(float16_bits(x));
  }
}

template <class T, int N>
PIIP_D2_INLINE void store(Vec<ComputeType<T>, N> x, T* to) {
  if constexpr (sizeof(T) == 2) {
    narrow<T>(x).store(reinterpret_cast<uint16_t*>(to));
  } else {
    x.store(to);
  }
}

#if defined(PIIP_D2_AVX2)
// A mask of the first of eight lanes.
PIIP_D2_INLINE __m256i first_lanes(int count) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lanes);
}
#endif

// The first `count` lanes from memory, the others zero. Nothing behind them is
// read.
template <int N, int count, class T>
PIIP_D2_INLINE Vec<ComputeType<T>, N> load_first(const T* from) {
  if constexpr (count == N) {
    return load<N>(from);
  }
#if defined(PIIP_D2_AVX512)
  constexpr auto mask = static_cast<__mmask16>((1u << count) - 1);
  if constexpr (std::is_same_v<T, float>) {
    if constexpr (N == 16) {
      return Vec<float, N>(_mm512_maskz_loadu_ps(mask, from));
    } else if constexpr (N == 8) {
      return Vec<float, N>(_mm256_maskz_loadu_ps(mask, from));
    } else if constexpr (N == 4) {
      return Vec<float, N>(_mm_maskz_loadu_ps(mask, from));
    }
  } else if constexpr (sizeof(T) == 2) {
    if constexpr (N == 16) {
      const __m256i bits = _mm256_maskz_loadu_epi16(mask, from);
      return load<N>(reinterpret_cast<const T*>(&bits));
    } else if constexpr (N == 8) {
      const __m128i bits = _mm_maskz_loadu_epi16(mask, from);
      return load<N>(reinterpret_cast<const T*>(&bits));
    }
  }
#elif defined(PIIP_D2_AVX2)
  if constexpr (std::is_same_v<T, float> && N == 8) {
    return Vec<float, N>(_mm256_maskload_ps(from, first_lanes(count)));
  }
#endif
  T padded[N] = {};
  std::memcpy(padded, from, sizeof(T) * count);
  return load<N>(static_cast<const T*>(padded));
}

// Writes the first `count` lanes.
template <int count, class T, int N>
PIIP_D2_INLINE void store_first(Vec<ComputeType<T>, N> x, T* to) {
  if constexpr (count == N) {
    store(x, to);
    return;
  }
#if defined(PIIP_D2_AVX512)
  constexpr auto mask = static_cast<__mmask16>((1u << count) - 1);
  if constexpr (std::is_same_v<T, float> && N == 16) {
    _mm512_mask_storeu_ps(to, mask, x.raw);
    return;
  } else if constexpr (std::is_same_v<T, float> && N == 8) {
    _mm256_mask_storeu_ps(to, mask, x.raw);
    return;
  } else if constexpr (std::is_same_v<T, float> && N == 4) {
    _mm_mask_storeu_ps(to, mask, x.raw);
    return;
  } else if constexpr (sizeof(T) == 2 && N == 16) {
    _mm256_mask_storeu_epi16(to, mask, (__m256i)narrow<T>(x).raw);
    return;
  } else if constexpr (sizeof(T) == 2 && N == 8) {
    _mm_mask_storeu_epi16(to, mask, (__m128i)narrow<T>(x).raw);
    return;
  }
#elif defined(PIIP_D2_AVX2)
  if constexpr (std::is_same_v<T, float> && N == 8) {
    _mm256_maskstore_ps(to, first_lanes(count), x.raw);
    return;
  }
#endif
  T padded[N];
  store(x, static_cast<T*>(padded));
  std::memcpy(to, padded, sizeof(T) * count);
}

// Copies `count` numbers and fills up with `padding` to `size`.
template <int N, class T, class A>
PIIP_D2_INLINE void copy_padded(const T* from, int64_t count, int64_t size,
                                A padding, A* to) {
  if constexpr (std::is_same_v<T, A>) {
    std::memcpy(to, from, sizeof(A) * count);
  } else {
    int64_t i = 0;
    for (; i + N <= count; i += N) load<N>(from + i).store(to + i);
    for (; i < count; ++i) to[i] = load_first<2, 1>(from + i).raw[0];
  }
  for (int64_t i = count; i < size; ++i) to[i] = padding;
}

}  // namespace PIIP_D2_INSTRUCTION_SET
}  // namespace piip_d2
