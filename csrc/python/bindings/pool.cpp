#include "ops/pool.h"

#include "python/bindings.h"

namespace ts::python {

void bind_pool(PyObject* m) {
  add_op(m, "max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False) -> y; index",
         &ops::max_pool2d);
  // With the winning taps, kh KW + kw, for those who ask for positions.
  add_op(m,
         "max_pool2d_taps(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False) -> y, index",
         &ops::max_pool2d)
      .differentiable = false;
  add_op(m,
         "max_pool2d_backward(gradient, index, shape, kernel_size, stride=None, padding=0, dilation=1, "
         "ceil_mode=False) -> dx",
         &ops::max_pool2d_backward);
  add_op(m, "fractional_max_pool2d(x, samples, kernel_size, output_size) -> y, index",
         &ops::fractional_max_pool2d);
  add_op(m,
         "avg_pool2d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, "
         "divisor_override=None)",
         &ops::avg_pool2d);
  add_op(m,
         "avg_pool2d_backward(gradient, shape, kernel_size, stride=None, padding=0, ceil_mode=False, "
         "count_include_pad=True, divisor_override=None) -> dx",
         &ops::avg_pool2d_backward);
}

}  // namespace ts::python
