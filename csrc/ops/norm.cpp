// Normalisation: rows for layer norm, (N, C, S) for batch norm without reordering the batch.
#include "ops/norm.h"

#include "core/launch.h"
#include "ops/creation.h"
#include "ops/reduce.h"
#include "ops/rows.h"

namespace ts::ops {
namespace {

// In the dtype that `like` is computed in: of halves both that and their own will do.
Array vector(const char* operation, const char* argument, const Array& x, const Array& like,
             const Shape& shape) {
  if (!x) return x;
  const DType computed = computed_in(like.dtype());
  if (x.dtype() != computed) check_same_dtype(operation, argument, x, like.dtype());
  check_shape(operation, argument, x, shape);
  return contiguous(astype(x, computed, false));
}

// The same of an argument that must be there.
Array statistic(const char* operation, const char* argument, const Array& x, const Array& like,
                const Shape& shape) {
  if (!x) type_error(operation, ": ", argument, " is missing");
  return vector(operation, argument, x, like, shape);
}

// --- layer norm ----------------------------------------------------------------------------------

struct Trailing {
  int count;
  std::int64_t rows = 1, columns = 1;
  Trailing(const char* operation, const Array& x, const Shape& shape) : count(shape.rank()) {
    check_floating(operation, "x", x.dtype());
    if (count == 0) value_error(operation, ": normalized_shape must name at least one axis, got ()");
    bool fits = count <= x.ndim();
    for (int i = 0; fits && i < count; ++i) fits = x.shape(x.ndim() - count + i) == shape[i];
    if (!fits)
      value_error(operation, ": normalized_shape ", shape,
                  " does not match the last axes of x, whose shape is ", x.shape());
    for (int i = 0; i < x.ndim(); ++i) (i < x.ndim() - count ? rows : columns) *= x.shape(i);
  }
};

// --- group norm ----------------------------------------------------------------------------------

struct Groups {
  std::int64_t N, C, count, columns;
  Groups(const char* operation, const Array& x, std::int64_t groups) : count(groups) {
    check_floating(operation, "x", x.dtype());
    if (x.ndim() < 2)
      value_error(operation, ": x must have at least 2 dimensions (N, C, ...), got shape ", x.shape());
    N = x.shape(0), C = x.shape(1);
    if (groups < 1 || groups > 0x7fffffff || C % groups)
      value_error(operation, ": num_groups must divide the ", C, " channels, got ", groups);
    columns = C / groups;
    for (int i = 2; i < x.ndim(); ++i) columns *= x.shape(i);
  }
  Array rows(const Array& x) const {
    const Shape shape{N * count, columns};
    const std::optional<Array> view = x.view_as(shape);
    return view && (view->stride(1) == 1 || columns <= 1) ? *view : *contiguous(x).view_as(shape);
  }
  Shape statistics() const { return Shape{N * count}; }
};

// --- batch norm ----------------------------------------------------------------------------------

// x (N, C, ...) as (N, C, S) with C or S of stride 1, if the strides allow it without a copy.
std::optional<Array> as_channels(const Array& x, bool last) {
  const std::int64_t N = x.shape(0), C = x.shape(1);
  std::int64_t S = 1;
  for (int i = 2; i < x.ndim(); ++i) S *= x.shape(i);
  if (last) {
    if (x.stride(1) != 1 && C > 1) return {};
    Shape order{0};
    for (int i = 2; i < x.ndim(); ++i) order.push_back(i);
    order.push_back(1);
    const std::optional<Array> view = x.permute(order).view_as(Shape{N, S, C});
    // Of one channel S is what goes on: the kernels see such an array as channels first.
    if (!view || (C > 1 ? view->stride(2) : S > 1 ? view->stride(1) : 1) != 1) return {};
    return view->transpose(1, 2);
  }
  const std::optional<Array> view = x.view_as(Shape{N, C, S});
  // Of one number a channel C is, as in channels last.
  if (!view || (S > 1 ? view->stride(2) : C > 1 ? view->stride(1) : 1) != 1) return {};
  return view;
}

struct Channels {
  bool last;
  Array x;
  Shape channels;

