// Cross-entropy: check the classes, view the logits as rows, launch, reduce.
#include "ops/loss.h"

#include "core/launch.h"
#include "ops/device.h"
#include "ops/rows.h"

namespace ts::ops {
namespace {

// What is asked of targets. Plain data that names literals only: a recording keeps it.
struct Classes {
  const char* operation;
  std::int64_t C, ignore_index;
  Given dtype;
};

void require_classes(In target, Classes k) {
  const std::int64_t R = target.size();
  if (target.storage && target.storage->device() != Device::cpu && R) {
    // The least and the largest come sooner than all.
    std::int64_t range[2], shape = 2, stride = 1;
    launch<&Kernels::index_range>(target, Out{{range, &shape, &stride, nullptr, 1, DType::int64}});
    if (range[0] >= 0 && range[1] < k.C) return;
  }
  const OnHost elements(target);
  const auto* const t = elements.as<std::int64_t>();
  bool inside = true;
  for (std::int64_t i = 0; i < R; ++i)
    inside &= static_cast<std::uint64_t>(t[i]) < static_cast<std::uint64_t>(k.C) || t[i] == k.ignore_index;
  if (inside) return;
  for (std::int64_t i = 0; i < R; ++i)
    if (t[i] != k.ignore_index && (t[i] < 0 || t[i] >= k.C))
      index_error(k.operation, ": target ", as_given(t[i], k.dtype), " at position ", i,
                  " is out of range for ", k.C, " classes: valid are 0 to ", k.C - 1, " and ignore_index ",
                  k.ignore_index);
}

// The class axis last, everything before it one row axis: x (R, C), target int64 (R).
struct Rows {
  Array x, target, weight;
  Shape loss_shape;
  int axis;

