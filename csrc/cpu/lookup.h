// What formulas take from an instruction that not every level has: 16 numbers by index, square roots,
// exponent and mantissa, and whether every lane is positive and finite. The same bits on every level.
#pragma once

#include "cpu/twin.h"

namespace ts::cpu::TS_ISA {

// table[index & 15] in every lane: one permutation with AVX-512, two and a blend with AVX2.
TS_INLINE Vec<float> lookup(const float (&table)[16], Vec<std::int32_t> index) {
#if defined(__AVX512F__)
  return _mm512_permutexvar_ps(__m512i(index.r), _mm512_loadu_ps(table));
#elif defined(__AVX2__)
  const __m256i i = __m256i(index.r);
  const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), i);
  const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), i);
  return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)));
#else
  Vec<float> y;
  for (int i = 0; i < Vec<float>::width; ++i) y.r[i] = table[index[i] & 15];
  return y;
#endif
}
TS_INLINE Vec<double> lookup(const double (&table)[16], Vec<std::uint64_t> index) {
#if defined(__AVX512F__)
  return _mm512_permutex2var_pd(_mm512_loadu_pd(table), __m512i(index.r), _mm512_loadu_pd(table + 8));
#elif defined(__AVX2__)
  return _mm256_i64gather_pd(table, __m256i((index & Vec<std::uint64_t>(15)).r), 8);
#else
  Vec<double> y;
  for (int i = 0; i < Vec<double>::width; ++i) y.r[i] = table[index[i] & 15];
  return y;
#endif
}

// The square root, rounded correctly. With AVX-512 by two steps from the hardware's 14 bits of 1 / sqrt(x):
// 10 instructions of half a cycle, where the divider takes 12 cycles for a register. That it rounds correctly
// was checked for all mantissas, with the estimate off by up to 1.5 times the error it may have.
template <class V>
TS_INLINE V square_root(V x) {
  return sqrt(x);
}
#if defined(__AVX512F__)
TS_INLINE Vec<float> square_root(Vec<float> x) {
  // From 2^-100 on, what x - g^2 leaves is a normal number.
  constexpr int kLeast = 0x0d800000, kInfinity = 0x7f800000;
  const __m512i above = _mm512_sub_epi32(_mm512_castps_si512(x.r), _mm512_set1_epi32(kLeast));
  if (_mm512_cmplt_epu32_mask(above, _mm512_set1_epi32(kInfinity - kLeast)) != 0xffff) return sqrt(x);
  const Vec<float> half(0.5f), r = _mm512_rsqrt14_ps(x.r);
  const Vec<float> g = x * r, h = half * r, e = fma(-g, h, half);  // g -> sqrt(x), h -> 1 / (2 sqrt(x))
  const Vec<float> root = fma(g, e, g);
  return fma(fma(-root, root, x), fma(h, e, h), root);
}
#endif

