"""Random numbers under NumPy's names: `ts.random.normal(size=(3, 4))`, `ts.random.Generator(seed)`.

Draws come from `generator=`, or from `default_generator`, which `ts.manual_seed` restarts; a fresh process
starts it from seed 0. `get_state` and `set_state` save and restore it.
"""

from tensorsmith.ops.random import (
    Generator,
    bernoulli,
    default_generator,
    get_state,
    integers,
    manual_seed,
    normal,
    permutation,
    random,
    set_state,
    standard_normal,
    uniform,
)
from tensorsmith.ops.random import manual_seed as seed

__all__ = [
    "Generator",
    "bernoulli",
    "default_generator",
    "get_state",
    "integers",
    "manual_seed",
    "normal",
    "permutation",
    "random",
    "seed",
    "set_state",
    "standard_normal",
    "uniform",
]
