// Pointwise operations: promote, broadcast, allocate, launch.
#include "ops/elementwise.h"

#include <cstring>
#include <optional>

#include "core/half.h"
#include "core/launch.h"
#include "ops/complex.h"
#include "ops/creation.h"
#include "ops/device.h"
#include "ops/half.h"
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
    bind(operation, operand, dtype, shape, dtype);
  }
  // `rounded` is the dtype that a scalar takes first: a half, computed in float32.
  void bind(const char* operation, const Operand& operand, DType dtype, const Shape& shape, DType rounded) {
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
      write_scalar(operation, operand.scalar(), rounded, element_);
      if (rounded != dtype) widen_half(rounded);
      zeros_ = Shape(shape.rank());
      view_ = In{{element_, shape.data(), zeros_.data(), nullptr, shape.rank(), dtype}};
    }
  }
  In view() const { return view_; }

 private:
  void widen_half(DType half) {
    std::uint16_t bits;
    std::memcpy(&bits, element_, sizeof(bits));
    const float value = half == DType::float16 ? float_from_float16(bits) : float_from_bfloat16(bits);
    std::memcpy(element_, &value, sizeof(value));
  }

  In view_;
  Array holder_;
  Shape zeros_;
  alignas(16) unsigned char element_[16];
};

bool is_power(const Pointwise& op) { return op.binary == &Kernels::power; }
bool divides(const Pointwise& op) {
  return op.binary == &Kernels::floor_divide || op.binary == &Kernels::remainder;
}

