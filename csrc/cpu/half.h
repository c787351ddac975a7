// float16 and bfloat16 in memory, float32 in registers: how kernels read and write them.
//
//   with_stored(x.dtype, [&]<class S>(Type<S>) { using T = Computed<S>; ... get(p + i, part) ... });
//
// get() widens a register of halves, which is exact; put() rounds one to nearest, half to even.
// `vcvtneps2bf16` would round for less, but it takes subnormal numbers for 0; so bfloat16 is rounded as an
// integer.
#pragma once

#include "core/half.h"
#include "cpu/reduce.h"
#include "cpu/types.h"

namespace ts::cpu::TS_ISA {

struct Float16 {
  std::uint16_t bits;
#if defined(__F16C__)
  TS_INLINE operator float() const { return _cvtsh_ss(bits); }
#else
  TS_INLINE operator float() const { return float_from_float16(bits); }
#endif
};
struct BFloat16 {
  std::uint16_t bits;
  TS_INLINE operator float() const { return float_from_bfloat16(bits); }
};
template <class S>
constexpr bool is_half_type = std::is_same_v<S, Float16> || std::is_same_v<S, BFloat16>;

// What is computed with numbers that are stored as S.
template <class S>
using Computed = std::conditional_t<is_half_type<std::remove_const_t<S>>, float, std::remove_const_t<S>>;

// Calls f with the element type of a floating dtype, halves among them.
template <class F>
inline void with_stored(DType d, F&& f) {
  switch (d) {
    case DType::float16:
      return f(Type<Float16>{});
    case DType::bfloat16:
      return f(Type<BFloat16>{});
    default:
      return with_floating(d, f);
  }
}

// The types that are reduced, and halves.
template <class F>
inline void with_elements(DType d, F&& f) {
  is_half(d) ? with_stored(d, f) : with_wide_any(d, f);
}

// --- as many halves as a register has float32 -----------------------------------------------------

#if defined(__AVX512F__)
using HalfBits = __m256i;
#else
using HalfBits = __m128i;
#endif

TS_INLINE HalfBits load_halves(const void* p, All) {
#if defined(__AVX512F__)
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
#elif defined(__AVX2__)
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
#else
  return _mm_loadl_epi64(static_cast<const __m128i*>(p));
#endif
}
TS_INLINE void store_halves(void* p, HalfBits h, All) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(static_cast<__m256i*>(p), h);
#elif defined(__AVX2__)
  _mm_storeu_si128(static_cast<__m128i*>(p), h);
#else
  _mm_storel_epi64(static_cast<__m128i*>(p), h);
#endif
}
TS_INLINE HalfBits load_halves(const void* p, First part) {
#if defined(__AVX512F__)
  return _mm256_maskz_loadu_epi16(static_cast<__mmask16>(_bzhi_u32(0xffffu, static_cast<unsigned>(part.n))),
                                  p);
#else
  std::uint16_t lanes[Vec<float>::width] = {};
  for (int i = 0; i < part.n; ++i) lanes[i] = static_cast<const std::uint16_t*>(p)[i];
  return load_halves(lanes, All{});
#endif
}
TS_INLINE void store_halves(void* p, HalfBits h, First part) {
#if defined(__AVX512F__)
  _mm256_mask_storeu_epi16(p, static_cast<__mmask16>(_bzhi_u32(0xffffu, static_cast<unsigned>(part.n))), h);
#else
  std::uint16_t lanes[Vec<float>::width];
  store_halves(lanes, h, All{});
  for (int i = 0; i < part.n; ++i) static_cast<std::uint16_t*>(p)[i] = lanes[i];
#endif
}

// --- bfloat16: the upper half of a float32 --------------------------------------------------------

TS_INLINE Vec<float> widen(HalfBits h, BFloat16) {
  using Reg = Vec<float>::Reg;
#if defined(__AVX512F__)
  return Reg(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
#elif defined(__AVX2__)
  return Reg(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
#else
  return Reg(_mm_unpacklo_epi16(_mm_setzero_si128(), h));
#endif
}
// x rounded to bfloat16, in the upper half of each lane; what the lower one holds means nothing. A NaN stays
// one.
TS_INLINE Vec<std::uint32_t> rounded_to_bfloat16(Vec<float> x) {
  using Bits = Vec<std::uint32_t>;
  const Bits u = bit_cast<std::uint32_t>(x);
  const Bits rounded = u + Bits(0x7fffu) + ((u >> 16) & Bits(1u));
  return select(as<std::uint32_t>(x != x), u | Bits(0x400000u), rounded);
}
TS_INLINE HalfBits narrow(Vec<float> x, BFloat16) {
  const Vec<std::uint32_t> u = rounded_to_bfloat16(x);
#if defined(__AVX512F__)
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(__m512i(u.r), 16));
#elif defined(__AVX2__)
  const __m256i h = _mm256_srai_epi32(__m256i(u.r), 16);
  return _mm_packs_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
#else
  const __m128i h = _mm_srai_epi32(__m128i(u.r), 16);
  return _mm_packs_epi32(h, h);
#endif
}

// --- float16 --------------------------------------------------------------------------------------

TS_INLINE Vec<float> widen(HalfBits h, Float16) {
#if defined(__AVX512F__)
  return Vec<float>(_mm512_cvtph_ps(h));
#elif defined(__F16C__)
  return Vec<float>(_mm256_cvtph_ps(h));
#else
  std::uint16_t lanes[Vec<float>::width];
  store_halves(lanes, h, All{});
  Vec<float> x;
  for (int i = 0; i < Vec<float>::width; ++i) x.set(i, float_from_float16(lanes[i]));
  return x;
#endif
}
TS_INLINE HalfBits narrow(Vec<float> x, Float16) {
#if defined(__AVX512F__)
  return _mm512_cvtps_ph(x.r, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__F16C__)
  return _mm256_cvtps_ph(x.r, _MM_FROUND_TO_NEAREST_INT);
#else
  std::uint16_t lanes[Vec<float>::width];
  for (int i = 0; i < Vec<float>::width; ++i) lanes[i] = float16_from_float(x[i]);
  return load_halves(lanes, All{});
#endif
}

// --- what kernels call, as they do of float32 -----------------------------------------------------

TS_INLINE Vec<float> get(const BFloat16* p, All part) { return widen(load_halves(p, part), BFloat16{}); }
TS_INLINE Vec<float> get(const BFloat16* p, First part) { return widen(load_halves(p, part), BFloat16{}); }
TS_INLINE Vec<float> get(const Float16* p, All part) { return widen(load_halves(p, part), Float16{}); }
TS_INLINE Vec<float> get(const Float16* p, First part) { return widen(load_halves(p, part), Float16{}); }
TS_INLINE void put(BFloat16* p, Vec<float> v, All part) { store_halves(p, narrow(v, BFloat16{}), part); }
TS_INLINE void put(BFloat16* p, Vec<float> v, First part) { store_halves(p, narrow(v, BFloat16{}), part); }
TS_INLINE void put(Float16* p, Vec<float> v, All part) { store_halves(p, narrow(v, Float16{}), part); }
TS_INLINE void put(Float16* p, Vec<float> v, First part) { store_halves(p, narrow(v, Float16{}), part); }

// One number, rounded.
template <class S, class T>
TS_INLINE S stored_as(T x) {
  if constexpr (std::is_same_v<S, BFloat16>)
    return {bfloat16_from_float(x)};
  else if constexpr (std::is_same_v<S, Float16>)
#if defined(__F16C__)
    return {_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT)};
#else
    return {float16_from_float(x)};
#endif
  else
    return x;
}

}  // namespace ts::cpu::TS_ISA