// x = 2^k m with 0.75 <= m < 1.5, for positive finite x; elsewhere anything.
template <class T>
struct Scaled {
  Vec<T> k, m;
};
TS_INLINE Scaled<float> exponent_mantissa(Vec<float> x) {
#if defined(__AVX512F__)
  const __m512 m = _mm512_getmant_ps(x.r, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
  return {_mm512_sub_ps(_mm512_getexp_ps(x.r), _mm512_getexp_ps(m)), m};
#else
  const auto low = x < Vec<float>(0x1p-126f);
  x = select(low, x * Vec<float>(0x1p24f), x);
  const Vec<std::int32_t> start = bit_cast<std::int32_t>(Vec<float>(0.75f));
  const Vec<std::int32_t> offset = bit_cast<std::int32_t>(x) - start;
  const Vec<std::int32_t> mantissa = (offset & Vec<std::int32_t>(0x7fffff)) + start;
  return {convert<float>(offset >> 23) - select(low, Vec<float>(24.0f), Vec<float>(0.0f)),
          bit_cast<float>(mantissa)};
#endif
}
TS_INLINE Scaled<double> exponent_mantissa(Vec<double> x) {
#if defined(__AVX512F__)
  const __m512d m = _mm512_getmant_pd(x.r, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src);
  return {_mm512_sub_pd(_mm512_getexp_pd(x.r), _mm512_getexp_pd(m)), m};
#else
  const auto low = x < Vec<double>(0x1p-1022);
  x = select(low, x * Vec<double>(0x1p54), x);
  // 2^62 keeps the difference positive: AVX2 shifts no signed numbers of 64 bits.
  const Vec<std::uint64_t> start = bit_cast<std::uint64_t>(Vec<double>(0.75));
  const Vec<std::uint64_t> offset = bit_cast<std::uint64_t>(x) - (start - Vec<std::uint64_t>(1ull << 62));
  const Vec<std::uint64_t> mantissa = (offset & Vec<std::uint64_t>(0xfffffffffffff)) + start;
  const Vec<double> magic(0x1.8p52);
  const Vec<double> k = bit_cast<double>((offset >> 52) | bit_cast<std::uint64_t>(magic));
  return {k - (magic + select(low, Vec<double>(1078.0), Vec<double>(1024.0))), bit_cast<double>(mantissa)};
#endif
}

// 2^n to be added to something near 1: no less than the least normal number (see scale_down).
template <class T>
TS_INLINE Vec<T> pow2_beside_one(Vec<T> n) {
  n = max(Vec<T>(sizeof(T) == 4 ? T(-126) : T(-1022)), n);
#if defined(__AVX512F__)
  return scale(Vec<T>(T(1)), n);
#else
  return pow2(n);
#endif
}
// Whether a >= b in any lane.
template <class T>
TS_INLINE bool any_at_least(Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return _mm512_cmp_ps_mask(a.r, b.r, _CMP_GE_OQ) != 0;
  else
    return _mm512_cmp_pd_mask(a.r, b.r, _CMP_GE_OQ) != 0;
#else
  return any(a >= b);
#endif
}
// Whether every lane is in (0, inf).
template <class T>
TS_INLINE bool positive_finite(Vec<T> x) {
#if defined(__AVX512F__)
  constexpr int kOthers = 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;  // NaNs, zeros, infinities, below 0
  if constexpr (sizeof(T) == 4)
    return _mm512_fpclass_ps_mask(x.r, kOthers) == 0;
  else
    return _mm512_fpclass_pd_mask(x.r, kOthers) == 0;
#else
  return !any(~((x > Vec<T>(T(0))) & (x < Vec<T>(T(__builtin_inf())))));
#endif
}

template <class T>
TS_INLINE bool finite(Vec<T> x) {
#if defined(__AVX512F__)
  constexpr int kOthers = 0x01 | 0x08 | 0x10 | 0x80;
  if constexpr (sizeof(T) == 4)
    return _mm512_fpclass_ps_mask(x.r, kOthers) == 0;
  else
    return _mm512_fpclass_pd_mask(x.r, kOthers) == 0;
#else
  return !any(~(abs(x) < Vec<T>(T(__builtin_inf()))));
#endif
}

template <class T, class I>
TS_INLINE Twin<T> lookup(const T (&table)[16], Twin<I> index) {
  return {lookup(table, index.low), lookup(table, index.high)};
}
template <class T>
struct TwinScaled {
  Twin<T> k, m;
};
template <class T>
TS_INLINE TwinScaled<T> exponent_mantissa(Twin<T> x) {
  const auto low = exponent_mantissa(x.low), high = exponent_mantissa(x.high);
  return {{low.k, high.k}, {low.m, high.m}};
}
template <class T>
TS_INLINE Twin<T> pow2_beside_one(Twin<T> n) {
  return {pow2_beside_one(n.low), pow2_beside_one(n.high)};
}
template <class T>
TS_INLINE bool any_at_least(Twin<T> a, Twin<T> b) {
#if defined(__AVX512F__)  // one branch for both
  if constexpr (sizeof(T) == 4)
    return (_mm512_cmp_ps_mask(a.low.r, b.low.r, _CMP_GE_OQ) |
            _mm512_cmp_ps_mask(a.high.r, b.high.r, _CMP_GE_OQ)) != 0;
#endif
  return any_at_least(a.low, b.low) || any_at_least(a.high, b.high);
}
template <class T>
TS_INLINE bool positive_finite(Twin<T> x) {
  return positive_finite(x.low) && positive_finite(x.high);
}
template <class T>
TS_INLINE bool finite(Twin<T> x) {
  return finite(x.low) && finite(x.high);
}

}  // namespace ts::cpu::TS_ISA
