#include "ops/optim.h"

#include "python/bindings.h"

namespace ts::python {

void bind_optim(PyObject* m) {
  add_op(m, "sgd(params, grads, momentum=None, step=None, hyper=None, nesterov=False, maximize=False)",
         &ops::sgd)
      .differentiable = false;
  add_op(m,
         "adam(params, grads, m, v, v_max=None, step=None, hyper=None, decoupled=False, amsgrad=False, "
         "maximize=False)",
         &ops::adam)
      .differentiable = false;
  add_op(m,
         "rmsprop(params, grads, square, momentum=None, mean=None, step=None, hyper=None, centered=False, "
         "maximize=False)",
         &ops::rmsprop)
      .differentiable = false;
  add_op(m, "adagrad(params, grads, square, step, hyper, maximize=False)", &ops::adagrad).differentiable =
      false;
  add_op(m, "adadelta(params, grads, square, delta, step, hyper, maximize=False)", &ops::adadelta)
      .differentiable = false;
  add_op(m, "lion(params, grads, m, step, hyper, maximize=False)", &ops::lion).differentiable = false;
  add_op(m, "gradient_norm(grads)", &ops::gradient_norm).differentiable = false;
}

}  // namespace ts::python
