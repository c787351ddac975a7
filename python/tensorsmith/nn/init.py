"""Ways to fill a tensor before training; each works in place, without a gradient, and returns its tensor.

fan_in is what one output sums over, fan_out the reverse; for weight (O, C, KH,
KW) they are C KH KW and O KH KW.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.nn import _checks
from tensorsmith.tensor import Tensor

_GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 0.75,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights grow to keep the variance through `nonlinearity`;
    `param` is leaky_relu's slope.
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else float(param)
        return math.sqrt(2.0 / (1 + slope * slope))
    _checks.choice("calculate_gain", "nonlinearity", nonlinearity, (*_GAINS, "leaky_relu"))
    return _GAINS[nonlinearity]


def _fill(tensor: Tensor, draw: Callable[[Tensor], Any]) -> Tensor:
    """Random numbers are drawn in float32 or float64: bfloat16 and float16 get rounded ones."""
    with ts.no_grad():
        if tensor.dtype in (ts.bfloat16, ts.float16):
            wide = ts.empty_like(tensor, dtype=ts.float32).detach()
            draw(wide)
            tensor.copy_(wide.astype(tensor.dtype))
        else:
            draw(tensor)
    return tensor


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform in [a, b)."""
    if not _checks.number("uniform_", "a", a) <= _checks.number("uniform_", "b", b):
        raise ValueError(f"uniform_: a must be <= b, got a={a} and b={b}")
    return _fill(tensor, lambda x: x.uniform_(a, b, generator=generator))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Normal with the given mean and standard deviation."""
    _checks.number("normal_", "mean", mean)
    _checks.at_least("normal_", "std", std)
    return _fill(tensor, lambda x: x.normal_(mean, std, generator=generator))


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Any = None,
) -> Tensor:
    """Normal, conditioned on lying in [a, b]: what falls outside is drawn again.

    Where [a, b] holds little of the normal's mass, uniform draws accepted by the density's height replace
    normal ones, so that few rounds are ever needed (Robert 1995).
    """
    _checks.number("trunc_normal_", "mean", mean)
    _checks.more_than("trunc_normal_", "std", std)
    if not _checks.number("trunc_normal_", "a", a) < _checks.number("trunc_normal_", "b", b):
        raise ValueError(f"trunc_normal_: a must be < b, got a={a} and b={b}")
    low, high = (a - mean) / std, (b - mean) / std
    mass = 0.5 * (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2)))
    peak = max(low, min(high, 0.0))  # where the density is highest inside
    # Where it is below 2^-60 of that, nothing would be accepted: [a, b] may be wide or have no end.
    reach = math.sqrt(peak * peak + 120 * math.log(2))
    start, end = max(low, -reach), min(high, reach)
    draw = ts.empty_like(tensor, dtype=ts.float64).detach()
    chance = ts.empty_like(draw)
    with ts.no_grad():
        value = ts.zeros_like(draw)
        missing = ops.isfinite(value)  # everywhere, to begin with
        while bool(ops.any(missing)):
            if mass > 0.2:
                draw.normal_(0.0, 1.0, generator=generator)
                accepted = ops.logical_and(draw >= low, draw <= high)
            else:
                draw.uniform_(start, end, generator=generator)
                chance.uniform_(0.0, 1.0, generator=generator)
                accepted = chance <= ops.exp((peak * peak - draw * draw) * 0.5)
            value = ops.where(missing, draw, value)
            missing = ops.logical_and(missing, ops.logical_not(accepted))
        tensor.copy_(ops.clip(value * std + mean, a, b).astype(tensor.dtype))
    return tensor


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Every element `val`."""
    with ts.no_grad():
        tensor.fill_(val)
    return tensor


