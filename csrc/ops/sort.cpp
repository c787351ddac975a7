#include "ops/sort.h"

#include <limits>

#include "core/launch.h"
#include "ops/device.h"
#include "ops/index.h"
#include "ops/rows.h"

namespace ts::ops {
namespace {

constexpr std::int64_t kLongRow = 1 << 17;  // from here on the kernels want memory: see kernels.def

Array workspace(const char* operation, std::int64_t columns, std::int64_t bytes) {
  return columns < kLongRow ? Array() : empty(operation, DType::boolean, {bytes});
}

// A GPU orders halves as float32, which holds every one of them.
Array comparable(const char* operation, const char* argument, const Array& x) {
  if (is_half(x.dtype())) return x.device() == Device::cpu ? x : astype(x, DType::float32, false);
  check_domain(operation, argument, x.dtype(), Domain::any);
  return x;
}

void check_length(const char* operation, const Lines& lines) {
  constexpr std::int64_t kMost = (std::int64_t{1} << 32) - 1;
  if (lines.columns() > kMost)
    value_error(operation, ": the axis has ", lines.columns(), " elements; up to ", kMost, " are supported");
}

}  // namespace

Array sort(const Array& x, std::int64_t axis, bool descending) {
  const Lines lines("sort", comparable("sort", "x", x), axis);
  Array y = empty("sort", lines.rows.dtype(), lines.rows.shape());
  Array space = workspace("sort", lines.columns(), 16 * lines.columns());
  if (y.size()) launch<&Kernels::sort>(lines.rows, y, space, descending);
  return astype(lines.restored(y), x.dtype(), false);
}

Array argsort(const Array& x, std::int64_t axis, bool descending) {
  const Lines lines("argsort", comparable("argsort", "x", x), axis);
  check_length("argsort", lines);
  Array index = empty("argsort", DType::int64, lines.rows.shape());
  Array space = workspace("argsort", lines.columns(), 16 * lines.columns());
  if (index.size()) launch<&Kernels::argsort>(lines.rows, index, space, descending);
  return lines.restored(index);
}

Array topk_index(const Array& x, std::int64_t k, std::int64_t axis, bool largest) {
  const Lines lines("topk", comparable("topk", "x", x), axis);
  check_length("topk", lines);
  const std::int64_t extent = x.shape(normalize_axis("topk", axis, x.ndim()));
  if (k < 0 || k > extent)
    value_error("topk: k must be in 0 to ", extent, ", the extent of the axis, got ", k);
  Array index = empty("topk", DType::int64, {lines.rows.shape(0), k});
  Array space = workspace("topk", lines.columns(), 64 * k + (1 << 16));
  if (index.size()) launch<&Kernels::topk>(lines.rows, index, space, largest);
  return lines.restored(index);
}

Array order_statistics(const Array& x, const Array& places) {
  const char* operation = "order_statistics";
  check_domain(operation, "x", x.dtype(), Domain::floating);
  check_rank(operation, "places", places, 1);
  check_same_dtype(operation, "places", places, DType::int64);
  const Lines lines(operation, x, -1);
  const Array at = contiguous(to_device(places, Device::cpu));
  const auto* const place = at.data_as<std::int64_t>();
  for (std::int64_t k = 0; k < at.size(); ++k)
    if (place[k] < 0 || place[k] >= lines.columns() || (k > 0 && place[k] < place[k - 1]))
      value_error(operation, ": places must ascend from 0 to ", lines.columns() - 1, ", got ", place[k],
                  " at ", k);
  Array y = empty(operation, x.dtype(), {lines.rows.shape(0), at.size()});
  Array space = workspace(operation, lines.columns(), 32 * lines.columns());
  if (y.size()) launch<&Kernels::order_statistics>(lines.rows, at, y, space);
  return lines.restored(y);
}

Array searchsorted(const Array& sorted, const Array& x, bool right) {
  const char* operation = "searchsorted";
  if (sorted.ndim() == 0) value_error(operation, ": sorted must have at least one dimension, got shape ()");
  const DType both = promote(sorted.dtype(), x.dtype()), common = computed_in(both);
  check_domain(operation, "the common dtype", common, Domain::any);
  if (sorted.ndim() == 1) {
    Array index = empty(operation, DType::int64, x.shape());
    if (index.size() == 0) return index;
    const Array row = astype(sorted, common, false), values = contiguous(astype(x, common, false));
    Array flat = *index.view_as({1, index.size()});
    launch<&Kernels::searchsorted>(row.expand_dims(0), *values.view_as({1, index.size()}), flat, right);
    return index;
  }
  Shape expected = x.shape();
  if (x.ndim() == sorted.ndim()) expected[x.ndim() - 1] = sorted.shape(x.ndim() - 1);
  if (expected != sorted.shape())
    value_error(operation, ": sorted must have one dimension or the shape of x but for the last dimension, ",
                "got shapes ", sorted.shape(), " and ", x.shape());
  Array index = empty(operation, DType::int64, x.shape());
  if (index.size() == 0) return index;
  Array rows = as_rows(index);
  launch<&Kernels::searchsorted>(as_rows(astype(sorted, common, false)), as_rows(astype(x, common, false)),
                                 rows, right);
  return index;
}

Array run_starts(const Array& given, bool one_nan) {
  check_rank("run_starts", "x", given, 1);
  const Array x = is_half(given.dtype()) ? astype(given, DType::float32, false) : given;
  const std::int64_t N = x.size();
  Array y = empty("run_starts", DType::boolean, {N});
  if (N == 0) return y;
  Array first = y.slice(0, 0, 1), rest = y.slice(0, 1, N - 1);
  copy_into("run_starts", Scalar::of(true), first);
  if (N == 1) return y;
  const Array before = x.slice(0, 0, N - 1);
  launch<&Kernels::not_equal>(x.slice(0, 1, N - 1), before, rest);
  if (one_nan && is_floating(x.dtype())) {
    Array number = empty("run_starts", DType::boolean, {N - 1});
    launch<&Kernels::equal>(before, before, number);
    launch<&Kernels::logical_and>(rest, number, rest);
  }
  return y;
}

Array bincount(const Array& x, std::int64_t minlength) {
  const char* operation = "bincount";
  if (!is_integer(x.dtype())) type_error(operation, ": x must hold integers, got ", name(x.dtype()));
  check_rank(operation, "x", x, 1);
  if (minlength < 0) value_error(operation, ": minlength must be >= 0, got ", minlength);
  const Array values = contiguous(astype(x, DType::int64, false));
  std::int64_t range[2] = {0, -1}, shape = 2, stride = 1;
  if (values.size())
    launch<&Kernels::index_range>(values, Out{{range, &shape, &stride, nullptr, 1, DType::int64}});
  if (range[0] < 0) value_error(operation, ": x must not be negative, got ", range[0]);
  if (range[1] == std::numeric_limits<std::int64_t>::max())
    value_error(operation, ": ", range[1], " in x would need 2^63 counters");
  Array y = empty(operation, DType::int64, {range[1] < minlength ? minlength : range[1] + 1});
  if (y.size()) launch<&Kernels::bincount>(values, y);
  return y;
}

Array distinct_integers(const Array& x) {
  const char* operation = "distinct_integers";
  if (!is_integer(x.dtype())) type_error(operation, ": x must hold integers, got ", name(x.dtype()));
  check_rank(operation, "x", x, 1);
  constexpr std::int64_t kWide = std::int64_t{1} << 62;
  if (x.dtype() == DType::uint64 || x.size() == 0) return empty(operation, x.dtype(), {0});
  Array values = contiguous(astype(x, DType::int64, false));
  std::int64_t range[2] = {0, -1}, shape = 2, stride = 1;
  launch<&Kernels::index_range>(values, Out{{range, &shape, &stride, nullptr, 1, DType::int64}});
  if (range[0] < -kWide || range[1] >= kWide || range[1] - range[0] >= x.size())
    return empty(operation, x.dtype(), {0});
  const bool shifts = range[0] < 0 || range[1] >= x.size();
  const std::int64_t first = shifts ? range[0] : 0;
  std::int64_t low = first, zero = 0;
  const auto lows = [&](const Array& y) {
    return In{{&low, y.shape().data(), &zero, nullptr, 1, DType::int64}};
  };
  if (shifts) {
    Array moved = empty(operation, DType::int64, values.shape());
    launch<&Kernels::subtract>(values, lows(values), moved);
    values = std::move(moved);
  }
  Array counts = empty(operation, DType::int64, {range[1] - first + 1});
  launch<&Kernels::bincount>(values, counts);
  Array y = nonzero_flat(counts);
  if (shifts) launch<&Kernels::add>(y, lows(y), y);
  return astype(y, x.dtype(), false);
}

Array histogram_counts(const Array& x, const Array& edges, bool uniform) {
  const char* operation = "histogram_counts";
  if (is_half(x.dtype()) && is_half(edges.dtype()))
    return histogram_counts(astype(x, DType::float32, false), astype(edges, DType::float32, false), uniform);
  check_domain(operation, "x", x.dtype(), Domain::floating);
  check_same_dtype(operation, "edges", edges, x.dtype());
  check_rank(operation, "edges", edges, 1);
  if (edges.size() < 2) value_error(operation, ": edges must have at least two elements, got ", edges.size());
  Array counts = empty(operation, DType::int64, {edges.size() - 1});
  const Array values = contiguous(x);
  launch<&Kernels::histogram>(*values.view_as({values.size()}), contiguous(edges), counts, uniform);
  return counts;
}

}  // namespace ts::ops
