#include "ops/dropout.h"

#include "python/bindings.h"

namespace ts::python {

void bind_dropout(PyObject* m) {
  add_op(m, "dropout(state, x, p) -> y; mask", &ops::dropout);
  add_op(m, "dropout_backward(dy, mask, p) -> dx", &ops::dropout_backward);
}

}  // namespace ts::python