def ones_(tensor: Tensor) -> Tensor:
    """Every element 1."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Every element 0."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """1 on the diagonal of a matrix, 0 elsewhere."""
    if tensor.ndim != 2:
        raise ValueError(f"eye_: tensor must be 2-dimensional, got shape {tuple(tensor.shape)}")
    with ts.no_grad():
        tensor.copy_(ts.eye(*tensor.shape, dtype=tensor.dtype))
    return tensor


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    shape = tuple(tensor.shape)
    if len(shape) < 2:
        raise ValueError(f"fan in and fan out need a tensor of at least 2 dimensions, got shape {shape}")
    taps = math.prod(shape[2:])
    return shape[1] * taps, shape[0] * taps


def _fan(name: str, tensor: Tensor, mode: str) -> int:
    mode = _checks.choice(name, "mode", mode.lower(), ("fan_in", "fan_out"))
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return fan_in if mode == "fan_in" else fan_out


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform in +-gain sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    gain = _checks.number("xavier_uniform_", "gain", gain)
    bound = gain * math.sqrt(6.0 / max(sum(_calculate_fan_in_and_fan_out(tensor)), 1))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Normal with std gain sqrt(2 / (fan_in + fan_out)) (Glorot & Bengio 2010)."""
    gain = _checks.number("xavier_normal_", "gain", gain)
    std = gain * math.sqrt(2.0 / max(sum(_calculate_fan_in_and_fan_out(tensor)), 1))
    return normal_(tensor, 0.0, std, generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """Uniform in +-gain sqrt(3 / fan); `a` is leaky_relu's slope (He et al. 2015)."""
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / max(_fan("kaiming_uniform_", tensor, mode), 1))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """Normal with std gain / sqrt(fan); `a` is leaky_relu's slope (He et al. 2015)."""
    std = calculate_gain(nonlinearity, a) / math.sqrt(max(_fan("kaiming_normal_", tensor, mode), 1))
    return normal_(tensor, 0.0, std, generator)


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Any = None) -> Tensor:
    """gain times a random matrix with orthonormal rows, or columns where there are fewer (Saxe et al. 2014); further
    axes are flattened into the columns."""
    if tensor.ndim < 2:
        raise ValueError(
            f"orthogonal_: tensor must have at least 2 dimensions, got shape {tuple(tensor.shape)}"
        )
    if tensor.dtype.kind != "floating":
        raise TypeError(f"orthogonal_: tensor must be floating-point, got {tensor.dtype}")
    if tensor.size == 0:
        return tensor
    rows, columns = tensor.shape[0], tensor.size // tensor.shape[0]
    wide = ts.float64 if tensor.dtype == ts.float64 else ts.float32
    with ts.no_grad():
        normal = ts.empty((max(rows, columns), min(rows, columns)), dtype=wide, device=tensor.device)
        q, r = ts.linalg.qr(normal_(normal, generator=generator))
        # Uniform over all such matrices (Mezzadri 2007).
        q = q * ops.where(ts.linalg.diagonal(r) < 0, -1.0, 1.0)
        q = q if rows >= columns else ops.matrix_transpose(q)
        tensor.copy_((q * gain).reshape(tensor.shape).astype(tensor.dtype))
    return tensor


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Weights of a convolution that passes its input channels through, as many as there are; in each group."""
    shape = tuple(tensor.shape)
    if len(shape) not in (3, 4, 5):
        raise ValueError(f"dirac_: tensor must have 3, 4 or 5 dimensions, got shape {shape}")
    if shape[0] % _checks.integer("dirac_", "groups", groups):
        raise ValueError(f"dirac_: groups must divide the first extent, got {groups} and {shape[0]}")
    each, middle = shape[0] // groups, [n // 2 for n in shape[2:]]
    with ts.no_grad():
        tensor.fill_(0)
        for channel in range(min(each, shape[1])):
            for group in range(groups):
                place = (group * each + channel, channel, *middle)
                tensor[place] = 1
    return tensor


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Any = None) -> Tensor:
    """Normal with the given std, and in every column of a matrix the share `sparsity` of the elements 0 (Martens
    2010)."""
    if tensor.ndim != 2:
        raise ValueError(f"sparse_: tensor must be 2-dimensional, got shape {tuple(tensor.shape)}")
    _checks.probability("sparse_", "sparsity", sparsity)
    zeros = math.ceil(sparsity * tensor.shape[0])
    with ts.no_grad():
        normal_(tensor, 0.0, std, generator)
        chance = uniform_(ts.empty(tensor.shape, device=tensor.device), generator=generator)
        rank = ops.argsort(ops.argsort(chance, axis=0), axis=0)
        tensor.copy_(ops.where(rank < zeros, 0.0, tensor))
    return tensor
