// Arrays seen as rows: what the kernels that work along the last axis take.
#pragma once

#include "ops/check.h"
#include "ops/elementwise.h"

namespace ts::ops {

// x as (R, C) with C the product of its last `trailing` extents and stride 1; a copy where the strides do not
// allow it.
inline Array as_rows(const Array& x, int trailing = 1) {
  std::int64_t columns = 1, rows = 1;
  for (int i = 0; i < x.ndim(); ++i) (i < x.ndim() - trailing ? rows : columns) *= x.shape(i);
  const Shape shape{rows, columns};
  if (x.ndim() == 2 && trailing == 1 && x.stride(1) == 1) return x;
  const std::optional<Array> view = x.view_as(shape);
  if (view && (view->stride(1) == 1 || columns <= 1)) return *view;
  return *contiguous(x).view_as(shape);
}

// x as rows along any one axis: the axis last and with stride 1, the others as one.
class Lines {
 public:
  Lines(const char* operation, const Array& x, std::int64_t axis)
      : axis_(normalize_axis(operation, axis, x.ndim())), last_(x.ndim() - 1) {
    const Array moved = axis_ == last_ ? x : x.transpose(axis_, last_);
    shape_ = moved.shape();
    const std::int64_t columns = shape_[last_];
    const Shape two{columns ? moved.size() / columns : 0, columns};
    const std::optional<Array> view = moved.view_as(two);
    rows = view && (view->stride(1) == 1 || columns <= 1) ? *view : *contiguous(moved).view_as(two);
  }
  // Results (R, columns) of rows, with the axis back in its place.
  Array restored(const Array& y) const {
    Shape shape = shape_;
    shape[last_] = y.shape(1);
    const Array moved = *y.view_as(shape);
    return axis_ == last_ ? moved : moved.transpose(axis_, last_);
  }
  std::int64_t columns() const { return rows.shape(1); }

  Array rows;

 private:
  int axis_, last_;
  Shape shape_;
};

}  // namespace ts::ops
