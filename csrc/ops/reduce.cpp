// Reductions: find the axes, put them last, allocate what is kept, launch.
#include "ops/reduce.h"

#include "core/launch.h"
#include "ops/elementwise.h"
#include "ops/operand.h"

namespace ts::ops {
namespace {

using Reduce = void (*Kernels::*)(In, Out, int);

// x with its kept axes first and its reduced axes last, and the shapes of the result.
struct Plan {
  Array x;
  int reduced = 0;
  Shape kept, kept_dims;  // without and with extents of 1 for the reduced axes
  std::int64_t length = 1;

  Plan(const char* operation, const Array& array, const Axes& axes) : kept_dims(array.shape()) {
    const int ndim = array.ndim();
    const Shape list = normalize_axes(operation, axes, ndim);
    reduced = list.rank();
    if (reduced == ndim) {
      for (int i = 0; i < ndim; ++i) length *= array.shape(i), kept_dims[i] = 1;
      x = array;
      return;
    }
    Shape order;
    int next = 0;
    for (int i = 0; i < ndim; ++i) {
      if (next < reduced && list[next] == i) {
        ++next;
        length *= array.shape(i);
        kept_dims[i] = 1;
      } else {
        order.push_back(i);
        kept.push_back(array.shape(i));
      }
    }
    for (const std::int64_t axis : list) order.push_back(axis);
    x = array.permute(order);
  }
  Array result(const char* operation, DType dtype) const { return empty(operation, dtype, kept); }
  Array finish(Array&& y, bool keepdims) const { return keepdims ? *y.view_as(kept_dims) : std::move(y); }
};

Array run(const char* operation, Reduce kernel, const Array& x, const Axes& axis, DType result,
          bool keepdims) {
  const Plan plan(operation, x, axis);
  Array y = plan.result(operation, result);
  launch(kernel, plan.x, y, plan.reduced);
  return plan.finish(std::move(y), keepdims);
}

Array accumulate(const char* operation, Reduce kernel, const Array& x, const Axes& axis,
                 std::optional<DType> dtype, bool keepdims) {
  check_domain(operation, "x", x.dtype(), Domain::any);
  const DType result = dtype ? *dtype : is_floating(x.dtype()) ? x.dtype() : DType::int64;
  check_domain(operation, "dtype", result, Domain::numeric);
  return run(operation, kernel, astype(x, result, false), axis, result, keepdims);
}

DType mean_dtype(const char* operation, const Array& x, std::optional<DType> dtype) {
  check_domain(operation, "x", x.dtype(), Domain::any);
  const DType result = dtype ? *dtype : is_floating(x.dtype()) ? x.dtype() : default_float();
  check_domain(operation, "dtype", result, Domain::floating);
  return result;
}

Array extreme(const char* operation, const char* what, Reduce kernel, const Array& x, const Axes& axis,
              DType result, bool keepdims) {
  check_domain(operation, "x", x.dtype(), Domain::any);
  const Plan plan(operation, x, axis);
  if (plan.length == 0 && size_of(plan.kept) > 0)
    value_error(operation, ": an empty input has no ", what, ": x of shape ", x.shape(),
                " has no elements along the axes reduced");
  Array y = plan.result(operation, result);
  launch(kernel, plan.x, y, plan.reduced);
  return plan.finish(std::move(y), keepdims);
}

Array position(const char* operation, const char* what, Reduce kernel, const Array& x,
               std::optional<std::int64_t> axis, bool keepdims) {
  return extreme(operation, what, kernel, x, axis ? Axes{false, {*axis}} : Axes{}, DType::int64, keepdims);
}

}  // namespace

Array sum(const Array& x, const Axes& axis, std::optional<DType> dtype, bool keepdims) {
  return accumulate("sum", &Kernels::sum, x, axis, dtype, keepdims);
}
Array prod(const Array& x, const Axes& axis, std::optional<DType> dtype, bool keepdims) {
  return accumulate("prod", &Kernels::prod, x, axis, dtype, keepdims);
}

Array mean(const Array& x, const Axes& axis, std::optional<DType> dtype, bool keepdims) {
  const DType result = mean_dtype("mean", x, dtype);
  return run("mean", &Kernels::mean, astype(x, result, false), axis, result, keepdims);
}

Array var(const Array& x, const Axes& axis, double correction, bool keepdims) {
  const DType result = mean_dtype("var", x, {});
  const Plan plan("var", astype(x, result, false), axis);
  Array mean = plan.result("var", result), y = plan.result("var", result);
  launch<&Kernels::variance>(plan.x, mean, y, plan.reduced, correction);
  return plan.finish(std::move(y), keepdims);
}

Array max(const Array& x, const Axes& axis, bool keepdims) {
  return extreme("max", "maximum", &Kernels::max, x, axis, x.dtype(), keepdims);
}
Array min(const Array& x, const Axes& axis, bool keepdims) {
  return extreme("min", "minimum", &Kernels::min, x, axis, x.dtype(), keepdims);
}
Array any(const Array& x, const Axes& axis, bool keepdims) {
  check_domain("any", "x", x.dtype(), Domain::any);
  return run("any", &Kernels::any, x, axis, DType::boolean, keepdims);
}
Array all(const Array& x, const Axes& axis, bool keepdims) {
  check_domain("all", "x", x.dtype(), Domain::any);
  return run("all", &Kernels::all, x, axis, DType::boolean, keepdims);
}
Array logsumexp(const Array& x, const Axes& axis, bool keepdims) {
  check_domain("logsumexp", "x", x.dtype(), Domain::floating);
  return run("logsumexp", &Kernels::logsumexp, x, axis, x.dtype(), keepdims);
}

Array argmax(const Array& x, std::optional<std::int64_t> axis, bool keepdims) {
  return position("argmax", "maximum", &Kernels::argmax, x, axis, keepdims);
}
Array argmin(const Array& x, std::optional<std::int64_t> axis, bool keepdims) {
  return position("argmin", "minimum", &Kernels::argmin, x, axis, keepdims);
}

Array cumsum(const Array& x, std::optional<std::int64_t> axis, std::optional<DType> dtype) {
  const char* operation = "cumsum";
  check_domain(operation, "x", x.dtype(), Domain::any);
  const DType result = dtype ? *dtype : is_floating(x.dtype()) ? x.dtype() : DType::int64;
  check_domain(operation, "dtype", result, Domain::numeric);
  Array source = astype(x, result, false);
  if (!axis) {
    const Shape flat{source.size()};
    const std::optional<Array> view = source.view_as(flat);
    source = view ? *view : *contiguous(source).view_as(flat);
  }
  const int along = normalize_axis(operation, axis ? *axis : 0, source.ndim()), last = source.ndim() - 1;
  // Rows: the axis last and with stride 1, the others as one.
  const Array moved = along == last ? source : source.transpose(along, last);
  const std::int64_t columns = moved.shape(last);
  const Shape shape{columns ? moved.size() / columns : 0, columns};
  std::optional<Array> rows = moved.view_as(shape);
  if (!rows || rows->stride(1) != 1) rows = contiguous(moved).view_as(shape);
  Array y = empty(operation, result, moved.shape());
  Array y_rows = *y.view_as(shape);
  if (y.size()) launch<&Kernels::cumsum>(*rows, y_rows);
  return along == last ? y : y.transpose(along, last);
}

Array expand_reduced(const Array& dy, const Shape& shape, const Axes& axis, bool keepdims) {
  const char* operation = "expand_reduced";
  checked_size(operation, shape, 1);
  const Shape list = normalize_axes(operation, axis, shape.rank());
  Shape kept_dims = shape, kept;
  int next = 0;
  for (int i = 0; i < shape.rank(); ++i) {
    if (next < list.rank() && list[next] == i) {
      kept_dims[i] = 1;
      ++next;
    } else {
      kept.push_back(shape[i]);
    }
  }
  check_shape(operation, "x", dy, keepdims ? kept_dims : kept);
  Array y = dy;
  if (!keepdims)
    for (const std::int64_t i : list) y = y.expand_dims(static_cast<int>(i));
  return y.broadcast_to(operation, shape);
}

}  // namespace ts::ops
