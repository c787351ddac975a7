// Indexing by arrays, with NumPy's rules: integer arrays broadcast against each other; a mask stands for the
// positions where it is true; the new axes stand where the arrays stood, or in front if a slice, None or
// Ellipsis separates them.
//
// The key's basic parts make a view, in which the axes that arrays index come to stand side by side. They are
// seen as one axis over the memory that they span, so that every element is at one number from its start: no
// copy of x is made, whatever its strides.
#include <algorithm>
#include <numeric>
#include <optional>

#include "core/launch.h"
#include "ops/creation.h"
#include "ops/device.h"
#include "ops/elementwise.h"
#include "ops/getitem.h"
#include "ops/index.h"
#include "ops/mask.h"
#include "ops/points.h"

namespace ts::ops {

namespace {

// One array of the key: int64 positions in `count` axes joined into one of `extent` elements.
struct Part {
  Array index;
  int count = 1;
  std::int64_t extent = 1;
};

struct Arrays {
  Array view;  // the axes that the arrays index are `count` from `place` on
  int place = 0, count = 0;
  std::vector<Part> parts;
  Shape shape;  // what the arrays broadcast to

  Shape result() const {
    Shape y;
    for (int i = 0; i < place; ++i) y.push_back(view.shape(i));
    for (std::int64_t n : shape) y.push_back(n);
    for (int i = place + count; i < view.ndim(); ++i) y.push_back(view.shape(i));
    return y;
  }
};

std::int64_t product(const Shape& shape, int from, int to) {
  std::int64_t n = 1;
  for (int i = from; i < to; ++i) n *= shape[i];
  return n;
}

void check_mask(const char* operation, const Array& mask, const Array& x, int axis) {
  // The array standard lets extents of 0 stand for any: such a mask chooses nothing.
  bool fits = axis + mask.ndim() <= x.ndim();
  for (int i = 0; fits && i < mask.ndim(); ++i)
    fits = mask.shape(i) == x.shape(axis + i) || mask.shape(i) == 0;
  if (!fits)
    index_error(operation, ": a mask of shape ", mask.shape(), " does not fit the axes from ", axis,
                " on of an array of shape ", x.shape());
}

Shape common_shape(const char* operation, const std::vector<Part>& parts) {
  Shape shape = parts[0].index.shape();
  for (const Part& part : parts) {
    const Shape& other = part.index.shape();
    if (other == shape) continue;
    const int rank = std::max(shape.rank(), other.rank());
    for (int i = 1; i <= std::min(shape.rank(), other.rank()); ++i) {
      const std::int64_t a = shape[shape.rank() - i], b = other[other.rank() - i];
      if (a != b && a != 1 && b != 1)
        index_error(operation, ": index arrays of shapes ", shape, " and ", other, " do not broadcast");
    }
    Shape wide(rank, 1);
    for (int i = 1; i <= rank; ++i) {
      const std::int64_t a = i <= shape.rank() ? shape[shape.rank() - i] : 1;
      wide[rank - i] = a != 1 || i > other.rank() ? a : other[other.rank() - i];
    }
    shape = wide;
  }
  return shape;
}

// Takes the key apart for an operation, which errors name. `positions`: whether masks are turned into
// positions.
Arrays take_apart(const char* operation, const Array& x, const Key& key, bool positions = true) {
  int consumed = 0, ellipses = 0;
  auto array = key.arrays.begin();
  for (const Index& i : key) {
    if (i.kind == Index::array) {
      if (array->dtype() != DType::boolean && !is_integer(array->dtype()))
        index_error(operation, ": indices must be integers or booleans, got ", name(array->dtype()));
      consumed += is_mask(*array) ? array->ndim() : 1;
      ++array;
    }
    consumed += i.kind == Index::integer || i.kind == Index::slice;
    ellipses += i.kind == Index::ellipsis;
  }
  if (ellipses > 1) index_error(operation, ": an index can hold only one Ellipsis (...)");
  if (consumed > x.ndim())
    index_error(operation, ": ", consumed, " indices for ", x.ndim(), " dimensions (shape ", x.shape(), ")");

  Arrays y;
  Key basic;
  Shape indexed;              // axes of the view
  int source = 0, axis = 0;   // of x, of the view
  int first = -1, last = -1;  // items that are arrays or integers
  bool separated = false;
  array = key.arrays.begin();
  int item = 0;
  for (const Index& i : key) {
    if (i.kind == Index::array || i.kind == Index::integer) {
      if (first < 0) first = item, y.place = axis;
      separated |= last >= 0 && last != item - 1;
      last = item;
    }
    ++item;
    switch (i.kind) {
      case Index::array: {
        Part part{to_device(*array++, x.device())};
        if (!is_mask(part.index)) {
          part.extent = x.shape(source);
          part.index = checked_positions(operation, part.index, source, part.extent);
        } else {
          part.count = part.index.ndim();
          check_mask(operation, part.index, x, source);
          part.extent = product(x.shape(), source, source + part.count);
          if (part.count == 0) {  // true or false: it picks all or nothing of a new axis
            part.index = part.index.expand_dims(0);
            basic.push_back({Index::new_axis});
            indexed.push_back(axis++);
            part.count = 1;
            if (positions) part.index = nonzero_flat(part.index);
            y.parts.push_back(std::move(part));
            break;
          }
          if (positions) part.index = nonzero_flat(part.index);
        }
        for (int k = 0; k < part.count; ++k) {
          basic.push_back({Index::slice, 0, INT64_MAX, 1});
          indexed.push_back(axis++);
          ++source;
        }
        y.parts.push_back(std::move(part));
        break;
      }
      case Index::integer:
        basic.push_back(i);
        ++source;
        break;
      case Index::slice:
        basic.push_back(i);
        ++source, ++axis;
        break;
      case Index::new_axis:
        basic.push_back(i);
        ++axis;
        break;
      case Index::ellipsis:
        basic.push_back(i);
        source += x.ndim() - consumed, axis += x.ndim() - consumed;
        break;
    }
  }
  if (separated) y.place = 0;
  y.count = indexed.rank();
  y.view = basic_view(operation, x, basic);
  if (y.count && (indexed[0] != y.place || indexed.back() != y.place + y.count - 1)) {
    Shape order;
    const auto is_indexed = [&](int a) {
      return std::find(indexed.begin(), indexed.end(), a) != indexed.end();
    };
    for (int a = 0; a < y.view.ndim(); ++a)
      if (!is_indexed(a)) order.push_back(a);
    for (int k = 0; k < y.count; ++k) order.insert(y.place + k, indexed[k]);
    y.view = y.view.permute(order);
  }
  if (positions) y.shape = common_shape(operation, y.parts);
  return y;
}

// The stride of the axes [from, to) as one, or nothing where they do not join.
std::optional<std::int64_t> joined_stride(const Array& x, int from, int to) {
  std::int64_t stride = 0, run = 1;
  for (int i = to - 1; i >= from; --i) {
    if (x.shape(i) == 1) continue;
    if (run == 1)
      stride = x.stride(i);
    else if (x.stride(i) != stride * run)
      return std::nullopt;
    run *= x.shape(i);
  }
  return stride;
}

// What the kernels take: (A, N, B) and positions in N.
struct Flat {
  Array three, index;
};

// a + b * factor for int64 arrays that broadcast to `shape`; a may be absent.
Array combined(const Array& a, const Array& b, std::int64_t factor, const Shape& shape) {
  static const std::int64_t zeros[kMaxRank] = {};
  Array y = b.broadcast_to("getitem", shape);
  if (factor != 1) {
    Array scaled = empty("getitem", DType::int64, shape);
    launch<&Kernels::multiply>(y, In{{&factor, shape.data(), zeros, nullptr, shape.rank(), DType::int64}},
                               scaled);
    y = scaled;
  }
  if (!a) return y;
  Array sum = empty("getitem", DType::int64, shape);
  launch<&Kernels::add>(a, y, sum);
  return sum;
}

// Nothing where axes of the view do not join.
std::optional<Flat> flatten(const Arrays& arrays, const Array& view) {
  const auto before = joined_stride(view, 0, arrays.place);
  const auto after = joined_stride(view, arrays.place + arrays.count, view.ndim());
  if (!before || !after) return std::nullopt;
  Shape strides;
  int axis = arrays.place;
  std::int64_t start = 0, span = 1;
  for (const Part& part : arrays.parts) {
    const auto stride = joined_stride(view, axis, axis + part.count);
    if (!stride) return std::nullopt;
    axis += part.count;
    strides.push_back(*stride);
    const std::int64_t reach = part.extent ? (part.extent - 1) * *stride : 0;
    if (reach < 0) start += reach;
    span += reach < 0 ? -reach : reach;
  }
  // The largest step that divides all: one array needs no arithmetic then.
  std::int64_t step = 0;
  for (std::int64_t s : strides) step = std::gcd(step, s);
  if (step == 0) step = 1;
  Flat flat;
  for (std::size_t k = 0; k < arrays.parts.size(); ++k) {
    const Part& part = arrays.parts[k];
    const std::int64_t stride = strides[static_cast<int>(k)];
    Array index = part.index;
    if (stride < 0) {  // counted from the other end
      static const std::int64_t zeros[kMaxRank] = {};
      std::int64_t end = part.extent - 1;
      Array turned = empty("getitem", DType::int64, index.shape());
      const Shape& shape = index.shape();
      launch<&Kernels::subtract>(In{{&end, shape.data(), zeros, nullptr, shape.rank(), DType::int64}}, index,
                                 turned);
      index = turned;
    }
    flat.index = combined(flat.index, index, (stride < 0 ? -stride : stride) / step, arrays.shape);
  }
  const std::int64_t A = product(view.shape(), 0, arrays.place), M = size_of(arrays.shape);
  const std::int64_t B = product(view.shape(), arrays.place + arrays.count, view.ndim());
  if (const auto line = flat.index.view_as({M}))
    flat.index = *line;
  else
    flat.index = *contiguous(flat.index).view_as({M});
  flat.three = view.as_strided({A, (span - 1) / step + 1, B}, {*before, step, *after}, view.offset() + start);
  return flat;
}

// With a dense copy of the view where its own axes do not join.
Flat flatten_dense(const Arrays& arrays, Array& dense) {
  dense = contiguous(copy(arrays.view));
  return *flatten(arrays, dense);
}

using Write = void (*Kernels::*)(In, In, Out);

// The view's elements, at the positions, from `value`, which has the result's shape.
void write(const Arrays& arrays, Write kernel, const Array& value) {
  const auto put = [&](Flat& flat) {
    const std::int64_t A = flat.three.shape(0), M = flat.index.size(), B = flat.three.shape(2);
    const auto source = value.view_as({A, M, B});
    launch(kernel, flat.index, source ? *source : *contiguous(value).view_as({A, M, B}), flat.three);
  };
  if (auto flat = flatten(arrays, arrays.view)) return put(*flat);
  Array dense, target = arrays.view;
  Flat flat = flatten_dense(arrays, dense);
  put(flat);
  copy_into("setitem", dense, target);
}

// One mask alone, and one value for all that it chooses: no positions are needed.
bool fill_masked(Array& x, const Key& key, const Operand& value) {
  if (key.arrays.size() != 1 || !is_mask(key.arrays[0]) || key.arrays[0].ndim() == 0) return false;
  if (value.is_array() && value.array().size() != 1) return false;
  Arrays y = take_apart("setitem", x, key, false);
  Array mask = y.parts[0].index, target = y.view;
  if (target.size() == 0 || mask.size() == 0) return true;
  if (may_overlap(mask, x)) mask = copy(mask);
  for (int i = 0; i < y.place; ++i) mask = mask.expand_dims(0);
  while (mask.ndim() < target.ndim()) mask = mask.expand_dims(mask.ndim());
  Array one = value.is_array() ? astype(*contiguous(value.array()).view_as({}), x.dtype(), false)
                               : full({}, value, x.dtype());
  if (may_overlap(one, x)) one = copy(one);
  const Shape& shape = target.shape();
  launch<&Kernels::where>(mask.broadcast_to("setitem", shape),
                          to_device(one, x.device()).broadcast_to("setitem", shape), target, target);
  return true;
}

// x[index], x[mask] and x[index, index, ...] of one shape, where the strides of x let its axes join: what the
// kernels take, put together without the steps above.
struct Direct {
  Array index;
  int count;                // axes that the index stands for
  std::int64_t shape[3];    // (1, N, B)
  std::int64_t strides[3];  // of x
  std::int64_t size;        // M
  std::int64_t one = 1;

