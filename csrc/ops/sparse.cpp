#include "ops/sparse.h"

#include "core/launch.h"
#include "ops/creation.h"
#include "ops/device.h"
#include "ops/elementwise.h"

namespace ts::ops {
namespace {

Array integers(const char* operation, const char* argument, const Array& x) {
  if (!is_integer(x.dtype()))
    type_error(operation, ": ", argument, " must hold integers, got ", name(x.dtype()));
  check_rank(operation, argument, x, 1);
  return contiguous(astype(x, DType::int64, false));
}

void require_starts(In starts, const char* operation, std::int64_t entries) {
  const std::int64_t n = starts.size();
  const OnHost elements(starts);
  const auto* const at = elements.as<std::int64_t>();
  if (at[0] != 0 || at[n - 1] != entries)
    value_error(operation, ": starts must go from 0 to ", entries, ", the number of columns, got ", at[0],
                " to ", at[n - 1]);
  for (std::int64_t i = 1; i < n; ++i)
    if (at[i] < at[i - 1])
      value_error(operation, ": starts must not descend, got ", at[i - 1], " before ", at[i], " at ", i);
}

void require_columns(In columns, const char* operation, int axis, std::int64_t size) {
  std::int64_t range[2], shape = 2, stride = 1;
  launch<&Kernels::index_range>(columns, Out{{range, &shape, &stride, nullptr, 1, DType::int64}});
  const std::int64_t wrong = range[0] < 0 ? range[0] : range[1];
  if (range[0] < 0 || range[1] >= size)
    index_error(operation, ": column ", wrong, " is out of range: dimension ", axis, " of x has size ", size);
}

}  // namespace

Csr checked_csr(const char* operation, const Array& starts, const Array& columns, const Array& values,
                const Array& x, int axis) {
  const Array first = integers(operation, "starts", starts), places = integers(operation, "columns", columns);
  if (first.size() == 0)
    value_error(operation, ": starts must have one element more than there are rows, got none");
  perform("csr_matmul starts", &require_starts, first, operation, places.size());
  if (values) {
    check_same_dtype(operation, "values", values, computed_in(x.dtype()));
    check_shape(operation, "values", values, places.shape());
  }
  if (places.size()) perform("csr_matmul columns", &require_columns, places, operation, axis, x.shape(axis));
  return {first, places, values ? contiguous(values) : values};
}

Array csr_matmul(const Array& x, const Array& starts, const Array& columns, const Array& values,
                 std::int64_t axis) {
  const char* operation = "csr_matmul";
  check_domain(operation, "x", x.dtype(), Domain::floating);
  const int a = normalize_axis(operation, axis, x.ndim());
  const auto [first, places, entries] = checked_csr(operation, starts, columns, values, x, a);
  Shape shape = x.shape();
  shape[a] = first.size() - 1;
  if (places.size() == 0) return zeros(shape, x.dtype());
  Array y = empty(operation, x.dtype(), shape);
  if (y.size() == 0) return y;
  Shape from{1, x.shape(a), 1};
  for (int i = 0; i < x.ndim(); ++i)
    if (i != a) from[i < a ? 0 : 2] *= x.shape(i);
  const std::optional<Array> view = x.view_as(from);
  const Array source = view ? *view : *contiguous(x).view_as(from);
  Array to = *y.view_as({from[0], shape[a], from[2]});
  launch<&Kernels::csr_matmul>(first, places, entries, source, to);
  return y;
}

}  // namespace ts::ops