// The dtype of the computation: what the kernel computes in, unless that is float32 for a half.
DType compute_dtype(const Pointwise& op, const Operand* operands) {
  DType d = result_type(operands, op.arity);
  if ((op.domain == Domain::floating || op.domain == Domain::inexact) && !is_floating(d) && !is_complex(d))
    d = default_float();
  // NumPy counts with bools where the result is not one: in its smallest integers.
  if (d == DType::boolean &&
      (is_power(op) || divides(op) || op.unary == &Kernels::square || op.unary == &Kernels::signbit ||
       op.binary == &Kernels::bitwise_left_shift || op.binary == &Kernels::bitwise_right_shift))
    d = DType::int8;
  const bool halved = is_half(d) && op.domain != Domain::integral;
  check_domain(op.name, "the operand", halved ? DType::float32 : d, op.domain);
  if (halved && op.binary == &Kernels::nextafter)
    type_error(op.name, ": the operand is ", name(d), "; float32 or float64 is needed");
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
Array allocate_result(const char* name, const Operand* operands, int count, const Shape& shape, DType dtype) {
  for (int i = 0; i < count; ++i)
    if (operands[i].is_array() && operands[i].array().shape() == shape) {
      const Array& x = operands[i].array();
      if (x.is_contiguous()) break;
      if (x.is_dense()) return empty_like(name, x, dtype);
    }
  return empty(name, dtype, shape);
}

template <class T>
bool has_zero(const Array& x) {
  // Rare and cheap beside the division: checked on a dense copy.
  host_read("dividing integers by a tensor", x.storage());
  const Array dense = to_device(contiguous(x), Device::cpu);
  const T* p = dense.data_as<T>();
  for (std::int64_t i = 0, n = dense.size(); i < n; ++i)
    if (p[i] == 0) return true;
  return false;
}

template <class T>
bool has_negative(const Array& x) {
  host_read("raising integers to the power of a tensor", x.storage());
  const Array dense = to_device(contiguous(x), Device::cpu);
  const T* p = dense.data_as<T>();
  for (std::int64_t i = 0, n = dense.size(); i < n; ++i)
    if (p[i] < 0) return true;
  return false;
}

// Integer division by zero and integer powers below zero have no answer in the dtype.
void check_integer_rules(const Pointwise& op, const Operand* operands, DType dtype) {
  if (!is_integer(dtype) || (!divides(op) && !is_power(op))) return;
  const Operand& b = operands[1];
  bool bad;
  if (!b.is_array())
    bad = divides(op) ? b.scalar().integer == 0
                      : b.scalar().kind != Kind::unsigned_integer && b.scalar().integer < 0;
  else if (divides(op))
    bad = has_zero<std::int64_t>(astype(b.array(), DType::int64, false));
  else
    bad = kind(b.array().dtype()) == Kind::signed_integer &&
          has_negative<std::int64_t>(astype(b.array(), DType::int64, false));
  if (bad && divides(op))
    zero_division_error(op.name, ": b contains an integer 0; use a floating dtype for inf or nan");
  if (bad)
    value_error(op.name,
                ": integers to negative integer powers are not integers; use a floating dtype for the base");
}

// A comparison with an integer that the dtype does not hold has one answer for every element.
std::optional<bool> constant_comparison(const Pointwise& op, const Operand* operands, DType dtype) {
  if (!op.boolean_result || op.arity != 2 || !is_integer(dtype)) return {};
  for (int i = 0; i < 2; ++i) {
    if (operands[i].is_array() || scalar_fits(operands[i].scalar(), dtype)) continue;
    const bool below = operands[i].scalar().real < 0;
    const bool a_is_less = below == (i == 0);
    if (op.binary == &Kernels::equal) return false;
    if (op.binary == &Kernels::not_equal) return true;
    if (op.binary == &Kernels::less || op.binary == &Kernels::less_equal) return a_is_less;
    if (op.binary == &Kernels::greater || op.binary == &Kernels::greater_equal) return !a_is_less;
  }
  return {};
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

bool on_gpu(const Operand& x) { return x.is_array() && x.array().device() == Device::cuda; }

// Whether to try kernels of halves and blocks: on the CPU not while somebody watches, for a recording's
// planner makes blocks of single steps.
bool goes_by_blocks(const Pointwise& op, const Operand* operands, DType dtype) {
  if (computed_in(dtype) == dtype) return false;
  bool gpu = false;
  for (int i = 0; i < op.arity; ++i) gpu |= on_gpu(operands[i]);
  return gpu ? gpu_takes_halves(op) : !detail::watching();
}

// The dtype in which a kernel takes this operand: sums of float32 and a half on the GPU read the half itself.
DType taken_as(const Pointwise& op, const Operand* operands, int i, DType kernel) {
  if (op.binary != &Kernels::add || kernel != DType::float32 || !on_gpu(operands[0]) || !on_gpu(operands[1]))
    return kernel;
  const DType own = operands[i].array().dtype(), other = operands[1 - i].array().dtype();
  return is_half(own) && other == DType::float32 ? own : kernel;
}

// Halves by kernels that take them or a block at a time, where that can be done.
bool by_blocks(const Pointwise& op, const Operand* operands, DType half, Array& out) {
  Broadcast views[kMaxOperands];
  In x[kMaxOperands];
  const Device device = out.device();
  bool direct = device == Device::cuda ? gpu_takes_halves(op) : half == DType::bfloat16 && takes_bfloat16(op);
  for (int i = 0; i < op.arity; ++i)
    direct = direct && (!operands[i].is_array() ||
                        (operands[i].array().dtype() == half && operands[i].array().device() == device));
  if (direct) {
    for (int i = 0; i < op.arity; ++i) views[i].bind(op.name, operands[i], half, out.shape());
    run(op, views, out);
    return true;
  }
  for (int i = 0; i < op.arity; ++i) {
    const DType own = operands[i].is_array() ? operands[i].array().dtype() : DType::float32;
    views[i].bind(op.name, operands[i], own, out.shape(), half);
    x[i] = views[i].view();
  }
  return pointwise_by_blocks(op, x, out);
}

}  // namespace

namespace {
bool rounds(const Pointwise& op) {
  return op.unary && (op.unary == &Kernels::floor || op.unary == &Kernels::ceil ||
                      op.unary == &Kernels::trunc || op.unary == &Kernels::round);
}

// What needs no kernel of its own dtype: whole numbers are rounded, bools absolute as they are; the absolute
// value of a complex number is a hypotenuse, and its parts are rounded each.
std::optional<Array> without_kernel(const Pointwise& op, const Operand* operands) {
  if (!op.unary || !operands[0].is_array()) return {};
  const Array& x = operands[0].array();
  const bool absolute = op.unary == &Kernels::absolute;
  if (rounds(op) && !is_floating(x.dtype()) && !is_complex(x.dtype())) return copy(x);
  if (absolute && x.dtype() == DType::boolean) return copy(x);
  if (absolute && is_complex(x.dtype())) {
    Array y = empty("absolute", real_of(x.dtype()), x.shape());
    launch<&Kernels::hypot>(real(x), imag(x), y);
    return y;
  }
  if (op.unary == &Kernels::round && is_complex(x.dtype())) {
    Array y = copy(x);
    Array pairs = as_pairs(y);
    launch<&Kernels::round>(pairs, pairs);
    return y;
  }
  return {};
}

bool is_logical(const Pointwise& op) {
  return op.binary && (op.binary == &Kernels::logical_and || op.binary == &Kernels::logical_or ||
                       op.binary == &Kernels::logical_xor);
}
// Of an integer only its truth counts there: -3 beside uint8 is no overflow.
bool is_more_than_truth(const Operand& x) {
  return !x.is_array() &&
         (x.scalar().kind == Kind::signed_integer || x.scalar().kind == Kind::unsigned_integer) &&
         x.scalar().integer != 0 && x.scalar().integer != 1;
}
Operand truth_of(const Operand& x) {
  return is_more_than_truth(x) ? Operand(Scalar::of(std::int64_t{1})) : x;
}
bool asks_for_truth(const Pointwise& op, const Operand* operands) {
  return is_logical(op) && (is_more_than_truth(operands[0]) || is_more_than_truth(operands[1]));
}
}  // namespace

Array pointwise(const Pointwise& op, const Operand* operands) {
  if (asks_for_truth(op, operands)) {
    const Operand truths[] = {truth_of(operands[0]), truth_of(operands[1])};
    return pointwise(op, truths);
  }
  if (auto y = without_kernel(op, operands)) return *y;
  const DType dtype = compute_dtype(op, operands), kernel = computed_in(dtype);
  check_integer_rules(op, operands, dtype);
  const Shape shape = result_shape(op, operands);
  if (const auto held = constant_comparison(op, operands, dtype))
    return full(shape, Scalar::of(*held), DType::boolean);
  if (goes_by_blocks(op, operands, dtype)) {
    Array y = allocate_result(op.name, operands, op.arity, shape, op.boolean_result ? DType::boolean : dtype);
    if (by_blocks(op, operands, dtype, y)) return y;
  }
  Broadcast views[kMaxOperands];
  for (int i = 0; i < op.arity; ++i)
    views[i].bind(op.name, operands[i], taken_as(op, operands, i, kernel), shape, dtype);
  Array y = allocate_result(op.name, operands, op.arity, shape, op.boolean_result ? DType::boolean : kernel);
  run(op, views, y);
  return kernel == dtype || op.boolean_result ? y : astype(y, dtype, false);
}

void check_writable(const char* operation, const Array& out) {
  if (out.read_only()) value_error(operation, ": the destination is read-only");
  if (out.self_overlaps())
    runtime_error(operation, ": the destination of shape ", out.shape(), " and strides ", out.strides(),
                  " overlaps itself: several positions share one element; copy it first");
}

void pointwise_into(const Pointwise& op, const Operand* operands, Array& out) {
  if (asks_for_truth(op, operands)) {
    const Operand truths[] = {truth_of(operands[0]), truth_of(operands[1])};
    return pointwise_into(op, truths, out);
  }
  check_writable(op.name, out);
  const std::optional<Array> ready = without_kernel(op, operands);
  const DType dtype = ready ? ready->dtype() : compute_dtype(op, operands);
  const DType result = op.boolean_result ? DType::boolean : dtype;
  if (!ready) check_integer_rules(op, operands, dtype);
  const Shape shape = result_shape(op, operands);
  if (shape != out.shape() && broadcast_shapes(op.name, shape, out.shape()) != out.shape())
    value_error(op.name, ": the result of shape ", shape, " does not fit the destination of shape ",
                out.shape());
  if (result != out.dtype() && (kind(result) > kind(out.dtype()) || out.dtype() == DType::boolean))
    type_error(op.name, ": a result of dtype ", name(result), " cannot be stored in a destination of dtype ",
               name(out.dtype()));
  if (ready) return copy_into(op.name, *ready, out);
  // Through a temporary where the kernel's dtype differs or an input would be overwritten before it is read.
  bool direct = result == out.dtype() && !constant_comparison(op, operands, dtype);
  for (int i = 0; i < op.arity; ++i)
    if (operands[i].is_array() && may_overlap(operands[i].array(), out) &&
        !same_elements(operands[i].array(), out))
      direct = false;
  if (direct && goes_by_blocks(op, operands, dtype) && by_blocks(op, operands, dtype, out)) return;
  if (!direct || (computed_in(dtype) != dtype && !op.boolean_result))
    return copy_into(op.name, pointwise(op, operands), out);
  Broadcast views[kMaxOperands];
  for (int i = 0; i < op.arity; ++i)
    views[i].bind(op.name, operands[i], taken_as(op, operands, i, computed_in(dtype)), out.shape(), dtype);
  run(op, views, out);
}

bool try_pointwise_into(const Pointwise& op, const Operand* operands, Array& out) {
  if (result_shape(op, operands) != out.shape()) return false;
  const DType dtype = compute_dtype(op, operands);
  if (rounds(op) && !is_floating(dtype)) return false;
  if (out.dtype() != (op.boolean_result ? DType::boolean : dtype)) return false;
  pointwise_into(op, operands, out);
  return true;
}

Array where(const Array& condition, const Operand& a, const Operand& b) {
  const Operand values[] = {a, b};
  const DType dtype = result_type(values, 2);
  Shape shape = condition.shape();
  for (const Operand& x : values)
    if (x.is_array() && x.array().shape() != shape)
      shape = broadcast_shapes("where", shape, x.array().shape());
  const Array truth = astype(condition, DType::boolean, false);  // the view below points into it
  Broadcast c, va, vb;
  c.bind("where", truth, DType::boolean, shape);
  va.bind("where", a, dtype, shape);
  vb.bind("where", b, dtype, shape);
  const Operand operands[] = {a, b, truth};
  Array y = allocate_result("where", operands, 3, shape, dtype);
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

namespace {
void check_cast(const char* operation, DType from, DType to) {
  if (is_complex(from) && !is_complex(to) && to != DType::boolean)
    type_error(operation, ": ", name(from), " does not become ", name(to),
               ", which would lose the imaginary part; take .real or the absolute value");
}
}  // namespace

Array astype(const Array& x, DType dtype, bool copy) {
  if (x.dtype() == dtype && !copy) return x;
  check_cast("astype", x.dtype(), dtype);
  Array y = x.is_dense() ? empty_like("astype", x, dtype) : empty("astype", dtype, x.shape());
  launch<&Kernels::cast>(x, y);
  return y;
}

void copy_into(const char* operation, const Operand& x, Array& out) {
  check_writable(operation, out);
  Broadcast view;
  if (!x.is_array()) {
    view.bind(operation, x, out.dtype(), out.shape());
    launch<&Kernels::cast>(view.view(), out);
    return;
  }
  check_cast(operation, x.array().dtype(), out.dtype());
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
