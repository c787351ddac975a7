#include "ops/creation.h"

#include "ops/device.h"
#include "python/bindings.h"

namespace ts::python {

void bind_creation(PyObject* m) {
  // The conversion from Python is the whole operation.
  add_op(m, "asarray(x, /)", +[](const Array& x) { return Array(x); }).differentiable = false;
  add_op(m, "to_device(x, device)", &ops::to_device);
  add_op(m, "pin_memory(x)", &ops::pin).differentiable = false;
  Op& copy = add_op(m, "copy_async_(target, x)", &ops::copy_async);
  copy.differentiable = false;
  copy.moves = true;
  add_op(m, "empty(shape, dtype=None, device=None)", &ops::empty).differentiable = false;
  add_op(m, "zeros(shape, dtype=None, device=None)", &ops::zeros).differentiable = false;
  add_op(m, "ones(shape, dtype=None, device=None)", &ops::ones).differentiable = false;
  add_op(m, "full(shape, fill_value, dtype=None, device=None)", &ops::full).differentiable = false;
  add_op(m, "empty_like(x, dtype=None, device=None)", &ops::empty_like).differentiable = false;
  add_op(m, "zeros_like(x, dtype=None, device=None)", &ops::zeros_like).differentiable = false;
  add_op(m, "ones_like(x, dtype=None, device=None)", &ops::ones_like).differentiable = false;
  add_op(m, "full_like(x, fill_value, dtype=None, device=None)", &ops::full_like).differentiable = false;
  add_op(m, "arange(start, stop=None, step=1, dtype=None, device=None)", &ops::arange).differentiable = false;
  add_op(m, "eye(rows, columns=None, k=0, dtype=None, device=None)", &ops::eye).differentiable = false;
  add_op(m, "tril(x, k=0)", &ops::tril);
  add_op(m, "triu(x, k=0)", &ops::triu);
}

}  // namespace ts::python
