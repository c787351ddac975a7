"""`LBFGS`: the limited-memory quasi-Newton method (Nocedal & Wright, Numerical Optimization, 2006)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

import tensorsmith as ts
from tensorsmith.nn._load import as_tensor
from tensorsmith.ops.sparse import RowSparse
from tensorsmith.optim.optimizer import Group, Optimizer, Shown, check_values, computed_in
from tensorsmith.tensor import Tensor

_DECREASE, _FLATTER = 1e-4, 0.9  # the constants of the strong Wolfe conditions


class _Point(NamedTuple):
    """The function at a step t along the direction."""

    t: float
    loss: float
    grad: Tensor
    slope: float  # of the loss along the direction


def _cubic_minimum(a: _Point, b: _Point, bounds: tuple[float, float] | None = None) -> float:
    """Where the cubic with the losses and slopes of two points is least (3.59), kept within the bounds, or between
    the points; the middle where there is no such place.
    """
    if a.t > b.t:
        a, b = b, a
    low, high = bounds or (a.t, b.t)
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if 0 <= square < math.inf:
        d2 = math.sqrt(square)
        below = b.slope - a.slope + 2 * d2
        if below != 0:
            return min(max(b.t - (b.t - a.t) * ((b.slope + d2 - d1) / below), low), high)
    return (low + high) / 2


def _strong_wolfe(
    evaluate: Callable[[float], _Point], start: _Point, t: float, trials: int, resolution: float
) -> tuple[_Point, int]:
    """A step that meets the strong Wolfe conditions, and how often the function was evaluated: algorithms 3.5 (until
    two steps enclose such a one) and 3.6 (until it is found). The best step so far when `trials` beyond the first are
    used up, or the enclosed interval is shorter than `resolution`. A loss that is not finite counts as too high.
    """

    def too_high(p: _Point) -> bool:
        return not p.loss <= start.loss + _DECREASE * p.t * start.slope

    def flat(p: _Point) -> bool:
        return abs(p.slope) <= -_FLATTER * start.slope

    previous, new = start, evaluate(t)
    used = 0
    while trials > 0 and not too_high(new) and (used <= 1 or new.loss < previous.loss):
        if flat(new):
            return new, used + 1
        if new.slope >= 0:
            break
        further = _cubic_minimum(previous, new, (new.t + 0.01 * (new.t - previous.t), 10 * new.t))
        previous, new = new, evaluate(further)
        used += 1
        if used == trials:
            previous = start
            break

    low, high = (new, previous) if new.loss < previous.loss else (previous, new)
    stuck = False  # the last trial was near an end as well
    while used < trials and abs(high.t - low.t) >= resolution:
        left, right = min(low.t, high.t), max(low.t, high.t)
        t = _cubic_minimum(low, high)
        margin = 0.1 * (right - left)
        if min(right - t, t - left) >= margin:
            stuck = False
        elif stuck or not left < t < right:
            t = right - margin if right - t < t - left else left + margin
            stuck = False
        else:
            stuck = True
        new = evaluate(t)
        used += 1
        if too_high(new) or not new.loss < low.loss:
            high = new
            if high.loss < low.loss:
                low, high = high, low
        elif flat(new):
            return new, used + 1
        else:
            if new.slope * (high.t - low.t) >= 0:
                high = low
            low = new
    return low, used + 1


def _loss(value: Any) -> float:
    try:
        if not isinstance(value, (str, bytes)):
            return float(value)
    except (TypeError, ValueError):
        pass
    what = f"shape {tuple(value.shape)}" if hasattr(value, "shape") else type(value).__name__
    raise TypeError(f"LBFGS.step: the closure must return the loss, one number, got {what}")


def _largest(x: Tensor) -> float:
    return float(ts.max(ts.abs(x))) if x.size else 0.0


@dataclass
class _Memory:
    """What one step leaves to the next."""

    n_iter: int = 0
    func_evals: int = 0
    d: Tensor | None = None  # the last direction, and how far it was followed
    t: float = 0.0
    prev_flat_grad: Tensor | None = None
    prev_loss: float = 0.0
    H_diag: float = 1.0
    old_dirs: list[Tensor] = field(default_factory=list)  # differences of gradients, the oldest first
    old_stps: list[Tensor] = field(default_factory=list)  # differences of positions
    ro: list[float] = field(default_factory=list)  # 1 / (old_dirs . old_stps)

    def remember(self, grad: Tensor, size: int) -> None:
        """Take the pair of the last step into the history, of at most `size` pairs (7.2)."""
        assert self.d is not None
        assert self.prev_flat_grad is not None
        y, s = grad - self.prev_flat_grad, self.d * self.t
        curvature = float(ts.vecdot(y, s))
        if curvature > 1e-10:
            keep = slice(len(self.old_dirs) + 1 - size, None) if len(self.old_dirs) >= size else slice(None)
            self.old_dirs = [*self.old_dirs, y][keep]
            self.old_stps = [*self.old_stps, s][keep]
            self.ro = [*self.ro, 1 / curvature][keep]
            self.H_diag = curvature / float(ts.vecdot(y, y))

    def direction(self, grad: Tensor) -> Tensor:
        """-H grad, by the two loops of algorithm 7.4."""
        r = -grad
        history = list(zip(self.old_dirs, self.old_stps, self.ro, strict=True))
        weights = []
        for y, s, ro in reversed(history):
            weights.append(ro * float(ts.vecdot(s, r)))
            r = r - weights[-1] * y
        r = r * self.H_diag
        for (y, s, ro), weight in zip(history, reversed(weights), strict=True):
            r = r + (weight - ro * float(ts.vecdot(y, r))) * s
        return r


class LBFGS(Optimizer):
    """x += t d, d = -H grad, H the inverse Hessian as the last `history_size` steps show it.

    `step(closure)` makes up to `max_iter` such iterations with up to `max_eval` (default 5/4 `max_iter`) evaluations of
    `closure`, which clears the gradients, computes the loss, calls `backward()` and returns the loss. t is `lr`
    (at the very first iteration no more than lr / |grad|_1), or with `line_search_fn="strong_wolfe"` it is looked for.
    A step ends when no gradient is above `tolerance_grad`, or position and loss change by less than
    `tolerance_change`.

    For whole functions rather than for batches: the losses of one step must be comparable. One group of
    parameters, of one dtype, on one device; memory for 2 `history_size` + 5 copies of them. Values are read on the
    host, so `ts.jit` refuses a step (the closure may call a recorded function). If the closure raises, parameters
    and state are as before the step. The names of the state are PyTorch's.
    """

    _slots = 1

    def __init__(
        self,
        params: Any,
        lr: float = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        if max_eval is None and isinstance(max_iter, int):
            max_eval = max_iter * 5 // 4
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)
        self._memory = _Memory()

    def add_param_group(self, param_group: Group) -> None:
        """Only the group that the optimizer is made with: ValueError for another."""
        if self.param_groups:
            raise ValueError("LBFGS: has one param group only")
        super().add_param_group(param_group)
        kinds = {(p.dtype, p.device) for p in self.param_groups[0]["params"]}
        if len(kinds) > 1:
            self.param_groups.clear()
            raise ValueError("LBFGS: params must have one dtype and be on one device")

    def _check(self, group: Group) -> None:
        check_values("LBFGS", group, ("lr", "tolerance_grad", "tolerance_change"))
        for key in ("max_iter", "max_eval", "history_size"):
            if not isinstance(group[key], int) or group[key] < 1:
                raise ValueError(f"LBFGS: {key} must be an integer >= 1, got {group[key]!r}")
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise ValueError(
                f"LBFGS: line_search_fn must be None or 'strong_wolfe', got {group['line_search_fn']!r}"
            )

    # --- the parameters as one vector ----------------------------------------------------------

    @property
    def _params(self) -> list[Tensor]:
        params: list[Tensor] = self.param_groups[0]["params"]
        return params

    def _flat_grad(self) -> Tensor:
        parts = []
        for parameter in self._params:
            grad = parameter.grad
            if grad is None:
                grad = ts.zeros_like(parameter)
            elif isinstance(grad, RowSparse):
                grad = grad.to_dense()
            parts.append(grad.detach().reshape(-1))
        flat: Tensor = ts.concat(parts)
        return flat.astype(computed_in(self._params[0]))

    def _positions(self) -> list[Tensor]:
        return [parameter.detach().copy() for parameter in self._params]

    def _move_to(self, positions: list[Tensor], d: Tensor | None = None, t: float = 0.0) -> None:
        offset = 0
        for parameter, position in zip(self._params, positions, strict=True):
            if d is not None:
                part = d[offset : offset + position.size].reshape(position.shape)
                position = position + t * part
            parameter.copy_(position)
            offset += parameter.size

    # --- stepping ------------------------------------------------------------------------------

    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        max_norm: float | None = None,
        zero_grad: bool = False,
    ) -> Any:
        """Up to `max_iter` iterations; returns the loss that `closure` gave first, where the step began.

        TypeError without a closure. `max_norm` and `zero_grad` have no meaning here: ValueError.
        """
        if not callable(closure):
            raise TypeError("LBFGS.step: needs a closure that computes the loss and its gradients")
        if max_norm is not None or zero_grad:
            raise ValueError("LBFGS.step: max_norm and zero_grad are not supported; clip in the closure")
        begin = self._positions()
        try:
            with ts.no_grad():
                return self._iterate(closure, begin)
        except BaseException:
            with ts.no_grad():
                self._move_to(begin)
            raise

    def _iterate(self, closure: Callable[[], Any], positions: list[Tensor]) -> Any:
        group = self.param_groups[0]
        tolerance = group["tolerance_change"]
        memory = replace(self._memory)  # its lists are replaced, never changed

        def evaluate() -> tuple[Any, float, Tensor]:
            with ts.enable_grad():
                value = closure()
            memory.func_evals += 1
            return value, _loss(value), self._flat_grad()

        first, loss, grad = evaluate()
        evaluations, iterations = 1, 0
        done = _largest(grad) <= group["tolerance_grad"]
        while not done and iterations < group["max_iter"]:
            iterations += 1
            memory.n_iter += 1
            t = float(group["lr"])
            if memory.n_iter == 1:
                d = -grad
                t *= min(1.0, 1 / float(ts.sum(ts.abs(grad))))
            else:
                memory.remember(grad, group["history_size"])
                d = memory.direction(grad)
            memory.prev_flat_grad, memory.prev_loss, memory.d, memory.t = grad, loss, d, t
            slope = float(ts.vecdot(grad, d))
            longest = _largest(d)
            if not (slope <= -tolerance and 0 < t * longest < math.inf):  # flat, no step, or not a number
                break
            if group["line_search_fn"] is not None:

                def along(t: float, positions: list[Tensor] = positions, d: Tensor = d) -> _Point:
                    self._move_to(positions, d, t)
                    _, loss, grad = evaluate()
                    return _Point(t, loss, grad, float(ts.vecdot(grad, d)))

                start = _Point(0.0, loss, grad, slope)
                trials = group["max_eval"] - evaluations
                best, used = _strong_wolfe(along, start, t, trials, tolerance / longest)
                evaluations += used
                t, loss, grad = best.t, best.loss, best.grad
                self._move_to(positions, d, t)
            else:
                self._move_to(positions, d, t)
                if iterations < group["max_iter"]:  # the last one's would not be used
                    _, loss, grad = evaluate()
                    evaluations += 1
            memory.t = t
            positions = self._positions()
            done = (
                evaluations >= group["max_eval"]
                or _largest(grad) <= group["tolerance_grad"]
                or longest * abs(t) <= tolerance
                or abs(loss - memory.prev_loss) < tolerance
            )
        self._memory = memory
        self._steps_taken += 1
        return first

    # --- state ---------------------------------------------------------------------------------

    @property
    def state(self) -> dict[Tensor, dict[str, Tensor]]:
        """The first parameter -> what the steps left: vectors of all parameters end to end, histories of them (the
        oldest first), and numbers.
        """
        m = self._memory
        if m.d is None or m.prev_flat_grad is None:
            return Shown()
        none = ts.zeros((0, m.d.size), dtype=m.d.dtype, device=m.d.device)

        def rows(vectors: list[Tensor]) -> Tensor:
            return ts.stack(vectors) if vectors else none

        entry = {
            "n_iter": ts.asarray(m.n_iter),
            "func_evals": ts.asarray(m.func_evals),
            "d": m.d,
            "t": ts.asarray(m.t, dtype=ts.float64),
            "old_dirs": rows(m.old_dirs),
            "old_stps": rows(m.old_stps),
            "ro": ts.asarray(np.array(m.ro, np.float64)),
            "H_diag": ts.asarray(m.H_diag, dtype=ts.float64),
            "prev_flat_grad": m.prev_flat_grad,
            "prev_loss": ts.asarray(m.prev_loss, dtype=ts.float64),
        }
        return Shown({self._params[0]: Shown(entry)})

    def _take_state(
        self, merged: list[Group], places: Mapping[int, Any], state: Mapping[Any, Any], errors: list[str]
    ) -> _Memory:
        place = places[id(self._params[0])]
        entry = state.get(place, state.get(str(place)))
        if not entry or entry.get("d") is None:
            return _Memory()
        missing = [name for name in _Memory.__dataclass_fields__ if entry.get(name) is None]
        if missing:
            errors.append(f"parameter {place}: missing {', '.join(missing)}")
            return _Memory()
        size = sum(parameter.size for parameter in self._params)
        like = self._params[0]

        def vector(name: str, value: Any) -> Tensor:
            try:
                tensor = as_tensor(f"parameter {place}, {name!r}", value)
            except TypeError as error:
                errors.append(str(error))
                return like
            if tuple(tensor.shape) != (size,):
                errors.append(
                    f"parameter {place}, {name!r}: shape {tuple(tensor.shape)} given, {(size,)} expected"
                )
            if ts.isdtype(tensor.dtype, "complex floating"):
                errors.append(f"parameter {place}, {name!r}: must be of real numbers, got {tensor.dtype}")
                return like
            return ts.asarray(tensor, dtype=computed_in(like), device=like.device, copy=True)

        def vectors(name: str) -> list[Tensor]:
            try:
                values = list(entry[name])
            except TypeError:
                errors.append(f"parameter {place}, {name!r}: must be a list of vectors")
                return []
            return [vector(name, value) for value in values]

        def numbers_of(name: str, values: Any) -> list[float]:
            try:
                return [float(value) for value in values]
            except (TypeError, ValueError, OverflowError):
                errors.append(f"parameter {place}, {name!r}: not made of numbers")
                return [0.0]

        def count(name: str) -> int:
            value = numbers_of(name, [entry[name]])[0]
            if not (0 <= value < math.inf and value == math.floor(value)):
                errors.append(f"parameter {place}, {name!r}: must be an integer >= 0, got {value}")
                return 0
            return int(value)

        taken = _Memory(
            n_iter=count("n_iter"),
            func_evals=count("func_evals"),
            d=vector("d", entry["d"]),
            t=numbers_of("t", [entry["t"]])[0],
            prev_flat_grad=vector("prev_flat_grad", entry["prev_flat_grad"]),
            prev_loss=numbers_of("prev_loss", [entry["prev_loss"]])[0],
            H_diag=numbers_of("H_diag", [entry["H_diag"]])[0],
            old_dirs=vectors("old_dirs"),
            old_stps=vectors("old_stps"),
            ro=numbers_of("ro", entry["ro"]),
        )
        if not len(taken.old_dirs) == len(taken.old_stps) == len(taken.ro):
            errors.append(f"parameter {place}: 'old_dirs', 'old_stps' and 'ro' must be of one length")
        return taken

    def _write(self, merged: list[Group], taken: _Memory) -> None:
        self.param_groups[0].update((key, value) for key, value in merged[0].items() if key != "params")
        self._memory = taken
