#include "ops/conv.h"

#include "python/bindings.h"

namespace ts::python {

void bind_conv(PyObject* m) {
  add_op(m, "conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1)", &ops::conv2d);
  add_op(m, "conv2d_relu(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1)",
         &ops::conv2d_relu);
  add_op(m, "conv2d_input_backward(gradient, weight, shape, stride=1, padding=0, dilation=1, groups=1) -> dx",
         &ops::conv2d_input_backward);
  add_op(m,
         "conv2d_weight_backward(gradient, x, shape, stride=1, padding=0, dilation=1, groups=1) -> dweight, "
         "dbias",
         &ops::conv2d_weight_backward);
  add_op(m, "conv3d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1)", &ops::conv3d);
  add_op(m, "conv3d_input_backward(gradient, weight, shape, stride=1, padding=0, dilation=1, groups=1) -> dx",
         &ops::conv3d_input_backward);
  add_op(m,
         "conv3d_weight_backward(gradient, x, shape, stride=1, padding=0, dilation=1, groups=1) -> dweight, "
         "dbias",
         &ops::conv3d_weight_backward);
  add_op(m, "conv2d_bf16(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1)",
         &ops::conv2d_bf16);
  add_op(m, "conv2d_relu_bf16(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1)",
         &ops::conv2d_relu_bf16);
  add_op(m,
         "conv2d_input_backward_bf16(gradient, weight, shape, stride=1, padding=0, dilation=1, groups=1, "
         "dtype=None) -> dx",
         &ops::conv2d_input_backward_bf16);
  add_op(m,
         "conv2d_weight_backward_bf16(gradient, x, shape, stride=1, padding=0, dilation=1, groups=1, "
         "dtype=None) -> dweight, dbias",
         &ops::conv2d_weight_backward_bf16);
}

}  // namespace ts::python
