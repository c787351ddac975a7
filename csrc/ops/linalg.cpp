// Factorisations: leading axes become one batch axis, operands are copied for the kernels to overwrite.
#include "ops/linalg.h"

#include "core/launch.h"
#include "ops/device.h"
#include "ops/elementwise.h"

namespace ts::ops {
namespace {

struct Matrices {
  Shape leading;
  std::int64_t count = 1, m, n;

  Matrices(const char* operation, const char* argument, const Array& a, bool square) {
    check_domain(operation, argument, a.dtype(), Domain::floating);
    if (a.dtype() != DType::float32 && a.dtype() != DType::float64)
      type_error(operation, ": ", argument, " is ", name(a.dtype()), "; float32 or float64 is needed");
    measure(operation, argument, a, square);
  }
  // Square ones of any type.
  Matrices(const char* operation, const Array& a) { measure(operation, "a", a, true); }

  void measure(const char* operation, const char* argument, const Array& a, bool square) {
    const int rank = a.ndim();
    if (rank < 2)
      value_error(operation, ": ", argument, " must have at least 2 dimensions (..., M, N), got shape ",
                  a.shape());
    m = a.shape(rank - 2), n = a.shape(rank - 1);
    if (square && m != n)
      value_error(operation, ": ", argument, " must be square matrices (..., N, N), got shape ", a.shape());
    leading = Shape(a.shape().data(), rank - 2);
    for (std::int64_t extent : leading) count *= extent;
  }

  Shape batched(std::int64_t rows, std::int64_t columns) const { return Shape{count, rows, columns}; }
  // x, of this batch, with its leading axes again.
  Array given_back(const Array& x) const {
    Shape shape = leading;
    for (int i = 1; i < x.ndim(); ++i) shape.push_back(x.shape(i));
    return *x.view_as(shape);
  }
};

// A fresh, dense copy, (B, M, N).
Array fresh(const char* operation, const Array& a, const Matrices& x) {
  Array y = empty(operation, a.dtype(), a.shape());
  copy_into(operation, Operand(a), y);
  return *y.view_as(x.batched(x.m, x.n));
}

// The first matrix of a batch whose info is not 0, or -1.
std::int64_t failed(const std::int64_t* info, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i)
    if (info[i] != 0) return i;
  return -1;
}

// What a kernel's info says, and whether pivots are rows, is looked at on the host: through the door, so that
// a replay looks as well.
void require_positive(In info) {
  const OnHost elements(info);
  const auto* const values = elements.as<std::int64_t>();
  if (const std::int64_t i = failed(values, info.size()); i >= 0)
    value_error("cholesky: matrix ", i, " of the batch is not positive definite: its leading minor of order ",
                values[i], " is not positive");
}

void require_converged(In info, const char* operation) {
  const OnHost elements(info);
  const auto* const values = elements.as<std::int64_t>();
  const std::int64_t i = failed(values, info.size());
  if (i < 0) return;
  if (values[i] == 2) value_error(operation, ": matrix ", i, " of the batch holds inf or NaN");
  runtime_error(operation, ": no convergence for matrix ", i, " of the batch");
}

void require_pivots(In pivots, std::int64_t rows) {
  const OnHost elements(pivots);
  const auto* const values = elements.as<std::int64_t>();
  for (std::int64_t i = 0; i < pivots.size(); ++i)
    if (values[i] < 0 || values[i] >= rows)
      index_error("swap_rows: pivots must be in [0, ", rows, "), got ", values[i]);
}

}  // namespace

Array cholesky(const Array& a) {
  const char* operation = "cholesky";
  const Matrices x(operation, "a", a, true);
  Array l = fresh(operation, a, x), info = empty(operation, DType::int64, Shape{x.count});
  launch<&Kernels::cholesky>(l, info);
  perform("cholesky info", &require_positive, info);
  return x.given_back(l);
}

std::tuple<Array, Array> lu(const Array& a) {
  const char* operation = "lu";
  const Matrices x(operation, "a", a, false);
  Array factors = fresh(operation, a, x);
  Array pivots = empty(operation, DType::int64, Shape{x.count, x.m < x.n ? x.m : x.n});
  if (factors.size() > 0) launch<&Kernels::lu>(factors, pivots);
  return {x.given_back(factors), x.given_back(pivots)};
}

Array swap_rows(const Array& b, const Array& pivots, bool inverse) {
  const char* operation = "swap_rows";
  const Matrices x(operation, "b", b, false);
  check_same_dtype(operation, "pivots", pivots, DType::int64);
  const std::int64_t steps = pivots.ndim() > 0 ? pivots.shape(pivots.ndim() - 1) : 0;
  Shape expected = x.leading;
  expected.push_back(steps);
  check_shape(operation, "pivots", pivots, expected);
  if (steps > x.m) value_error(operation, ": ", steps, " pivots for ", x.m, " rows");
  const Array dense = contiguous(pivots);
  perform("swap_rows pivots", &require_pivots, dense, x.m);
  Array y = fresh(operation, b, x);
  if (y.size() > 0) launch<&Kernels::swap_rows>(*dense.view_as(Shape{x.count, steps}), y, inverse);
  return x.given_back(y);
}

