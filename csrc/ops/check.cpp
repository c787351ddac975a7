#include "ops/check.h"

namespace ts {

bool has_kernels(DType d) {
  switch (d) {
    case DType::boolean:
    case DType::uint8:
    case DType::int32:
    case DType::int64:
    case DType::float32:
    case DType::float64:
      return true;
    default:
      return false;
  }
}

void check_domain(const char* operation, const char* argument, DType d, Domain domain) {
  if (!has_kernels(d))
    type_error(operation, ": ", argument, " is ", name(d),
               "; kernels exist for bool, uint8, int32, int64, float32 and float64");
  const bool fits = domain == Domain::any || (domain == Domain::numeric && d != DType::boolean) ||
                    (domain == Domain::floating && is_floating(d)) ||
                    (domain == Domain::integral && !is_floating(d));
  if (!fits)
    type_error(operation, ": ", argument, " is ", name(d), "; ",
               domain == Domain::numeric    ? "a number is needed, not bool"
               : domain == Domain::floating ? "a floating dtype is needed"
                                            : "bool or an integer dtype is needed");
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

}  // namespace ts
