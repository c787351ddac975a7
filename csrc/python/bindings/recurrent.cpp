#include "ops/recurrent.h"

#include "python/bindings.h"

namespace ts::python {

void bind_recurrent(PyObject* m) {
  add_op(m,
         "recurrent(x, w_input, w_hidden, b_input=None, b_hidden=None, h0=None, c0=None, lengths=None, "
         "cell='lstm', "
         "reverse=False) -> y, hn, cn; gates, extra",
         &ops::recurrent);
  add_op(m,
         "recurrent_backward(gates, extra, y, w_hidden, h0, c0=None, lengths=None, gradient=None, "
         "gradient_h=None, "
         "gradient_c=None, cell='lstm', reverse=False) -> dgates, dhidden, before, dh0, dc0",
         &ops::recurrent_backward);
  add_op(m,
         "recurrent_bf16(x, w_input, w_hidden, b_input=None, b_hidden=None, h0=None, c0=None, lengths=None, "
         "cell='lstm', "
         "reverse=False) -> y, hn, cn; gates, extra",
         &ops::recurrent_bf16);
  add_op(m,
         "recurrent_bf16_backward(gates, extra, y, w_hidden, h0, c0=None, lengths=None, gradient=None, "
         "gradient_h=None, "
         "gradient_c=None, cell='lstm', reverse=False) -> dgates, dhidden, before, dh0, dc0",
         &ops::recurrent_bf16_backward);
}

}  // namespace ts::python