Array solve_triangular(const Array& a, const Array& b, bool upper, bool unit) {
  const char* operation = "solve_triangular";
  const Matrices x(operation, "a", a, true), y(operation, "b", b, false);
  check_same_dtype(operation, "b", b, a.dtype());
  if (x.leading != y.leading || x.n != y.m)
    value_error(operation, ": a of shape ", a.shape(), " and b of shape ", b.shape(),
                " do not fit: (..., N, N) and (..., N, K) are needed");
  Array result = fresh(operation, b, y);
  const std::optional<Array> view = a.view_as(x.batched(x.n, x.n));
  launch<&Kernels::solve_triangular>(view ? *view : *contiguous(a).view_as(x.batched(x.n, x.n)), result,
                                     upper, unit);
  return y.given_back(result);
}

std::tuple<Array, Array> qr(const Array& a, bool complete) {
  const char* operation = "qr";
  const Matrices x(operation, "a", a, false);
  if (x.m > std::int64_t{1} << 17) value_error(operation, ": a may have at most 131072 rows, got ", x.m);
  const std::int64_t steps = x.m < x.n ? x.m : x.n, k = complete ? x.m : steps;
  Array factors = fresh(operation, a, x), tau = empty(operation, a.dtype(), Shape{x.count, steps});
  Array q = empty(operation, a.dtype(), x.batched(x.m, k));
  launch<&Kernels::qr>(factors, tau, q);
  return {x.given_back(q), x.given_back(contiguous(factors.slice(1, 0, k)))};
}

std::tuple<Array, Array> eigh(const Array& a, bool vectors) {
  const char* operation = "eigh";
  const Matrices x(operation, "a", a, true);
  Array work = fresh(operation, a, x), w = empty(operation, a.dtype(), Shape{x.count, x.n});
  Array rows = vectors ? empty(operation, a.dtype(), x.batched(x.n, x.n)) : Array();
  Array info = empty(operation, DType::int64, Shape{x.count});
  if (work.size() > 0) {
    launch<&Kernels::eigh>(work, w, rows, info);
    perform("eigh info", &require_converged, info, operation);
  }
  if (!vectors) return {x.given_back(w), empty(operation, a.dtype(), Shape{0})};
  const Array v = x.given_back(rows);
  return {x.given_back(w), v.transpose(v.ndim() - 2, v.ndim() - 1)};
}

std::tuple<Array, Array> eig(const Array& a, bool vectors) {
  const char* operation = "eig";
  const bool is_float64 = a.dtype() == DType::float64;
  if (!is_float64 && a.dtype() != DType::complex128)
    type_error(operation, ": a is ", name(a.dtype()), "; float64 or complex128 is needed");
  const Matrices x(operation, a);
  if (x.n > std::int64_t{1} << 15) value_error(operation, ": a may have at most 32768 rows, got ", x.n);
  Array work = fresh(operation, a, x), w = empty(operation, DType::complex128, Shape{x.count, x.n});
  Array columns = vectors ? empty(operation, DType::complex128, x.batched(x.n, x.n)) : Array();
  Array z = vectors ? empty(operation, a.dtype(), x.batched(x.n, x.n)) : Array();
  Array info = empty(operation, DType::int64, Shape{x.count});
  if (work.size() > 0) {
    launch<&Kernels::eig>(work, w, columns, z, info);
    perform("eig info", &require_converged, info, operation);
  }
  return {x.given_back(w), vectors ? x.given_back(columns) : empty(operation, DType::complex128, Shape{0})};
}

std::tuple<Array, Array, Array> svd_square(const Array& a, bool vectors) {
  const char* operation = "svd";
  const Matrices x(operation, "a", a, true);
  if (x.n > std::int64_t{1} << 16) value_error(operation, ": a may have at most 65536 rows, got ", x.n);
  Array work = fresh(operation, a, x), s = empty(operation, a.dtype(), Shape{x.count, x.n});
  const auto rows = [&] { return vectors ? empty(operation, a.dtype(), x.batched(x.n, x.n)) : Array(); };
  Array u = rows(), v = rows();
  Array info = empty(operation, DType::int64, Shape{x.count});
  if (work.size() > 0) {
    launch<&Kernels::svd>(work, s, u, v, info);
    perform("svd info", &require_converged, info, operation);
  }
  if (!vectors)
    return {empty(operation, a.dtype(), Shape{0}), x.given_back(s), empty(operation, a.dtype(), Shape{0})};
  const Array left = x.given_back(u);
  return {left.transpose(left.ndim() - 2, left.ndim() - 1), x.given_back(s), x.given_back(v)};
}

}  // namespace ts::ops
