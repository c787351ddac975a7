// Reductions: find the axes, put them last, allocate what is kept, launch.
#include "ops/reduce.h"

#include <cmath>
#include <utility>

#include "core/launch.h"
#include "ops/complex.h"
#include "ops/operand.h"
#include "ops/rows.h"

namespace ts::ops {
namespace {

using Reduce = void (*Kernels::*)(In, Out, int);

// NumPy's reductions take axis 0 or -1 of an array without axes.
Shape reduced_axes(const char* operation, const Axes& axes, int ndim) {
  if (ndim == 0 && !axes.all && axes.list.rank() == 1 && (axes.list[0] == 0 || axes.list[0] == -1)) return {};
  return normalize_axes(operation, axes, ndim);
}

// x with its kept axes first and its reduced axes last, and the shapes of the result.
struct Plan {
  Array x;
  int reduced = 0;
  Shape kept, kept_dims;  // without and with extents of 1 for the reduced axes
  std::int64_t length = 1;

  Plan(const char* operation, const Array& array, const Axes& axes) : kept_dims(array.shape()) {
    const int ndim = array.ndim();
    const Shape list = reduced_axes(operation, axes, ndim);
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

// x in the dtype that it is reduced in. The CPU's kernels widen halves as they read them; who records
// finds a cast instead, which joins the operations before it.
Array source_of(const Array& x, DType computed) {
  const bool as_it_is = is_half(x.dtype()) && computed == DType::float32 && x.device() == Device::cpu;
  return as_it_is && !detail::watching() ? x : astype(x, computed, false);
}
// The same for sums and means along `axes`: on the CPU those down columns join nothing, and read halves
// recorded or not; on the GPU all do.
Array source_of(const char* operation, const Array& x, DType computed, const Axes& axes) {
  if (is_half(x.dtype()) && computed == DType::float32 && x.device() == Device::cuda) return x;
  if (is_half(x.dtype()) && computed == DType::float32 && x.device() == Device::cpu && x.ndim() > 0) {
    const Plan plan(operation, x, axes);
    const int last = x.ndim() - 1;
    if (plan.reduced > 0 && plan.reduced <= last && plan.x.stride(last) != 1) return x;
  }
  return source_of(x, computed);
}

Array run(const char* operation, Reduce kernel, const Array& x, const Axes& axis, DType result,
          bool keepdims) {
  const Plan plan(operation, x, axis);
  Array y = plan.result(operation, result);
  launch(kernel, plan.x, y, plan.reduced);
  return plan.finish(std::move(y), keepdims);
}

// A dense copy in another shape.
Array reshape_copy(const Array& x, const Shape& shape) {
  Array y = empty("prod", x.dtype(), x.shape());
  launch<&Kernels::cast>(x, y);
  return *y.view_as(shape);
}

// The parts are reduced each by itself; x is complex.
Array complex_sum(const char* operation, Reduce kernel, const Array& x, const Axes& axis, bool keepdims) {
  const Plan plan(operation, x, axis);
  Array y = plan.result(operation, x.dtype());
  const Array from_re = real(plan.x), from_im = imag(plan.x);
  Array re = real(y), im = imag(y);
  launch(kernel, from_re, re, plan.reduced);
  launch(kernel, from_im, im, plan.reduced);
  return plan.finish(std::move(y), keepdims);
}

// Halves multiplied with halves until one is left: log2 K steps of rounding.
Array complex_product(const Array& x, const Axes& axis, bool keepdims) {
  const Plan plan("prod", x, axis);
  Shape rows = plan.kept;
  rows.push_back(plan.length);
  Array rest = reshape_copy(plan.x, rows);
  const int last = rows.rank() - 1;
  if (plan.length == 0) {
    Array y = plan.result("prod", x.dtype());
    copy_into("prod", Scalar::of(std::int64_t{1}), y);
    return plan.finish(std::move(y), keepdims);
  }
  while (rest.shape(last) > 1) {
    const std::int64_t n = rest.shape(last), half = n / 2;
    Array low = rest.slice(last, 0, half);
    launch<&Kernels::multiply>(low, rest.slice(last, n - half, half), low);
    rest = rest.slice(last, 0, n - half);
  }
  Array y = copy(rest.squeeze(last));
  return plan.finish(std::move(y), keepdims);
}

// NumPy's: small integers are added in 64 bits of their signedness.
DType sum_dtype(DType d) {
  if (kind(d) == Kind::unsigned_integer) return DType::uint64;
  return d == DType::boolean || is_integer(d) ? DType::int64 : d;
}

// Integers wrap, so their sums and products are those of int64; halves are added in float32.
Array accumulate(const char* operation, Reduce kernel, const Array& x, const Axes& axis,
                 std::optional<DType> dtype, bool keepdims) {
  const DType result = dtype.value_or(sum_dtype(x.dtype()));
  if (result == DType::boolean) type_error(operation, ": dtype is bool; a number is needed");
  if (is_complex(result)) {
    const Array source = astype(x, result, false);
    if (kernel == &Kernels::prod) return complex_product(source, axis, keepdims);
    return complex_sum(operation, kernel, source, axis, keepdims);
  }
  const DType computed = is_floating(result) ? computed_in(result) : DType::int64;
  const Array source = is_integer(result) && x.dtype() == DType::uint64 ? x.view_dtype(DType::int64)
                       : kernel == &Kernels::sum ? source_of(operation, x, computed, axis)
                                                 : source_of(x, computed);
  const Array y = run(operation, kernel, source, axis, computed, keepdims);
  if (result == DType::uint64) return y.view_dtype(result);
  return astype(y, result, false);
}

DType mean_dtype(const char* operation, const Array& x, std::optional<DType> dtype) {
  const DType result = dtype                                             ? *dtype
                       : is_floating(x.dtype()) || is_complex(x.dtype()) ? x.dtype()
                                                                         : default_float();
  check_domain(operation, "dtype", computed_in(result), Domain::inexact);
  return result;
}

// The order of an integer dtype in one that the kernels are compiled for: widened, and 64 unsigned bits with
// the highest one flipped. Halves in float32.
struct Ordered {
  Array x;
  DType original;
  bool flipped = false;

  // reads_halves: whether the kernel does, whose result is float32 then.
  Ordered(const char* operation, const Array& array, bool reads_halves) : x(array), original(array.dtype()) {
    switch (original) {
      case DType::int8:
      case DType::int16:
      case DType::uint16:
        x = astype(array, DType::int32, false);
        return;
      case DType::uint32:
        x = astype(array, DType::int64, false);
        return;
      case DType::uint64:
        x = flip(array).view_dtype(DType::int64);
        flipped = true;
        return;
      case DType::float16:
      case DType::bfloat16:
        x = reads_halves ? source_of(array, DType::float32) : astype(array, DType::float32, false);
        return;
      default:
        check_domain(operation, "x", original, Domain::any);
    }
  }
  Array restore(Array y) const {
    if (flipped) return flip(y.view_dtype(original));
    return astype(y, original, false);
  }

 private:
  static Array flip(const Array& a) {
    constexpr std::uint64_t kHighest = std::uint64_t{1} << 63;
    const Shape zeros(a.ndim());
    Array y = empty_like("flip", a, a.dtype());
    const In highest{{const_cast<std::uint64_t*>(&kHighest), a.shape().data(), zeros.data(), nullptr,
                      a.ndim(), DType::uint64}};
    launch<&Kernels::bitwise_xor>(a, highest, y);
    return y;
  }
};

Array extreme(const char* operation, const char* what, Reduce kernel, const Array& x, const Axes& axis,
              DType result, bool keepdims) {
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
  const Ordered ordered(operation, x, true);
  return extreme(operation, what, kernel, ordered.x, axis ? Axes{false, {*axis}} : Axes{}, DType::int64,
                 keepdims);
}

Array truth(const char* operation, Reduce kernel, const Array& x, const Axes& axis, bool keepdims) {
  return run(operation, kernel, astype(x, DType::boolean, false), axis, DType::boolean, keepdims);
}

}  // namespace

Array sum(const Array& x, const Axes& axis, std::optional<DType> dtype, bool keepdims) {
  return accumulate("sum", &Kernels::sum, x, axis, dtype, keepdims);
}
Array prod(const Array& x, const Axes& axis, std::optional<DType> dtype, bool keepdims) {
  return accumulate("prod", &Kernels::prod, x, axis, dtype, keepdims);
}

Array mean(const Array& x, const Axes& axis, std::optional<DType> dtype, bool keepdims) {
  const DType result = mean_dtype("mean", x, dtype), computed = computed_in(result);
  const Array source = source_of("mean", x, computed, axis);
  if (is_complex(result)) return complex_sum("mean", &Kernels::mean, source, axis, keepdims);
  return astype(run("mean", &Kernels::mean, source, axis, computed, keepdims), result, false);
}

Array var(const Array& x, const Axes& axis, double correction, bool keepdims) {
  const DType result = mean_dtype("var", x, {}), computed = computed_in(result);
  if (is_complex(result)) {  // of the real parts and of the imaginary ones: |z|^2 is their sum
    const Array re = var(real(x), axis, correction, keepdims);
    Array y = var(imag(x), axis, correction, keepdims);
    launch<&Kernels::add>(re, y, y);
    return y;
  }
  const Plan plan("var", source_of(x, computed), axis);
  Array mean = plan.result("var", computed), y = plan.result("var", computed);
  launch<&Kernels::variance>(plan.x, mean, y, plan.reduced, correction);
  return astype(plan.finish(std::move(y), keepdims), result, false);
}

Array max(const Array& x, const Axes& axis, bool keepdims) {
  const Ordered ordered("max", x, true);
  return ordered.restore(
      extreme("max", "maximum", &Kernels::max, ordered.x, axis, computed_in(ordered.x.dtype()), keepdims));
}
Array min(const Array& x, const Axes& axis, bool keepdims) {
  const Ordered ordered("min", x, true);
  return ordered.restore(
      extreme("min", "minimum", &Kernels::min, ordered.x, axis, computed_in(ordered.x.dtype()), keepdims));
}
Array any(const Array& x, const Axes& axis, bool keepdims) {
  return truth("any", &Kernels::any, x, axis, keepdims);
}
Array all(const Array& x, const Axes& axis, bool keepdims) {
  return truth("all", &Kernels::all, x, axis, keepdims);
}
Array all_close(const Array& a, const Array& b, double rtol, double atol, bool equal_nan) {
  check_domain("all_close", "a", a.dtype(), Domain::floating);
  check_same_dtype("all_close", "b", b, a.dtype());
  check_shape("all_close", "b", b, a.shape());
  Array y = empty("all_close", DType::boolean, {});
  launch<&Kernels::all_close>(contiguous(a), contiguous(b), y, rtol, atol, equal_nan);
  return y;
}
Array logsumexp(const Array& x, const Axes& axis, bool keepdims) {
  const DType computed = computed_in(x.dtype());
  check_floating("logsumexp", "x", x.dtype());
  const Array y = run("logsumexp", &Kernels::logsumexp, source_of(x, computed), axis, computed, keepdims);
  return astype(y, x.dtype(), false);
}

Array argmax(const Array& x, std::optional<std::int64_t> axis, bool keepdims) {
  return position("argmax", "maximum", &Kernels::argmax, x, axis, keepdims);
}
Array argmin(const Array& x, std::optional<std::int64_t> axis, bool keepdims) {
  return position("argmin", "minimum", &Kernels::argmin, x, axis, keepdims);
}

Array vector_norm(const Array& x, const Axes& axis, double order, bool keepdims) {
  const char* operation = "vector_norm";
  const DType computed = computed_in(x.dtype());
  check_floating(operation, "x", x.dtype());
  if (order != 1 && order != 2 && !std::isinf(order))
    value_error(operation, ": order must be 1, 2, inf or -inf, got ", order);
  const Plan plan(operation, source_of(x, computed), axis);
  if (std::isinf(order) && plan.length == 0 && size_of(plan.kept) > 0)
    value_error(operation, ": an empty input has no norm of order ", order, ": x of shape ", x.shape(),
                " has no elements along the axes reduced");
  Array y = plan.result(operation, computed);
  launch<&Kernels::vector_norm>(plan.x, y, plan.reduced, order);
  return astype(plan.finish(std::move(y), keepdims), x.dtype(), false);
}

namespace {

// x, flattened if no axis is given or x has none, and which axis a scan goes along.
std::pair<Array, std::int64_t> scanned(const Array& x, std::optional<std::int64_t> axis) {
  if (axis && (x.ndim() > 0 || (*axis != 0 && *axis != -1))) return {x, *axis};
  const Shape flat{x.size()};
  const std::optional<Array> view = x.view_as(flat);
  return {view ? *view : *contiguous(x).view_as(flat), 0};
}

// Of integers in 64 bits, which wrap alike; of halves in float32.
Array accumulated(const char* operation, void (*Kernels::*kernel)(In, Out), const Array& x,
                  std::optional<std::int64_t> axis, std::optional<DType> dtype) {
  const DType result = dtype.value_or(sum_dtype(x.dtype()));
  if (result == DType::boolean) type_error(operation, ": dtype is bool; a number is needed");
  const DType computed = is_floating(result) || is_complex(result) ? computed_in(result) : DType::int64;
  const bool same_bits = x.dtype() == DType::uint64 && is_integer(result);
  // The sums of halves are rounded as they are written.
  const bool halves = is_half(result) && x.dtype() == result;
  const Array numbers = same_bits ? x.view_dtype(computed)
                        : halves  ? source_of(x, computed)
                                  : astype(x, computed, false);
  const auto [source, along] = scanned(numbers, axis);
  const Lines lines(operation, source, along);
  Array y = empty(operation, source.dtype(), lines.rows.shape());
  if (y.size()) launch(kernel, lines.rows, y);
  y = lines.restored(y);
  return result == DType::uint64 ? y.view_dtype(result) : astype(y, result, false);
}

std::tuple<Array, Array> running(const char* operation, void (*Kernels::*kernel)(In, Out, Out),
                                 const Array& x, std::int64_t axis) {
  const Ordered ordered(operation, x, true);
  const auto [source, along] = scanned(ordered.x, axis);
  const Lines lines(operation, source, along);
  Array y = empty(operation, source.dtype(), lines.rows.shape());
  Array index = empty(operation, DType::int64, lines.rows.shape());
  if (y.size()) launch(kernel, lines.rows, y, index);
  const auto shaped = [&](const Array& rows) {
    return x.ndim() ? lines.restored(rows) : *rows.view_as(x.shape());
  };
  return {ordered.restore(shaped(y)), shaped(index)};
}

}  // namespace

Array cumsum(const Array& x, std::optional<std::int64_t> axis, std::optional<DType> dtype) {
  const DType result = dtype.value_or(sum_dtype(x.dtype()));
  if (is_complex(result)) {
    const Array source = astype(x, result, false);
    return from_parts(cumsum(real(source), axis, {}), cumsum(imag(source), axis, {}));
  }
  return accumulated("cumsum", &Kernels::cumsum, x, axis, dtype);
}
Array cumprod(const Array& x, std::optional<std::int64_t> axis, std::optional<DType> dtype) {
  return accumulated("cumprod", &Kernels::cumprod, x, axis, dtype);
}
std::tuple<Array, Array> cummax(const Array& x, std::int64_t axis) {
  return running("cummax", &Kernels::cummax, x, axis);
}
std::tuple<Array, Array> cummin(const Array& x, std::int64_t axis) {
  return running("cummin", &Kernels::cummin, x, axis);
}
Array logcumsumexp(const Array& x, std::int64_t axis) {
  const char* operation = "logcumsumexp";
  check_floating(operation, "x", x.dtype());
  const DType computed = computed_in(x.dtype());
  const auto [source, along] = scanned(astype(x, computed, false), axis);
  const Lines lines(operation, source, along);
  Array y = empty(operation, computed, lines.rows.shape());
  if (y.size()) launch<&Kernels::logcumsumexp>(lines.rows, y);
  return astype(x.ndim() ? lines.restored(y) : *y.view_as(x.shape()), x.dtype(), false);
}
Array logcumsumexp_backward(const Array& gradient, const Array& result, std::int64_t axis) {
  const char* operation = "logcumsumexp_backward";
  check_floating(operation, "result", result.dtype());
  check_same_dtype(operation, "gradient", gradient, result.dtype());
  check_shape(operation, "gradient", gradient, result.shape());
  const DType computed = computed_in(result.dtype());
  const auto lines_of = [&](const Array& x) {
    const auto [source, along] = scanned(astype(x, computed, false), axis);
    return Lines(operation, source, along);
  };
  const Lines dy = lines_of(gradient), y = lines_of(result);
  Array sums = empty(operation, computed, y.rows.shape());
  if (sums.size()) launch<&Kernels::logcumsumexp_backward>(dy.rows, y.rows, sums);
  return astype(result.ndim() ? y.restored(sums) : *sums.view_as(result.shape()), result.dtype(), false);
}

Array expand_reduced(const Array& dy, const Shape& shape, const Axes& axis, bool keepdims) {
  const char* operation = "expand_reduced";
  checked_size(operation, shape, 1);
  const Shape list = reduced_axes(operation, axis, shape.rank());
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
