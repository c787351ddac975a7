"""Optimizer steps on the core's arrays; `tensorsmith.optim` has the classes.

All take lists of parameters and gradients (None: that parameter and its state are left alone), flat state
tensors, one step count a parameter (float64, incremented by the call), and `hyper`, float64 numbers that the
kernel reads: lr, weight_decay, grad_scale (multiplies every gradient first), then what each says below. With
zero_grads the gradients are zeros afterwards. Where rows[i] is given (int64, ascending and different), grads[i] holds
those rows of the gradient alone, and only these are updated. They return ().
"""

from __future__ import annotations

from tensorsmith._core import ops as core
from tensorsmith.autograd import define

__all__ = [
    "adadelta", "adagrad", "adam", "adamax", "asgd", "gradient_norm", "lamb", "lion", "nadam", "radam", "rmsprop",
    "rprop", "sgd",
]  # fmt: skip

sgd = define(
    core.sgd,
    """b = momentum b + (1 - dampening) g (b = g in the first step); p -= lr (nesterov ? g + momentum b : b).

    hyper: lr, weight_decay, grad_scale, momentum, dampening. momentum (the buffer) and step may both be None.
    """,
)
adam = define(
    core.adam,
    """m += (1 - beta1) (g - m); v = beta2 v + (1 - beta2) g^2; p -= lr m' / (sqrt(v') + eps), bias-corrected.

    hyper: lr, weight_decay, grad_scale, beta1, beta2, eps. v_max is needed with amsgrad. plain_eps adds eps before
    v is corrected.
    """,
)
adamax = define(
    core.adamax,
    """m += (1 - beta1) (g - m); u = max(beta2 u, |g| + eps); p -= lr / (1 - beta1^t) m / u.

    hyper: lr, weight_decay, grad_scale, beta1, beta2, eps.
    """,
)
nadam = define(
    core.nadam,
    """p -= lr (mu' m / (1 - P mu') + (1 - mu) g / (1 - P)) / (sqrt(v / (1 - beta2^t)) + eps).

    mu = beta1 (1 - 0.96^(t momentum_decay) / 2), mu' the next step's; P, their product, is the float64 state
    `product`, which starts as 1. hyper: lr, weight_decay, grad_scale, beta1, beta2, eps, momentum_decay.
    """,
)
radam = define(
    core.radam,
    """Adam, rectified where the moments rest on few gradients (Liu et al. 2019).

    hyper: lr, weight_decay, grad_scale, beta1, beta2, eps.
    """,
)
lamb = define(
    core.lamb,
    """r = m' / (sqrt(v') + eps) + weight_decay p; p -= lr |p| / |r| r, for each parameter.

    hyper: lr, weight_decay, grad_scale, beta1, beta2, eps.
    """,
)
rmsprop = define(
    core.rmsprop,
    """s = alpha s + (1 - alpha) g^2; d = g / (sqrt(s) + eps); p -= lr d, or lr b with b = momentum b + d.

    hyper: lr, weight_decay, grad_scale, alpha, eps, momentum. momentum (the buffer) may be None; `mean` is
    needed with centered, which takes s - mean^2 for s.
    """,
)
adagrad = define(
    core.adagrad,
    """s += g^2; p -= lr / (1 + (step - 1) lr_decay) g / (sqrt(s) + eps).

    hyper: lr, weight_decay, grad_scale, lr_decay, eps.
    """,
)
adadelta = define(
    core.adadelta,
    """s = rho s + (1 - rho) g^2; d = sqrt((a + eps) / (s + eps)) g; a = rho a + (1 - rho) d^2; p -= lr d.

    hyper: lr, weight_decay, grad_scale, rho, eps.
    """,
)
lion = define(
    core.lion,
    """p = (1 - lr weight_decay) p - lr sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g.

    hyper: lr, weight_decay, grad_scale, beta1, beta2.
    """,
)
rprop = define(
    core.rprop,
    """size *= eta+ where the gradient keeps its sign, eta- where it turns; p -= sign(g) size. It starts as lr.

    hyper: lr, weight_decay (not used), grad_scale, eta-, eta+, the smallest and the largest size.
    """,
)
asgd = define(
    core.asgd,
    """p = (1 - lambd eta) p - eta g; average += mu (p - average); then eta and mu of the next step.

    eta and mu are float64 state, lr and 1 in a parameter's first step. hyper: lr, weight_decay, grad_scale, lambd,
    alpha, t0.
    """,
)
gradient_norm = define(
    core.gradient_norm,
    """The square root of the sum of the squares of all elements of all tensors: 0-d float64, a fixed
    summation tree.
    """,
)
