// Softmax along one axis: the axis is put last, the others are rows.
#include "ops/softmax.h"

#include "core/launch.h"
#include "ops/rows.h"

namespace ts::ops {
namespace {

// The array with the axis last; a 0-d array is a row of one.
struct Last {
  int axis, last;
  Last(const char* operation, const Array& x, std::int64_t along)
      : axis(normalize_axis(operation, along, x.ndim() ? x.ndim() : 1)), last(x.ndim() ? x.ndim() - 1 : 0) {}
  Array operator()(const Array& x) const { return axis == last ? x : x.transpose(axis, last); }
};

Array forward(const char* operation, void (*Kernels::*kernel)(In, Out), const Array& x, std::int64_t axis) {
  check_floating(operation, "x", x.dtype());
  const Last along(operation, x, axis);
  const Array moved = along(x);
  Array y = empty(operation, x.dtype(), moved.shape());
  if (x.size() == 0) return along(y);
  Array rows = as_rows(y, y.ndim() ? 1 : 0);
  launch(kernel, as_rows(moved, y.ndim() ? 1 : 0), rows);
  return along(y);
}

Array backward(const char* operation, void (*Kernels::*kernel)(In, In, Out), const Array& dy, const Array& y,
               std::int64_t axis) {
  check_floating(operation, "y", y.dtype());
  check_same_dtype(operation, "gradient", dy, y.dtype());
  check_shape(operation, "gradient", dy, y.shape());
  const Last along(operation, y, axis);
  const Array moved = along(y);
  Array dx = empty(operation, y.dtype(), moved.shape());
  if (y.size() == 0) return along(dx);
  const int trailing = y.ndim() ? 1 : 0;
  Array rows = as_rows(dx, trailing);
  launch(kernel, as_rows(along(dy), trailing), as_rows(moved, trailing), rows);
  return along(dx);
}

}  // namespace

Array softmax(const Array& x, std::int64_t axis) { return forward("softmax", &Kernels::softmax, x, axis); }
Array log_softmax(const Array& x, std::int64_t axis) {
  return forward("log_softmax", &Kernels::log_softmax, x, axis);
}
Array softmax_backward(const Array& dy, const Array& y, std::int64_t axis) {
  return backward("softmax_backward", &Kernels::softmax_backward, dy, y, axis);
}
Array log_softmax_backward(const Array& dy, const Array& y, std::int64_t axis) {
  return backward("log_softmax_backward", &Kernels::log_softmax_backward, dy, y, axis);
}

}  // namespace ts::ops
