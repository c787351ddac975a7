// float16 and bfloat16 in software: exact to float, rounded once (half to even) from float and double.
//
// Safe to include from every SIMD level: forced-inline functions only.
#pragma once

#include <string.h>
#include <cstdint>

// One source for the host and for device code.
#if defined(__CUDACC__)
#define TS_HALF __host__ __device__ __forceinline__
#else
#define TS_HALF [[gnu::always_inline]] inline
#endif

namespace ts {

namespace detail {
TS_HALF std::uint32_t bits_of(float x) {
  std::uint32_t u;
  memcpy(&u, &x, 4);
  return u;
}
TS_HALF float float_of(std::uint32_t u) {
  float x;
  memcpy(&x, &u, 4);
  return x;
}

// x as a float whose last bit says that digits were lost, so that rounding it again rounds x once.
TS_HALF float to_odd(double x) {
  const float near = static_cast<float>(x);
  const double back = static_cast<double>(near), size = x < 0 ? -x : x, back_size = back < 0 ? -back : back;
  std::uint32_t u = bits_of(near);
  if (back != x && x == x) {
    if (back_size > size) --u;  // towards zero; from inf to the largest number
    u |= 1;
  }
  return float_of(u);
}
}  // namespace detail

TS_HALF float float_from_float16(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000) << 16;
  // The exponents differ by 112: multiplying is right for subnormal numbers, too.
  const float size = detail::float_of(static_cast<std::uint32_t>(h & 0x7fff) << 13) * 0x1p112f;
  const std::uint32_t special = (h & 0x7c00) == 0x7c00 ? 0x7f800000u : 0u;
  return detail::float_of(detail::bits_of(size) | special | sign);
}

TS_HALF std::uint16_t float16_from_float(float x) {
  const std::uint32_t all = detail::bits_of(x), sign = all >> 16 & 0x8000, u = all & 0x7fffffff;
  std::uint32_t h;
  if (u >= 0x47800000) {  // 65536, inf, NaN
    h = u > 0x7f800000 ? 0x7e00u : 0x7c00u;
  } else if (u < 0x38800000) {  // below 2^-14: the last place of 0.5 is that of a subnormal float16
    h = detail::bits_of(detail::float_of(u) + 0.5f) - 0x3f000000;
  } else {
    h = (u - 0x38000000 + 0xfff + (u >> 13 & 1)) >> 13;
  }
  return static_cast<std::uint16_t>(h | sign);
}

TS_HALF float float_from_bfloat16(std::uint16_t b) {
  return detail::float_of(static_cast<std::uint32_t>(b) << 16);
}

TS_HALF std::uint16_t bfloat16_from_float(float x) {
  const std::uint32_t u = detail::bits_of(x);
  const std::uint32_t rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16;
  return static_cast<std::uint16_t>((u & 0x7fffffff) > 0x7f800000 ? u >> 16 | 0x40 : rounded);
}

TS_HALF std::uint16_t float16_from_double(double x) { return float16_from_float(detail::to_odd(x)); }
TS_HALF std::uint16_t bfloat16_from_double(double x) { return bfloat16_from_float(detail::to_odd(x)); }

}  // namespace ts
