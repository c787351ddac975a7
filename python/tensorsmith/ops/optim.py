"""Optimizer steps on the core's arrays; `tensorsmith.optim` has the classes.

All take lists of parameters and gradients (None: that parameter and its state are left alone), flat state
tensors, one step count a parameter (float64, incremented by the call), and `hyper`, float64 numbers that the
kernel reads: lr, weight_decay, grad_scale (multiplies every gradient first), then what each says below. They
return ().
"""

from __future__ import annotations

from tensorsmith._core import ops as core
from tensorsmith.autograd import define

__all__ = ["adadelta", "adagrad", "adam", "gradient_norm", "lion", "rmsprop", "sgd"]

sgd = define(
    core.sgd,
    """b = momentum b + (1 - dampening) g (b = g in the first step); p -= lr (nesterov ? g + momentum b : b).

    hyper: lr, weight_decay, grad_scale, momentum, dampening. momentum (the buffer) and step may both be None.
    """,
)
adam = define(
    core.adam,
    """m += (1 - beta1) (g - m); v = beta2 v + (1 - beta2) g^2; p -= lr m' / (sqrt(v') + eps), bias-corrected.

    hyper: lr, weight_decay, grad_scale, beta1, beta2, eps. v_max is needed with amsgrad.
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
gradient_norm = define(
    core.gradient_norm,
    """The square root of the sum of the squares of all elements of all tensors: 0-d float64, a fixed
    summation tree.
    """,
)
