#include "ops/matmul.h"

#include "python/bindings.h"

namespace ts::python {

void bind_matmul(PyObject* m) {
  add_op(m, "matmul(a, b)", &ops::matmul).call_into = [](const Op& op, PyObject* const* arguments,
                                                         Array& out) {
    Convert<Array> a, b;
    return ops::try_matmul_into(a(op.argument(0, arguments[0])), b(op.argument(1, arguments[1])), out);
  };
  add_op(m, "vecdot(a, b, axes=1)", &ops::vecdot);
  add_op(m, "linear(x, weight, bias=None)", &ops::linear);
  add_op(m, "linear_relu(x, weight, bias=None)", &ops::linear_relu);
  add_op(m, "linear_weight_backward(gradient, x)", &ops::linear_weight_backward);
  add_op(m, "matmul_bf16(a, b, dtype=None)", &ops::matmul_bf16);
  add_op(m, "linear_bf16(x, weight, bias=None)", &ops::linear_bf16);
  add_op(m, "linear_relu_bf16(x, weight, bias=None)", &ops::linear_relu_bf16);
  add_op(m, "linear_weight_backward_bf16(gradient, x, dtype=None)", &ops::linear_weight_backward_bf16);
}

}  // namespace ts::python
