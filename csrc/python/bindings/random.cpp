#include "ops/random.h"

#include "python/bindings.h"

namespace ts::python {

void bind_random(PyObject* m) {
  add_op(m, "random_bits(state, shape)", &ops::random_bits).differentiable = false;
  add_op(m, "random_uniform(state, shape, low=0.0, high=1.0, dtype=None)", &ops::random_uniform)
      .differentiable = false;
  add_op(m, "random_normal(state, shape, mean=0.0, std=1.0, dtype=None)", &ops::random_normal)
      .differentiable = false;
  add_op(m, "random_exponential(state, shape, scale=1.0, dtype=None)", &ops::random_exponential)
      .differentiable = false;
  add_op(m, "random_gamma(state, k, shape=None, dtype=None)", &ops::random_gamma).differentiable = false;
  add_op(m, "random_poisson(state, mean, shape=None)", &ops::random_poisson).differentiable = false;
  add_op(m, "random_binomial(state, n, p, shape=None)", &ops::random_binomial).differentiable = false;
  add_op(m, "random_bernoulli(state, shape, p=0.5)", &ops::random_bernoulli).differentiable = false;
  add_op(m, "random_integers(state, shape, low, high)", &ops::random_integers).differentiable = false;
  add_op(m, "random_permutation(state, n)", &ops::random_permutation).differentiable = false;
  add_op(m, "uniform_(x, state, low=0.0, high=1.0)", &ops::uniform_);
  add_op(m, "normal_(x, state, mean=0.0, std=1.0)", &ops::normal_);
  add_op(m, "exponential_(x, state, lambd=1.0)", &ops::exponential_);
  add_op(m, "bernoulli_(x, state, p=0.5)", &ops::bernoulli_);
}

}  // namespace ts::python
