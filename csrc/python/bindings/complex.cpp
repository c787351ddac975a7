#include "ops/complex.h"

#include "python/bindings.h"

namespace ts::python {

void bind_complex(PyObject* m) {
  add_op(m, "real(x, /)", &ops::real);
  add_op(m, "imag(x, /)", &ops::imag);
  add_op(m, "conj(x, /)", &ops::conj);
  add_op(m, "from_parts(a, b, /)", &ops::from_parts);
}

}  // namespace ts::python
