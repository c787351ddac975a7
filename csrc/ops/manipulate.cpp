#include "ops/manipulate.h"

#include "core/launch.h"
#include "ops/elementwise.h"

namespace ts::ops {

namespace {

// The target shape with its -1 worked out; ValueError unless the sizes agree.
Shape resolve(const char* operation, const Array& x, Shape shape) {
  int unknown = -1;
  std::int64_t known = 1;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] == -1) {
      if (unknown >= 0) value_error(operation, ": only one extent may be -1, got shape ", shape);
      unknown = i;
    } else if (shape[i] < 0) {
      value_error(operation, ": dimension ", i, " of shape ", shape, " is ", shape[i],
                  "; extents must be >= 0 or -1");
    } else if (__builtin_mul_overflow(known, shape[i], &known)) {
      value_error(operation, ": shape ", shape, " has more than 2^63 elements, x has ", x.size());
    }
  }
  const std::int64_t size = x.size();
  if (unknown >= 0) {
    if (known == 0)
      value_error(operation, ": -1 is ambiguous in shape ", shape, ": any extent fits beside a 0");
    if (size % known != 0)
      value_error(operation, ": x of shape ", x.shape(), " has ", size, " elements, which shape ", shape,
                  " cannot divide: ", known, " does not divide them");
    shape[unknown] = size / known;
    known *= shape[unknown];
  }
  if (known != size)
    value_error(operation, ": x of shape ", x.shape(), " has ", size, " elements, shape ", shape, " has ",
                known);
  return shape;
}

}  // namespace

Array reshape(const Array& x, const Shape& wanted) {
  const Shape shape = resolve("reshape", x, wanted);
  if (auto y = x.view_as(shape)) return *y;
  return *contiguous(x).view_as(shape);
}

Array view(const Array& x, const Shape& wanted) {
  const Shape shape = resolve("view", x, wanted);
  auto y = x.view_as(shape);
  if (!y)
    value_error("view: shape ", shape, " would need a copy of x, whose shape is ", x.shape(), " and strides ",
                x.strides(), "; use reshape");
  return *y;
}

Array flatten(const Array& x, std::int64_t start, std::int64_t end) {
  if (x.ndim() == 0) return reshape(x, Shape{1});
  const int first = normalize_axis("flatten", start, x.ndim()),
            last = normalize_axis("flatten", end, x.ndim());
  if (first > last) value_error("flatten: start_dim ", start, " comes after end_dim ", end);
  Shape shape;
  for (int i = 0; i < first; ++i) shape.push_back(x.shape(i));
  std::int64_t size = 1;
  for (int i = first; i <= last; ++i) size *= x.shape(i);
  shape.push_back(size);
  for (int i = last + 1; i < x.ndim(); ++i) shape.push_back(x.shape(i));
  if (auto y = x.view_as(shape)) return *y;
  return *contiguous(x).view_as(shape);
}

Array permute_dims(const Array& x, const Axes& axes) {
  Shape order;
  if (axes.all) {
    for (int i = x.ndim() - 1; i >= 0; --i) order.push_back(i);
    return x.permute(order);
  }
  if (axes.list.rank() != x.ndim())
    value_error("permute_dims: axes ", axes.list, " must name each of the ", x.ndim(), " axes once");
  normalize_axes("permute_dims", axes, x.ndim());
  for (std::int64_t a : axes.list) order.push_back(normalize_axis("permute_dims", a, x.ndim()));
  return x.permute(order);
}

Array swapaxes(const Array& x, std::int64_t a, std::int64_t b) {
  return x.transpose(normalize_axis("swapaxes", a, x.ndim()), normalize_axis("swapaxes", b, x.ndim()));
}

Array moveaxis(const Array& x, const Shape& source, const Shape& destination) {
  if (source.rank() != destination.rank())
    value_error("moveaxis: source ", source, " and destination ", destination, " must have the same length");
  normalize_axes("moveaxis", Axes{false, source}, x.ndim());
  normalize_axes("moveaxis", Axes{false, destination}, x.ndim());
  Shape order(x.ndim(), -1);
  bool moved[kMaxRank] = {};
  for (int i = 0; i < source.rank(); ++i) {
    const int from = normalize_axis("moveaxis", source[i], x.ndim());
    order[normalize_axis("moveaxis", destination[i], x.ndim())] = from;
    moved[from] = true;
  }
  for (int i = 0, next = 0; i < x.ndim(); ++i) {
    if (order[i] >= 0) continue;
    while (moved[next]) ++next;
    order[i] = next++;
  }
  return x.permute(order);
}

