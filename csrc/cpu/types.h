// From a dtype to a C++ type: the lists of types that the CPU kernels are compiled for.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace ts::cpu::TS_ISA {

// Element types in memory. A new type costs a line here (and a Vec in simd.h if the compiler has no vector of
// it).
#define TS_FLOATING_TYPES(CASE) CASE(float32, float) CASE(float64, double)
#define TS_COMPLEX_TYPES(CASE) CASE(complex64, ComplexBits<float>) CASE(complex128, ComplexBits<double>)
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
#define TS_INEXACT_TYPES(CASE) TS_FLOATING_TYPES(CASE) TS_COMPLEX_TYPES(CASE)
#define TS_NUMBER_TYPES(CASE) TS_NUMERIC_TYPES(CASE) TS_COMPLEX_TYPES(CASE)
#define TS_ALL_TYPES(CASE) TS_ANY_TYPES(CASE) TS_COMPLEX_TYPES(CASE)
// What the long kernels (reductions, products) are compiled for; csrc/ops brings other types to one of these.
#define TS_WIDE_TYPES(CASE) TS_FLOATING_TYPES(CASE) TS_WIDE_INTEGER_TYPES(CASE)
#define TS_WIDE_ANY_TYPES(CASE) TS_WIDE_TYPES(CASE) CASE(boolean, bool)

template <class T>
struct Type {
  using type = T;
};

template <class T>
constexpr bool is_complex_type = false;
template <class T>
constexpr bool is_complex_type<ComplexBits<T>> = true;

// with_any(dtype, [&]<class T>(Type<T>) { ... }) calls the lambda with the dtype's C++ type. A dtype outside
// the list does not get here: csrc/ops checks the domain.
#define TS_CASE(name, T) \
  case DType::name:      \
    return f(Type<T>{});
#define TS_DISPATCH(function, LIST)      \
  template <class F>                     \
  inline void function(DType d, F&& f) { \
    switch (d) {                         \
      LIST(TS_CASE)                      \
      default:                           \
        __builtin_unreachable();         \
    }                                    \
  }
TS_DISPATCH(with_floating, TS_FLOATING_TYPES)
TS_DISPATCH(with_numeric, TS_NUMERIC_TYPES)
TS_DISPATCH(with_integral, TS_INTEGRAL_TYPES)
TS_DISPATCH(with_any, TS_ANY_TYPES)
TS_DISPATCH(with_inexact, TS_INEXACT_TYPES)
TS_DISPATCH(with_number, TS_NUMBER_TYPES)
TS_DISPATCH(with_all, TS_ALL_TYPES)
TS_DISPATCH(with_wide, TS_WIDE_TYPES)
TS_DISPATCH(with_wide_any, TS_WIDE_ANY_TYPES)
#undef TS_DISPATCH
#undef TS_CASE

}  // namespace ts::cpu::TS_ISA
