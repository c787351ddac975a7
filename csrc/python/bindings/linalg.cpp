#include "ops/linalg.h"

#include "python/bindings.h"

namespace ts::python {

void bind_linalg(PyObject* m) {
  add_op(m, "cholesky(a) -> l", &ops::cholesky);
  add_op(m, "lu(a) -> factors, pivots", &ops::lu);
  add_op(m, "swap_rows(b, pivots, inverse=False)", &ops::swap_rows);
  add_op(m, "solve_triangular(a, b, upper=False, unit=False) -> x", &ops::solve_triangular);
  add_op(m, "qr(a, complete=False) -> q, r", &ops::qr);
  add_op(m, "eigh(a, vectors=True) -> w, v", &ops::eigh);
  add_op(m, "eig(a, vectors=True) -> w, v", &ops::eig);
  add_op(m, "svd_square(a, vectors=True) -> u, s, vh", &ops::svd_square);
}

}  // namespace ts::python
