#include "ops/softmax.h"

#include "python/bindings.h"

namespace ts::python {

void bind_softmax(PyObject* m) {
  add_op(m, "softmax(x, axis=-1) -> y", &ops::softmax);
  add_op(m, "softmax_backward(gradient, y, axis=-1)", &ops::softmax_backward);
  add_op(m, "log_softmax(x, axis=-1) -> y", &ops::log_softmax);
  add_op(m, "log_softmax_backward(gradient, y, axis=-1)", &ops::log_softmax_backward);
}

}  // namespace ts::python
