#include "core/array.h"

#include <algorithm>

#include "core/error.h"

namespace ts {

bool Array::is_contiguous() const {
  std::int64_t expected = 1;
  for (int i = ndim() - 1; i >= 0; --i) {
    if (shape_[i] == 0) return true;
    if (shape_[i] != 1) {
      if (strides_[i] != expected) return false;
      expected *= shape_[i];
    }
  }
  return true;
}

Shape memory_order(const Shape& shape, const Shape& strides) {
  const int rank = shape.rank();
  Shape order(rank);
  for (int i = 0; i < rank; ++i) order[i] = i;
  // Insertion sort, stable: axes of extent 1 and broadcast axes do not move by themselves. An axis of extent
  // 1 has any stride, so the others look past it.
  for (int i = 1; i < rank; ++i) {
    const std::int64_t axis = order[i];
    const auto single = [&](std::int64_t a) { return shape[static_cast<int>(a)] == 1; };
    const auto key = [&](std::int64_t a) { return std::abs(strides[static_cast<int>(a)]); };
    if (single(axis) || key(axis) == 0) continue;
    int place = i;
    for (int j = i; j > 0 && (single(order[j - 1]) || key(order[j - 1]) < key(axis)); --j)
      if (!single(order[j - 1])) place = j - 1;
    for (int j = i; j > place; --j) order[j] = order[j - 1];
    order[place] = axis;
  }
  return order;
}

bool Array::is_dense() const {
  if (is_contiguous()) return true;
  const Shape order = memory_order(shape_, strides_);
  std::int64_t expected = 1;
  for (int i = ndim() - 1; i >= 0; --i) {
    const int axis = static_cast<int>(order[i]);
    if (shape_[axis] == 1) continue;
    if (strides_[axis] != expected) return false;
    expected *= shape_[axis];
  }
  return true;
}

bool Array::self_overlaps() const {
  if (size() <= 1 || is_contiguous()) return false;
  const Shape order = memory_order(shape_, strides_);
  std::int64_t reach = 0;  // the largest distance covered by the faster axes
  for (int i = ndim() - 1; i >= 0; --i) {
    const int axis = static_cast<int>(order[i]);
    if (shape_[axis] == 1) continue;
    const std::int64_t step = std::abs(strides_[axis]);
    if (step <= reach) return true;
    reach += step * (shape_[axis] - 1);
  }
  return false;
}

Array Array::permute(const Shape& axes) const {
  Shape shape(ndim()), strides(ndim());
  for (int i = 0; i < ndim(); ++i) {
    shape[i] = shape_[static_cast<int>(axes[i])];
    strides[i] = strides_[static_cast<int>(axes[i])];
  }
  return as_strided(std::move(shape), std::move(strides), offset_);
}

Array Array::transpose(int a, int b) const {
  Array y = *this;
  std::swap(y.shape_[a], y.shape_[b]);
  std::swap(y.strides_[a], y.strides_[b]);
  return y;
}

Array Array::broadcast_to(const char* operation, const Shape& shape) const {
  if (shape == shape_) return *this;
  const int extra = shape.rank() - ndim();
  bool fits = extra >= 0;
  Shape strides(shape.rank());
  for (int i = 0; fits && i < ndim(); ++i) {
    if (shape_[i] == shape[extra + i])
      strides[extra + i] = strides_[i];
    else if (shape_[i] != 1)
      fits = false;
  }
  if (!fits) value_error(operation, ": shape ", shape_, " does not broadcast to ", shape);
  return as_strided(shape, std::move(strides), offset_);
}

Array Array::slice(int axis, std::int64_t start, std::int64_t length, std::int64_t step) const {
  Array y = *this;
  if (length > 0) y.offset_ += start * strides_[axis];
  y.shape_[axis] = length;
  y.strides_[axis] *= step;
  return y;
}

Array Array::select(int axis, std::int64_t index) const {
  Array y = *this;
  y.offset_ += index * strides_[axis];
  y.shape_.erase(axis);
  y.strides_.erase(axis);
  return y;
}

Array Array::expand_dims(int axis) const {
  Array y = *this;
  y.shape_.insert(axis, 1);
  y.strides_.insert(axis, 0);
  return y;
}

Array Array::squeeze(int axis) const {
  Array y = *this;
  y.shape_.erase(axis);
  y.strides_.erase(axis);
  return y;
}

std::optional<Array> Array::view_as(const Shape& shape) const {
  if (is_contiguous() || size() == 0) return as_strided(shape, row_major_strides(shape), offset_);
  // Walk both shapes together: each group of old axes that multiplies to a group of new ones must be a single
  // run.
  Shape strides(shape.rank());
  int old_axis = 0, new_axis = 0;
  const int old_rank = ndim(), new_rank = shape.rank();
  while (old_axis < old_rank || new_axis < new_rank) {
    std::int64_t old_size = 1, new_size = 1;
    const int old_begin = old_axis, new_begin = new_axis;
    do {
      if (old_size <= new_size && old_axis < old_rank)
        old_size *= shape_[old_axis++];
      else if (new_axis < new_rank)
        new_size *= shape[new_axis++];
    } while (old_size != new_size);
    // Trailing extents of 1 join the last group.
    while (old_axis < old_rank && shape_[old_axis] == 1) ++old_axis;
    while (new_axis < new_rank && shape[new_axis] == 1) ++new_axis;
    std::int64_t stride = 0;
    bool first = true;
    std::int64_t run = 1;
    for (int i = old_axis - 1; i >= old_begin; --i) {
      if (shape_[i] == 1) continue;
      if (first) {
        stride = strides_[i];
        first = false;
      } else if (strides_[i] != stride * run) {
        return std::nullopt;
      }
      run *= shape_[i];
    }
    for (int i = new_axis - 1; i >= new_begin; --i) {
      strides[i] = stride;
      stride *= shape[i];
    }
  }
  return as_strided(shape, std::move(strides), offset_);
}

Array::operator In() const {
  if (!storage_) return In{};
  return In{{data(), shape_.data(), strides_.data(), storage_.get(), ndim(), dtype_}};
}

Array::operator Out() {
  if (!storage_) return Out{};
  if (storage_->read_only()) value_error("the destination is read-only");
  storage_->bump();
  return Out{{data(), shape_.data(), strides_.data(), storage_.get(), ndim(), dtype_}};
}

Array empty(const char* operation, DType dtype, const Shape& shape) {
  const std::int64_t size = checked_size(operation, shape, itemsize(dtype));
  return Array(StorageRef(Storage::allocate(size * itemsize(dtype))), dtype, shape, row_major_strides(shape));
}

Array empty_ordered(const char* operation, DType dtype, const Shape& shape, const Shape& order) {
  Array y = empty(operation, dtype, shape);
  Shape strides(shape.rank());
  std::int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    const int axis = static_cast<int>(order[i]);
    strides[axis] = stride;
    stride *= shape[axis] > 1 ? shape[axis] : 1;
  }
  return y.as_strided(shape, std::move(strides), 0);
}