  Rows(const char* operation, const Array& logits, const Array& classes, const Array& w,
       std::int64_t ignore_index, const std::string& reduction, double smoothing)
      : axis(logits.ndim() == 1 ? 0 : 1) {
    if (reduction != "none" && reduction != "mean" && reduction != "sum")
      value_error(operation, ": reduction must be 'none', 'mean' or 'sum', got '", reduction, "'");
    if (!(smoothing >= 0 && smoothing <= 1))
      value_error(operation, ": label_smoothing must be in [0, 1], got ", smoothing);
    check_floating(operation, "x", logits.dtype());
    if (logits.ndim() == 0)
      value_error(operation, ": x must have a class axis: (C), (N, C) or (N, C, ...), got a 0-d array");
    loss_shape = logits.shape();
    loss_shape.erase(axis);
    if (!is_integer(classes.dtype()))
      type_error(operation, ": target is ", name(classes.dtype()),
                 "; class indices of an integer dtype are needed");
    check_shape(operation, "target", classes, loss_shape);
    const std::int64_t C = logits.shape(axis), R = size_of(loss_shape);
    if (w) {
      const DType computed = computed_in(logits.dtype());
      if (w.dtype() != computed) check_same_dtype(operation, "weight", w, logits.dtype());
      check_shape(operation, "weight", w, Shape{C});
      weight = contiguous(astype(w, computed, false));
    }
    target = *contiguous(astype(classes, DType::int64, false)).view_as(Shape{R});
    // Under one name, so that of a step's two checks a recording can keep the first. A GPU's kernel checks
    // them itself, where nobody has to wait for it; a replay asks before anything changes.
    if (classes.device() == Device::cpu || detail::watching())
      perform("cross_entropy targets", &require_classes, target,
              Classes{"cross_entropy", C, ignore_index, given_as(classes.dtype())});
    x = as_rows(last(logits));
  }
  // The class axis moved to the end.
  Array last(const Array& v) const {
    if (axis == v.ndim() - 1) return v;
    Shape order;
    for (int i = 0; i < v.ndim(); ++i)
      if (i != axis) order.push_back(i);
    order.push_back(axis);
    return v.permute(order);
  }
};

// The loss in dtype `result`.
std::tuple<Array, Array, Array> forward(const char* operation, const Array& x, const Array& target,
                                        const Array& weight, std::int64_t ignore_index,
                                        const std::string& reduction, double label_smoothing, DType result) {
  const Rows rows(operation, x, target, weight, ignore_index, reduction, label_smoothing);
  const std::int64_t R = size_of(rows.loss_shape);
  const DType computed = computed_in(x.dtype());
  Array loss = empty(operation, computed, Shape{R}), lse = empty(operation, computed, Shape{R});
  if (R)
    launch<&Kernels::cross_entropy>(rows.x, rows.target, rows.weight, loss, lse, ignore_index,
                                    label_smoothing);
  Array total;
  if (reduction == "none")
    return {astype(*loss.view_as(rows.loss_shape), result, false), lse, empty(operation, computed, Shape{0})};
  Array y = empty(operation, computed, Shape{});
  launch<&Kernels::sum>(loss, y, 1);
  if (reduction == "sum") return {astype(y, result, false), lse, empty(operation, computed, Shape{0})};
  total = empty(operation, computed, Shape{});
  launch<&Kernels::class_weight_sum>(rows.target, rows.weight, total, ignore_index);
  launch<&Kernels::divide>(y, total, y);
  return {astype(y, result, false), lse, total};
}

}  // namespace

std::tuple<Array, Array, Array> cross_entropy(const Array& x, const Array& target, const Array& weight,
                                              std::int64_t ignore_index, const std::string& reduction,
                                              double label_smoothing) {
  return forward("cross_entropy", x, target, weight, ignore_index, reduction, label_smoothing, x.dtype());
}
std::tuple<Array, Array, Array> cross_entropy_wide(const Array& x, const Array& target, const Array& weight,
                                                   std::int64_t ignore_index, const std::string& reduction,
                                                   double label_smoothing) {
  return forward("cross_entropy", x, target, weight, ignore_index, reduction, label_smoothing,
                 computed_in(x.dtype()));
}

Array cross_entropy_backward(const Array& dy, const Array& x, const Array& target, const Array& weight,
                             const Array& lse, const Array& total, std::int64_t ignore_index,
                             const std::string& reduction, double label_smoothing) {
  const char* operation = "cross_entropy_backward";
  const Rows rows(operation, x, target, weight, ignore_index, reduction, label_smoothing);
  const std::int64_t R = size_of(rows.loss_shape);
  if (dy.dtype() != computed_in(x.dtype())) check_same_dtype(operation, "gradient", dy, x.dtype());
  check_shape(operation, "gradient", dy, reduction == "none" ? rows.loss_shape : Shape{});
  if (!lse) type_error(operation, ": lse is missing");
  const DType computed = computed_in(x.dtype());
  check_same_dtype(operation, "lse", lse, computed);
  check_shape(operation, "lse", lse, Shape{R});
  Array dloss = astype(dy, computed, false);
  if (reduction == "none") {
    dloss = *contiguous(dloss).view_as(Shape{R});
  } else {
    if (reduction == "mean") {
      if (!total) type_error(operation, ": total is missing, and reduction 'mean' needs it");
      check_same_dtype(operation, "total", total, computed);
      check_shape(operation, "total", total, Shape{});
      const Array given = dloss;
      dloss = empty(operation, computed, Shape{});
      launch<&Kernels::divide>(given, total, dloss);
    }
    dloss = dloss.broadcast_to(operation, Shape{R});
  }
  const Array moved = rows.last(x);
  Array dx = empty(operation, x.dtype(), moved.shape());
  Array dx_rows = as_rows(dx);
  if (R)
    launch<&Kernels::cross_entropy_backward>(rows.x, rows.target, rows.weight, lse, dloss, dx_rows,
                                             ignore_index, label_smoothing);
  if (rows.axis == x.ndim() - 1) return dx;
  Shape order;  // the class axis back where it was
  for (int i = 0; i < x.ndim(); ++i)
    order.push_back(i < rows.axis ? i : i == rows.axis ? x.ndim() - 1 : i - 1);
  return dx.permute(order);
}

}  // namespace ts::ops
