#include "ops/norm.h"

#include "python/bindings.h"

namespace ts::python {

void bind_norm(PyObject* m) {
  add_op(m, "layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5) -> y; mean, rstd",
         &ops::layer_norm);
  add_op(m,
         "layer_norm_backward(gradient, x, weight=None, mean=None, rstd=None, normalized_shape=(), "
         "parameters=True) -> dx, dweight, dbias",
         &ops::layer_norm_backward);
  add_op(m, "rms_norm(x, normalized_shape, weight=None, eps=1e-5) -> y; rstd", &ops::rms_norm);
  add_op(m, "rms_norm_backward(gradient, x, weight=None, rstd=None, normalized_shape=()) -> dx, dweight",
         &ops::rms_norm_backward);
  add_op(m, "group_norm(x, num_groups, weight, bias=None, eps=1e-5) -> y; mean, rstd", &ops::group_norm);
  add_op(m, "group_norm_backward(gradient, x, weight, mean, rstd, num_groups) -> dx, dweight, dbias",
         &ops::group_norm_backward);
  add_op(m,
         "batch_norm(x, weight=None, bias=None, running_mean=None, running_var=None, momentum=0.1, eps=1e-5)"
         " -> y; mean, rstd",
         &ops::batch_norm);
  add_op(m, "batch_norm_backward(gradient, x, weight=None, mean=None, rstd=None) -> dx, dweight, dbias",
         &ops::batch_norm_backward);
  add_op(m,
         "batch_norm_relu(x, weight=None, bias=None, running_mean=None, running_var=None, momentum=0.1, "
         "eps=1e-5)"
         " -> y; mean, rstd",
         &ops::batch_norm_relu);
  add_op(m,
         "batch_norm_relu_backward(gradient, x, weight=None, bias=None, mean=None, rstd=None) -> dx, "
         "dweight, dbias",
         &ops::batch_norm_relu_backward);
  add_op(m, "channel_affine(x, scale, shift=None)", &ops::channel_affine);
}

}  // namespace ts::python
