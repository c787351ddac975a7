#include "ops/sparse.h"

#include "python/bindings.h"

namespace ts::python {

void bind_sparse(PyObject* m) {
  add_op(m, "csr_matmul(x, starts, columns, values=None, axis=0)", &ops::csr_matmul);
}

}  // namespace ts::python
