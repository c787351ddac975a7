#include "ops/operand.h"

#include <limits>

#include "core/error.h"
#include "core/half.h"
#include "ops/scalar.h"

namespace ts {

namespace {
DType g_default_float = DType::float32;

DType scalar_dtype(Kind k) {
  switch (k) {
    case Kind::boolean:
      return DType::boolean;
    case Kind::unsigned_integer:
      return DType::uint64;
    case Kind::signed_integer:
      return DType::int64;
    case Kind::floating:
      return default_float();
    default:
      return complex_of(default_float());
  }
}

int rank(Kind k) {
  return k == Kind::boolean ? 0 : k == Kind::floating ? 2 : k == Kind::complex_floating ? 3 : 1;
}

template <class T>
void write_integer(const char* operation, const Scalar& s, DType dtype, void* element) {
  constexpr auto low = std::numeric_limits<T>::min(), high = std::numeric_limits<T>::max();
  if (s.kind == Kind::floating) {  // as cast does: towards zero, saturating, NaN becomes 0
    *static_cast<T*>(element) = s.real != s.real                      ? T{0}
                                : s.real <= static_cast<double>(low)  ? low
                                : s.real >= static_cast<double>(high) ? high
                                                                      : static_cast<T>(s.real);
    return;
  }
  if (!scalar_fits(s, dtype)) {
    if (is_beyond_64_bits(s))
      overflow_error(operation, ": a Python integer of about ", s.real, " does not fit ", name(dtype),
                     ", which holds ", +low, " to ", +high);
    if (s.kind == Kind::unsigned_integer)
      overflow_error(operation, ": the integer ", static_cast<std::uint64_t>(s.integer), " does not fit ",
                     name(dtype), ", which holds ", +low, " to ", +high);
    overflow_error(operation, ": the integer ", s.integer, " does not fit ", name(dtype), ", which holds ",
                   +low, " to ", +high);
  }
  *static_cast<T*>(element) = static_cast<T>(s.integer);
}

template <class T>
bool fits(const Scalar& s) {
  constexpr auto low = std::numeric_limits<T>::min(), high = std::numeric_limits<T>::max();
  if (is_beyond_64_bits(s)) return false;
  if (s.kind == Kind::unsigned_integer) return std::is_same_v<T, std::uint64_t>;
  if constexpr (std::is_signed_v<T>)
    return s.integer >= low && s.integer <= high;
  else
    return s.integer >= 0 && static_cast<std::uint64_t>(s.integer) <= high;
}
}  // namespace

bool scalar_fits(const Scalar& s, DType dtype) {
  switch (dtype) {
#define TS_FITS(dtype_name, T, kind)                                                          \
  case DType::dtype_name:                                                                     \
    if constexpr (Kind::kind == Kind::unsigned_integer || Kind::kind == Kind::signed_integer) \
      return fits<T>(s);                                                                      \
    return true;
    TS_DTYPES(TS_FITS)
#undef TS_FITS
  }
  return true;
}

DType default_float() { return g_default_float; }
void set_default_float(DType dtype) {
  if (dtype != DType::float32 && dtype != DType::float64)
    type_error("set_default_dtype: dtype must be float32 or float64, got ", name(dtype));
  g_default_float = dtype;
}

DType result_type(const Operand* operands, int count) {
  bool any_array = false, any_scalar = false;
  DType arrays = DType::boolean;
  Kind scalars = Kind::boolean;
  for (int i = 0; i < count; ++i) {
    if (operands[i].is_array()) {
      arrays = any_array ? promote(arrays, operands[i].array().dtype()) : operands[i].array().dtype();
      any_array = true;
    } else {
      if (!any_scalar || rank(operands[i].scalar().kind) > rank(scalars)) scalars = operands[i].scalar().kind;
      any_scalar = true;
    }
  }
  if (!any_scalar) return arrays;
  if (!any_array) return scalar_dtype(scalars);
  if (rank(scalars) <= rank(kind(arrays))) return arrays;
  // A complex number keeps the precision of the floats that it meets.
  if (scalars == Kind::complex_floating && is_floating(arrays)) return complex_of(arrays);
  return scalar_dtype(scalars);
}

void write_scalar(const char* operation, const Scalar& s, DType dtype, void* element) {
  if (s.kind == Kind::complex_floating && !is_complex(dtype) && dtype != DType::boolean)
    type_error(operation, ": a complex number does not fit ", name(dtype));
  switch (dtype) {
    case DType::boolean:
      *static_cast<bool*>(element) = s.real != 0 || s.imaginary != 0;
      return;
    case DType::float16:
      static_cast<Bits16*>(element)->bits = float16_from_double(s.real);
      return;
    case DType::bfloat16:
      static_cast<Bits16*>(element)->bits = bfloat16_from_double(s.real);
      return;
    case DType::complex64:
      *static_cast<ComplexBits<float>*>(element) = {static_cast<float>(s.real),
                                                    static_cast<float>(s.imaginary)};
      return;
    case DType::complex128:
      *static_cast<ComplexBits<double>*>(element) = {s.real, s.imaginary};
      return;
    case DType::float32:
      *static_cast<float*>(element) = static_cast<float>(s.real);
      return;
    case DType::float64:
      *static_cast<double*>(element) = s.real;
      return;
#define TS_WRITE(dtype_name, T) \
  case DType::dtype_name:       \
    return write_integer<T>(operation, s, dtype, element);
      TS_WRITE(uint8, std::uint8_t)
      TS_WRITE(uint16, std::uint16_t)
      TS_WRITE(uint32, std::uint32_t)
      TS_WRITE(uint64, std::uint64_t)
      TS_WRITE(int8, std::int8_t)
      TS_WRITE(int16, std::int16_t)
      TS_WRITE(int32, std::int32_t)
      TS_WRITE(int64, std::int64_t)
#undef TS_WRITE
  }
}

}  // namespace ts
