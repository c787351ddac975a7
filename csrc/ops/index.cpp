#include "ops/index.h"

#include <sstream>

#include "core/launch.h"
#include "core/recording.h"
#include "core/threads.h"
#include "ops/complex.h"
#include "ops/creation.h"
#include "ops/elementwise.h"

namespace ts::ops {

namespace {

// One integer as an operand of any shape.
class Constant {
 public:
  Constant(std::int64_t value, int rank) : value_(value), zeros_(rank) {}
  In view(const Shape& shape) {
    return In{{&value_, shape.data(), zeros_.data(), nullptr, shape.rank(), DType::int64}};
  }

 private:
  std::int64_t value_;
  Shape zeros_;
};

std::int64_t product(const Shape& shape, int from, int to) {
  std::int64_t n = 1;
  for (int i = from; i < to; ++i) n *= shape[i];
  return n;
}

// What the indices count: a dimension of an operand, or (no operand) the classes of one_hot.
struct Counted {
  const char* operand;
  int dim;
  std::int64_t extent;
};

[[noreturn]] void out_of_range(const char* op, const char* argument, std::int64_t index, const Counted& of,
                               bool negative) {
  std::ostringstream extent;
  if (of.operand)
    extent << "axis " << of.dim << " of " << of.operand << " has size " << of.extent;
  else
    extent << "num_classes is " << of.extent;
  if (of.extent == 0)
    index_error(op, ": ", argument, " holds ", index, ", but ", extent.str(), ": no index is valid");
  index_error(op, ": index ", index, " in ", argument, " is out of range: ", extent.str(), ", so valid are ",
              negative ? -of.extent : 0, " to ", of.extent - 1);
}

// What is asked of indices. Plain data that names literals only: a recording keeps it.
struct InRange {
  const char *op, *argument;
  Counted of;
  bool negative;  // those in [-extent, 0) count from the end
};

// The smallest index; IndexError unless all are in range.
std::int64_t lowest_in_range(In index, const InRange& asked) {
  std::int64_t range[2], shape = 2, stride = 1;
  launch<&Kernels::index_range>(index, Out{{range, &shape, &stride, nullptr, 1, DType::int64}});
  const std::int64_t lowest = asked.negative ? -asked.of.extent : 0;
  if (range[1] >= asked.of.extent) out_of_range(asked.op, asked.argument, range[1], asked.of, asked.negative);
  if (range[0] < lowest) out_of_range(asked.op, asked.argument, range[0], asked.of, asked.negative);
  return range[0];
}
void require_in_range(In index, InRange asked) { lowest_in_range(index, asked); }

// The indices as int64, all in [0, extent), or in [-extent, extent) and then counted from the end.
Array checked_index(const char* op, const char* argument, const Array& index, const Counted& of,
                    bool negative = false) {
  if (!is_integer(index.dtype()))
    type_error(op, ": ", argument, " must hold integers, got ", name(index.dtype()));
  Array i = index.dtype() == DType::int64 ? index : astype(index, DType::int64, false);
  if (i.size() == 0) return i;
  const InRange asked{op, argument, of, negative};
  if (current_capture()) {
    // Whether any is negative may differ at the next replay.
    perform("index_range", &require_in_range, i, asked);
    if (!negative) return i;
  } else if (lowest_in_range(i, asked) >= 0) {
    return i;
  }
  Constant n(of.extent, i.ndim());
  Array wrapped = empty(op, DType::int64, i.shape());
  launch<&Kernels::remainder>(i, n.view(i.shape()), wrapped);
  return wrapped;
}

bool in_range(In index, std::int64_t extent) {
  std::int64_t range[2], shape = 2, stride = 1;
  launch<&Kernels::index_range>(index, Out{{range, &shape, &stride, nullptr, 1, DType::int64}});
  return range[0] >= 0 && range[1] < extent;
}

// x as (A, N, B) around `axis`: a view where the strides allow one, else a copy.
Shape around(const Shape& shape, int axis) {
  return {product(shape, 0, axis), shape[axis], product(shape, axis + 1, shape.rank())};
}
Array as_three(const Array& x, int axis) {
  const Shape three = around(x.shape(), axis);
  if (const auto view = x.view_as(three)) return *view;
  return *contiguous(x).view_as(three);
}
Array as_one(const Array& x) {
  const Shape one{x.size()};
  if (const auto view = x.view_as(one)) return *view;
  return *contiguous(x).view_as(one);
}

// Shape with `axis` replaced by the axes of `middle`.
Shape replaced(const Shape& shape, int axis, const Shape& middle) {
  Shape y;
  for (int i = 0; i < axis; ++i) y.push_back(shape[i]);
  for (std::int64_t n : middle) y.push_back(n);
  for (int i = axis + 1; i < shape.rank(); ++i) y.push_back(shape[i]);
  return y;
}

// `index` is checked; x has the axis. The result's shape is x's with the axis replaced by index's axes.
Array take_along(const char* op, const Array& x, const Array& index, int axis) {
  Array y = empty(op, x.dtype(), replaced(x.shape(), axis, index.shape()));
  if (y.size() == 0) return y;
  Array flat =
      *y.view_as({product(x.shape(), 0, axis), index.size(), product(x.shape(), axis + 1, x.ndim())});
  launch<&Kernels::take>(as_three(x, axis), as_one(index), flat);
  return y;
}

using IndexedWrite = void (*Kernels::*)(In, In, Out);

// Whether the CPU's kernel adds halves of this layout: whole rows, few enough that it can list them.
bool add_as_it_is(const Array& index, const Array& x, const Array& y, int axis) {
  const std::int64_t listed = index.size() + y.shape(axis) + 1;
  return y.device() == Device::cpu && x.dtype() == y.dtype() && product(y.shape(), 0, axis) == 1 &&
         x.is_contiguous() && y.is_contiguous() && listed <= static_cast<std::int64_t>(kScratchBytes / 8);
}

// y[:, index[m]] op= x[:, m] with checked operands; y is written in place.
void write_along(const char* op, IndexedWrite kernel, const Array& index, const Array& x, Array& y,
                 int axis) {
  if (x.size() == 0) return;
  if (kernel == &Kernels::index_add && is_complex(y.dtype())) {
    Array pairs = as_pairs(y);
    return write_along(op, kernel, index, as_pairs(x), pairs, axis);
  }
  if (kernel == &Kernels::index_add && is_half(y.dtype()) && !add_as_it_is(index, x, y, axis)) {
    Array wide = astype(y, DType::float32, true);
    write_along(op, kernel, index, astype(x, DType::float32, false), wide, axis);
    return copy_into(op, wide, y);
  }
  const Array source = as_three(x, axis);
  if (auto view = y.view_as(around(y.shape(), axis))) {
    launch(kernel, as_one(index), source, *view);
    return;
  }
  Array dense = contiguous(y);
  Array view = *dense.view_as(around(y.shape(), axis));
  launch(kernel, as_one(index), source, view);
  copy_into(op, dense, y);
}

Array summed_into_zeros(const char* op, const Array& dy, const Array& index, const Shape& shape, int axis) {
  check_shape(op, "dy", dy, replaced(shape, axis, index.shape()));
  Array flat = *contiguous(dy).view_as(replaced(shape, axis, {index.size()}));
  Array dx = zeros(shape, dy.dtype());
  if (is_half(dy.dtype()) && !add_as_it_is(index, flat, dx, axis)) {
    dx = zeros(shape, DType::float32);
    flat = astype(flat, DType::float32, false);
  }
  write_along(op, &Kernels::index_add, index, flat, dx, axis);
  return astype(dx, dy.dtype(), false);
}

// Off `dim` the index must not be longer than x.
void check_fits(const char* op, const Array& index, const char* argument, const Shape& x, int dim) {
  if (index.ndim() != x.rank())
    value_error(op, ": index must have as many dimensions as ", argument, ", got shapes ", index.shape(),
                " and ", x);
  for (int i = 0; i < x.rank(); ++i)
    if (i != dim && index.shape(i) > x[i])
      value_error(op, ": index has size ", index.shape(i), " in dimension ", i, ", more than the ", x[i],
                  " of ", argument, " (shapes ", index.shape(), " and ", x, ")");
}

// x whose leading part has index's shape, with only that part.
Array leading(const Array& x, const Shape& shape) {
  Array y = x;
  for (int i = 0; i < shape.rank(); ++i) y = y.slice(i, 0, shape[i]);
  return y;
}

using ScatterKernel = void (*Kernels::*)(In, In, Out, int);

// Checked operands; complex numbers are added by their parts, halves in float32: a kernel of the CPU widens
// the source as it reads it.
void scatter_checked(const char* op, ScatterKernel kernel, const Array& index, const Array& source, Array& x,
                     int axis) {
  if (kernel == &Kernels::scatter_add && is_complex(x.dtype())) {
    Array re = real(x), im = imag(x);
    launch(kernel, index, real(source), re, axis);
    launch(kernel, index, imag(source), im, axis);
  } else if (kernel == &Kernels::scatter_add && is_half(x.dtype())) {
    Array wide = astype(x, DType::float32, true);
    scatter_checked(op, kernel, index, source, wide, axis);
    copy_into(op, wide, x);
  } else if (is_half(source.dtype()) && x.dtype() == DType::float32 && x.device() != Device::cpu) {
    launch(kernel, index, astype(source, DType::float32, false), x, axis);
  } else {
    launch(kernel, index, source, x, axis);
  }
}

struct Scattered {
  int axis;
  Array index, source;
};
// What is to be scattered into x, in memory that x does not share.
Scattered scattered(const char* op, Array& x, std::int64_t dim, const Array& index, const Operand& src) {
  check_writable(op, x);
  const int axis = normalize_axis(op, dim, x.ndim());
  check_fits(op, index, "x", x.shape(), axis);
  Array i = checked_index(op, "index", index, {"x", axis, x.shape(axis)});
  Array source;
  if (src.is_array()) {
    const Array& s = src.array();
    if (s.ndim() != 0) check_fits(op, index, "src", s.shape(), -1);
    check_same_dtype(op, "src", s, x.dtype());
    source = s.ndim() == 0 ? s.broadcast_to(op, i.shape()) : leading(s, i.shape());
    if (may_overlap(source, x)) source = copy(source);
  } else {
    source = full({}, src, x.dtype()).broadcast_to(op, i.shape());
  }
  if (may_overlap(i, x)) i = copy(i);
  return {axis, i, source};
}

void scatter_into(const char* op, ScatterKernel kernel, Array& x, std::int64_t dim, const Array& index,
                  const Operand& src) {
  const Scattered s = scattered(op, x, dim, index, src);
  if (s.index.size()) scatter_checked(op, kernel, s.index, s.source, x, s.axis);
}

void index_write(const char* op, IndexedWrite kernel, Array& x, std::int64_t dim, const Array& index,
                 const Array& source) {
  check_writable(op, x);
  const int axis = normalize_axis(op, dim, x.ndim());
  if (index.ndim() > 1) value_error(op, ": index must have one dimension, got shape ", index.shape());
  check_same_dtype(op, "source", source, x.dtype());
  check_shape(op, "source", source, replaced(x.shape(), axis, {index.size()}));
  Array i = checked_index(op, "index", index, {"x", axis, x.shape(axis)});
  if (may_overlap(i, x)) i = copy(i);
  write_along(op, kernel, i, may_overlap(source, x) ? copy(source) : source, x, axis);
}

}  // namespace

Array take_elements(const char* op, const Array& x, const Array& index) {
  constexpr std::int64_t kBlock = 1 << 15;  // indices: 256 KiB, read again while the second level holds them
  if (num_threads() > 1 || current_capture() || x.ndim() != 1 || index.size() < 2 * kBlock ||
      index.dtype() != DType::int64 || !index.is_contiguous() || x.device() != Device::cpu ||
      index.device() != Device::cpu)
    return {};
  Array y = empty(op, x.dtype(), index.shape());
  const Array from = x.expand_dims(0).expand_dims(2), flat = as_one(index);
  const Array to = *y.view_as({1, flat.size(), 1});
  for (std::int64_t i = 0; i < flat.size(); i += kBlock) {
    const std::int64_t n = flat.size() - i < kBlock ? flat.size() - i : kBlock;
    const Array block = flat.slice(0, i, n);
    if (!in_range(block, x.size())) return {};
    Array part = to.slice(1, i, n);
    launch<&Kernels::take>(from, block, part);
  }
  return y;
}

Array take(const Array& x, const Array& indices, std::optional<std::int64_t> axis) {
  if (axis.value_or(0) == 0)
    if (Array y = take_elements("take", axis ? x : as_one(x), indices)) return y;
  if (!axis) {
    const Array flat = as_one(x);
    return take_along("take", flat,
                      checked_index("take", "indices", indices, {"the flattened x", 0, flat.size()}, true),
                      0);
  }
  const int a = normalize_axis("take", *axis, x.ndim());
  return take_along("take", x, checked_index("take", "indices", indices, {"x", a, x.shape(a)}, true), a);
}

Array take_backward(const Array& dy, const Array& indices, const Shape& shape,
                    std::optional<std::int64_t> axis) {
  if (!axis) {
    const Shape flat{checked_size("take_backward", shape, 1)};
    const Array i = checked_index("take_backward", "indices", indices, {"the flattened x", 0, flat[0]}, true);
    return *summed_into_zeros("take_backward", dy, i, flat, 0).view_as(shape);
  }
  const int a = normalize_axis("take_backward", *axis, shape.rank());
  const Array i = checked_index("take_backward", "indices", indices, {"x", a, shape[a]}, true);
  return summed_into_zeros("take_backward", dy, i, shape, a);
}

Array take_along_axis(const Array& x, const Array& indices, std::int64_t axis) {
  const int a = normalize_axis("take_along_axis", axis, x.ndim());
  if (indices.ndim() != x.ndim())
    value_error("take_along_axis: indices must have as many dimensions as x, got shapes ", indices.shape(),
                " and ", x.shape());
  // Off the axis the two broadcast.
  Shape left = x.shape(), right = indices.shape();
  left[a] = right[a] = 1;
  const Shape common = broadcast_shapes("take_along_axis", left, right);
  left = right = common;
  left[a] = x.shape(a), right[a] = indices.shape(a);
  const Array i = checked_index("take_along_axis", "indices", indices, {"x", a, x.shape(a)}, true);
  Array y = empty("take_along_axis", x.dtype(), right);
  if (y.size())
    launch<&Kernels::gather>(x.broadcast_to("take_along_axis", left),
                             i.broadcast_to("take_along_axis", right), y, a);
  return y;
}

Array index_select(const Array& x, std::int64_t dim, const Array& index) {
  const int axis = normalize_axis("index_select", dim, x.ndim());
  if (index.ndim() > 1) value_error("index_select: index must have one dimension, got shape ", index.shape());
  const Array i = checked_index("index_select", "index", index, {"x", axis, x.shape(axis)});
  return take_along("index_select", x, *i.view_as({i.size()}), axis);
}

Array embedding(const Array& x, const Array& weight, std::optional<std::int64_t> padding_idx) {
  check_rank("embedding", "weight", weight, 2);
  if (!is_half(weight.dtype())) check_domain("embedding", "weight", weight.dtype(), Domain::floating);
  const std::int64_t rows = weight.shape(0);
  if (padding_idx && (*padding_idx < 0 || *padding_idx >= rows))
    value_error("embedding: padding_idx must be in 0 to ", rows - 1, " (weight has ", rows, " rows), got ",
                *padding_idx);
  return take_along("embedding", weight, checked_index("embedding", "x", x, {"weight", 0, rows}), 0);
}

Array embedding_backward(const Array& dy, const Array& x, std::int64_t rows,
                         std::optional<std::int64_t> padding_idx) {
  if (dy.ndim() != x.ndim() + 1)
    value_error("embedding_backward: dy must have one dimension more than x, got shapes ", dy.shape(),
                " and ", x.shape());
  if (rows < 0) value_error("embedding_backward: rows must be >= 0, got ", rows);
  if (padding_idx && (*padding_idx < 0 || *padding_idx >= rows))
    value_error("embedding_backward: padding_idx must be in 0 to ", rows - 1, ", got ", *padding_idx);
  const Array i = checked_index("embedding_backward", "x", x, {"weight", 0, rows});
  Array dweight = summed_into_zeros("embedding_backward", dy, i, {rows, dy.shape(dy.ndim() - 1)}, 0);
  if (padding_idx) {
    Array row = dweight.select(0, *padding_idx);
    copy_into("embedding_backward", Scalar::of(0.0), row);
  }
  return dweight;
}

Array gather(const Array& x, std::int64_t dim, const Array& index) {
  const int axis = normalize_axis("gather", dim, x.ndim());
  check_fits("gather", index, "x", x.shape(), axis);
  const Array i = checked_index("gather", "index", index, {"x", axis, x.shape(axis)});
  Array y = empty("gather", x.dtype(), i.shape());
  if (y.size()) launch<&Kernels::gather>(x, i, y, axis);
  return y;
}

Array gather_backward(const Array& dy, std::int64_t dim, const Array& index, const Shape& shape) {
  const int axis = normalize_axis("gather_backward", dim, shape.rank());
  check_fits("gather_backward", index, "x", shape, axis);
  check_shape("gather_backward", "dy", dy, index.shape());
  const Array i = checked_index("gather_backward", "index", index, {"x", axis, shape[axis]});
  Array dx = zeros(shape, computed_in(dy.dtype()));
  if (i.size()) scatter_checked("gather_backward", &Kernels::scatter_add, i, dy, dx, axis);
  return astype(dx, dy.dtype(), false);
}

void scatter_(Array& x, std::int64_t dim, const Array& index, const Operand& src) {
  scatter_into("scatter_", &Kernels::scatter, x, dim, index, src);
}
Array scatter(const Array& x, std::int64_t dim, const Array& index, const Operand& src) {
  Array y = copy(x);
  scatter_into("scatter", &Kernels::scatter, y, dim, index, src);
  return y;
}
void scatter_add_(Array& x, std::int64_t dim, const Array& index, const Operand& src) {
  scatter_into("scatter_add_", &Kernels::scatter_add, x, dim, index, src);
}
Array scatter_add(const Array& x, std::int64_t dim, const Array& index, const Operand& src) {
  Array y = copy(x);
  scatter_into("scatter_add", &Kernels::scatter_add, y, dim, index, src);
  return y;
}

Array scatter_reduce(const Array& x, std::int64_t dim, const Array& index, const Operand& src,
                     const std::string& reduce) {
  const char* op = "scatter_reduce";
  if (reduce != "prod" && reduce != "amax" && reduce != "amin")
    value_error(op, ": reduce must be \"sum\", \"prod\", \"mean\", \"amax\" or \"amin\", got \"", reduce,
                "\"");
  if (is_complex(x.dtype()) || (x.dtype() == DType::uint64 && reduce != "prod"))
    type_error(op, ": x is ", name(x.dtype()), ", which reduce \"", reduce, "\" does not take");
  const DType d = x.dtype();
  const DType wide = is_integer(d) ? DType::int64 : computed_in(d);
  Array y = copy(x);
  const Scattered s = scattered(op, y, dim, index, src);
  if (s.index.size() == 0) return y;
  Array target = astype(y, wide, false);
  const Combine combine = reduce == "prod"   ? Combine::product
                          : reduce == "amax" ? Combine::maximum
                                             : Combine::minimum;
  launch<&Kernels::scatter_reduce>(s.index, astype(s.source, wide, false), target, s.axis, combine);
  return astype(target, d, false);
}

void index_add_(Array& x, std::int64_t dim, const Array& index, const Array& source) {
  index_write("index_add_", &Kernels::index_add, x, dim, index, source);
}
Array index_add(const Array& x, std::int64_t dim, const Array& index, const Array& source) {
  Array y = copy(x);
  index_write("index_add", &Kernels::index_add, y, dim, index, source);
  return y;
}
void index_set_(Array& x, std::int64_t dim, const Array& index, const Array& source) {
  index_write("index_set_", &Kernels::index_set, x, dim, index, source);
}
Array index_set(const Array& x, std::int64_t dim, const Array& index, const Array& source) {
  Array y = copy(x);
  index_write("index_set", &Kernels::index_set, y, dim, index, source);
  return y;
}

Array checked_positions(const char* operation, const Array& x, std::int64_t axis, std::int64_t extent) {
  return checked_index(operation, "the index", x, {"x", static_cast<int>(axis), extent}, true);
}

Array nonzero_flat(const Array& x) {
  const Array truth = contiguous(astype(x, DType::boolean, false));
  std::int64_t count = 0, shape = 1, stride = 1;
  const Out total{{&count, &shape, &stride, nullptr, 1, DType::int64}};
  launch<&Kernels::nonzero>(truth, Out{}, total);
  Array positions = empty("nonzero_flat", DType::int64, {count});
  if (count) launch<&Kernels::nonzero>(truth, positions, total);
  return positions;
}

Array count_nonzero_flat(const Array& x) {
  const Array truth = contiguous(astype(x, DType::boolean, false));
  Array y = empty("count_nonzero", DType::int64, {});
  const std::int64_t one = 1;
  Out total = y;
  total.shape = total.strides = &one, total.ndim = 1;
  launch<&Kernels::nonzero>(truth, Out{}, total);
  return y;
}

Array one_hot(const Array& x, std::int64_t num_classes) {
  if (num_classes < 1) value_error("one_hot: num_classes must be >= 1, got ", num_classes);
  Array i = checked_index("one_hot", "x", x, {nullptr, 0, num_classes});
  Array y = zeros(replaced(x.shape(), x.ndim(), {num_classes}), DType::int64);
  i = i.expand_dims(i.ndim());
  Constant one(1, i.ndim());
  if (i.size()) launch<&Kernels::scatter>(i, one.view(i.shape()), y, x.ndim());
  return y;
}

}  // namespace ts::ops
