#include "ops/operand.h"

#include <limits>

#include "core/error.h"

namespace ts {

namespace {
DType g_default_float = DType::float32;

DType scalar_dtype(Kind k) {
  return k == Kind::boolean ? DType::boolean : k == Kind::floating ? default_float() : DType::int64;
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
  const bool fits = std::is_signed_v<T> ? s.integer >= static_cast<std::int64_t>(low) &&
                                              s.integer <= static_cast<std::int64_t>(high)
                                        : s.integer >= 0 && static_cast<std::uint64_t>(s.integer) <= high;
  if (!fits)
    overflow_error(operation, ": the integer ", s.integer, " does not fit ", name(dtype), ", which holds ",
                   +low, " to ", +high);
  *static_cast<T*>(element) = static_cast<T>(s.integer);
}
}  // namespace

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
  return rank(scalars) > rank(kind(arrays)) ? scalar_dtype(scalars) : arrays;
}

void write_scalar(const char* operation, const Scalar& s, DType dtype, void* element) {
  switch (dtype) {
    case DType::boolean:
      *static_cast<bool*>(element) = s.real != 0;
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
    default:
      type_error(operation, ": dtype ", name(dtype), " is not supported by the kernels yet");
  }
}

}  // namespace ts
