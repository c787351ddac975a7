// The lanes of a register that a mask chooses, side by side from its beginning; those behind them are 0.
#pragma once

#include "cpu/simd.h"

#if defined(__AVX512F__)
namespace ts::cpu::TS_ISA {

template <class T>
TS_INLINE Vec<T> compress(Vec<T> v, unsigned lanes) {
  using Reg = typename Vec<T>::Reg;
  if constexpr (sizeof(T) == 4)
    return Reg(_mm512_maskz_compress_epi32(static_cast<__mmask16>(lanes), __m512i(v.r)));
  else
    return Reg(_mm512_maskz_compress_epi64(static_cast<__mmask8>(lanes), __m512i(v.r)));
}

}  // namespace ts::cpu::TS_ISA
#endif
