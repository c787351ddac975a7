// The lanes of a register that a mask chooses, side by side from its beginning. Behind them come zeros
// (AVX-512) or the other lanes, in order (AVX2).
#pragma once

#include <cstdint>

#include "cpu/simd.h"

#if defined(__AVX2__)
namespace ts::cpu::TS_ISA {

#if defined(__AVX512F__)
template <class T>
TS_INLINE Vec<T> compress(Vec<T> v, unsigned lanes) {
  using Reg = typename Vec<T>::Reg;
  if constexpr (sizeof(T) == 4)
    return Reg(_mm512_maskz_compress_epi32(static_cast<__mmask16>(lanes), __m512i(v.r)));
  else
    return Reg(_mm512_maskz_compress_epi64(static_cast<__mmask8>(lanes), __m512i(v.r)));
}
#else
// of[mask]: the chosen lanes of W, then the others, each as its Parts parts.
template <int W, int Parts>
struct LaneOrders {
  std::uint8_t of[1 << W][W * Parts];
};
template <int W, int Parts>
constexpr LaneOrders<W, Parts> list_lane_orders() {
  LaneOrders<W, Parts> orders{};
  for (int mask = 0; mask < 1 << W; ++mask) {
    int at = 0;
    for (int chosen = 1; chosen >= 0; --chosen)
      for (int lane = 0; lane < W; ++lane)
        if ((mask >> lane & 1) == chosen)
          for (int part = 0; part < Parts; ++part)
            orders.of[mask][at++] = static_cast<std::uint8_t>(lane * Parts + part);
  }
  return orders;
}
constexpr LaneOrders<8, 1> kLaneOrders = list_lane_orders<8, 1>();
constexpr LaneOrders<4, 2> kPairOrders = list_lane_orders<4, 2>();

template <class T>
TS_INLINE Vec<T> compress(Vec<T> v, unsigned lanes) {
  const std::uint8_t* order;
  if constexpr (sizeof(T) == 4)
    order = kLaneOrders.of[lanes];
  else
    order = kPairOrders.of[lanes];
  const __m256i places = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(order)));
  return typename Vec<T>::Reg(_mm256_permutevar8x32_epi32(__m256i(v.r), places));
}
#endif

}  // namespace ts::cpu::TS_ISA
#endif
