// The register type that the formulas run on, and tables of constants that every compiler can read.
//
// On the CPU it is Vec<T> of cpu/simd.h. Who includes math/ with another one defines TS_MATH, the namespace
// it lives in, and includes that header first.
#pragma once

#ifndef TS_MATH
#define TS_MATH cpu::TS_ISA
#include "cpu/lanes.h"
#include "cpu/lookup.h"
#include "cpu/simd.h"
#include "cpu/twin.h"
#endif

namespace ts::TS_MATH {

// Whether a register holds complex numbers: where there are any (complex.h), of those.
template <class V>
constexpr bool is_complex_register = false;

// A constant array that is passed by value: device code cannot refer to the host's arrays.
template <class T, int N>
struct Table {
  T value[N];
};
template <class T, class... Rest>
Table(T, Rest...) -> Table<T, 1 + static_cast<int>(sizeof...(Rest))>;

}  // namespace ts::TS_MATH
