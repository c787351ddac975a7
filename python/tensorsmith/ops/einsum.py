"""Products of many factors: einsum, tensordot and what is made of them. Gradients are those of the products."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from tensorsmith._core import ops as core
from tensorsmith.ops.creation import asarray
from tensorsmith.tensor import Tensor

__all__ = ["dot", "einsum", "inner", "kron", "outer", "tensordot", "vdot", "vecdot"]


def _parse(subscripts: str, ranks: Sequence[int]) -> tuple[list[list[Any]], list[Any]]:
    """The labels of each operand and of the result; an Ellipsis becomes negative integers, aligned at the right."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ValueError(f"einsum: {subscripts!r} names {len(terms)} operands, {len(ranks)} were given")
    widest = 0
    labels: list[list[Any]] = []
    for i, (term, rank) in enumerate(zip(terms, ranks)):
        before, dots, after = term.partition("...")
        letters = before + after
        if not all(c.isalpha() for c in letters):
            raise ValueError(
                f"einsum: operand {i} of {subscripts!r}, {term!r}, holds more than letters and '...'"
            )
        hidden = rank - len(letters)
        if hidden < 0 or (hidden and not dots):
            raise ValueError(f"einsum: operand {i} has {rank} dimensions, {term!r} names {len(letters)}")
        widest = max(widest, hidden)
        labels.append([*before, *range(-hidden, 0), *after])
    broadcast: list[Any] = list(range(-widest, 0))
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        return labels, broadcast + sorted(c for c in set(letters) if letters.count(c) == 1)
    before, dots, after = right.partition("...")
    if widest and not dots:
        raise ValueError(f"einsum: the result of {subscripts!r} has no '...' for the broadcast dimensions")
    result = [*before, *(broadcast if dots else []), *after]
    for c in result:
        if result.count(c) > 1:
            raise ValueError(f"einsum: {c!r} occurs twice in the result of {subscripts!r}")
        if isinstance(c, str) and c not in left:
            raise ValueError(f"einsum: {c!r} in the result of {subscripts!r} is in no operand")
    return labels, result


def _diagonals(x: Any, labels: list[Any]) -> tuple[Any, list[Any]]:
    """Repeated labels as one: the diagonal."""
    for c in [c for i, c in enumerate(labels) if c in labels[:i]]:
        i = labels.index(c)
        j = labels.index(c, i + 1)
        if x.shape[i] != x.shape[j]:
            raise ValueError(f"einsum: {c!r} stands for extents {x.shape[i]} and {x.shape[j]} of one operand")
        x = _diagonal(x, i, j)
        labels = [*labels[:i], *labels[i + 1 : j], *labels[j + 1 :], c]
    return x, labels


def _diagonal(x: Any, i: int, j: int) -> Any:
    """The diagonal of two axes of one extent as a new last axis."""
    n = x.shape[i]
    rest = [a for a in range(x.ndim) if a not in (i, j)]
    flat = core.reshape(core.permute_dims(x, [*rest, i, j]), (*(x.shape[a] for a in rest), n * n))
    return core.getitem(flat, (Ellipsis, slice(0, None, n + 1)))


def _sum_out(x: Any, labels: list[Any], keep: set[Any]) -> tuple[Any, list[Any]]:
    gone = [i for i, c in enumerate(labels) if c not in keep]
    if not gone:
        return x, labels
    return core.sum(x, gone, x.dtype), [c for c in labels if c in keep]


