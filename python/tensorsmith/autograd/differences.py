"""Gradients held against central differences, (f(x + eps) - f(x - eps)) / 2 eps: `gradcheck` and `gradgradcheck`.

Complex numbers count as pairs of real ones, so a Jacobian here is a real matrix: a row for each component of an output,
a column for each component of an input.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tensorsmith import _core
from tensorsmith.autograd import _tuple, enable_grad, gradients

if TYPE_CHECKING:
    from tensorsmith.tensor import Tensor

__all__ = ["GradcheckError", "gradcheck", "gradgradcheck"]

Matrix = np.ndarray[Any, np.dtype[np.float64]]


class GradcheckError(RuntimeError):
    """Gradients are not what the differences say."""


# --- tensors as real vectors ----------------------------------------------------------------------


def _complex(x: Tensor) -> bool:
    return bool(x.dtype.kind == "complex")


def _vector(x: Tensor) -> Matrix:
    """The components of a tensor."""
    x = x.detach().cpu()
    array = np.ascontiguousarray(x.astype("complex128" if _complex(x) else "float64").numpy())
    return array.reshape(-1).view(np.float64)


def _tensor(vector: Matrix, like: Tensor) -> Tensor:
    """The tensor of these components."""
    from tensorsmith.ops import asarray

    array = np.ascontiguousarray(vector).view(np.complex128) if _complex(like) else vector
    return asarray(array.reshape(like.shape)).to(device=like.device, dtype=like.dtype)


@contextmanager
def _shifted(x: Tensor, step: Matrix) -> Iterator[None]:
    """x with `step` added, in its memory: the function may reach it in other ways too. Graphs that saved x do not mind,
    as far as NumPy can write there.
    """
    plain = x.detach()
    direct = x.device == "cpu" and x.dtype != "bfloat16"
    before = plain.copy()

    def write(value: Tensor) -> None:
        if direct:
            plain.numpy()[...] = value.numpy()
        else:
            plain.copy_(value)

    try:
        write(_tensor(_vector(before) + step, x))
        yield
    finally:
        write(before)


def _calls(name: str, func: Callable[..., Any], inputs: Sequence[Any]) -> list[Tensor]:
    """The tensors that the function returns, of floating-point or complex numbers."""
    results = _tuple(func(*inputs))
    if not any(isinstance(y, _core.TensorBase) for y in results):
        got = type(results[0]).__name__ if results else "none"
        raise ValueError(f"{name}: func must return a tensor or several, got {got}")
    kinds = ("floating", "complex")
    return [y for y in results if isinstance(y, _core.TensorBase) and y.dtype.kind in kinds]  # type: ignore[misc]


# --- Jacobians ------------------------------------------------------------------------------------


def _difference(
    func: Callable[..., Any], inputs: Sequence[Any], x: Tensor, direction: Matrix, eps: float
) -> list[Matrix]:
    """The derivative of each output along a direction of x."""
    ends = []
    for sign in (1.0, -1.0):
        with _shifted(x, sign * eps * direction):
            ends.append([_vector(y) for y in _calls("gradcheck", func, inputs)])
    if [v.shape for v in ends[0]] != [v.shape for v in ends[1]]:
        raise GradcheckError("gradcheck: func returns other shapes beside the inputs than at them")
    return [(above - below) / (2 * eps) for above, below in zip(*ends)]


def _numerical(func: Callable[..., Any], inputs: Sequence[Any], x: Tensor, eps: float) -> list[Matrix]:
    """The Jacobian of each output."""
    size = _vector(x).size
    columns = [_difference(func, inputs, x, unit, eps) for unit in np.eye(size)]
    return [np.stack(parts, 1) for parts in zip(*columns)]


def _pulled(y: Tensor, wanted: Sequence[Tensor], row: Matrix) -> list[Matrix]:
    """row J of each input."""
    found = gradients(y, wanted, _tensor(row, y), retain_graph=True, allow_unused=True)
    return [np.zeros_like(_vector(x)) if g is None else _vector(g) for g, x in zip(found, wanted)]


def _analytical(y: Tensor, wanted: Sequence[Tensor]) -> list[Matrix]:
    """The Jacobian of an output with respect to each input."""
    size = _vector(y).size
    if not (y.requires_grad and size):
        return [np.zeros((size, _vector(x).size)) for x in wanted]
    rows = [_pulled(y, wanted, unit) for unit in np.eye(size)]
    return [np.stack(parts) for parts in zip(*rows)]


def _differ(number: int, place: int, numerical: Any, analytical: Any, atol: float, rtol: float) -> None:
    error = np.abs(analytical - numerical)
    bad = ~(error <= atol + rtol * np.abs(numerical))  # NaN is bad
    if bad.any():
        worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error) * bad), error.shape)
        at = f" at {tuple(int(i) for i in worst)} of" if error.ndim else " of"
        raise GradcheckError(
            f"gradcheck: the Jacobian of output {number} with respect to input {place} is wrong: the gradients say "
            f"{float(analytical[worst])!r} and the differences {float(numerical[worst])!r}{at} its components\n"
            f"numerical:\n{numerical}\nanalytical:\n{analytical}"
        )


# --- what is public -------------------------------------------------------------------------------


def _refused(name: str, **options: bool) -> None:
    for option, value in options.items():
        if value:
            raise NotImplementedError(f"{name}: {option}=True: there is no forward mode and no vmap")


def _checked(
    name: str, func: Any, inputs: Any, tolerances: dict[str, float]
) -> tuple[tuple[Any, ...], list[int]]:
    """The inputs, and which of them are differentiated."""
    if not callable(func):
        raise TypeError(f"{name}: func must be a function, got {type(func).__name__}")
    for what, value in tolerances.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name}: {what} must be a number, got {value!r}")
        if not (value > 0 if what == "eps" else value >= 0):
            raise ValueError(f"{name}: {what} must be {'> 0' if what == 'eps' else '>= 0'}, got {value!r}")
    given = _tuple(inputs)
    places = [i for i, x in enumerate(given) if isinstance(x, _core.TensorBase) and x.requires_grad]
    if not places:
        raise ValueError(f"{name}: none of the inputs is a tensor that requires a gradient")
    for place in places:
        x = given[place]
        if x._read_only or any(n > 1 and stride == 0 for n, stride in zip(x.shape, x.strides)):
            why = "is read-only" if x._read_only else "has elements that share memory"
            raise ValueError(f"{name}: input {place} {why}, so its elements cannot be moved; pass a copy")
        if x.dtype not in ("float64", "complex128"):
            warnings.warn(
                f"{name}: input {place} is {x.dtype}, whose differences are coarse; float64 or complex128 is meant",
                UserWarning,
                stacklevel=3,
            )
    return given, places


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Whether the gradients of `func(*inputs)` are its central differences: True, or GradcheckError (a RuntimeError),
    or False without `raise_exception`.

    inputs: a tensor or a tuple of arguments; those that require a gradient are checked and should be float64 or
    complex128 (else a warning). They are moved by eps in their own memory and put back, so the function may reach them
    in other ways, as a module its parameters. All tensors that it returns are checked; one without a gradient must not
    depend on the inputs, if none has one.

    Element by element: |analytical - numerical| <= atol + rtol |numerical|. nondet_tol: by how much two backward passes
    may differ. fast_mode: instead of whole Jacobians, one random direction of each output and input. Gradients have the
    dtypes of what they belong to, and no gradient is undefined: check_grad_dtypes, check_undefined_grad and masked are
    accepted and ignored. NotImplementedError for checks of batched or forward mode.

    ValueError where no input requires a gradient, or one's elements cannot be moved (read-only, or sharing memory).
    """
    _refused(
        "gradcheck",
        check_batched_grad=check_batched_grad,
        check_batched_forward_grad=check_batched_forward_grad,
        check_forward_ad=check_forward_ad,
    )
    if not check_backward_ad:
        raise ValueError("gradcheck: check_backward_ad must be True: there is nothing else to check")
    tolerances = {"eps": eps, "atol": atol, "rtol": rtol, "nondet_tol": nondet_tol}
    given, places = _checked("gradcheck", func, inputs, tolerances)
    try:
        with enable_grad():
            _check(func, given, places, eps, atol, rtol, nondet_tol, fast_mode)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _check(
    func: Callable[..., Any],
    given: Sequence[Any],
    places: list[int],
    eps: float,
    atol: float,
    rtol: float,
    nondet_tol: float,
    fast: bool,
) -> None:
    outputs = _calls("gradcheck", func, given)
    wanted = [given[place] for place in places]
    # Where no output has a gradient, their differences must be zeros.
    checked = [n for n, y in enumerate(outputs) if y.requires_grad] or list(range(len(outputs)))
    rng = np.random.default_rng(0)

    def direction(x: Tensor) -> Matrix:
        vector = rng.random(_vector(x).size) + 0.1
        return vector / max(float(np.linalg.norm(vector)), 1e-300)

    if fast:
        rows = {n: direction(outputs[n]) for n in checked}
        columns = [direction(x) for x in wanted]
    found: dict[int, list[Matrix]] = {}
    for n in checked:
        y = outputs[n]
        passes = []
        for _ in range(2):
            if fast:
                empty = not (y.requires_grad and y.size)
                passes.append([np.zeros_like(c) for c in columns] if empty else _pulled(y, wanted, rows[n]))
            else:
                passes.append(_analytical(y, wanted))
        for place, first, second in zip(places, *passes):
            if first.size and not np.abs(first - second).max() <= nondet_tol and not np.isnan(first).any():
                raise GradcheckError(
                    f"gradcheck: two backward passes of output {n} give input {place} gradients that differ by "
                    f"{float(np.abs(first - second).max())!r}, more than nondet_tol"
                )
        found[n] = passes[0]
    for i, (place, x) in enumerate(zip(places, wanted)):
        if not x.size:
            continue
        if fast:
            along = _difference(func, given, x, columns[i], eps)
        else:
            jacobians = _numerical(func, given, x, eps)
        for n in checked:
            if fast:
                scale = float(np.abs(rows[n]).sum() * np.abs(columns[i]).sum())
                _differ(n, place, rows[n] @ along[n], found[n][i] @ columns[i], atol * scale, rtol)
            else:
                _differ(n, place, jacobians[n], found[n][i], atol, rtol)


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """`gradcheck` of the gradients of `func(*inputs)`: whether second derivatives are right, with respect to the inputs
    and to `grad_outputs`.

    grad_outputs: a tensor for each output that has a gradient, of its shape; None: random numbers in [-1, 1), always
    the same, with gaps between them in memory if `gen_non_contig_grad_outputs`. The rest is as for `gradcheck`.
    ValueError where no output has a gradient.
    """
    _refused("gradgradcheck", check_batched_grad=check_batched_grad, check_fwd_over_rev=check_fwd_over_rev)
    if not check_rev_over_rev:
        raise ValueError("gradgradcheck: check_rev_over_rev must be True: there is nothing else to check")
    given, places = _checked("gradgradcheck", func, inputs, {"eps": eps, "atol": atol, "rtol": rtol})
    with enable_grad():
        outputs = [y for y in _calls("gradgradcheck", func, given) if y.requires_grad]
    if not outputs:
        raise ValueError("gradgradcheck: no output of func has a gradient")
    if grad_outputs is None:
        seeds = _seeds(outputs, gen_non_contig_grad_outputs)
    else:
        seeds = _tuple(grad_outputs)
        if [getattr(s, "shape", None) for s in seeds] != [y.shape for y in outputs]:
            raise ValueError(
                f"gradgradcheck: grad_outputs must be tensors of the shapes of the {len(outputs)} outputs that have a "
                f"gradient, {[tuple(y.shape) for y in outputs]}"
            )

    def first(*args: Any) -> tuple[Tensor, ...]:
        own, vectors = args[: len(given)], args[len(given) :]
        results = [y for y in _calls("gradgradcheck", func, own) if y.requires_grad]
        found = gradients(
            results, [own[place] for place in places], vectors, create_graph=True, allow_unused=True
        )
        return tuple(g for g in found if g is not None)

    return gradcheck(
        first,
        (*given, *seeds),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        fast_mode=fast_mode,
    )


def _seeds(outputs: Sequence[Tensor], gaps: bool) -> tuple[Tensor, ...]:
    rng = np.random.default_rng(1)
    seeds = []
    for y in outputs:
        seed = _tensor(rng.uniform(-1, 1, _vector(y).size), y)
        if gaps and y.ndim:
            from tensorsmith.ops import stack

            seed = stack([seed, seed], -1)[..., 0].detach()
        seeds.append(seed.requires_grad_())
    return tuple(seeds)
