"""Discrete Fourier transforms (the array standard's `fft` extension; NumPy's names, arguments and norms).

Any length: small primes by Stockham's passes, others through a convolution. float32 is computed in float32.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from tensorsmith import _core
from tensorsmith._core import ops as core
from tensorsmith.ops.creation import asarray

__all__ = [
    "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifft2", "ifftn", "ifftshift", "ihfft", "irfft",
    "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn",
]  # fmt: skip


def _complex(operation: str, x: Any) -> Any:
    x = asarray(x)
    if x.dtype.kind != "complex":
        real = x.dtype if x.dtype.kind == "floating" else _core.default_dtype()
        x = core.astype(x, "complex128" if real == "float64" else "complex64")
    return x


def _real(operation: str, x: Any) -> Any:
    x = asarray(x)
    if x.dtype.kind == "complex":
        raise TypeError(f"{operation}: x is {x.dtype}; a real dtype is needed")
    if x.dtype not in ("float32", "float64"):
        x = core.astype(x, _core.default_dtype() if x.dtype.kind != "floating" else "float32")
    return x


def _scale(operation: str, n: int, norm: str | None, inverse: bool) -> float:
    if norm not in (None, "backward", "ortho", "forward"):
        raise ValueError(f'{operation}: norm must be "backward", "ortho" or "forward", got {norm!r}')
    if n < 1:
        raise ValueError(f"{operation}: a transform of {n} points; at least 1 is needed")
    if norm == "ortho":
        return 1.0 / math.sqrt(n)
    return 1.0 / n if inverse != (norm == "forward") else 1.0


def _count(operation: str, n: Any) -> int:
    try:
        return operator.index(n)
    except TypeError:
        raise TypeError(f"{operation}: n must be an integer, got {n!r}") from None


def _axis(operation: str, axis: Any, ndim: int) -> int:
    from tensorsmith.ops.manipulate import _axis

    return _axis(operation, axis, ndim)


def _resize(operation: str, x: Any, n: int | None, axis: int) -> Any:
    """n elements along the axis: cut, or zeros appended."""
    axis = _axis(operation, axis, x.ndim)
    if n is not None:
        n = _count(operation, n)
    if n is None or n == x.shape[axis]:
        return x
    if n < 1:
        raise ValueError(f"{operation}: n must be >= 1, got {n}")
    if n < x.shape[axis]:
        return core.getitem(x, (slice(None),) * axis + (slice(0, n),))
    missing = [n - x.shape[axis] if i == axis else 0 for i in range(x.ndim)]
    return core.pad_constant(x, [0] * x.ndim, missing)


def fft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Any:
    """The transform along an axis, of its first n elements (zeros are appended if there are fewer).

    norm: where 1/n goes: "backward" (the inverse), "forward", or "ortho" (1/sqrt(n) to both)."""
    x = _resize("fft", _complex("fft", x), n, axis)
    return core.fft(x, axis, False, _scale("fft", x.shape[axis], norm, False))


def ifft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Any:
    """The inverse of `fft`."""
    x = _resize("ifft", _complex("ifft", x), n, axis)
    return core.fft(x, axis, True, _scale("ifft", x.shape[axis], norm, True))


def rfft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Any:
    """The first n/2 + 1 elements of the transform of real numbers; the others are their conjugates."""
    x = _resize("rfft", _real("rfft", x), n, axis)
    return core.rfft(x, axis, _scale("rfft", x.shape[axis], norm, False))


def irfft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Any:
    """The inverse of `rfft`: n real numbers, 2 (m - 1) of m elements unless n is given."""
    x = _complex("irfft", x)
    n = 2 * (x.shape[_axis("irfft", axis, x.ndim)] - 1) if n is None else _count("irfft", n)
    if n < 1:
        raise ValueError(f"irfft: n must be >= 1, got {n}")
    x = _resize("irfft", x, n // 2 + 1, axis)
    return core.irfft(x, n, axis, _scale("irfft", n, norm, True))


def hfft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Any:
    """The real transform of a Hermitian sequence, of which x has the first n/2 + 1 elements."""
    x = _complex("hfft", x)
    n = 2 * (x.shape[_axis("hfft", axis, x.ndim)] - 1) if n is None else _count("hfft", n)
    if n < 1:
        raise ValueError(f"hfft: n must be >= 1, got {n}")
    x = _resize("hfft", core.conj(x), n // 2 + 1, axis)
    return core.irfft(x, n, axis, _scale("hfft", n, norm, False))


def ihfft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Any:
    """The inverse of `hfft`."""
    x = _resize("ihfft", _real("ihfft", x), n, axis)
    return core.conj(core.rfft(x, axis, _scale("ihfft", x.shape[axis], norm, True)))


def _integers(operation: str, argument: str, value: Any, alone: bool = False) -> list[int]:
    """A sequence of integers, or (alone) one of them."""
    try:
        if alone and hasattr(value, "__index__") and not getattr(value, "ndim", 0):
            return [operator.index(value)]
        return [operator.index(n) for n in value]
    except TypeError:
        raise TypeError(f"{operation}: {argument} must be integers, got {value!r}") from None


def _axes_of(
    operation: str, x: Any, s: Sequence[int] | None, axes: Sequence[int] | None
) -> tuple[Any, list[int]]:
    """The lengths (None: as they are) and the axes of a transform along several."""
    if s is not None:
        s = _integers(operation, "s", s)
    if axes is None:
        axes = list(range(x.ndim)) if s is None else list(range(-len(s), 0))
    axes = _integers(operation, "axes", axes)
    if s is None:
        return [None] * len(axes), axes
    if len(s) != len(axes):
        raise ValueError(f"{operation}: {len(s)} lengths for {len(axes)} axes")
    return [None if n == -1 else n for n in s], axes


def fftn(
    x: Any,
    /,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str | None = "backward",
) -> Any:
    """`fft` along several axes, all of them by default; s: their lengths."""
    x = _complex("fftn", x)
    lengths, axes = _axes_of("fftn", x, s, axes)
    for n, axis in zip(reversed(lengths), reversed(axes)):
        x = fft(x, n, axis, norm)
    return x


def ifftn(
    x: Any,
    /,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str | None = "backward",
) -> Any:
    """The inverse of `fftn`."""
    x = _complex("ifftn", x)
    lengths, axes = _axes_of("ifftn", x, s, axes)
    for n, axis in zip(reversed(lengths), reversed(axes)):
        x = ifft(x, n, axis, norm)
    return x


def rfftn(
    x: Any,
    /,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str | None = "backward",
) -> Any:
    """`rfft` along the last of the axes, `fft` along the others."""
    x = _real("rfftn", x)
    lengths, axes = _axes_of("rfftn", x, s, axes)
    if not axes:
        raise ValueError("rfftn: at least one axis is needed")
    # Before `rfft`, for an axis may come twice.
    others = [x.shape[_axis("rfftn", a, x.ndim)] if n is None else n for n, a in zip(lengths[:-1], axes[:-1])]
    return fftn(rfft(x, lengths[-1], axes[-1], norm), others, axes[:-1], norm)


def irfftn(
    x: Any,
    /,
    s: Sequence[int] | None = None,
    axes: Sequence[int] | None = None,
    norm: str | None = "backward",
) -> Any:
    """The inverse of `rfftn`."""
    x = _complex("irfftn", x)
    lengths, axes = _axes_of("irfftn", x, s, axes)
    if not axes:
        raise ValueError("irfftn: at least one axis is needed")
    last = x.shape[_axis("irfftn", axes[-1], x.ndim)] if s is not None and s[-1] == -1 else lengths[-1]
    x = ifftn(x, [-1 if n is None else n for n in lengths[:-1]], axes[:-1], norm)
    return irfft(x, last, axes[-1], norm)


def fft2(x: Any, /, s: Any = None, axes: Sequence[int] = (-2, -1), norm: str | None = "backward") -> Any:
    """`fftn` along two axes."""
    return fftn(x, s, axes, norm)


def ifft2(x: Any, /, s: Any = None, axes: Sequence[int] = (-2, -1), norm: str | None = "backward") -> Any:
    """`ifftn` along two axes."""
    return ifftn(x, s, axes, norm)


def rfft2(x: Any, /, s: Any = None, axes: Sequence[int] = (-2, -1), norm: str | None = "backward") -> Any:
    """`rfftn` along two axes."""
    return rfftn(x, s, axes, norm)


def irfft2(x: Any, /, s: Any = None, axes: Sequence[int] = (-2, -1), norm: str | None = "backward") -> Any:
    """`irfftn` along two axes."""
    return irfftn(x, s, axes, norm)


def _positive(operation: str, n: Any) -> int:
    n = _count(operation, n)
    if n < 1:
        raise ValueError(f"{operation}: n must be >= 1, got {n}")
    return n


def _frequencies(counts: Any, n: int, d: float, dtype: Any, device: Any) -> Any:
    result = core.astype(core.divide(core.astype(counts, "float64"), n * d), dtype or _core.default_dtype())
    return result if device is None else core.to_device(result, device)


def fftfreq(n: int, d: float = 1.0, dtype: Any = None, device: Any = None) -> Any:
    """The frequencies of `fft`'s elements: 0, 1, ..., -2, -1 over n d."""
    n = _positive("fftfreq", n)
    counts = core.concat([core.arange(0, (n + 1) // 2), core.arange(-(n // 2), 0)])
    return _frequencies(counts, n, d, dtype, device)


def rfftfreq(n: int, d: float = 1.0, dtype: Any = None, device: Any = None) -> Any:
    """The frequencies of `rfft`'s elements: 0, 1, ..., n/2 over n d."""
    n = _positive("rfftfreq", n)
    return _frequencies(core.arange(0, n // 2 + 1), n, d, dtype, device)


def _shifts(x: Any, axes: Any, sign: int) -> Any:
    from tensorsmith.ops.manipulate import roll

    x = asarray(x)
    name = "fftshift" if sign > 0 else "ifftshift"
    chosen = list(range(x.ndim)) if axes is None else _integers(name, "axes", axes, True)
    return roll(x, [x.shape[a] // 2 if sign > 0 else -(x.shape[a] // 2) for a in chosen], chosen)


def fftshift(x: Any, /, axes: int | Sequence[int] | None = None) -> Any:
    """Frequency 0 in the middle."""
    return _shifts(x, axes, 1)


def ifftshift(x: Any, /, axes: int | Sequence[int] | None = None) -> Any:
    """The inverse of `fftshift`."""
    return _shifts(x, axes, -1)
