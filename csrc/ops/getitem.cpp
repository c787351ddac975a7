#include "ops/getitem.h"

#include <algorithm>

#include "ops/creation.h"
#include "ops/elementwise.h"

namespace ts::ops {

namespace {

// A slice bound in [low, high] after counting negatives from the end.
std::int64_t bound(std::int64_t value, std::int64_t extent, std::int64_t low, std::int64_t high) {
  if (value < 0) value = value < -extent ? low : value + extent;
  return std::clamp(value, low, high);
}

}  // namespace

Array basic_view(const char* operation, const Array& x, const Key& key) {
  int consumed = 0, added = 0, dropped = 0, ellipses = 0;
  for (const Index& i : key) {
    consumed += i.kind == Index::integer || i.kind == Index::slice;
    added += i.kind == Index::new_axis;
    dropped += i.kind == Index::integer;
    ellipses += i.kind == Index::ellipsis;
  }
  if (ellipses > 1) index_error(operation, ": an index can hold only one Ellipsis (...)");
  if (consumed > x.ndim())
    index_error(operation, ": ", consumed, " indices for ", x.ndim(), " dimensions (shape ", x.shape(), ")");
  Shape shape, strides;
  shape.resize(x.ndim() + added - dropped), strides.resize(shape.rank());
  std::int64_t offset = x.offset();
  int axis = 0, out = 0;  // of x, of the view
  const auto keep = [&](int count) {
    for (; count > 0; --count, ++axis, ++out) shape[out] = x.shape(axis), strides[out] = x.stride(axis);
  };
  for (const Index& i : key) {
    switch (i.kind) {
      case Index::integer: {
        const std::int64_t extent = x.shape(axis);
        if (i.start < -extent || i.start >= extent)
          index_error(operation, ": index ", i.start, " is out of range for axis ", axis, " of extent ",
                      extent);
        offset += (i.start < 0 ? i.start + extent : i.start) * x.stride(axis++);
        break;
      }
      case Index::slice: {
        const std::int64_t extent = x.shape(axis), low = i.step < 0 ? -1 : 0,
                           high = i.step < 0 ? extent - 1 : extent;
        const std::int64_t start = bound(i.start, extent, low, high), stop = bound(i.stop, extent, low, high);
        std::int64_t length = 0;
        if (i.step > 0 && stop > start) length = (stop - start - 1) / i.step + 1;
        if (i.step < 0 && stop < start) length = (start - stop - 1) / -i.step + 1;
        if (length > 0) offset += start * x.stride(axis);
        shape[out] = length, strides[out++] = x.stride(axis++) * i.step;
        break;
      }
      case Index::new_axis:
        shape[out] = 1, strides[out++] = 0;
        break;
      case Index::ellipsis:
        keep(x.ndim() - consumed);
        break;
      case Index::array:
        break;  // dealt with by getitem_arrays
    }
  }
  keep(x.ndim() - axis);
  return x.as_strided(std::move(shape), std::move(strides), offset);
}

Array getitem(const Array& x, const Key& key) {
  return key.arrays.empty() ? basic_view("getitem", x, key) : getitem_arrays(x, key);
}

void assign(const Array& x, Array& target, const Operand& value) {
  check_writable("setitem", x);
  if (!value.is_array()) return copy_into("setitem", value, target);
  // NumPy lets a value bring leading axes of extent 1.
  Array source = value.array();
  while (source.ndim() > target.ndim() && source.shape(0) == 1) source = source.squeeze(0);
  copy_into("setitem", source, target);
}

void setitem_(Array& x, const Key& key, const Operand& value) {
  check_writable("setitem", x);
  if (!key.arrays.empty()) return setitem_arrays(x, key, value);
  Array target = basic_view("setitem", x, key);
  assign(x, target, value);
}

Array setitem(const Array& x, const Key& key, const Operand& value) {
  Array y = copy(x);
  setitem_(y, key, value);
  return y;
}

Array getitem_backward(const Array& dy, const Key& key, const Shape& shape) {
  Array dx = zeros(shape, dy.dtype());
  if (key.arrays.empty())
    setitem_(dx, key, dy);
  else
    additem_arrays(dx, key, dy);
  return dx;
}

}  // namespace ts::ops
