// Arrays seen as rows: what the kernels that work along the last axis take.
#pragma once

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

}  // namespace ts::ops
