#include "ops/roofline.h"

#include "python/bindings.h"

namespace ts::python {

void bind_roofline(PyObject* m) {
  add_op(m, "fma_loop(pieces, dtype)", &ops::fma_loop).differentiable = false;
  add_op(m, "bf16_loop(pieces)", &ops::bf16_loop).differentiable = false;
  add_op(m, "copy_loop_(target, x, streaming=False)", &ops::copy_loop).differentiable = false;
}

}  // namespace ts::python
