// Vec<T>: one hardware register of T, the same source for SSE2, AVX2 and AVX-512.
//
// Built on the compiler's vector extensions, so arithmetic, comparison, shifts and selection exist for every
// element type; the few operations that they lack (fma, rounding, sqrt, partial loads) are spelled with
// intrinsics below. Everything is inside the SIMD level's namespace: no code is shared between levels.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace ts::cpu::TS_ISA {

#define TS_INLINE [[gnu::always_inline]] inline
#define TS_OUTLINE [[gnu::noinline]] inline

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

// The integer type of T's size: bit patterns and masks.
template <int Bytes>
struct IntOfSize;
template <>
struct IntOfSize<1> {
  using type = std::int8_t;
};
template <>
struct IntOfSize<2> {
  using type = std::int16_t;
};
template <>
struct IntOfSize<4> {
  using type = std::int32_t;
};
template <>
struct IntOfSize<8> {
  using type = std::int64_t;
};
template <class T>
using IntOf = typename IntOfSize<sizeof(T)>::type;

// bool in memory is one byte, 0 or 1.
template <class T>
using Lane = std::conditional_t<std::is_same_v<T, bool>, std::uint8_t, T>;

template <class T>
struct Register {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};

template <class T>
struct Vec {
  using Element = T;
  using Reg = typename Register<Lane<T>>::type;
  using MaskReg = typename Register<IntOf<T>>::type;
  static constexpr int width = kVectorBytes / static_cast<int>(sizeof(T));

  Reg r;

  Vec() = default;
  TS_INLINE Vec(Reg x) : r(x) {}
  TS_INLINE Vec(Lane<T> x) : r(x - Reg{}) {}  // broadcast

  TS_INLINE static Vec load(const T* p) {
    Vec v;
    std::memcpy(&v.r, p, kVectorBytes);
    return v;
  }
  TS_INLINE void store(T* p) const { std::memcpy(p, &r, kVectorBytes); }

  // The first n lanes, 0 <= n <= width; the others are 0 and their memory is not touched.
  static Vec load_partial(const T* p, std::int64_t n);
  void store_partial(T* p, std::int64_t n) const;

  TS_INLINE Lane<T> operator[](int i) const { return r[i]; }
  TS_INLINE void set(int i, Lane<T> x) { r[i] = x; }

  TS_INLINE friend Vec operator+(Vec a, Vec b) { return a.r + b.r; }
  TS_INLINE friend Vec operator-(Vec a, Vec b) { return a.r - b.r; }
  TS_INLINE friend Vec operator*(Vec a, Vec b) { return a.r * b.r; }
  TS_INLINE friend Vec operator/(Vec a, Vec b) { return a.r / b.r; }
  TS_INLINE friend Vec operator&(Vec a, Vec b) { return Reg(MaskReg(a.r) & MaskReg(b.r)); }
  TS_INLINE friend Vec operator|(Vec a, Vec b) { return Reg(MaskReg(a.r) | MaskReg(b.r)); }
  TS_INLINE friend Vec operator^(Vec a, Vec b) { return Reg(MaskReg(a.r) ^ MaskReg(b.r)); }
  TS_INLINE friend Vec operator-(Vec a) { return -a.r; }
  TS_INLINE friend Vec operator<<(Vec a, int count) { return a.r << count; }  // integers
  TS_INLINE friend Vec operator>>(Vec a, int count) { return a.r >> count; }
  TS_INLINE friend Vec operator~(Vec a) { return Reg(~MaskReg(a.r)); }
};

// All ones where a comparison held, 0 elsewhere.
template <class T>
struct Mask {
  typename Vec<T>::MaskReg r;
  Mask() = default;
  TS_INLINE Mask(typename Vec<T>::MaskReg x) : r(x) {}
  TS_INLINE friend Mask operator&(Mask a, Mask b) { return Mask(a.r & b.r); }
  TS_INLINE friend Mask operator|(Mask a, Mask b) { return Mask(a.r | b.r); }
  TS_INLINE friend Mask operator^(Mask a, Mask b) { return Mask(a.r ^ b.r); }
  TS_INLINE friend Mask operator~(Mask a) { return Mask(~a.r); }
};

