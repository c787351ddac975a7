// The element types: their names, sizes and kinds, from one table.
//
// Safe to include from every SIMD level: constants and forced-inline functions only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ts {

// DTYPE(name, C++ type, kind). The order is the order of the promotion lattice in dtype.cpp.
// Which of them a kernel takes is the domain of its line in kernels.def; cpu/types.h has the lists.
#define TS_DTYPES(DTYPE)                                 \
  DTYPE(boolean, bool, boolean)                          \
  DTYPE(uint8, std::uint8_t, unsigned_integer)           \
  DTYPE(uint16, std::uint16_t, unsigned_integer)         \
  DTYPE(uint32, std::uint32_t, unsigned_integer)         \
  DTYPE(uint64, std::uint64_t, unsigned_integer)         \
  DTYPE(int8, std::int8_t, signed_integer)               \
  DTYPE(int16, std::int16_t, signed_integer)             \
  DTYPE(int32, std::int32_t, signed_integer)             \
  DTYPE(int64, std::int64_t, signed_integer)             \
  DTYPE(float16, Bits16, floating)                       \
  DTYPE(bfloat16, Bits16, floating)                      \
  DTYPE(float32, float, floating)                        \
  DTYPE(float64, double, floating)                       \
  DTYPE(complex64, ComplexBits<float>, complex_floating) \
  DTYPE(complex128, ComplexBits<double>, complex_floating)

// What an element of these is in memory. float16 and bfloat16 are told apart by their dtype; see half.h.
struct Bits16 {
  std::uint16_t bits;
};
template <class T>
struct ComplexBits {
  T real, imag;
};

enum class DType : std::uint8_t {
#define TS_ENUMERATOR(name, type, kind) name,
  TS_DTYPES(TS_ENUMERATOR)
#undef TS_ENUMERATOR
};

enum class Kind : std::uint8_t { boolean, unsigned_integer, signed_integer, floating, complex_floating };

constexpr int kDTypes = 15;

namespace detail {
constexpr std::uint8_t kItemSize[kDTypes] = {
#define TS_SIZE(name, type, kind) sizeof(type),
    TS_DTYPES(TS_SIZE)
#undef TS_SIZE
};
constexpr Kind kKind[kDTypes] = {
#define TS_KIND(name, type, kind) Kind::kind,
    TS_DTYPES(TS_KIND)
#undef TS_KIND
};
}  // namespace detail

[[gnu::always_inline]] constexpr std::int64_t itemsize(DType d) {
  return detail::kItemSize[static_cast<int>(d)];
}
[[gnu::always_inline]] constexpr Kind kind(DType d) { return detail::kKind[static_cast<int>(d)]; }
[[gnu::always_inline]] constexpr bool is_floating(DType d) { return kind(d) == Kind::floating; }
[[gnu::always_inline]] constexpr bool is_complex(DType d) { return kind(d) == Kind::complex_floating; }
[[gnu::always_inline]] constexpr bool is_integer(DType d) {
  return kind(d) == Kind::signed_integer || kind(d) == Kind::unsigned_integer;
}
// Stored in two bytes, computed in float32 and rounded once.
[[gnu::always_inline]] constexpr bool is_half(DType d) { return d == DType::float16 || d == DType::bfloat16; }
[[gnu::always_inline]] constexpr bool has_gradient(DType d) { return is_floating(d) || is_complex(d); }
// complex64 -> float32; a real dtype is its own.
[[gnu::always_inline]] constexpr DType real_of(DType d) {
  return d == DType::complex128 ? DType::float64 : d == DType::complex64 ? DType::float32 : d;
}
// float64 -> complex128; other floats fit complex64.
[[gnu::always_inline]] constexpr DType complex_of(DType d) {
  return is_complex(d) ? d : d == DType::float64 ? DType::complex128 : DType::complex64;
}

// "float32"; the name that Python shows.
const char* name(DType d);

// The type that holds every value of both, by NumPy's rules (int64 + float32 -> float64, uint64 + int64 ->
// float64).
DType promote(DType a, DType b);

}  // namespace ts
