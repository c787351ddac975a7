// Pointwise operations: promote, broadcast, allocate, launch.
#include "ops/elementwise.h"

#include <cstring>

#include "core/launch.h"
#include "ops/device.h"
#include "ops/reduce.h"

namespace ts::ops {

const Pointwise kPointwise[] = {
#define UNARY(name, domain) {#name, 1, Domain::domain, false, &Kernels::name, nullptr, nullptr},
#define PREDICATE(name, domain) {#name, 1, Domain::domain, true, &Kernels::name, nullptr, nullptr},
#define BINARY(name, domain) {#name, 2, Domain::domain, false, nullptr, &Kernels::name, nullptr},
#define COMPARE(name, domain) {#name, 2, Domain::domain, true, nullptr, &Kernels::name, nullptr},
#define TERNARY(name, domain) {#name, 3, Domain::domain, false, nullptr, nullptr, &Kernels::name},
#define KERNEL(name, ...)
#include "core/kernels.def"
};
const int kPointwiseCount = sizeof(kPointwise) / sizeof(kPointwise[0]);

namespace {

constexpr int kMaxOperands = 3;

// The view that a kernel gets of an operand: an array broadcast to the result's shape, or one element on this
// stack.
class Broadcast {
 public:
  Broadcast() = default;
  Broadcast(const Broadcast&) = delete;
  void operator=(const Broadcast&) = delete;

  void bind(const char* operation, const Operand& operand, DType dtype, const Shape& shape) {
    if (operand.is_array()) {
      const Array& x = operand.array();
      if (x.dtype() == dtype) {
        if (x.shape() == shape) {
          view_ = x;
          return;
        }
        holder_ = x.broadcast_to(operation, shape);
      } else {
        holder_ = astype(x, dtype, false).broadcast_to(operation, shape);
      }
      view_ = holder_;
    } else {
      write_scalar(operation, operand.scalar(), dtype, element_);
      zeros_ = Shape(shape.rank());
      view_ = In{{element_, shape.data(), zeros_.data(), nullptr, shape.rank(), dtype}};
    }
  }
  In view() const { return view_; }