Array matrix_transpose(const Array& x) {
  if (x.ndim() < 2) value_error("matrix_transpose: x must have at least 2 dimensions, got shape ", x.shape());
  return x.transpose(x.ndim() - 2, x.ndim() - 1);
}

Array expand_dims(const Array& x, const Shape& axes) {
  const int rank = x.ndim() + axes.rank();
  if (rank > kMaxRank)
    value_error("expand_dims: an array has at most ", kMaxRank, " dimensions, asked for ", rank);
  Array y = x;
  for (std::int64_t a : normalize_axes("expand_dims", Axes{false, axes}, rank))
    y = y.expand_dims(static_cast<int>(a));
  return y;
}

Array squeeze(const Array& x, const Axes& axes) {
  Array y = x;
  const Shape list = normalize_axes("squeeze", axes, x.ndim());
  for (int i = list.rank() - 1; i >= 0; --i) {
    const int a = static_cast<int>(list[i]);
    if (x.shape(a) == 1)
      y = y.squeeze(a);
    else if (!axes.all)
      value_error("squeeze: axis ", a, " of shape ", x.shape(), " has extent ", x.shape(a), ", not 1");
  }
  return y;
}

Array broadcast_to(const Array& x, const Shape& shape) {
  checked_size("broadcast_to", shape, 1);
  return x.broadcast_to("broadcast_to", shape);
}

Array expand(const Array& x, const Shape& wanted) {
  Shape shape = wanted;
  const int extra = shape.rank() - x.ndim();
  for (int i = 0; i < shape.rank(); ++i)
    if (shape[i] == -1) {
      if (i < extra)
        value_error("expand: -1 at dimension ", i, ", which x of shape ", x.shape(), " does not have");
      shape[i] = x.shape(i - extra);
    }
  checked_size("expand", shape, 1);
  return x.broadcast_to("expand", shape);
}

Array flip(const Array& x, const Axes& axes) {
  Array y = x;
  for (std::int64_t a : normalize_axes("flip", axes, x.ndim())) {
    const int axis = static_cast<int>(a);
    y = y.slice(axis, x.shape(axis) - 1, x.shape(axis), -1);
  }
  return y;
}

Array as_strided(const Array& x, const Shape& shape, const Shape& strides, std::int64_t offset) {
  if (shape.rank() != strides.rank())
    value_error("as_strided: shape ", shape, " and strides ", strides, " must have the same length");
  const std::int64_t size = checked_size("as_strided", shape, itemsize(x.dtype()));
  // Every element must lie in the storage; sums in 128 bits, so that no stride wraps.
  __int128 low = static_cast<__int128>(x.offset()) + offset, high = low;
  for (int i = 0; size > 0 && i < shape.rank(); ++i) {
    const __int128 reach = static_cast<__int128>(shape[i] - 1) * strides[i];
    (reach < 0 ? low : high) += reach;
  }
  const std::int64_t item = itemsize(x.dtype()), bytes = x.storage()->nbytes();
  if (size > 0 && (low < 0 || (high + 1) * item > bytes)) {
    const __int128 needed = low < 0 ? low * item : (high + 1) * item;
    value_error("as_strided: shape ", shape, ", strides ", strides, " and offset ", offset, " need ",
                static_cast<double>(needed) == static_cast<double>(static_cast<std::int64_t>(needed))
                    ? static_cast<std::int64_t>(needed)
                    : INT64_MAX,
                " bytes, the storage has ", bytes);
  }
  return x.as_strided(shape, strides, size > 0 ? x.offset() + offset : 0);
}

Array bitcast(const Array& x, DType dtype) {
  if (itemsize(dtype) != itemsize(x.dtype()))
    type_error("bitcast: x is ", name(x.dtype()), " of ", itemsize(x.dtype()), " bytes, ", name(dtype),
               " has ", itemsize(dtype));
  return x.view_dtype(dtype);
}

