#include "ops/matmul.h"

#include "python/bindings.h"

namespace ts::python {

void bind_matmul(PyObject* m) {
  add_op(m, "matmul(a, b)", &ops::matmul);
  add_op(m, "linear(x, weight, bias=None)", &ops::linear);
  add_op(m, "linear_relu(x, weight, bias=None)", &ops::linear_relu);
  add_op(m, "linear_weight_backward(gradient, x)", &ops::linear_weight_backward);
}

}  // namespace ts::python