def _pair(a: Any, la: list[Any], b: Any, lb: list[Any], keep: set[Any]) -> tuple[Any, list[Any]]:
    """The product of two operands, summed over the labels that nothing else needs: one matmul."""
    a, la = _sum_out(a, la, keep | set(lb))
    b, lb = _sum_out(b, lb, keep | set(la))
    extents: dict[Any, int] = {}
    for x, labels in ((a, la), (b, lb)):
        for c, n in zip(labels, x.shape):
            if extents.setdefault(c, n) == 1:
                extents[c] = n
            elif n not in (1, extents[c]):
                raise ValueError(f"einsum: {c!r} stands for extents {extents[c]} and {n}")
    # An extent of 1 that meets a larger one is summed as the larger one.
    summed = [c for c in la if c in lb and c not in keep]
    batch = [c for c in la if c in lb and c in keep]
    rows, columns = [c for c in la if c not in lb], [c for c in lb if c not in la]
    if not summed:
        order = [*batch, *rows, *columns]
        wide = [core.reshape(core.permute_dims(x, [l.index(c) for c in order if c in l]),
                             [x.shape[l.index(c)] if c in l else 1 for c in order])
                for x, l in ((a, la), (b, lb))]  # fmt: skip
        return core.multiply(*wide), order

    if not rows and not columns:  # no matrix in it: products, summed
        order = [*batch, *summed]
        moved = [core.permute_dims(x, [l.index(c) for c in order]) for x, l in ((a, la), (b, lb))]
        return core.vecdot(*moved, len(summed)), batch

    def matrix(x: Any, labels: list[Any], first: list[Any], last: list[Any]) -> Any:
        order = [*batch, *first, *last]
        y = core.permute_dims(x, [labels.index(c) for c in order])
        full = [extents[c] if c in summed else n for c, n in zip(order, y.shape)]
        if full != list(y.shape):
            y = core.broadcast_to(y, full)
        at = len(batch)
        split = at + len(first)
        return core.reshape(y, (*full[:at], math.prod(full[at:split]), math.prod(full[split:])))

    left, right = matrix(a, la, rows, summed), matrix(b, lb, summed, columns)
    if not batch and not rows:  # a vector
        left = core.reshape(left, (-1,))
    if not batch and not columns:
        right = core.reshape(right, (-1,))
    y = core.matmul(left, right)
    shape = [extents[c] for c in [*batch, *rows, *columns]]
    return core.reshape(y, shape), [*batch, *rows, *columns]


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # of the labels 0 to 51


def _term(labels: Any) -> str:
    """The letters of a list of labels."""
    text = ""
    for label in labels:
        if label is not Ellipsis and not (_is_integer(label) and 0 <= operator.index(label) < len(_LETTERS)):
            raise ValueError(
                f"einsum: labels are integers from 0 to {len(_LETTERS) - 1} and ..., got {label!r}"
            )
        text += "..." if label is Ellipsis else _LETTERS[operator.index(label)]
    return text