template <class T>
TS_INLINE Mask<T> operator<(Vec<T> a, Vec<T> b) {
  return Mask<T>(a.r < b.r);
}
template <class T>
TS_INLINE Mask<T> operator<=(Vec<T> a, Vec<T> b) {
  return Mask<T>(a.r <= b.r);
}
template <class T>
TS_INLINE Mask<T> operator>(Vec<T> a, Vec<T> b) {
  return Mask<T>(a.r > b.r);
}
template <class T>
TS_INLINE Mask<T> operator>=(Vec<T> a, Vec<T> b) {
  return Mask<T>(a.r >= b.r);
}
template <class T>
TS_INLINE Mask<T> operator==(Vec<T> a, Vec<T> b) {
  return Mask<T>(a.r == b.r);
}
template <class T>
TS_INLINE Mask<T> operator!=(Vec<T> a, Vec<T> b) {
  return Mask<T>(a.r != b.r);
}

template <class T>
TS_INLINE Vec<T> select(Mask<T> m, Vec<T> a, Vec<T> b) {
  return m.r ? a.r : b.r;
}

// A mask of another type of the same size.
template <class U, class T>
TS_INLINE Mask<U> as(Mask<T> m) {
  static_assert(sizeof(U) == sizeof(T));
  return Mask<U>(m.r);
}

// The same bits as another type of the same size.
template <class U, class T>
TS_INLINE Vec<U> bit_cast(Vec<T> a) {
  static_assert(sizeof(U) == sizeof(T));
  return typename Vec<U>::Reg(a.r);
}
// Value conversion between types of the same size; float to integer truncates and must be in range.
template <class U, class T>
TS_INLINE Vec<U> convert(Vec<T> a) {
  static_assert(sizeof(U) == sizeof(T));
  return __builtin_convertvector(a.r, typename Vec<U>::Reg);
}

// Shifts of every lane; to the right arithmetic for signed types, logical for unsigned ones.
template <class T>
TS_INLINE Vec<T> operator<<(Vec<T> a, int n) {
  return a.r << n;
}
template <class T>
TS_INLINE Vec<T> operator>>(Vec<T> a, int n) {
  return a.r >> n;
}

// The product of the low halves of 64-bit lanes, all 64 bits of it.
TS_INLINE Vec<std::uint64_t> multiply_low32(Vec<std::uint64_t> a, Vec<std::uint64_t> b) {
  using Reg = Vec<std::uint64_t>::Reg;
#if defined(__AVX512F__)
  return Reg(_mm512_mul_epu32(__m512i(a.r), __m512i(b.r)));
#elif defined(__AVX2__)
  return Reg(_mm256_mul_epu32(__m256i(a.r), __m256i(b.r)));
#else
  return Reg(_mm_mul_epu32(__m128i(a.r), __m128i(b.r)));
#endif
}

// a * b + c, rounded once where the level has FMA.
template <class T>
TS_INLINE Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>) return Vec<T>(_mm512_fmadd_ps(a.r, b.r, c.r));
  if constexpr (std::is_same_v<T, double>) return Vec<T>(_mm512_fmadd_pd(a.r, b.r, c.r));
#elif defined(__FMA__)
  if constexpr (std::is_same_v<T, float>) return Vec<T>(_mm256_fmadd_ps(a.r, b.r, c.r));
  if constexpr (std::is_same_v<T, double>) return Vec<T>(_mm256_fmadd_pd(a.r, b.r, c.r));
#endif
  return a * b + c;
}

template <class T>
TS_INLINE Vec<T> sqrt(Vec<T> a) {
#if defined(__AVX512F__)
  // Two halves: Intel's divider takes 8 % longer for a whole register.
  if constexpr (std::is_same_v<T, float>)
    return Vec<T>(_mm512_insertf32x8(_mm512_castps256_ps512(_mm256_sqrt_ps(_mm512_castps512_ps256(a.r))),
                                     _mm256_sqrt_ps(_mm512_extractf32x8_ps(a.r, 1)), 1));
  else
    return Vec<T>(_mm512_insertf64x4(_mm512_castpd256_pd512(_mm256_sqrt_pd(_mm512_castpd512_pd256(a.r))),
                                     _mm256_sqrt_pd(_mm512_extractf64x4_pd(a.r, 1)), 1));
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<T, float>)
    return Vec<T>(_mm256_sqrt_ps(a.r));
  else
    return Vec<T>(_mm256_sqrt_pd(a.r));
#else
  if constexpr (std::is_same_v<T, float>)
    return Vec<T>(_mm_sqrt_ps(a.r));
  else
    return Vec<T>(_mm_sqrt_pd(a.r));
