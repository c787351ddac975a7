#include "ops/resample.h"

#include "core/launch.h"
#include "ops/creation.h"
#include "ops/elementwise.h"
#include "ops/sparse.h"

namespace ts::ops {
namespace {

const Shape kLast{0, 2, 3, 1};  // N H W C

Array channels_last(const char* operation, const Array& x) {
  const Array view = x.permute(kLast);
  if (view.stride(3) == 1 || x.shape(1) == 1) return view;
  Array copy = empty(operation, x.dtype(), view.shape());
  if (copy.size()) launch<&Kernels::cast>(view, copy);
  return copy;
}

// A GPU's kernels take no halves.
Array readable(const Array& x) {
  return x.device() == Device::cpu ? x : astype(x, computed_in(x.dtype()), false);
}

struct Points {
  Array x, grid;  // (N, H, W, C), (N, P, 2); of halves the grid is float32, and on a GPU x
  GridSample options;
};

Points points(const char* operation, const Array& x, const Array& grid, bool nearest, std::int64_t padding,
              bool align) {
  check_floating(operation, "x", x.dtype());
  check_rank(operation, "x", x, 4);
  check_same_dtype(operation, "grid", grid, x.dtype());
  check_rank(operation, "grid", grid, 4);
  check_shape(operation, "grid", grid, Shape{x.shape(0), grid.shape(1), grid.shape(2), 2});
  if (x.shape(2) * x.shape(3) == 0)
    value_error(operation, ": x has no elements to sample, its shape is ", x.shape());
  if (padding < 0 || padding > 2)
    value_error(operation, ": padding must be 0 (zeros), 1 (border) or 2 (reflection), got ", padding);
  const Shape flat{grid.shape(0), grid.shape(1) * grid.shape(2), 2};
  const Array wide = astype(grid, computed_in(grid.dtype()), false);
  const std::optional<Array> view = wide.view_as(flat);
  return {channels_last(operation, readable(x)), view ? *view : *contiguous(wide).view_as(flat),
          GridSample{nearest, static_cast<GridPadding>(padding), align}};
}

// (N, P, Q, C) seen as (N, P Q, C), and as (N, C, P, Q).
Array by_points(const Array& y) { return *y.view_as({y.shape(0), y.shape(1) * y.shape(2), y.shape(3)}); }
Array channels_first(const Array& y) { return y.permute({0, 3, 1, 2}); }

}  // namespace

Array resample2d(const Array& x, const Array& row_starts, const Array& rows, const Array& column_starts,
                 const Array& columns, const Array& row_values, const Array& column_values) {
  const char* operation = "resample2d";
  check_floating(operation, "x", x.dtype());
  check_rank(operation, "x", x, 4);
  const Csr down = checked_csr(operation, row_starts, rows, row_values, x, 2);
  const Csr across = checked_csr(operation, column_starts, columns, column_values, x, 3);
  const std::int64_t N = x.shape(0), C = x.shape(1), P = down.rows(), Q = across.rows();
  const Shape shape{N, C, P, Q};
  if (down.columns.size() == 0 || across.columns.size() == 0) return zeros(shape, x.dtype());
  const Array last = x.permute(kLast);
  const bool is_last = C > 1 && last.stride(3) == 1 && last.stride(2) == C;
  if (is_last) {
    Array y = empty(operation, x.dtype(), Shape{N, P, Q, C});
    if (y.size())
      launch<&Kernels::resample2d>(down.starts, down.columns, down.values, across.starts, across.columns,
                                   across.values, last, y);
    return channels_first(y);
  }
  Array y = empty(operation, x.dtype(), shape);
  if (y.size() == 0) return y;
  const Shape images{N * C, x.shape(2), x.shape(3), 1};
  const std::optional<Array> view = x.view_as(images);
  const Array source =
      view && (view->stride(2) == 1 || x.shape(3) == 1) ? *view : *contiguous(x).view_as(images);
  Array to = *y.view_as({N * C, P, Q, 1});
  launch<&Kernels::resample2d>(down.starts, down.columns, down.values, across.starts, across.columns,
                               across.values, source, to);
  return y;
}

Array grid_sample(const Array& x, const Array& grid, bool nearest, std::int64_t padding, bool align) {
  const char* operation = "grid_sample";
  const Points p = points(operation, x, grid, nearest, padding, align);
  Array y = empty(operation, p.x.dtype(), Shape{x.shape(0), grid.shape(1), grid.shape(2), x.shape(1)});
  Array rows = by_points(y);
  if (y.size()) launch<&Kernels::grid_sample>(p.x, p.grid, rows, p.options);
  return astype(channels_first(y), x.dtype(), false);
}

std::tuple<Array, Array> grid_sample_backward(const Array& dy, const Array& x, const Array& grid,
                                              bool nearest, std::int64_t padding, bool align) {
  const char* operation = "grid_sample_backward";
  const Points p = points(operation, x, grid, nearest, padding, align);
  check_same_dtype(operation, "gradient", dy, x.dtype());
  check_shape(operation, "gradient", dy, Shape{x.shape(0), x.shape(1), grid.shape(1), grid.shape(2)});
  const Array upstream = contiguous(readable(dy).permute(kLast));
  Array dx = empty(operation, computed_in(x.dtype()), Shape{x.shape(0), x.shape(2), x.shape(3), x.shape(1)});
  Array dgrid = empty(operation, dx.dtype(), grid.shape());
  if (x.size() == 0) return {zeros(x.shape(), x.dtype()), zeros(grid.shape(), x.dtype())};
  if (upstream.size() == 0) return {zeros(x.shape(), x.dtype()), astype(dgrid, x.dtype(), false)};
  Array flat = *dgrid.view_as({grid.shape(0), grid.shape(1) * grid.shape(2), 2});
  launch<&Kernels::grid_sample_backward>(by_points(upstream), p.x, p.grid, dx, flat, p.options);
  return {astype(channels_first(dx), x.dtype(), false), astype(dgrid, x.dtype(), false)};
}

}  // namespace ts::ops
