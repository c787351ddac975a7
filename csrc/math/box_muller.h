// Box-Muller (1958): two uniform words to two normal numbers,
//   r = sqrt(-2 ln u), z0 = r cos 2πv, z1 = r sin 2πv,  u in (0, 1], v in [0, 1).
//
// The angle is reduced exactly, on the bits of v; the logarithm and the half-turn polynomials have an
// error below 2 ULP each on their range, which is all that reaches them (no edge cases). |z| < 6.77 in
// float32 (u = 2^-33 ... 1) and < 8.66 in float64 (2^-54).
#pragma once

#include <cstdint>

#include "math/philox.h"

namespace ts::TS_MATH {

// Minimax coefficients, highest power first: sin(π/2 t) / t and cos(π/2 t) in t², |t| <= 1/2, and
// (log((1+s)/(1-s)) - 2s) / s³ in s², |s| <= 0.1716.
template <class T>
struct BoxMullerTable;
template <>
struct BoxMullerTable<float> {
  static constexpr Table sine = {-0.00460214913f, 0.0796802193f, -0.64596349f, 1.57079637f};
  static constexpr Table cosine = {0.000903628068f, -0.0208600704f, 0.253669202f, -1.23370051f, 1.0f};
  static constexpr Table log = {0.233305737f, 0.285508156f, 0.400001228f, 0.666666687f};
};
template <>
struct BoxMullerTable<double> {
  static constexpr Table sine = {-6.627624938992472e-10, 5.691927850489633e-08, -3.598842717144858e-06,
                                 0.0001604411847266723,  -0.004681754135314827, 0.07969262624616692,
                                 -0.6459640975062463,    1.5707963267948966};
  static constexpr Table cosine = {6.506654235424698e-11,   -6.386325463386356e-09, 4.7108740775364384e-07,
                                   -2.5202042362733303e-05, 0.0009192602748385331,  -0.020863480763352916,
                                   0.25366950790104803,     -1.2337005501361697,    1.0};
  static constexpr Table log = {0.1308675766695207,  0.13268760562036724, 0.15386240172447838,
                                0.18181795631498243, 0.22222222391794727, 0.28571428570803253,
                                0.4000000000000088,  0.6666666666666666};
};

template <class T>
struct BoxMuller {
  using I = IntOf<T>;
  using Word = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

  template <int kCount>
  TS_INLINE static Vec<T> horner(Table<T, kCount> c, Vec<T> x) {
    Vec<T> y(c.value[0]);
    for (int i = 1; i < kCount; ++i) y = fma(y, x, Vec<T>(c.value[i]));
    return y;
  }

  // -2 ln u for normal u in (0, 1].
  TS_INLINE static Vec<T> minus_two_log(Vec<T> u) {
    constexpr int kMantissa = sizeof(T) == 4 ? 23 : 52;
    constexpr I kSqrtHalf = sizeof(T) == 4 ? I(0x3f3504f3) : I(0x3fe6a09e667f3bcd);
    const Vec<I> bits = bit_cast<I>(u);
    // u = 2^k m with m in [sqrt 1/2, sqrt 2)
    const Vec<I> k = (bits - Vec<I>(kSqrtHalf)) >> kMantissa;
    const Vec<T> m = bit_cast<T>(bits - (k << kMantissa));
    const Vec<T> f = m - Vec<T>(T(1));
    const Vec<T> s = f / (m + Vec<T>(T(1)));
    const Vec<T> z = s * s;
    // log m = 2s + s³R = f - s (f - s² R), because f = 2s + s f
    const Vec<T> log_m = f - s * (f - z * horner(BoxMullerTable<T>::log, z));
    Vec<T> exponent;
    if constexpr (sizeof(T) == 4) {
      exponent = convert<T>(k);
    } else {  // |k| < 2^51: exact by 1.5 · 2^52
      exponent = bit_cast<T>(k + Vec<I>(I(0x4338000000000000))) - Vec<T>(T(6755399441055744.0));
    }
    // ln 2 in two parts, the first with trailing zeros, so that k ln 2 is exact where it matters
    constexpr T kHigh = sizeof(T) == 4 ? T(0.693359375) : T(0.69314718036912381649);
    constexpr T kLow = sizeof(T) == 4 ? T(-2.12194440e-4) : T(1.90821492927058770002e-10);
    const Vec<T> log_u = fma(exponent, Vec<T>(kHigh), fma(exponent, Vec<T>(kLow), log_m));
    return log_u * Vec<T>(T(-2));
  }

  // word: uniform bits, 32 of them for float, 64 for double; to a number in (0, 1].
  TS_INLINE static Vec<T> open(Vec<Word> word) {
    if constexpr (sizeof(T) == 4) {
      // The word rounded once to float, on every level alike, + 1/2, over 2^32.
      const Vec<float> high = convert<float>(bit_cast<std::int32_t>(word >> 16));
      const Vec<float> low = convert<float>(bit_cast<std::int32_t>(word & Vec<std::uint32_t>(0xffffu)));
      const Vec<float> w = fma(high, Vec<float>(65536.0f), low);
      return fma(w, Vec<float>(0x1p-32f), Vec<float>(0x1p-33f));
    } else {
      return fma(to_double_53(word), Vec<double>(0x1p-53), Vec<double>(0x1p-54));
    }
  }
  TS_INLINE static Vec<T> radius(Vec<Word> word) { return sqrt(minus_two_log(open(word))); }

  TS_INLINE static void pair(Vec<Word> a, Vec<Word> b, Vec<T>& z0, Vec<T>& z1) {
    constexpr int kBits = 8 * sizeof(T);
    const Vec<T> r = radius(a);
    // 2πv = π/2 (quarter + t), quarter the nearest integer, |t| <= 1/2
    const Vec<Word> quarter = (b + Vec<Word>(Word{1} << (kBits - 3))) >> (kBits - 2);
    const Vec<I> rest = bit_cast<I>(b - (quarter << (kBits - 2)));
    Vec<T> t;
    if constexpr (sizeof(T) == 4) {
      t = convert<T>(rest) * Vec<T>(T(0x1p-30));
    } else {  // 53 of the 64 bits; |rest >> 11| <= 2^50: exact by 1.5 · 2^52
      t = (bit_cast<T>((rest >> 11) + Vec<I>(I(0x4338000000000000))) - Vec<T>(T(6755399441055744.0))) *
          Vec<T>(T(0x1p-51));
    }
    const Vec<T> z = t * t;
    const Vec<T> sine = horner(BoxMullerTable<T>::sine, z) * t, cosine = horner(BoxMullerTable<T>::cosine, z);
    const Mask<I> odd = (bit_cast<I>(quarter) & Vec<I>(I(1))) != Vec<I>(I(0));
    const Vec<I> s = bit_cast<I>(sine), c = bit_cast<I>(cosine);
    const Vec<Word> sign(Word{1} << (kBits - 1));
    const Vec<Word> sign0 = ((quarter + Vec<Word>(Word{1})) << (kBits - 2)) & sign;
    const Vec<Word> sign1 = (quarter << (kBits - 2)) & sign;
    z0 = bit_cast<T>(select(odd, s, c) ^ bit_cast<I>(sign0)) * r;
    z1 = bit_cast<T>(select(odd, c, s) ^ bit_cast<I>(sign1)) * r;
  }
};

}  // namespace ts::TS_MATH