#endif
}

template <class T>
TS_INLINE Vec<T> abs(Vec<T> a) {
  if constexpr (std::is_floating_point_v<T>)
    return bit_cast<T>(Vec<IntOf<T>>(typename Vec<T>::MaskReg(a.r) & ~(IntOf<T>(1) << (8 * sizeof(T) - 1))));
  else if constexpr (std::is_signed_v<T>)
    return select(a < Vec<T>(T(0)), -a, a);
  else
    return a;
}

// An integer instruction of this level.
#if defined(__AVX512F__)
#define TS_INTEGER(name, type) _mm512_##name##_##type
#define TS_BITS(x) __m512i(x)
#elif defined(__AVX2__)
#define TS_INTEGER(name, type) _mm256_##name##_##type
#define TS_BITS(x) __m256i(x)
#endif

// Lane by lane; the second operand where either is NaN (the hardware's rule). For NaN that propagates, see
// maximum and minimum in math/pointwise.h.
template <class T>
TS_INLINE Vec<T> max(Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    return Vec<T>(_mm512_max_ps(a.r, b.r));
  else if constexpr (std::is_same_v<T, double>)
    return Vec<T>(_mm512_max_pd(a.r, b.r));
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<T, float>)
    return Vec<T>(_mm256_max_ps(a.r, b.r));
  else if constexpr (std::is_same_v<T, double>)
    return Vec<T>(_mm256_max_pd(a.r, b.r));
#else
  if constexpr (std::is_same_v<T, float>)
    return Vec<T>(_mm_max_ps(a.r, b.r));
  else if constexpr (std::is_same_v<T, double>)
    return Vec<T>(_mm_max_pd(a.r, b.r));
#endif
#if defined(__AVX2__)
  else if constexpr (std::is_same_v<T, std::int32_t>)
    return typename Vec<T>::Reg(TS_INTEGER(max, epi32)(TS_BITS(a.r), TS_BITS(b.r)));
  else if constexpr (std::is_same_v<T, std::uint32_t>)
    return typename Vec<T>::Reg(TS_INTEGER(max, epu32)(TS_BITS(a.r), TS_BITS(b.r)));
#endif
#if defined(__AVX512F__)
  else if constexpr (std::is_same_v<T, std::int64_t>)
    return typename Vec<T>::Reg(_mm512_max_epi64(__m512i(a.r), __m512i(b.r)));
  else if constexpr (std::is_same_v<T, std::uint64_t>)
    return typename Vec<T>::Reg(_mm512_max_epu64(__m512i(a.r), __m512i(b.r)));
#endif
  else
    return select(a > b, a, b);
}
template <class T>
TS_INLINE Vec<T> min(Vec<T> a, Vec<T> b) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    return Vec<T>(_mm512_min_ps(a.r, b.r));
  else if constexpr (std::is_same_v<T, double>)
    return Vec<T>(_mm512_min_pd(a.r, b.r));
#elif defined(__AVX2__)
  if constexpr (std::is_same_v<T, float>)
    return Vec<T>(_mm256_min_ps(a.r, b.r));
  else if constexpr (std::is_same_v<T, double>)
    return Vec<T>(_mm256_min_pd(a.r, b.r));
#else
  if constexpr (std::is_same_v<T, float>)
    return Vec<T>(_mm_min_ps(a.r, b.r));
  else if constexpr (std::is_same_v<T, double>)
    return Vec<T>(_mm_min_pd(a.r, b.r));
#endif
#if defined(__AVX2__)
  else if constexpr (std::is_same_v<T, std::int32_t>)
    return typename Vec<T>::Reg(TS_INTEGER(min, epi32)(TS_BITS(a.r), TS_BITS(b.r)));
  else if constexpr (std::is_same_v<T, std::uint32_t>)
    return typename Vec<T>::Reg(TS_INTEGER(min, epu32)(TS_BITS(a.r), TS_BITS(b.r)));
#endif
#if defined(__AVX512F__)
  else if constexpr (std::is_same_v<T, std::int64_t>)
    return typename Vec<T>::Reg(_mm512_min_epi64(__m512i(a.r), __m512i(b.r)));
  else if constexpr (std::is_same_v<T, std::uint64_t>)
    return typename Vec<T>::Reg(_mm512_min_epu64(__m512i(a.r), __m512i(b.r)));