  Channels(const char* operation, const Array& v) {
    check_floating(operation, "x", v.dtype());
    if (v.ndim() < 2)
      value_error(operation, ": x must have at least 2 dimensions (N, C, ...), got shape ", v.shape());
    channels = Shape{v.shape(1)};
    std::optional<Array> view = as_channels(v, true);
    last = view.has_value();
    if (!view) view = as_channels(v, false);
    x = view ? *view : *as_channels(contiguous(v), false);
  }
  // Another array of that shape in the same layout: a copy if it is in another.
  Array same(const char* operation, const Array& v, const Array& like) const {
    if (const std::optional<Array> view = as_channels(v, last)) return *view;
    Array copy = allocate(operation, like);
    launch<&Kernels::cast>(v, copy);
    return *as_channels(copy, last);
  }
  // Fresh, (N, C, ...) like x, channels where x has them.
  Array allocate(const char* operation, const Array& like) const {
    if (!last) return empty(operation, like.dtype(), like.shape());
    Shape order{0};
    for (int i = 2; i < like.ndim(); ++i) order.push_back(i);
    order.push_back(1);
    return empty_ordered(operation, like.dtype(), like.shape(), order);
  }
};

}  // namespace

std::tuple<Array, Array, Array> layer_norm(const Array& x, const Shape& normalized_shape, const Array& weight,
                                           const Array& bias, double eps) {
  const char* operation = "layer_norm";
  const Trailing t(operation, x, normalized_shape);
  const Array w = vector(operation, "weight", weight, x, normalized_shape);
  const Array b = vector(operation, "bias", bias, x, normalized_shape);
  Array y = empty(operation, x.dtype(), x.shape());
  Array mean = empty(operation, computed_in(x.dtype()), Shape{t.rows}),
        rstd = empty(operation, computed_in(x.dtype()), Shape{t.rows});
  if (x.size() > 0) {
    Array rows = as_rows(y, t.count);
    launch<&Kernels::layer_norm>(as_rows(x, t.count), w, b, rows, mean, rstd, eps);
  }
  return {y, mean, rstd};
}

std::tuple<Array, Array, Array> layer_norm_backward(const Array& dy, const Array& x, const Array& weight,
                                                    const Array& mean, const Array& rstd,
                                                    const Shape& normalized_shape, bool parameters) {
  const char* operation = "layer_norm_backward";
  const Trailing t(operation, x, normalized_shape);
  check_same_dtype(operation, "gradient", dy, x.dtype());
  check_shape(operation, "gradient", dy, x.shape());
  const Array w = vector(operation, "weight", weight, x, normalized_shape);
  const Array m = statistic(operation, "mean", mean, x, Shape{t.rows});
  const Array r = statistic(operation, "rstd", rstd, x, Shape{t.rows});
  Array dx = empty(operation, x.dtype(), x.shape());
  const Shape shape = parameters ? normalized_shape : Shape{0};
  Array dweight = empty(operation, computed_in(x.dtype()), shape),
        dbias = empty(operation, computed_in(x.dtype()), shape);
  Array none;
  Array rows = as_rows(dx, t.count);
  if (t.columns > 0)
    launch<&Kernels::layer_norm_backward>(as_rows(dy, t.count), as_rows(x, t.count), w, m, r, rows,
                                          parameters ? dweight : none, parameters ? dbias : none);
  return {dx, dweight, dbias};
}

std::tuple<Array, Array, Array> group_norm(const Array& x, std::int64_t groups, const Array& weight,
                                           const Array& bias, double eps) {
  const char* operation = "group_norm";
  const Groups g(operation, x, groups);
  const Array w = statistic(operation, "weight", weight, x, Shape{g.C}),
              b = vector(operation, "bias", bias, x, Shape{g.C});
  Array y = empty(operation, x.dtype(), x.shape());
  Array mean = empty(operation, computed_in(x.dtype()), g.statistics()),
        rstd = empty(operation, computed_in(x.dtype()), g.statistics());
  if (x.size() > 0) {
    Array rows = g.rows(y);
    launch<&Kernels::group_norm>(g.rows(x), w, b, rows, mean, rstd, static_cast<int>(groups), eps);
  }
  return {y, mean, rstd};
}

std::tuple<Array, Array, Array> group_norm_backward(const Array& dy, const Array& x, const Array& weight,
                                                    const Array& mean, const Array& rstd,
                                                    std::int64_t groups) {
  const char* operation = "group_norm_backward";
  const Groups g(operation, x, groups);
  check_same_dtype(operation, "gradient", dy, x.dtype());
  check_shape(operation, "gradient", dy, x.shape());
  const Array w = statistic(operation, "weight", weight, x, Shape{g.C});
  const Array m = statistic(operation, "mean", mean, x, g.statistics());
  const Array r = statistic(operation, "rstd", rstd, x, g.statistics());
  Array dx = empty(operation, x.dtype(), x.shape());
  if (x.size() == 0)
    return {dx, zeros(Shape{g.C}, computed_in(x.dtype())), zeros(Shape{g.C}, computed_in(x.dtype()))};
  Array sums = empty(operation, computed_in(x.dtype()), Shape{2, g.N, g.C});
  Array rows = g.rows(dx);
  launch<&Kernels::group_norm_backward>(g.rows(dy), g.rows(x), w, m, r, rows, sums, static_cast<int>(groups));
  const Array both = sum(sums, Axes{false, Shape{1}}, {}, false);
  return {dx, both.select(0, 1), both.select(0, 0)};
}

std::tuple<Array, Array> rms_norm(const Array& x, const Shape& normalized_shape, const Array& weight,
                                  double eps) {
  const char* operation = "rms_norm";
  const Trailing t(operation, x, normalized_shape);
  const Array w = vector(operation, "weight", weight, x, normalized_shape);
  Array y = empty(operation, x.dtype(), x.shape()),
        rstd = empty(operation, computed_in(x.dtype()), Shape{t.rows});
  if (x.size() > 0) {
    Array rows = as_rows(y, t.count);
    launch<&Kernels::rms_norm>(as_rows(x, t.count), w, rows, rstd, eps);
  }
  return {y, rstd};
}

std::tuple<Array, Array> rms_norm_backward(const Array& dy, const Array& x, const Array& weight,
                                           const Array& rstd, const Shape& normalized_shape) {
  const char* operation = "rms_norm_backward";
  const Trailing t(operation, x, normalized_shape);
  check_same_dtype(operation, "gradient", dy, x.dtype());
  check_shape(operation, "gradient", dy, x.shape());
  const Array w = vector(operation, "weight", weight, x, normalized_shape);
  const Array r = statistic(operation, "rstd", rstd, x, Shape{t.rows});
  Array dx = empty(operation, x.dtype(), x.shape());
  Array dweight = empty(operation, computed_in(x.dtype()), normalized_shape);
  Array rows = as_rows(dx, t.count);
  if (t.columns > 0)
    launch<&Kernels::rms_norm_backward>(as_rows(dy, t.count), as_rows(x, t.count), w, r, rows, dweight);
  return {dx, dweight};
}

namespace {

template <auto kernel>
std::tuple<Array, Array, Array> normalised(const char* operation, const Array& x, const Array& weight,
                                           const Array& bias, const Array& running_mean,
                                           const Array& running_var, double momentum, double eps) {
  const Channels c(operation, x);
  const Array w = vector(operation, "weight", weight, x, c.channels),
              b = vector(operation, "bias", bias, x, c.channels);
  Array running[2] = {running_mean, running_var};
  for (int i = 0; i < 2; ++i) {
    const char* argument = i == 0 ? "running_mean" : "running_var";
    if (!running[i]) continue;
    const DType own = running[i].dtype(), computed = computed_in(x.dtype());
    if (computed_in(own) != computed) check_same_dtype(operation, argument, running[i], computed);
    check_shape(operation, argument, running[i], c.channels);
    check_writable(operation, running[i]);
    if (!running[i].is_contiguous())
      value_error(operation, ": ", argument, " must be contiguous, got strides ", running[i].strides());
  }
  const std::int64_t count = c.x.shape(0) * c.x.shape(2);
  if (c.channels[0] > 0 && count < 2)
    value_error(operation, ": training needs more than one value per channel, got x of shape ", x.shape());
  Array y = c.allocate(operation, x);
  Array mean = empty(operation, computed_in(x.dtype()), c.channels),
        rstd = empty(operation, computed_in(x.dtype()), c.channels);
  Array view = *as_channels(y, c.last);
  if (c.channels[0] == 0) return {y, mean, rstd};
  Array wide[2];  // halves are updated in float32 and rounded once
  for (int i = 0; i < 2; ++i)
    wide[i] =
        running[i] && is_half(running[i].dtype()) ? astype(running[i], DType::float32, false) : running[i];
  launch<kernel>(c.x, w, b, view, mean, rstd, wide[0], wide[1], momentum, eps);
  for (int i = 0; i < 2; ++i)
    if (running[i] && is_half(running[i].dtype())) copy_into(operation, wide[i], running[i]);
  return {y, mean, rstd};
}

}  // namespace

std::tuple<Array, Array, Array> batch_norm(const Array& x, const Array& weight, const Array& bias,
                                           const Array& running_mean, const Array& running_var,
                                           double momentum, double eps) {
  return normalised<&Kernels::batch_norm>("batch_norm", x, weight, bias, running_mean, running_var, momentum,
                                          eps);
}
std::tuple<Array, Array, Array> batch_norm_relu(const Array& x, const Array& weight, const Array& bias,
                                                const Array& running_mean, const Array& running_var,
                                                double momentum, double eps) {
  return normalised<&Kernels::batch_norm_relu>("batch_norm_relu", x, weight, bias, running_mean, running_var,
                                               momentum, eps);
}

std::tuple<Array, Array, Array> batch_norm_backward(const Array& dy, const Array& x, const Array& weight,
                                                    const Array& mean, const Array& rstd) {
  const char* operation = "batch_norm_backward";
  const Channels c(operation, x);
  check_same_dtype(operation, "gradient", dy, x.dtype());
  check_shape(operation, "gradient", dy, x.shape());
  const Array w = vector(operation, "weight", weight, x, c.channels);
  const Array m = statistic(operation, "mean", mean, x, c.channels),
              r = statistic(operation, "rstd", rstd, x, c.channels);
  Array dx = c.allocate(operation, x);
  Array dweight = empty(operation, computed_in(x.dtype()), c.channels),
        dbias = empty(operation, computed_in(x.dtype()), c.channels);
  Array view = *as_channels(dx, c.last);
  if (c.channels[0] > 0)
    launch<&Kernels::batch_norm_backward>(c.same(operation, dy, x), c.x, w, m, r, view, dweight, dbias);
  return {dx, dweight, dbias};
}

std::tuple<Array, Array, Array> batch_norm_relu_backward(const Array& dy, const Array& x, const Array& weight,
                                                         const Array& bias, const Array& mean,
                                                         const Array& rstd) {
  const char* operation = "batch_norm_relu_backward";
  const Channels c(operation, x);
  check_same_dtype(operation, "gradient", dy, x.dtype());
  check_shape(operation, "gradient", dy, x.shape());
  const Array w = vector(operation, "weight", weight, x, c.channels),
              b = vector(operation, "bias", bias, x, c.channels);
  const Array m = statistic(operation, "mean", mean, x, c.channels),
              r = statistic(operation, "rstd", rstd, x, c.channels);
  Array dx = c.allocate(operation, x);
  Array dweight = empty(operation, computed_in(x.dtype()), c.channels),
        dbias = empty(operation, computed_in(x.dtype()), c.channels);
  Array work = empty(operation, computed_in(x.dtype()), Shape{2 * c.channels[0]});
  Array view = *as_channels(dx, c.last);
  if (c.channels[0] > 0)
    launch<&Kernels::batch_norm_relu_backward>(c.same(operation, dy, x), c.x, w, b, m, r, view, dweight,
                                               dbias, work);
  return {dx, dweight, dbias};
}

Array channel_affine(const Array& x, const Array& scale, const Array& shift) {
  const char* operation = "channel_affine";
  const Channels c(operation, x);
  const Array s = vector(operation, "scale", scale, x, c.channels),
              t = vector(operation, "shift", shift, x, c.channels);
  Array y = c.allocate(operation, x);
  Array view = *as_channels(y, c.last);
  if (x.size() > 0) launch<&Kernels::channel_affine>(c.x, s, t, view);
  return y;
}

}  // namespace ts::ops