Array empty_like(const char* operation, const Array& like, DType dtype) {
  if (like.is_contiguous()) return empty(operation, dtype, like.shape());
  return empty_ordered(operation, dtype, like.shape(), memory_order(like.shape(), like.strides()));
}

namespace {
// The first and one past the last byte that the array touches.
std::pair<std::int64_t, std::int64_t> extent(const Array& a) {
  std::int64_t low = a.offset(), high = a.offset();
  for (int i = 0; i < a.ndim(); ++i) {
    const std::int64_t reach = (a.shape(i) - 1) * a.stride(i);
    (reach < 0 ? low : high) += reach;
  }
  const std::int64_t item = itemsize(a.dtype());
  return {low * item, (high + 1) * item};
}
}  // namespace

bool may_overlap(const Array& a, const Array& b) {
  if (a.size() == 0 || b.size() == 0) return false;
  const auto [a_low, a_high] = extent(a);
  const auto [b_low, b_high] = extent(b);
  const char* base_a = static_cast<const char*>(a.storage()->data());
  const char* base_b = static_cast<const char*>(b.storage()->data());
  return base_a + a_low < base_b + b_high && base_b + b_low < base_a + a_high;
}

bool same_elements(const Array& a, const Array& b) {
  return a.data() == b.data() && a.dtype() == b.dtype() && a.shape() == b.shape() &&
         a.strides() == b.strides();
}

}  // namespace ts