#endif
  else
    return select(a < b, a, b);
}

// True in lanes 0 .. n-1.
template <class T>
TS_INLINE Mask<T> first_lanes(std::int64_t n) {
  typename Vec<T>::MaskReg lane;
  for (int i = 0; i < Vec<T>::width; ++i) lane[i] = static_cast<IntOf<T>>(i);
  return Mask<T>(lane < (static_cast<IntOf<T>>(n) - typename Vec<T>::MaskReg{}));
}

template <class T>
TS_INLINE Vec<T> Vec<T>::load_partial(const T* p, std::int64_t n) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    return Reg(
        _mm512_maskz_loadu_epi32(static_cast<__mmask16>(_bzhi_u32(0xffffu, static_cast<unsigned>(n))), p));
  if constexpr (sizeof(T) == 8)
    return Reg(
        _mm512_maskz_loadu_epi64(static_cast<__mmask8>(_bzhi_u32(0xffu, static_cast<unsigned>(n))), p));
  if constexpr (sizeof(T) == 1)
    return Reg(_mm512_maskz_loadu_epi8(_bzhi_u64(~0ull, static_cast<unsigned>(n)), p));
  if constexpr (sizeof(T) == 2)
    return Reg(_mm512_maskz_loadu_epi16(_bzhi_u32(~0u, static_cast<unsigned>(n)), p));
#else
#if defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return Reg(_mm256_maskload_epi32(reinterpret_cast<const int*>(p), __m256i(first_lanes<T>(n).r)));
  if constexpr (sizeof(T) == 8)
    return Reg(_mm256_maskload_epi64(reinterpret_cast<const long long*>(p), __m256i(first_lanes<T>(n).r)));
#endif
  Vec v(Reg{});
  std::memcpy(&v.r, p, static_cast<std::size_t>(n) * sizeof(T));
  return v;
#endif
}

template <class T>
TS_INLINE void Vec<T>::store_partial(T* p, std::int64_t n) const {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4)
    _mm512_mask_storeu_epi32(p, static_cast<__mmask16>(_bzhi_u32(0xffffu, static_cast<unsigned>(n))),
                             __m512i(r));
  if constexpr (sizeof(T) == 8)
    _mm512_mask_storeu_epi64(p, static_cast<__mmask8>(_bzhi_u32(0xffu, static_cast<unsigned>(n))),
                             __m512i(r));
  if constexpr (sizeof(T) == 1)
    _mm512_mask_storeu_epi8(p, _bzhi_u64(~0ull, static_cast<unsigned>(n)), __m512i(r));
  if constexpr (sizeof(T) == 2)
    _mm512_mask_storeu_epi16(p, _bzhi_u32(~0u, static_cast<unsigned>(n)), __m512i(r));
#else
#if defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return _mm256_maskstore_epi32(reinterpret_cast<int*>(p), __m256i(first_lanes<T>(n).r), __m256i(r));
  if constexpr (sizeof(T) == 8)
    return _mm256_maskstore_epi64(reinterpret_cast<long long*>(p), __m256i(first_lanes<T>(n).r), __m256i(r));
#endif
  std::memcpy(p, &r, static_cast<std::size_t>(n) * sizeof(T));
#endif
}

// --- rounding to an integral value, half to even --------------------------------------------------
#if defined(__AVX512F__)
#define TS_ROUNDING(name, mode)                       \
  template <class T>                                  \
  TS_INLINE Vec<T> name(Vec<T> a) {                   \
    if constexpr (std::is_same_v<T, float>)           \
      return Vec<T>(_mm512_roundscale_ps(a.r, mode)); \
    else                                              \
      return Vec<T>(_mm512_roundscale_pd(a.r, mode)); \
  }
#elif defined(__AVX2__)
#define TS_ROUNDING(name, mode)                  \
  template <class T>                             \
  TS_INLINE Vec<T> name(Vec<T> a) {              \
    if constexpr (std::is_same_v<T, float>)      \
      return Vec<T>(_mm256_round_ps(a.r, mode)); \
    else                                         \
      return Vec<T>(_mm256_round_pd(a.r, mode)); \
  }
