#include "ops/attention.h"

#include "python/bindings.h"

namespace ts::python {

void bind_attention(PyObject* m) {
  add_op(m,
         "attention(q, k, v, mask=None, keys=None, state=None, scale=1.0, left=-1, right=-1, dropout=0.0)"
         " -> y; logsumexp, seed",
         &ops::attention);
  add_op(
      m,
      "attention_backward(gradient, q, k, v, y, logsumexp, seed, mask=None, keys=None, scale=1.0, left=-1, "
      "right=-1, dropout=0.0, mask_gradient=False) -> dq, dk, dv, dmask",
      &ops::attention_backward);
}

}  // namespace ts::python