Array concat(const std::vector<Array>& arrays, std::optional<std::int64_t> axis) {
  if (arrays.empty()) value_error("concat: needs at least one array");
  for (std::size_t i = 0; i < arrays.size(); ++i)
    if (!arrays[i]) type_error("concat: array ", i, " is None");
  std::vector<Array> parts = arrays;
  if (!axis)
    for (Array& a : parts) a = reshape(a, Shape{-1});
  const int ndim = parts[0].ndim();
  const int along = normalize_axis("concat", axis.value_or(0), ndim);
  DType dtype = parts[0].dtype();
  Shape shape = parts[0].shape();
  shape[along] = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Array& a = parts[i];
    bool fits = a.ndim() == ndim;
    for (int d = 0; fits && d < ndim; ++d) fits = d == along || a.shape(d) == shape[d];
    if (!fits)
      value_error("concat: array ", i, " of shape ", a.shape(), " does not fit array 0 of shape ",
                  parts[0].shape(), ": all extents but that of axis ", along, " must agree");
    if (__builtin_add_overflow(shape[along], a.shape(along), &shape[along]))
      memory_error("concat: axis ", along, " of the result would be longer than 2^63");
    dtype = promote(dtype, a.dtype());
  }
  Array y = empty("concat", dtype, shape);
  std::int64_t position = 0;
  for (const Array& a : parts) {
    Array target = y.slice(along, position, a.shape(along));
    copy_into("concat", a, target);
    position += a.shape(along);
  }
  return y;
}

Array stack(const std::vector<Array>& arrays, std::int64_t axis) {
  if (arrays.empty()) value_error("stack: needs at least one array");
  const int along = normalize_axis("stack", axis, arrays[0].ndim() + 1);
  std::vector<Array> parts;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    if (!arrays[i]) type_error("stack: array ", i, " is None");
    if (arrays[i].shape() != arrays[0].shape())
      value_error("stack: array ", i, " has shape ", arrays[i].shape(), ", array 0 has ", arrays[0].shape());
    parts.push_back(arrays[i].expand_dims(along));
  }
  return concat(parts, along);
}

std::vector<Array> split(const Array& x, const Shape& sizes, std::int64_t axis) {
  const int along = normalize_axis("split", axis, x.ndim());
  std::int64_t position = 0;
  std::vector<Array> parts;
  for (std::int64_t n : sizes) {
    if (n < 0) value_error("split: sizes must be >= 0, got ", sizes);
    if (n > x.shape(along) - position) break;
    parts.push_back(x.slice(along, position, n));
    position += n;
  }
  if (position != x.shape(along) || static_cast<int>(parts.size()) != sizes.rank())
    value_error("split: the sizes ", sizes, " must add up to ", x.shape(along), ", the extent of axis ",
                along);
  return parts;
}

Array pad_constant(const Array& x, const Shape& before, const Shape& after, double value) {
  if (before.rank() != x.ndim() || after.rank() != x.ndim())
    value_error("pad: needs one width before and after for each of the ", x.ndim(), " axes");
  Shape shape = x.shape();
  for (int i = 0; i < x.ndim(); ++i) {
    if (before[i] < 0 || after[i] < 0) value_error("pad: widths must be >= 0, got ", before, " and ", after);
    if (__builtin_add_overflow(shape[i], before[i], &shape[i]) ||
        __builtin_add_overflow(shape[i], after[i], &shape[i]))
      memory_error("pad: axis ", i, " of the result would be longer than 2^63");
  }
  Array y = empty("pad", x.dtype(), shape), middle = y;
  // Of a large array the margins alone are filled, axis by axis.
  constexpr std::int64_t kLarge = 64 << 10;
  const bool large = y.nbytes() >= kLarge;
  const auto fill = [&](Array part) { copy_into("pad", Scalar::of(value), part); };
  if (!large) fill(y);
  for (int i = 0; i < x.ndim(); ++i) {
    const std::int64_t end = before[i] + x.shape(i);
    if (large && before[i] > 0) fill(middle.slice(i, 0, before[i]));
    if (large && after[i] > 0) fill(middle.slice(i, end, after[i]));
    middle = middle.slice(i, before[i], x.shape(i));
  }
  copy_into("pad", x, middle);
  return y;
}

}  // namespace ts::ops