#endif
#if defined(__AVX2__)
TS_ROUNDING(round, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
TS_ROUNDING(floor, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)
TS_ROUNDING(ceil, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC)
TS_ROUNDING(trunc, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC)
#undef TS_ROUNDING
#else
// SSE2 has no rounding instruction: adding and taking away 2^mantissa rounds; larger numbers are integers
// already.
template <class T>
TS_INLINE Vec<T> round(Vec<T> a) {
  const Vec<T> big(sizeof(T) == 4 ? T(8388608) : T(4503599627370496)), size = abs(a);
  const Vec<T> rounded = (size + big) - big;
  const Vec<T> sign(T(-0.0));
  return select(size < big, rounded | (a & sign), a);
}
template <class T>
TS_INLINE Vec<T> floor(Vec<T> a) {
  const Vec<T> r = round(a), one(T(1));
  return select(r > a, r - one, r) | (a & Vec<T>(T(-0.0)));
}
template <class T>
TS_INLINE Vec<T> ceil(Vec<T> a) {
  const Vec<T> r = round(a), one(T(1));
  return select(r < a, r + one, r) | (a & Vec<T>(T(-0.0)));
}
template <class T>
TS_INLINE Vec<T> trunc(Vec<T> a) {
  return floor(abs(a)) | (a & Vec<T>(T(-0.0)));
}
#endif

// --- exponents ------------------------------------------------------------------------------------
// 2^n for an integral n in the exponent's range; anything but a trap elsewhere.
template <class T>
TS_INLINE Vec<T> pow2(Vec<T> n) {
  constexpr bool f32 = sizeof(T) == 4;
  const Vec<T> magic(f32 ? T(12582912) : T(6755399441055744));  // 1.5 * 2^mantissa: n lands in the low bits
  const Vec<IntOf<T>> bits = bit_cast<IntOf<T>>(n + magic) << (f32 ? 23 : 52);
  return bit_cast<T>(bits + bit_cast<IntOf<T>>(Vec<T>(T(1))));
}
// x * 2^n, rounded once, for integral n with |n| < 1.9 * the largest exponent; also where the result
// overflows or is subnormal.
template <class T>
TS_INLINE Vec<T> scale(Vec<T> x, Vec<T> n) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float>)
    return Vec<T>(_mm512_scalef_ps(x.r, n.r));
  else
    return Vec<T>(_mm512_scalef_pd(x.r, n.r));
#else
  const Vec<T> half = round(n * Vec<T>(T(0.5)));
  return x * pow2(half) * pow2(n - half);
#endif
}

// --- masks in general registers and in memory -----------------------------------------------------
template <class T>
TS_INLINE bool any(Mask<T> m) {
#if defined(__AVX512F__)
  return _mm512_test_epi64_mask(__m512i(m.r), __m512i(m.r)) != 0;
#elif defined(__AVX2__)
  return !_mm256_testz_si256(__m256i(m.r), __m256i(m.r));
#else
  return _mm_movemask_epi8(__m128i(m.r)) != 0;
#endif
}
template <class T>
TS_INLINE bool all(Mask<T> m) {
  return !any(~m);
}

template <class T>
struct MaskBytes {  // one byte, 0 or 1, a lane
  typedef std::uint8_t type __attribute__((vector_size(Vec<T>::width)));
  typedef std::int8_t signed_type __attribute__((vector_size(Vec<T>::width)));
};
template <class T>
TS_INLINE typename MaskBytes<T>::type bytes_of(Mask<T> m) {
  using Bytes = typename MaskBytes<T>::type;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return Bytes(_mm_maskz_set1_epi8(_mm512_movepi32_mask(__m512i(m.r)), 1));
  if constexpr (sizeof(T) == 8)
    return Bytes(_mm_cvtsi128_si64(_mm_maskz_set1_epi8(_mm512_movepi64_mask(__m512i(m.r)), 1)));
#elif defined(__AVX2__)
  if constexpr (sizeof(T) == 4)
    return Bytes(_pdep_u64(static_cast<unsigned>(_mm256_movemask_ps(__m256(m.r))), 0x0101010101010101));
  if constexpr (sizeof(T) == 8)
    return Bytes(_pdep_u32(static_cast<unsigned>(_mm256_movemask_pd(__m256d(m.r))), 0x01010101));
#endif
  return Bytes(__builtin_convertvector(m.r, typename MaskBytes<T>::signed_type)) & 1;
}
template <class T>
TS_INLINE void store_mask(Mask<T> m, bool* p) {
  const auto bytes = bytes_of(m);
  std::memcpy(p, &bytes, sizeof(bytes));
}
template <class T>
TS_INLINE void store_mask_partial(Mask<T> m, bool* p, std::int64_t n) {
  const auto bytes = bytes_of(m);
  std::memcpy(p, &bytes, static_cast<std::size_t>(n));
}
// The lanes whose byte is not 0. Spelled out: GCC would take the bytes one by one.
template <class T>
TS_INLINE Mask<T> mask_of(typename MaskBytes<T>::type bytes) {
  using Reg = typename Vec<T>::MaskReg;
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 2)
    return Mask<T>(Reg(_mm512_movm_epi16(_mm256_test_epi8_mask(__m256i(bytes), __m256i(bytes)))));
  if constexpr (sizeof(T) == 4)
    return Mask<T>(Reg(_mm512_movm_epi32(_mm_test_epi8_mask(__m128i(bytes), __m128i(bytes)))));
  if constexpr (sizeof(T) == 8) {
    const __m128i low = _mm_cvtsi64_si128(__builtin_bit_cast(long long, bytes));
    return Mask<T>(Reg(_mm512_movm_epi64(static_cast<__mmask8>(_mm_test_epi8_mask(low, low)))));
  }
