// float16 and bfloat16 as element types: told apart by C++, converted by core/half.h, which rounds as the
// CPU.
#pragma once

#include "core/half.h"
#include "cuda/device.h"

namespace ts::cuda {

struct Float16 {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

TS_INLINE float to_float(float x) { return x; }
TS_INLINE float to_float(Float16 x) { return float_from_float16(x.bits); }
TS_INLINE float to_float(BFloat16 x) { return float_from_bfloat16(x.bits); }
template <class T>
TS_INLINE T from_float(float x) {
  if constexpr (std::is_same_v<T, Float16>)
    return {float16_from_float(x)};
  else if constexpr (std::is_same_v<T, BFloat16>)
    return {bfloat16_from_float(x)};
  else
    return static_cast<T>(x);
}

// A number that is stored as X and computed with as T: the same type, or a half and float32.
template <class T, class X>
TS_INLINE T from_stored(X x) {
  if constexpr (std::is_same_v<T, X>)
    return x;
  else
    return to_float(x);
}
template <class X, class T>
TS_INLINE X to_stored(T x) {
  if constexpr (std::is_same_v<T, X>)
    return x;
  else
    return from_float<X>(x);
}

}  // namespace ts::cuda
