"""Random numbers under NumPy's names: `ts.random.normal(size=(3, 4))`, `ts.random.Generator(seed)`.

Draws come from `generator=`, or from `default_generator`, which `ts.manual_seed` restarts; a fresh process
starts it from seed 0. `get_state` and `set_state` save and restore it.
"""

from tensorsmith.ops.random import (
    Generator,
    bernoulli,
    beta,
    binomial,
    categorical,
    chisquare,
    choice,
    default_generator,
    dirichlet,
    exponential,
    gamma,
    get_state,
    integers,
    manual_seed,
    multinomial,
    normal,
    permutation,
    poisson,
    random,
    set_state,
    standard_gamma,
    standard_normal,
    uniform,
)
from tensorsmith.ops.random import manual_seed as seed

__all__ = [
    "Generator",
    "bernoulli",
    "beta",
    "binomial",
    "categorical",
    "chisquare",
    "choice",
    "default_generator",
    "dirichlet",
    "exponential",
    "gamma",
    "get_state",
    "integers",
    "manual_seed",
    "multinomial",
    "normal",
    "permutation",
    "poisson",
    "random",
    "seed",
    "set_state",
    "standard_gamma",
    "standard_normal",
    "uniform",
]
