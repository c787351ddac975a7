#include "ops/reduce.h"

#include "python/bindings.h"

namespace ts::python {

void bind_reduce(PyObject* m) {
  add_op(m, "sum(x, axis=None, dtype=None, keepdims=False)", &ops::sum);
  add_op(m, "prod(x, axis=None, dtype=None, keepdims=False)", &ops::prod);
  add_op(m, "mean(x, axis=None, dtype=None, keepdims=False)", &ops::mean);
  add_op(m, "var(x, axis=None, correction=0.0, keepdims=False)", &ops::var);
  add_op(m, "max(x, axis=None, keepdims=False)", &ops::max);
  add_op(m, "min(x, axis=None, keepdims=False)", &ops::min);
  add_op(m, "any(x, axis=None, keepdims=False)", &ops::any).differentiable = false;
  add_op(m, "all(x, axis=None, keepdims=False)", &ops::all).differentiable = false;
  add_op(m, "all_close(a, b, rtol, atol, equal_nan)", &ops::all_close).differentiable = false;
  add_op(m, "logsumexp(x, axis=None, keepdims=False)", &ops::logsumexp);
  add_op(m, "argmax(x, axis=None, keepdims=False)", &ops::argmax).differentiable = false;
  add_op(m, "argmin(x, axis=None, keepdims=False)", &ops::argmin).differentiable = false;
  add_op(m, "vector_norm(x, axis=None, order=2.0, keepdims=False)", &ops::vector_norm);
  add_op(m, "cumsum(x, axis=None, dtype=None)", &ops::cumsum);
  add_op(m, "cumprod(x, axis=None, dtype=None)", &ops::cumprod);
  add_op(m, "cummax(x, axis) -> y, index", &ops::cummax);
  add_op(m, "cummin(x, axis) -> y, index", &ops::cummin);
  add_op(m, "logcumsumexp(x, axis)", &ops::logcumsumexp);
  add_op(m, "logcumsumexp_backward(gradient, result, axis) -> sums", &ops::logcumsumexp_backward);
  add_op(m, "expand_reduced(x, shape, axis=None, keepdims=False)", &ops::expand_reduced);
}

}  // namespace ts::python
