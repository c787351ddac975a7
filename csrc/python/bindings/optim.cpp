#include "ops/optim.h"

#include "python/bindings.h"

namespace ts::python {

void bind_optim(PyObject* m) {
  add_op(m,
         "sgd(params, grads, momentum=None, step=None, hyper=None, nesterov=False, maximize=False, "
         "rows=(), zero_grads=False)",
         &ops::sgd)
      .differentiable = false;
  add_op(m,
         "adam(params, grads, m, v, v_max=None, step=None, hyper=None, decoupled=False, amsgrad=False, "
         "maximize=False, rows=(), zero_grads=False, plain_eps=False)",
         &ops::adam)
      .differentiable = false;
  add_op(m, "adamax(params, grads, m, u, step, hyper, maximize=False, zero_grads=False)", &ops::adamax)
      .differentiable = false;
  add_op(m,
         "nadam(params, grads, m, v, product, step, hyper, decoupled=False, maximize=False, "
         "zero_grads=False)",
         &ops::nadam)
      .differentiable = false;
  add_op(m, "radam(params, grads, m, v, step, hyper, decoupled=False, maximize=False, zero_grads=False)",
         &ops::radam)
      .differentiable = false;
  add_op(m, "lamb(params, grads, m, v, step, hyper, maximize=False, zero_grads=False)", &ops::lamb)
      .differentiable = false;
  add_op(m,
         "rmsprop(params, grads, square, momentum=None, mean=None, step=None, hyper=None, "
         "centered=False, maximize=False, zero_grads=False)",
         &ops::rmsprop)
      .differentiable = false;
  add_op(m, "adagrad(params, grads, square, step, hyper, maximize=False, rows=(), zero_grads=False)",
         &ops::adagrad)
      .differentiable = false;
  add_op(m, "adadelta(params, grads, square, delta, step, hyper, maximize=False, zero_grads=False)",
         &ops::adadelta)
      .differentiable = false;
  add_op(m, "lion(params, grads, m, step, hyper, maximize=False, zero_grads=False)", &ops::lion)
      .differentiable = false;
  add_op(m, "rprop(params, grads, before, size, step, hyper, maximize=False, zero_grads=False)", &ops::rprop)
      .differentiable = false;
  add_op(m, "asgd(params, grads, average, eta, mu, step, hyper, maximize=False, zero_grads=False)",
         &ops::asgd)
      .differentiable = false;
  add_op(m, "gradient_norm(grads)", &ops::gradient_norm).differentiable = false;
}

}  // namespace ts::python
