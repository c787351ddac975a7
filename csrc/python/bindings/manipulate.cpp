#include "ops/manipulate.h"

#include "python/bindings.h"

namespace ts::python {

void bind_manipulate(PyObject* m) {
  add_op(m, "reshape(x, shape)", &ops::reshape);
  add_op(m, "view(x, shape)", &ops::view);
  add_op(m, "flatten(x, start_dim=0, end_dim=-1)", &ops::flatten);
  add_op(m, "permute_dims(x, axes=None)", &ops::permute_dims);
  add_op(m, "swapaxes(x, axis1, axis2)", &ops::swapaxes);
  add_op(m, "moveaxis(x, source, destination)", &ops::moveaxis);
  add_op(m, "matrix_transpose(x)", &ops::matrix_transpose);
  add_op(m, "expand_dims(x, axis=0)", &ops::expand_dims);
  add_op(m, "squeeze(x, axis=None)", &ops::squeeze);
  add_op(m, "broadcast_to(x, shape)", &ops::broadcast_to);
  add_op(m, "expand(x, shape)", &ops::expand);
  add_op(m, "flip(x, axis=None)", &ops::flip);
  add_op(m, "as_strided(x, shape, strides, offset=0)", &ops::as_strided);
  add_op(m, "bitcast(x, dtype)", &ops::bitcast).differentiable = false;
  add_op(m, "concat(arrays, axis=0)", &ops::concat);
  add_op(m, "stack(arrays, axis=0)", &ops::stack);
  add_op(m, "split(x, sizes, axis=0)", &ops::split);
  add_op(m, "pad_constant(x, before, after, value=0.0)", &ops::pad_constant);
}

}  // namespace ts::python