  In positions() const { return In{{index.data(), &size, &one, index.storage(), 1, DType::int64}}; }
  Shape result(const Array& x) const {
    Shape y = index.shape();
    for (int i = count; i < x.ndim(); ++i) y.push_back(x.shape(i));
    return y;
  }
};

// Several arrays of integers, all of one shape, for the first axes, whose strides are positive.
std::optional<Direct> direct_many(const char* operation, const Array& x, const Key& key) {
  static const std::int64_t zeros[kMaxRank] = {};
  const int count = static_cast<int>(key.arrays.size());
  if (key.end() - key.begin() != count || count > x.ndim()) return std::nullopt;
  const Shape& shape = key.arrays[0].shape();
  std::int64_t step = 0, span = 1;
  for (int i = 0; i < count; ++i) {
    const Array& given = key.arrays[i];
    if (!is_integer(given.dtype()) || given.shape() != shape || given.device() != x.device() ||
        x.stride(i) <= 0 || x.shape(i) == 0)
      return std::nullopt;
    step = std::gcd(step, x.stride(i));
    span += (x.shape(i) - 1) * x.stride(i);
  }
  const auto inner = joined_stride(x, count, x.ndim());
  if (!inner) return std::nullopt;
  Array index;
  for (int i = 0; i < count; ++i) {
    Array part = checked_positions(operation, key.arrays[i], i, x.shape(i));
    std::int64_t factor = x.stride(i) / step;
    if (factor != 1) {
      Array scaled = empty("getitem", DType::int64, shape);
      launch<&Kernels::multiply>(
          part, In{{&factor, shape.data(), zeros, nullptr, shape.rank(), DType::int64}}, scaled);
      part = std::move(scaled);
    }
    if (!index) {
      index = std::move(part);
      continue;
    }
    Array sum = empty("getitem", DType::int64, shape);
    launch<&Kernels::add>(index, part, sum);
    index = std::move(sum);
  }
  const std::int64_t N = (span - 1) / step + 1, B = product(x.shape(), count, x.ndim());
  Direct d{std::move(index), count, {1, N, B}, {0, step, *inner}, 0};
  if (!d.index.is_contiguous()) d.index = contiguous(d.index);
  d.size = d.index.size();
  return d;
}

std::optional<Direct> direct(const char* operation, const Array& x, const Key& key) {
  if (key.arrays.size() > 1) return direct_many(operation, x, key);
  if (key.end() - key.begin() != 1) return std::nullopt;
  const Array& given = key.arrays[0];
  const bool mask = is_mask(given);
  const int count = mask ? given.ndim() : 1;
  if (count == 0 || count > x.ndim() || given.device() != x.device()) return std::nullopt;
  if (!mask && !is_integer(given.dtype())) return std::nullopt;
  for (int i = 0; mask && i < count; ++i)
    if (given.shape(i) != x.shape(i)) return std::nullopt;
  const auto step = joined_stride(x, 0, count), inner = joined_stride(x, count, x.ndim());
  if (!step || !inner) return std::nullopt;
  const std::int64_t N = product(x.shape(), 0, count), B = product(x.shape(), count, x.ndim());
  Direct d{mask ? nonzero_flat(given) : checked_positions(operation, given, 0, N),
           count,
           {1, N, B},
           {0, *step, *inner},
           0};
  if (!d.index.is_contiguous()) d.index = contiguous(d.index);
  d.size = d.index.size();
  return d;
}

Array as_value(const Array& value, const Shape& shape, DType dtype) {
  // NumPy lets a value bring leading axes of extent 1.
  Array y = value;
  while (y.ndim() > shape.rank() && y.shape(0) == 1) y = y.squeeze(0);
  return astype(y, dtype, false).broadcast_to("setitem", shape);
}

}  // namespace

Array getitem_arrays(const Array& x, const Key& key) {
  if (Array y = take_few(x, key)) return y;
  if (Array y = take_masked(x, key)) return y;
  if (Array y = take_points(x, key)) return y;
  if (x.ndim() == 1 && key.end() - key.begin() == 1 && key.arrays.size() == 1)
    if (Array y = take_elements("getitem", x, key.arrays[0])) return y;
  if (const auto d = direct("getitem", x, key)) {
    Array y = empty("getitem", x.dtype(), d->result(x));
    const std::int64_t shape[3] = {1, d->size, d->shape[2]}, strides[3] = {0, d->shape[2], 1};
    if (y.size())
      launch<&Kernels::take>(In{{x.data(), d->shape, d->strides, x.storage(), 3, x.dtype()}}, d->positions(),
                             Out{{y.data(), shape, strides, y.storage(), 3, y.dtype()}});
    return y;
  }
  const Arrays arrays = take_apart("getitem", x, key);
  Array y = empty("getitem", x.dtype(), arrays.result());
  if (y.size() == 0) return y;
  Array dense;
  const auto direct = flatten(arrays, arrays.view);
  const Flat flat = direct ? *direct : flatten_dense(arrays, dense);
  Array out = *y.view_as({flat.three.shape(0), flat.index.size(), flat.three.shape(2)});
  launch<&Kernels::take>(flat.three, flat.index, out);
  return y;
}

void setitem_arrays(Array& x, const Key& key, const Operand& value) {
  if (set_few(x, key, value) || fill_masked(x, key, value) || put_masked(x, key, value)) return;
  if (const auto d = direct("setitem", x, key)) {
    alignas(16) unsigned char element[16];
    const std::int64_t shape[3] = {1, d->size, d->shape[2]}, zeros[3] = {}, dense[3] = {0, d->shape[2], 1};
    In source{{element, shape, zeros, nullptr, 3, x.dtype()}};
    bool ready = !may_overlap(d->index, x);
    if (!value.is_array()) {
      write_scalar("setitem", value.scalar(), x.dtype(), element);
    } else {
      const Array& v = value.array();
      ready = ready && v.dtype() == x.dtype() && v.device() == x.device() && v.is_contiguous() &&
              v.shape() == d->result(x) && !may_overlap(v, x);
      source = In{{v.data(), shape, dense, v.storage(), 3, v.dtype()}};
    }
    if (ready) {
      if (d->size == 0 || d->shape[2] == 0) return;
      Out out = x;
      out.shape = d->shape, out.strides = d->strides, out.ndim = 3;
      return launch<&Kernels::index_set>(d->positions(), source, out);
    }
  }
  Arrays arrays = take_apart("setitem", x, key);
  const Shape shape = arrays.result();
  Array source = value.is_array() ? as_value(to_device(value.array(), x.device()), shape, x.dtype())
                                  : full({}, value, x.dtype()).broadcast_to("setitem", shape);
  if (source.size() == 0) return;
  if (may_overlap(source, x)) source = copy(source);
  for (Part& part : arrays.parts)
    if (may_overlap(part.index, x)) part.index = copy(part.index);
  write(arrays, &Kernels::index_set, source);
}

void additem_arrays(Array& x, const Key& key, const Array& value) {
  Arrays arrays = take_apart("getitem_backward", x, key);
  check_shape("getitem_backward", "dy", value, arrays.result());
  if (value.size() == 0) return;
  // A dense view: the parts of complex numbers, and halves, are added through index_add.
  Array target = arrays.view, dense = zeros(arrays.view.shape(), x.dtype());
  const Flat flat = *flatten(arrays, dense);
  const std::int64_t A = product(dense.shape(), 0, arrays.place), M = flat.index.size();
  const std::int64_t N = product(dense.shape(), arrays.place, arrays.place + arrays.count);
  const std::int64_t B = product(dense.shape(), arrays.place + arrays.count, dense.ndim());
  Array three = *dense.view_as({A, N, B});
  index_add_(three, 1, flat.index, *contiguous(value).view_as({A, M, B}));
  copy_into("getitem_backward", dense, target);
}

}  // namespace ts::ops
