#include "ops/check.h"

namespace ts {

void check_domain(const char* operation, const char* argument, DType d, Domain domain) {
  const bool real = !is_complex(d) && !is_half(d);
  bool fits = true;
  const char* wanted = "";
  switch (domain) {
    case Domain::numeric:
      fits = real && d != DType::boolean, wanted = "a real number is needed, not bool";
      break;
    case Domain::floating:
      fits = real && is_floating(d), wanted = "float32 or float64 is needed";
      break;
    case Domain::integral:
      fits = d == DType::boolean || is_integer(d), wanted = "bool or an integer dtype is needed";
      break;
    case Domain::any:
      fits = real, wanted = "bool, an integer dtype, float32 or float64 is needed";
      break;
    case Domain::number:
      fits = !is_half(d) && d != DType::boolean, wanted = "a number is needed, not bool";
      break;
    case Domain::inexact:
      fits = (real && is_floating(d)) || is_complex(d), wanted = "a floating or complex dtype is needed";
      break;
    case Domain::all:
      break;
  }
  if (!fits) type_error(operation, ": ", argument, " is ", name(d), "; ", wanted);
}

void check_floating(const char* operation, const char* argument, DType d) {
  if (!is_floating(d))
    type_error(operation, ": ", argument, " is ", name(d),
               "; float32, float64, bfloat16 or float16 is needed");
}

int normalize_axis(const char* operation, std::int64_t axis, int ndim) {
  if (axis < -ndim || axis >= ndim) {
    if (ndim == 0) axis_error(operation, ": axis ", axis, " is out of range: the array has no axes");
    axis_error(operation, ": axis ", axis, " is out of range for ", ndim, " dimensions: valid are ", -ndim,
               " to ", ndim - 1);
  }
  return static_cast<int>(axis < 0 ? axis + ndim : axis);
}

Shape normalize_axes(const char* operation, const Axes& axes, int ndim) {
  Shape result;
  if (axes.all) {
    for (int i = 0; i < ndim; ++i) result.push_back(i);
    return result;
  }
  bool seen[kMaxRank] = {};
  for (std::int64_t axis : axes.list) {
    const int a = normalize_axis(operation, axis, ndim);
    if (seen[a]) value_error(operation, ": axis ", axis, " is named twice");
    seen[a] = true;
  }
  for (int i = 0; i < ndim; ++i)
    if (seen[i]) result.push_back(i);
  return result;
}

void check_rank(const char* operation, const char* argument, const Array& x, int rank) {
  if (x.ndim() != rank)
    value_error(operation, ": ", argument, " must have ", rank, " dimensions, got shape ", x.shape());
}

void check_shape(const char* operation, const char* argument, const Array& x, const Shape& expected) {
  if (x.shape() != expected)
    value_error(operation, ": ", argument, " must have shape ", expected, ", got ", x.shape());
}

void check_same_dtype(const char* operation, const char* argument, const Array& x, DType expected) {
  if (x.dtype() != expected)
    type_error(operation, ": ", argument, " is ", name(x.dtype()), " where ", name(expected), " is needed");
}

std::string as_given(std::int64_t value, Given dtype) {
  return dtype == given_as(DType::uint64) ? std::to_string(static_cast<std::uint64_t>(value))
                                          : std::to_string(value);
}

}  // namespace ts
