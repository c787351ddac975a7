// From a dtype to a C++ type: the one list of types that the CUDA kernels are compiled for.
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "cuda/half.h"

namespace ts::cuda {

#define TS_FLOATING_TYPES(CASE) CASE(float32, float) CASE(float64, double)
#define TS_WIDE_INTEGER_TYPES(CASE) \
  CASE(int32, std::int32_t) CASE(int64, std::int64_t) CASE(uint8, std::uint8_t)
#define TS_INTEGER_TYPES(CASE) \
  TS_WIDE_INTEGER_TYPES(CASE)  \
  CASE(int8, std::int8_t)      \
  CASE(int16, std::int16_t)    \
  CASE(uint16, std::uint16_t) CASE(uint32, std::uint32_t) CASE(uint64, std::uint64_t)
#define TS_NUMERIC_TYPES(CASE) TS_FLOATING_TYPES(CASE) TS_INTEGER_TYPES(CASE)
#define TS_INTEGRAL_TYPES(CASE) TS_INTEGER_TYPES(CASE) CASE(boolean, bool)
#define TS_ANY_TYPES(CASE) TS_NUMERIC_TYPES(CASE) CASE(boolean, bool)
#define TS_WIDE_ANY_TYPES(CASE) TS_FLOATING_TYPES(CASE) TS_WIDE_INTEGER_TYPES(CASE) CASE(boolean, bool)

template <class T>
struct Type {
  using type = T;
};

// with_any(dtype, [&]<class T>(Type<T>) { ... }) calls the lambda with the dtype's C++ type;
// NotImplementedError for a dtype outside the list.
[[noreturn]] void unsupported_dtype(DType dtype);
#define TS_CASE(name, T) \
  case DType::name:      \
    return f(Type<T>{});
#define TS_DISPATCH(function, LIST)      \
  template <class F>                     \
  inline void function(DType d, F&& f) { \
    switch (d) {                         \
      LIST(TS_CASE)                      \
      default:                           \
        unsupported_dtype(d);            \
    }                                    \
  }
TS_DISPATCH(with_floating, TS_FLOATING_TYPES)
TS_DISPATCH(with_numeric, TS_NUMERIC_TYPES)
TS_DISPATCH(with_any, TS_ANY_TYPES)
TS_DISPATCH(with_integral, TS_INTEGRAL_TYPES)
TS_DISPATCH(with_wide_any, TS_WIDE_ANY_TYPES)
// The domains with complex numbers, without them: with_complex adds them where there is a formula.
TS_DISPATCH(with_inexact, TS_FLOATING_TYPES)
TS_DISPATCH(with_number, TS_NUMERIC_TYPES)
TS_DISPATCH(with_all, TS_ANY_TYPES)
#undef TS_DISPATCH
#undef TS_CASE

// False for a real dtype.
template <class F>
bool with_complex(DType d, F&& f) {
  if (d == DType::complex64)
    f(Type<ComplexBits<float>>{});
  else if (d == DType::complex128)
    f(Type<ComplexBits<double>>{});
  else
    return false;
  return true;
}

// float16 or bfloat16.
template <class F>
void with_half(DType d, F&& f) {
  if (d == DType::bfloat16)
    f(Type<BFloat16>{});
  else
    f(Type<Float16>{});
}

// f(the type that is computed in, the type that is stored): a half is computed in float32.
template <class F>
void with_computed(DType d, F&& f) {
  if (is_half(d)) return with_half(d, [&]<class H>(Type<H> stored) { f(Type<float>{}, stored); });
  with_floating(d, [&]<class T>(Type<T> type) { f(type, type); });
}

struct alignas(16) Bits128 {
  std::uint64_t low, high;
};
// For kernels that move elements: by their size alone.
template <class F>
void with_size(DType d, F&& f) {
  switch (itemsize(d)) {
    case 1:
      return f(Type<std::uint8_t>{});
    case 2:
      return f(Type<std::uint16_t>{});
    case 4:
      return f(Type<std::uint32_t>{});
    case 8:
      return f(Type<std::uint64_t>{});
    case 16:
      return f(Type<Bits128>{});
    default:
      unsupported_dtype(d);
  }
}

}  // namespace ts::cuda