#elif defined(__AVX2__)
  // Bytes are 0 or 1, so that either extension does.
  if constexpr (sizeof(T) == 2) return Mask<T>(Reg(_mm256_cvtepi8_epi16(__m128i(bytes))) != 0);
  if constexpr (sizeof(T) == 4) return Mask<T>(Reg(_mm256_cvtepi8_epi32(_mm_loadu_si64(&bytes))) != 0);
  if constexpr (sizeof(T) == 8) return Mask<T>(Reg(_mm256_cvtepi8_epi64(_mm_loadu_si32(&bytes))) != 0);
#else
  static_assert(sizeof(Reg) == kVectorBytes);
#endif
  return Mask<T>(
      __builtin_convertvector(typename MaskBytes<T>::signed_type(bytes), typename Vec<T>::MaskReg) != 0);
}
template <class T>
TS_INLINE Mask<T> load_mask(const bool* p) {
  typename MaskBytes<T>::type bytes;
  std::memcpy(&bytes, p, sizeof(bytes));
  return mask_of<T>(bytes);
}
template <class T>
TS_INLINE Mask<T> load_mask_partial(const bool* p, std::int64_t n) {
  typename MaskBytes<T>::type bytes{};
  std::memcpy(&bytes, p, static_cast<std::size_t>(n));
  return mask_of<T>(bytes);
}

// --- float to double and back: a register of floats is two of doubles -----------------------------
struct DoublePair {
  Vec<double> low, high;
};
TS_INLINE DoublePair widen(Vec<float> a) {
#if defined(__AVX512F__)
  return {_mm512_cvtps_pd(_mm512_castps512_ps256(a.r)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(a.r, 1))};
#elif defined(__AVX2__)
  return {_mm256_cvtps_pd(_mm256_castps256_ps128(a.r)), _mm256_cvtps_pd(_mm256_extractf128_ps(a.r, 1))};
#else
  return {_mm_cvtps_pd(a.r), _mm_cvtps_pd(_mm_movehl_ps(a.r, a.r))};
#endif
}
TS_INLINE Vec<float> narrow(DoublePair a) {
#if defined(__AVX512F__)
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(a.low.r)), _mm512_cvtpd_ps(a.high.r), 1);
#elif defined(__AVX2__)
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(a.low.r)), _mm256_cvtpd_ps(a.high.r), 1);
#else
  return _mm_movelh_ps(_mm_cvtpd_ps(a.low.r), _mm_cvtpd_ps(a.high.r));
#endif
}

// a * b + c rounded once on every level: where a formula stands or falls by it. (Without FMA: libm, lane by
// lane.)
template <class T>
TS_INLINE Vec<T> fma_exact(Vec<T> a, Vec<T> b, Vec<T> c) {
#if defined(__FMA__)
  return fma(a, b, c);
#else
  Vec<T> y;
  for (int i = 0; i < Vec<T>::width; ++i) {
    if constexpr (std::is_same_v<T, float>)
      y.r[i] = __builtin_fmaf(a[i], b[i], c[i]);
    else
      y.r[i] = __builtin_fma(a[i], b[i], c[i]);
  }
  return y;
#endif
}

}  // namespace ts::cpu::TS_ISA