def _spelled(arguments: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """Subscripts and operands of: operand, labels, operand, labels, ..., perhaps the result's labels."""
    operands, lists = arguments[: len(arguments) // 2 * 2 : 2], list(arguments[1::2])
    if len(arguments) % 2 and operands:
        lists.append(arguments[-1])
    if not lists or not all(isinstance(labels, (list, tuple)) for labels in lists):
        kinds = ", ".join(type(x).__name__ for x in arguments)
        raise TypeError(
            f"einsum: subscripts must be a string, or each operand be followed by its list of labels, got {kinds}"
        )
    terms = [_term(labels) for labels in lists]
    text = ",".join(terms[: len(operands)])
    return text + "->" + terms[-1] if len(terms) > len(operands) else text, operands


def einsum(subscripts: Any, *operands: Any, optimize: Any = True) -> Any:
    """Einstein's summation: products of the operands along the axes that share a letter, summed over the letters
    that the result does not have.

    subscripts: "ij,jk->ik"; "..." stands for axes that broadcast; without "->" the result has the letters that
    occur once, in alphabetical order; or einsum(a, [0, 1], b, [1, 2], [0, 2]), labels from 0 to 51 behind each
    operand and then those of the result. Products of pairs are matrix products; three or more operands are multiplied
    in the order that makes each step's result smallest (optimize=False: from left to right).
    ValueError where subscripts and shapes do not agree."""
    if not isinstance(subscripts, str):
        subscripts, operands = _spelled((subscripts, *operands))
    tensors = [x if isinstance(x, Tensor) else asarray(x) for x in operands]
    if tensors and all(x.dtype.kind == "bool" for x in tensors):  # "or" of "and"s
        counts = einsum(subscripts, *(core.astype(x, "int64") for x in tensors), optimize=optimize)
        return core.not_equal(counts, 0)
    if len(tensors) == 2 and (plan := _one_product(subscripts)):
        y = plan(*tensors)
        if y is not None:
            return y
    labels, result = _parse(subscripts, [x.ndim for x in tensors])
    sizes: dict[Any, int] = {}
    for x, names in zip(tensors, labels):
        for c, n in zip(names, x.shape):
            if sizes.setdefault(c, n) == 1:
                sizes[c] = n
            elif n not in (1, sizes[c]) or (n == 1 != sizes[c] and isinstance(c, str) and names.count(c) > 1):
                raise ValueError(f"einsum: {c!r} stands for extents {sizes[c]} and {n}")
    terms = [_diagonals(x, names) for x, names in zip(tensors, labels)]
    while len(terms) > 1:
        i, j = (0, 1) if not optimize or len(terms) == 2 else _cheapest(terms, result, sizes)
        (b, lb), (a, la) = terms.pop(j), terms.pop(i)
        keep = {*result, *(c for _, names in terms for c in names)}
        terms.append(_pair(a, la, b, lb, keep))
        if not optimize and len(terms) > 1:
            terms.insert(0, terms.pop())
    y, names = _sum_out(*terms[0], set(result))
    y = core.permute_dims(y, [names.index(c) for c in result if c in names])
    missing = [sizes[c] for c in result]
    return core.broadcast_to(y, missing) if list(y.shape) != missing else y


@functools.lru_cache(maxsize=256)
def _one_product(subscripts: str) -> Callable[[Any, Any], Any] | None:
    """What the subscripts of two operands mean where that is one product of axes as they are: a function of both, which
    returns None where extents of 1 meet larger ones. None for other subscripts."""
    left, arrow, result = subscripts.replace(" ", "").partition("->")
    a, comma, b = left.partition(",")
    if not (arrow and comma) or not all(t.isalpha() and len(set(t)) == len(t) for t in (a, b, result)):
        return None
    batch = [c for c in result if c in a and c in b]
    rows, columns = [c for c in result if c in a and c not in b], [c for c in result if c in b and c not in a]
    summed = [c for c in a if c in b and c not in result]
    if {*a, *b} != {*batch, *rows, *columns, *summed} or len(result) != len(batch + rows + columns):
        return None
    of_a, of_b, product = batch + rows + summed, batch + summed + columns, batch + rows + columns
    move_a: Any = None if list(a) == of_a else [a.index(c) for c in of_a]
    move_b: Any = None if list(b) == of_b else [b.index(c) for c in of_b]
    move: Any = None if list(result) == product else [product.index(c) for c in result]
    if summed and not rows and not columns:
        return functools.partial(_summed, move_a, move_b, len(a), len(summed))
    if len(summed) != 1 or (len(rows), len(columns)) not in ((1, 1), (1, 0), (0, 1)):
        return None
    if not (rows and columns) and batch:  # a batch of vectors
        return None
    return functools.partial(_multiplied, move_a, move_b, move, len(a), len(b))


def _summed(move_a: Any, move_b: Any, rank: int, axes: int, a: Any, b: Any) -> Any:
    """Products of elements in the same places, summed over the last axes."""
    if a.ndim != rank or b.ndim != rank:
        return None
    if move_a is not None:
        a = core.permute_dims(a, move_a)
    if move_b is not None:
        b = core.permute_dims(b, move_b)
    return core.vecdot(a, b, axes) if a.shape == b.shape else None


def _multiplied(move_a: Any, move_b: Any, move_y: Any, rank_a: int, rank_b: int, a: Any, b: Any) -> Any:
    """A matrix product, perhaps of a batch, or that of a matrix and a vector."""
    if a.ndim != rank_a or b.ndim != rank_b:
        return None
    if move_a is not None:
        a = core.permute_dims(a, move_a)
    if move_b is not None:
        b = core.permute_dims(b, move_b)
    if a.shape[-1] != b.shape[-2 if rank_b > 1 else -1] or a.shape[:-2] != b.shape[:-2]:
        return None
    y = core.matmul(a, b)
    return y if move_y is None else core.permute_dims(y, move_y)


def _cheapest(terms: list[Any], result: list[Any], sizes: dict[Any, int]) -> tuple[int, int]:
    """The pair whose product takes the fewest multiplications, then the smallest result."""

    def cost(pair: tuple[int, int]) -> tuple[int, int]:
        i, j = pair
        used = {*terms[i][1], *terms[j][1]}
        keep = {*result, *(c for k, (_, names) in enumerate(terms) if k not in pair for c in names)}
        return math.prod(sizes[c] for c in used), math.prod(sizes[c] for c in used & keep)

    return min(((i, j) for j in range(len(terms)) for i in range(j)), key=cost)


def _is_integer(x: Any) -> bool:
    return hasattr(x, "__index__") and not getattr(x, "ndim", 0)


def tensordot(a: Any, b: Any, /, axes: int | Sequence[Any] = 2) -> Any:
    """The sum of products over the last `axes` axes of a and the first of b, or over the given pairs of axes.

    axes: a number, or (axes of a, axes of b). ValueError where their extents differ."""
    a, b = asarray(a), asarray(b)
    pairs: Any = axes
    if _is_integer(axes):
        axes = operator.index(pairs)
        if axes < 0 or axes > min(a.ndim, b.ndim):
            raise ValueError(f"tensordot: axes must be from 0 to {min(a.ndim, b.ndim)}, got {axes}")
        of_a: list[int] = list(range(a.ndim - axes, a.ndim))
        of_b: list[int] = list(range(axes))
    else:
        from tensorsmith.ops.manipulate import _axis

        try:
            first, second = ([x] if _is_integer(x) else list(x) for x in pairs)
        except (TypeError, ValueError) as error:
            raise type(error)(
                f"tensordot: axes must be a number or (axes of a, axes of b), got {axes!r}"
            ) from None
        of_a = [_axis("tensordot", x, a.ndim) for x in first]
        of_b = [_axis("tensordot", x, b.ndim) for x in second]
    if [a.shape[i] for i in of_a] != [b.shape[i] for i in of_b]:
        raise ValueError(
            f"tensordot: the axes {of_a} of shape {a.shape} and {of_b} of shape {b.shape} do not agree"
        )
    rows = [i for i in range(a.ndim) if i not in of_a]
    columns = [i for i in range(b.ndim) if i not in of_b]
    if not rows and not columns:
        return (
            core.vecdot(core.permute_dims(a, of_a), core.permute_dims(b, of_b), len(of_a)) if of_a else a * b
        )
    k = math.prod(a.shape[i] for i in of_a)
    left = core.reshape(core.permute_dims(a, rows + of_a), (math.prod(a.shape[i] for i in rows), k))
    right = core.reshape(core.permute_dims(b, of_b + columns), (k, math.prod(b.shape[i] for i in columns)))
    if not rows:
        left = core.reshape(left, (-1,))
    if not columns:
        right = core.reshape(right, (-1,))
    shape = (*(a.shape[i] for i in rows), *(b.shape[i] for i in columns))
    return core.reshape(core.matmul(left, right), shape)


def vecdot(a: Any, b: Any, /, axis: int = -1) -> Any:
    """The sum of conj(a) b along an axis; the other axes broadcast. ValueError where the extents differ."""
    from tensorsmith.ops.manipulate import _axis

    a, b = asarray(a), asarray(b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"vecdot: a and b need an axis, got shapes {a.shape} and {b.shape}")
    if axis != -1:
        _axis("vecdot", axis, min(a.ndim, b.ndim))
        a, b = core.moveaxis(a, axis, -1), core.moveaxis(b, axis, -1)
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"vecdot: a has {a.shape[-1]} elements along the axis, but b {b.shape[-1]}")
    return core.vecdot(core.conj(a) if a.dtype.kind == "complex" else a, b)


def dot(a: Any, b: Any, /, out: Any = None) -> Any:
    """NumPy's dot: the product of scalars, the last axis of a with the last but one (or only) one of b."""
    if out is not None:
        return core.copy(dot(a, b), out=out)
    a, b = asarray(a), asarray(b)
    if a.ndim == 0 or b.ndim == 0:
        return core.multiply(a, b)
    if a.ndim == 1 or b.ndim <= 2:
        return core.matmul(a, b)
    return tensordot(a, b, ((a.ndim - 1,), (b.ndim - 2,)))


def vdot(a: Any, b: Any, /) -> Any:
    """The sum of conj(a) b over all elements, in order. ValueError where the sizes differ."""
    a, b = core.reshape(asarray(a), (-1,)), core.reshape(asarray(b), (-1,))
    if a.shape != b.shape:
        raise ValueError(f"vdot: a has {a.size} elements, b {b.size}")
    return core.matmul(core.conj(a) if a.dtype.kind == "complex" else a, b)


def inner(a: Any, b: Any, /) -> Any:
    """The sum of products over the last axes of a and b."""
    a, b = asarray(a), asarray(b)
    if a.ndim == 0 or b.ndim == 0:
        return core.multiply(a, b)
    if b.ndim == 1:
        return core.matmul(a, b)
    if a.ndim == 1:
        return core.matmul(b, a)
    return tensordot(a, b, ((a.ndim - 1,), (b.ndim - 1,)))


def outer(a: Any, b: Any, /, out: Any = None) -> Any:
    """All products of an element of a and one of b, (a.size, b.size)."""
    return core.multiply(core.reshape(asarray(a), (-1, 1)), core.reshape(asarray(b), (1, -1)), out=out)


def kron(a: Any, b: Any, /) -> Any:
    """Kronecker's product: every element of a times the whole of b, in a's arrangement."""
    a, b = asarray(a), asarray(b)
    rank = max(a.ndim, b.ndim)
    first = (1,) * (rank - a.ndim) + a.shape
    second = (1,) * (rank - b.ndim) + b.shape
    left = core.reshape(a, [n for extent in first for n in (extent, 1)])
    right = core.reshape(b, [n for extent in second for n in (1, extent)])
    return core.reshape(core.multiply(left, right), [m * n for m, n in zip(first, second)])


Tensor.dot = dot  # type: ignore[attr-defined]