 private:
  In view_;
  Array holder_;
  Shape zeros_;
  alignas(16) unsigned char element_[16];
};

// The dtype that the kernel computes in.
DType compute_dtype(const Pointwise& op, const Operand* operands) {
  DType d = result_type(operands, op.arity);
  if (op.domain == Domain::floating && !is_floating(d) && !is_complex(d)) d = default_float();
  check_domain(op.name, "the operand", d, op.domain);
  return d;
}

Shape result_shape(const Pointwise& op, const Operand* operands) {
  Shape shape;
  bool first = true;
  for (int i = 0; i < op.arity; ++i) {
    if (!operands[i].is_array()) continue;
    if (first)
      shape = operands[i].array().shape();
    else if (operands[i].array().shape() != shape)
      shape = broadcast_shapes(op.name, shape, operands[i].array().shape());
    first = false;
  }
  return shape;
}

// The layout of the first operand that has the result's shape and no gaps; row-major otherwise.
Array allocate_result(const Pointwise& op, const Operand* operands, const Shape& shape, DType dtype) {
  for (int i = 0; i < op.arity; ++i)
    if (operands[i].is_array() && operands[i].array().shape() == shape) {
      const Array& x = operands[i].array();
      if (x.is_contiguous()) break;
      if (x.is_dense()) return empty_like(op.name, x, dtype);
    }
  return empty(op.name, dtype, shape);
}

template <class T>
bool has_zero(const Array& x) {
  // Rare and cheap beside the division: checked on a dense copy.
  const Array dense = to_device(contiguous(x), Device::cpu);
  const T* p = dense.data_as<T>();
  for (std::int64_t i = 0, n = dense.size(); i < n; ++i)
    if (p[i] == 0) return true;
  return false;
}

template <class T>
bool has_negative(const Array& x) {
  const Array dense = to_device(contiguous(x), Device::cpu);
  const T* p = dense.data_as<T>();
  for (std::int64_t i = 0, n = dense.size(); i < n; ++i)
    if (p[i] < 0) return true;
  return false;
}

// Integer division by zero and integer powers below zero have no answer in the dtype.
void check_integer_rules(const Pointwise& op, const Operand* operands, DType dtype) {
  if (is_floating(dtype) || op.arity != 2) return;
  const bool divides = op.binary == &Kernels::floor_divide || op.binary == &Kernels::remainder;
  const bool raises_power = op.binary == &Kernels::power;
  if (!divides && !raises_power) return;
  const Operand& b = operands[1];
  bool bad;
  if (!b.is_array())
    bad = divides ? b.scalar().integer == 0 : b.scalar().integer < 0;
  else {
    const Array x = astype(b.array(), DType::int64, false);
    bad = divides ? has_zero<std::int64_t>(x) : has_negative<std::int64_t>(x);
  }
  if (bad && divides)
    zero_division_error(op.name, ": b contains an integer 0; use a floating dtype for inf or nan");
  if (bad)
    value_error(op.name,
                ": integers to negative integer powers are not integers; use a floating dtype for the base");
}

void run(const Pointwise& op, const Broadcast* views, Array& out) {
  switch (op.arity) {
    case 1:
      return launch(op.unary, views[0].view(), out);
    case 2:
      return launch(op.binary, views[0].view(), views[1].view(), out);
    default:
      return launch(op.ternary, views[0].view(), views[1].view(), views[2].view(), out);
  }
}

}  // namespace

namespace {
// Whole numbers stay as they are, in their dtype.
bool rounds(const Pointwise& op) {
  return op.unary && (op.unary == &Kernels::floor || op.unary == &Kernels::ceil ||
                      op.unary == &Kernels::trunc || op.unary == &Kernels::round);
}
}  // namespace

Array pointwise(const Pointwise& op, const Operand* operands) {
  if (rounds(op) && operands[0].is_array() && is_integer(operands[0].array().dtype())) {
    check_domain(op.name, "x", operands[0].array().dtype(), Domain::any);
    return copy(operands[0].array());
  }
  const DType dtype = compute_dtype(op, operands);
  check_integer_rules(op, operands, dtype);
  const Shape shape = result_shape(op, operands);
  Broadcast views[kMaxOperands];
  for (int i = 0; i < op.arity; ++i) views[i].bind(op.name, operands[i], dtype, shape);
  Array y = allocate_result(op, operands, shape, op.boolean_result ? DType::boolean : dtype);
  run(op, views, y);
  return y;
}

void check_writable(const char* operation, const Array& out) {
  if (out.read_only()) value_error(operation, ": the destination is read-only");
  if (out.self_overlaps())
    runtime_error(operation, ": the destination of shape ", out.shape(), " and strides ", out.strides(),
                  " overlaps itself: several positions share one element; copy it first");
}

void pointwise_into(const Pointwise& op, const Operand* operands, Array& out) {
  const DType dtype = compute_dtype(op, operands);
  const DType result = op.boolean_result ? DType::boolean : dtype;
  check_writable(op.name, out);
  if (rounds(op) && is_integer(out.dtype())) return;
  check_integer_rules(op, operands, dtype);
  const Shape shape = result_shape(op, operands);
  if (shape != out.shape() && broadcast_shapes(op.name, shape, out.shape()) != out.shape())
    value_error(op.name, ": the result of shape ", shape, " does not fit the destination of shape ",
                out.shape());
  if (result != out.dtype() && (kind(result) > kind(out.dtype()) || out.dtype() == DType::boolean))
    type_error(op.name, ": a result of dtype ", name(result), " cannot be stored in a destination of dtype ",
               name(out.dtype()));
  // Through a temporary where the kernel's dtype differs or an input would be overwritten before it is read.
  bool direct = result == out.dtype();
  for (int i = 0; i < op.arity; ++i)
    if (operands[i].is_array() && may_overlap(operands[i].array(), out) &&
        !same_elements(operands[i].array(), out))
      direct = false;
  if (!direct) return copy_into(op.name, pointwise(op, operands), out);
  Broadcast views[kMaxOperands];
  for (int i = 0; i < op.arity; ++i) views[i].bind(op.name, operands[i], dtype, out.shape());
  run(op, views, out);
}

Array where(const Array& condition, const Operand& a, const Operand& b) {
  check_domain("where", "condition", condition.dtype(), Domain::any);
  const Operand values[] = {a, b};
  const DType dtype = result_type(values, 2);
  check_domain("where", "a", dtype, Domain::any);
  Shape shape = condition.shape();
  for (const Operand& x : values)
    if (x.is_array() && x.array().shape() != shape)
      shape = broadcast_shapes("where", shape, x.array().shape());
  const Array truth = astype(condition, DType::boolean, false);  // the view below points into it
  Broadcast c, va, vb;
  c.bind("where", truth, DType::boolean, shape);
  va.bind("where", a, dtype, shape);
  vb.bind("where", b, dtype, shape);
  Array y = empty("where", dtype, shape);
  launch<&Kernels::where>(c.view(), va.view(), vb.view(), y);
  return y;
}

Array contiguous(const Array& x) {
  if (x.is_contiguous()) return x;
  Array y = empty("contiguous", x.dtype(), x.shape());
  launch<&Kernels::cast>(x, y);
  return y;
}

Array copy(const Array& x) { return astype(x, x.dtype(), true); }

Array astype(const Array& x, DType dtype, bool copy) {
  if (x.dtype() == dtype && !copy) return x;
  check_domain("astype", "x", x.dtype(), Domain::any);
  check_domain("astype", "dtype", dtype, Domain::any);
  Array y = x.is_dense() ? empty_like("astype", x, dtype) : empty("astype", dtype, x.shape());
  launch<&Kernels::cast>(x, y);
  return y;
}

void copy_into(const char* operation, const Operand& x, Array& out) {
  check_writable(operation, out);
  check_domain(operation, "the destination", out.dtype(), Domain::any);
  Broadcast view;
  if (!x.is_array()) {
    view.bind(operation, x, out.dtype(), out.shape());
    launch<&Kernels::cast>(view.view(), out);
    return;
  }
  check_domain(operation, "the source", x.array().dtype(), Domain::any);
  Array source = to_device(x.array(), out.device()).broadcast_to(operation, out.shape());
  if (same_elements(source, out)) return;
  if (may_overlap(source, out)) source = copy(source);
  launch<&Kernels::cast>(source, out);
}

Array sum_to(const Array& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  const int extra = x.ndim() - shape.rank();
  bool fits = extra >= 0;
  for (int i = extra; fits && i < x.ndim(); ++i)
    fits = shape[i - extra] == 1 || shape[i - extra] == x.shape(i);
  if (!fits) value_error("sum_to: shape ", shape, " does not broadcast to that of x, ", x.shape());
  Axes axes{false, {}};
  for (int i = 0; i < x.ndim(); ++i)
    if (i < extra || (shape[i - extra] == 1 && x.shape(i) != 1)) axes.list.push_back(i);
  const Array y = sum(x, axes, {}, true);
  return *y.view_as(shape);
}

}  // namespace ts::ops
