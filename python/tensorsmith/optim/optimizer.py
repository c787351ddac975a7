"""`Optimizer`: parameter groups, flat state, one kernel call a group.

The parameters of a group that share a dtype and a device form a bucket. Its state lives in flat tensors, parameter i's
slice after parameter i-1's, and its learning rate and the like in `hyper`, float64 memory that the kernel
reads: it is rewritten only when a value changes. A step is one core call per bucket, whatever the number of
parameters; the kernel counts the steps of each parameter and skips those without a gradient. What
`state_dict` shows are views of the flat state, in PyTorch's layout.

Parameters of float16 and bfloat16 are updated in float32 and rounded once to nearest, and their state is float32, where
PyTorch's has the parameters' dtype: a moving average with weight 0.999 stands still in the 8 bits of a bfloat16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

import tensorsmith as ts
from tensorsmith import ops
from tensorsmith.jit import aside, replayed
from tensorsmith.nn._load import as_tensor
from tensorsmith.ops.halves import is_half
from tensorsmith.ops.optim import gradient_norm
from tensorsmith.ops.sparse import RowSparse, cleared
from tensorsmith.tensor import Tensor

Group = dict[str, Any]
Shape = tuple[int, ...]

FLAGS = ("maximize", "nesterov", "amsgrad", "centered", "decoupled_weight_decay")
NUMBERS = frozenset(("step", "mu_product", "eta", "mu"))  # state that is one float64 a parameter


def computed_in(parameter: Tensor) -> ts.DType:
    """The dtype of a parameter's state and arithmetic: float32 for float16 and bfloat16."""
    return ts.float32 if is_half(parameter) else parameter.dtype


class Bucket:
    """The parameters of one group and dtype, with their state."""

    __slots__ = ("group", "hyper", "hyper_view", "params", "shapes", "state", "values")

    def __init__(self, group: Group, params: list[Tensor], slots: int) -> None:
        self.group = group
        self.params = params
        self.shapes: dict[
            str, list[Shape | None]
        ] = {}  # of each parameter's part of a state, None where it has none
        self.hyper = ts.zeros((slots,), dtype=ts.float64, device=params[0].device)
        self.hyper_view = self._view_of_hyper()
        self.values: tuple[float, ...] = ()
        self.state: dict[str, Tensor] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__ if name != "hyper_view"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self.hyper_view = self._view_of_hyper()  # a copy needs a view of its own memory

    def _view_of_hyper(self) -> np.ndarray[Any, Any]:
        """The memory that `set_hyper` writes: the kernel's own, or on its way to the GPU."""
        view: np.ndarray[Any, Any] = self.hyper.cpu().numpy()
        return view

    def set_hyper(self, values: tuple[float, ...]) -> None:
        """Rewrite the numbers that the kernel reads."""
        self.hyper_view[:] = values
        if self.hyper.device != "cpu":
            self.hyper.copy_(self.hyper_view)
        self.values = tuple(map(float, values))  # a tensor among them may be written later

    def flat(self, name: str, fill: float = 0.0, shapes: list[Shape | None] | None = None) -> Tensor:
        """The flat state tensor `name`, made of `fill` when it does not exist. Its parts have the parameters' shapes if
        not told otherwise; "step" and the like have one float64 a parameter.
        """
        tensor = self.state.get(name)
        if tensor is None:
            if name in NUMBERS:
                shapes = [()] * len(self.params)
            elif shapes is None:
                shapes = [tuple(parameter.shape) for parameter in self.params]
            dtype = ts.float64 if name in NUMBERS else computed_in(self.params[0])
            size = sum(math.prod(shape) for shape in shapes if shape is not None)
            tensor = ts.full((size,), fill, dtype, self.hyper.device)
            self.shapes[name] = shapes
            self.state[name] = tensor
        return tensor

    def views(self, name: str) -> list[Tensor | None]:
        """The parameters' parts of a flat state; None where one has none."""
        views: list[Tensor | None] = []
        begin = 0
        for shape in self.shapes[name]:
            if shape is None:
                views.append(None)
                continue
            end = begin + math.prod(shape)
            views.append(self.state[name][begin:end].reshape(shape))
            begin = end
        return views


class Step:
    """What one kernel call works on: the gradients of a bucket, the rows of those that are row-sparse (or ()), and
    the numbers that the kernel reads.
    """

    __slots__ = ("grads", "hyper", "params", "rows", "zero")

    def __init__(self, optimizer: Optimizer, bucket: Bucket, zero: bool) -> None:
        self.params = bucket.params
        self.hyper = bucket.hyper
        self.zero = zero
        self.rows: list[Tensor | None] | tuple[()] = ()
        grads = [parameter.grad for parameter in bucket.params]
        if optimizer._rows_only or RowSparse in map(type, grads):
            optimizer._check_rows(bucket.group)
            sums = [g.coalesce() if isinstance(g, RowSparse) else g for g in grads]
            self.rows = [g.rows if isinstance(g, RowSparse) else None for g in sums]
            grads = [g.data if isinstance(g, RowSparse) else g for g in sums]
        self.grads: list[Tensor | None] = grads

    def clear(self) -> None:
        """Zeros into the gradients, if wanted: after the last use, as two may lie in the same memory."""
        if self.zero:
            for grad in self.grads:
                if grad is not None:
                    grad.fill_(0)


@lru_cache
def _scale_slot(slots: int, device: str) -> Tensor:
    """Which number of `hyper` scales the gradients."""
    with aside():
        return ts.asarray([slot == 2 for slot in range(slots)], device=device)


def _shown(*args: Any, **kwargs: Any) -> Any:
    raise TypeError(
        "Optimizer.state: shows what the optimizer keeps, and a change of its dicts would change nothing; write into "
        "the tensors, or use load_state_dict"
    )


class Shown(dict[Any, Any]):
    """A dict made for whoever looks, of memory that lies elsewhere."""

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _shown

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


class Optimizer:
    """Base of the optimizers.

    A subclass gives `_slots` (length of `hyper`), `_check(group)` (ValueError for bad values),
    `_hyper(group)` (the numbers for the kernel), `_names(group)` (the state of a parameter, and what it
    starts from) and `_update(bucket, step)` (the kernel call). Where a subclass has them, `_shape(name, parameter)`
    gives the shape of a state that is not the parameter's (None: this one has none), and `_check_rows(group)` says
    whether row-sparse gradients will do.
    """

    _slots: int

    def __init__(self, params: Any, defaults: Group) -> None:
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self._buckets: list[Bucket] = []
        self._sizes: list[int] = []  # of the groups when the buckets were made
        self._shapeless: list[Tensor] = []  # parameters without elements: those of lazy layers may get some
        self._steps_taken = 0
        if isinstance(params, Tensor):
            raise TypeError(f"{self._name}: params must be an iterable of tensors or dicts, got one Tensor")
        try:
            groups = list(params)
        except TypeError:
            raise TypeError(
                f"{self._name}: params must be an iterable of tensors or dicts, got {type(params).__name__}"
            ) from None
        if not groups:
            raise ValueError(f"{self._name}: params is empty")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    # --- what subclasses define --------------------------------------------------------------

    def _check(self, group: Group) -> None:
        raise NotImplementedError(
            f"{self._name}: a subclass of Optimizer defines _slots, _check, _hyper, _names and _update; an optimizer "
            "whose rule is all in its step() keeps its state itself, without this class"
        )

    def _hyper(self, group: Group) -> tuple[float, ...]:
        raise NotImplementedError

    def _names(self, group: Group) -> dict[str, float]:
        raise NotImplementedError

    def _shape(self, name: str, parameter: Tensor) -> Shape | None:
        return () if name in NUMBERS else tuple(parameter.shape)

    def _update(self, bucket: Bucket, step: Step) -> None:
        raise NotImplementedError

    _rows_only = False  # whether dense gradients are checked, too

    def _check_rows(self, group: Group) -> None:
        raise TypeError(
            f"{self._name}: a parameter has a row-sparse gradient (Embedding(sparse=True)), which only SGD, Adagrad "
            "and SparseAdam take"
        )

    # --- groups ------------------------------------------------------------------------------

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters with values of their own: `{"params": [...], "lr": 1e-3}`;
        the rest comes from the defaults.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"{self._name}: a param group must be a dict, got {type(param_group).__name__}")
        group = dict(param_group)
        given = group.get("params")
        if given is None:
            raise ValueError(f"{self._name}: a param group needs the key 'params'")
        if isinstance(given, (set, frozenset)):
            raise TypeError(f"{self._name}: params must be ordered; a set is not")
        entries = [given] if isinstance(given, Tensor) else list(given)
        if entries and all(isinstance(entry, tuple) for entry in entries):  # named_parameters()
            group["param_names"] = [name for name, _ in entries]
            entries = [parameter for _, parameter in entries]
        taken = {id(parameter) for other in self.param_groups for parameter in other["params"]}
        for number, parameter in enumerate(entries):
            if not isinstance(parameter, Tensor):
                raise TypeError(
                    f"{self._name}: params[{number}] must be a Tensor, got {type(parameter).__name__}"
                )
            if not parameter.is_leaf:
                raise ValueError(f"{self._name}: params[{number}] is the result of an operation, not a leaf")
            if not ts.isdtype(parameter.dtype, "real floating"):
                raise TypeError(
                    f"{self._name}: params[{number}] must be floating-point, got {parameter.dtype}"
                )
            if id(parameter) in taken:
                raise ValueError(f"{self._name}: params[{number}] appears twice")
            taken.add(id(parameter))
        group["params"] = entries
        for key, value in self.defaults.items():
            group.setdefault(key, value)
        self._check_group(group)
        self.param_groups.append(group)

    def _check_group(self, group: Group) -> None:
        for key in FLAGS:
            if not isinstance(group.get(key), (bool, int, np.bool_, type(None))):
                raise TypeError(f"{self._name}: {key} must be True or False, got {group[key]!r}")
        self._check(group)

    def _prepare(self) -> list[Bucket]:
        """Buckets for the groups as they are now: a group may be new or gone, its list longer or shorter, and
        parameters of lazy layers may have elements by now.
        """
        grown = {id(parameter) for parameter in self._shapeless if parameter.size}
        buckets: list[Bucket] = []
        for group in self.param_groups:
            mine = [bucket for bucket in self._buckets if bucket.group is group]
            placed = {id(parameter) for bucket in mine for parameter in bucket.params}
            if placed != {id(parameter) for parameter in group["params"]} or placed & grown:
                alike: dict[Any, list[Tensor]] = {}
                for parameter in group["params"]:
                    alike.setdefault((parameter.dtype, parameter.device), []).append(parameter)
                made = [Bucket(group, params, self._slots) for params in alike.values()]
                for bucket in made:
                    self._make_state(bucket, group)
                    self._take_over(bucket, mine)
                mine = made
            buckets += mine
        self._buckets = buckets  # only now: memory may have run out above
        self._sizes = [len(group["params"]) for group in self.param_groups]
        self._shapeless = [p for bucket in buckets for p in bucket.params if p.size == 0]
        return buckets

    def _take_over(self, bucket: Bucket, earlier: list[Bucket]) -> None:
        """Copy what earlier buckets know of its parameters."""
        fills = self._names(bucket.group)
        for old in earlier:
            for name in old.state:
                shapes = [self._shape(name, parameter) for parameter in bucket.params]
                bucket.flat(name, fills.get(name, 0.0), shapes)
                known = {id(p): view for p, view in zip(old.params, old.views(name), strict=True)}
                for parameter, new in zip(bucket.params, bucket.views(name), strict=True):
                    view = known.get(id(parameter))
                    if view is not None and new is not None and view.shape == new.shape:
                        new.copy_(view)

    def _make_state(self, bucket: Bucket, group: Group) -> None:
        for name, fill in self._names(group).items():
            bucket.flat(name, fill, [self._shape(name, parameter) for parameter in bucket.params])

    # --- stepping ----------------------------------------------------------------------------

    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        max_norm: float | None = None,
        zero_grad: bool = False,
    ) -> Any:
        """Update every parameter that has a gradient; returns what `closure` (which may compute the
        loss) returns.

        max_norm: scale all gradients of the optimizer so that their common norm is at most this, as
        `nn.utils.clip_grad_norm_` does and with the same bits (of float16 and bfloat16: without rounding the scaled
        gradients), but within the update: the gradients stay as they are.
        zero_grad: leave zeros in the gradients, written while they are in the cache.
        """
        loss = None
        if max_norm is not None:
            check_values(f"{self._name}.step", {"max_norm": max_norm}, ("max_norm",))
        if closure is not None:
            with ts.enable_grad():
                loss = closure()
        if [len(group["params"]) for group in self.param_groups] != self._sizes or any(
            p.size for p in self._shapeless
        ):
            with aside():  # a replay must not make the state again
                self._prepare()
        self._refresh()
        steps = [Step(self, bucket, zero_grad) for bucket in self._buckets]
        if len(steps) > 1:
            self._check_memory(steps)
        if max_norm is not None:
            self._clip(steps, max_norm)
        late = False
        if zero_grad and len(steps) > 1:
            seen = [id(grad) for step in steps for grad in step.grads if grad is not None]
            late = len(set(seen)) < len(seen)  # a gradient that several buckets may read
            for step in steps:
                step.zero = not late
        for bucket, step in zip(self._buckets, steps):
            self._update(bucket, step)
            if zero_grad and step.rows:
                for parameter in bucket.params:
                    if isinstance(parameter.grad, RowSparse):
                        parameter.grad = parameter.grad.empty()
        if late:
            with ts.no_grad():
                for step in steps:
                    step.zero = True
                    step.clear()
        return loss

    def _clip(self, steps: list[Step], max_norm: float) -> None:
        """Give the kernels a scale for the gradients, in memory and never read here."""
        number = {id(p): (step, i) for step in steps for i, p in enumerate(step.params)}
        grads = []
        for group in self.param_groups:  # in their own order, whatever the buckets
            for parameter in group["params"]:
                step, i = number[id(parameter)]
                if step.grads[i] is not None:
                    grads.append(step.grads[i])
        with ts.no_grad():
            total = gradient_norm(grads)
            scale = ops.minimum(max_norm / (total + 1e-6), 1.0)
            for step in steps:
                step.hyper = ops.where(_scale_slot(step.hyper.size, step.hyper.device), scale, step.hyper)

    def _check_memory(self, steps: list[Step]) -> None:
        """What a kernel would refuse after those before it have moved their parameters."""
        for step in steps:
            for parameter, grad in zip(step.params, step.grads, strict=True):
                if grad is not None and (parameter._read_only or (step.zero and grad._read_only)):
                    what = "parameter" if parameter._read_only else "gradient"
                    raise ValueError(
                        f"{self._name}.step: a {what} of shape {tuple(parameter.shape)} is read-only"
                    )

    @replayed
    def _refresh(self) -> None:
        """Bring the numbers that the kernels read up to date: the host's part of a step."""
        for bucket in self._buckets:
            values = self._hyper(bucket.group)
            if values != bucket.values:
                bucket.set_hyper(values)
        self._steps_taken += 1

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget every gradient, or fill it with zeros, in its memory."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad = cleared(parameter.grad)

    # --- state -------------------------------------------------------------------------------

    @property
    def state(self) -> dict[Tensor, dict[str, Tensor]]:
        """Parameter -> its state, as views of the flat state; only parameters that have been stepped. The tensors may
        be written to; the dicts are made anew each time, and refuse changes with TypeError.
        """
        entries: dict[Tensor, dict[str, Tensor]] = {}
        for bucket in self._buckets:
            names = [name for name in self._names(bucket.group) if name in bucket.state]
            if not names:
                continue
            parts = {name: bucket.views(name) for name in names}
            steps = bucket.state["step"].cpu().numpy()
            for index, parameter in enumerate(bucket.params):
                if steps[index] > 0 or self._state_from_start:
                    entries[parameter] = Shown(
                        (name, view)
                        for name in names
                        if name not in self._hidden and (view := parts[name][index]) is not None
                    )
        return Shown(entries)

    _state_from_start = False  # whether state exists before the first step (Adagrad)
    _hidden: tuple[str, ...] = ()  # state that PyTorch's state_dict does not have

    def state_dict(self) -> dict[str, Any]:
        """{"state": {i: {name: tensor}}, "param_groups": [...]}, parameters numbered in order;
        tensors share memory.
        """
        numbers = {
            id(parameter): number
            for number, parameter in enumerate(p for group in self.param_groups for p in group["params"])
        }
        groups = []
        for group in self.param_groups:
            saved = {key: value for key, value in group.items() if key != "params"}
            saved["params"] = [numbers[id(parameter)] for parameter in group["params"]]
            groups.append(saved)
        state = {numbers[id(parameter)]: dict(entry) for parameter, entry in self.state.items()}
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what `state_dict` (ours or PyTorch's) holds: all or nothing.

        Groups, parameter counts, shapes and values are checked first; ValueError lists everything that is
        wrong, and nothing changes. Tensors are copied, and cast to the parameters' dtypes.
        """
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
            raise ValueError(
                f"{self._name}.load_state_dict: state_dict needs the keys 'state' and 'param_groups'"
            )
        state, groups = state_dict["state"], state_dict["param_groups"]
        if not isinstance(state, Mapping) or not all(isinstance(e, Mapping) for e in state.values()):
            raise ValueError(f"{self._name}.load_state_dict: 'state' must have a dict for each parameter")
        if not isinstance(groups, (list, tuple)) or not all(
            isinstance(g, Mapping) and isinstance(g.get("params"), (list, tuple)) for g in groups
        ):
            raise ValueError(
                f"{self._name}.load_state_dict: 'param_groups' must be dicts with a list 'params' in each"
            )
        if len(groups) != len(self.param_groups):
            raise ValueError(
                f"{self._name}.load_state_dict: {len(groups)} param groups given, the optimizer has "
                f"{len(self.param_groups)}"
            )
        errors: list[str] = []
        merged: list[Group] = []
        places: dict[int, Any] = {}  # id(parameter) -> its number in the given state_dict
        for position, (saved, group) in enumerate(zip(groups, self.param_groups, strict=True)):
            given = list(saved["params"])
            if not all(isinstance(number, (int, str, np.integer)) for number in given):
                errors.append(f"param group {position}: 'params' must hold numbers, got {given}")
            if len(given) != len(group["params"]):
                errors.append(
                    f"param group {position}: {len(given)} parameters given, the optimizer has "
                    f"{len(group['params'])}"
                )
            places.update((id(p), number) for p, number in zip(group["params"], given, strict=False))
            new = {**group, **{key: _plain(value) for key, value in saved.items() if key != "params"}}
            try:
                self._check_group(new)
            except (TypeError, ValueError) as error:
                errors.append(f"param group {position}: {error}")
            merged.append(new)
        taken = None if errors else self._take_state(merged, places, state, errors)
        if errors:
            raise ValueError(f"{self._name}.load_state_dict: nothing was changed:\n  " + "\n  ".join(errors))
        self._write(merged, taken)

    def _take_state(
        self, merged: list[Group], places: Mapping[int, Any], state: Mapping[Any, Any], errors: list[str]
    ) -> Any:
        """The state for `_write`, checked and cast, by parameter; what is wrong goes to `errors`. `places`: the number
        in `state` of each parameter, by its id.
        """
        sources: dict[int, dict[str, Tensor]] = {}
        for new in merged:
            names = self._names(new)
            for parameter in new["params"]:
                place = places[id(parameter)]
                entry = state.get(place, state.get(str(place)))
                if entry is not None and any(entry.get(name) is not None for name in names):
                    sources[id(parameter)] = self._checked(place, entry, parameter, names, errors)
        return sources

    def _checked(
        self,
        number: Any,
        entry: Mapping[str, Any],
        parameter: Tensor,
        names: dict[str, float],
        errors: list[str],
    ) -> dict[str, Tensor]:
        """One parameter's state, cast and ready to copy; what is wrong goes to `errors`."""
        checked: dict[str, Tensor] = {}
        for name in names:
            shape = self._shape(name, parameter)
            if shape is None:
                continue
            label = f"parameter {number}, {name!r}"
            value = entry.get(name)
            if value is None:
                if name in self._hidden:
                    continue
                errors.append(f"{label}: missing")
                continue
            try:
                tensor = as_tensor(label, value)
            except TypeError as error:
                errors.append(str(error))
                continue
            if tuple(tensor.shape) != shape:
                errors.append(f"{label}: shape {tuple(tensor.shape)} given, {shape} expected")
                continue
            if not ts.isdtype(tensor.dtype, ("bool", "integral", "real floating")):
                errors.append(f"{label}: must be of real numbers, got {tensor.dtype}")
                continue
            tensor = tensor.astype(ts.float64 if name in NUMBERS else computed_in(parameter))
            if name == "step" and not (math.isfinite(float(tensor)) and float(tensor) >= 0):
                errors.append(f"{label}: must be a finite number >= 0, got {float(tensor)}")
                continue
            checked[name] = tensor
        return checked

    def _write(self, merged: list[Group], taken: Any) -> None:
        self._prepare()
        by_group = {id(group): new for group, new in zip(self.param_groups, merged, strict=True)}
        for bucket in self._buckets:  # whatever needs memory comes before the first change
            self._make_state(bucket, by_group[id(bucket.group)])
        for bucket in self._buckets:
            names = self._names(by_group[id(bucket.group)])
            for name in bucket.state.keys() - names.keys():
                del bucket.state[name], bucket.shapes[name]
            for name, fill in names.items():
                bucket.state[name].fill_(fill)
                for parameter, view in zip(bucket.params, bucket.views(name), strict=True):
                    entry = taken.get(id(parameter))
                    if entry is None or view is None:
                        continue
                    if name in entry:
                        view.copy_(entry[name])
                    elif name == "step":
                        # PyTorch does not count SGD's steps; what counts is that it is not the first.
                        view.fill_(1)
        for group, new in zip(self.param_groups, merged, strict=True):
            group.update((key, value) for key, value in new.items() if key != "params")

    def __repr__(self) -> str:
        lines = [f"{self._name} ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join(lines) + "\n)"


def _plain(value: Any) -> Any:
    """A group's value as Python holds it: lists read from JSON become tuples, PyTorch scalars numbers."""
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def number(name: str, group: Group, key: str) -> float:
    """group[key] as a float; TypeError where it is no number."""
    value = group[key]
    try:
        if not isinstance(value, (str, bytes)):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise TypeError(f"{name}: {key} must be a number, got {value!r}")


def numbers(group: Group, key: str) -> list[float]:
    """group[key] as floats; none where it is anything but numbers."""
    try:
        return [float(value) for value in group[key]]
    except (TypeError, ValueError, OverflowError):
        return []


def check_values(
    name: str, group: Group, at_least_zero: Iterable[str], below_one: Iterable[str] = ()
) -> None:
    """ValueError where a value is negative, not finite, or (`below_one`) not in [0, 1); TypeError for no number."""
    for key in at_least_zero:
        value = number(name, group, key)
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name}: {key} must be a finite number >= 0, got {group[key]!r}")
    for key in below_one:
        if not 0 <= number(name, group, key) < 1:
            raise ValueError(f"{name}: {key} must be in [0, 1), got {group[key]!r}")


def check_betas(name: str, group: Group) -> None:
    """ValueError unless group["betas"] are two numbers in [0, 1)."""
    betas = numbers(group, "betas")
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"{name}: betas must be two numbers in [0, 1), got {group['betas']!r}")


def refuse(name: str, **options: bool) -> None:
    """ValueError for options of PyTorch's that change what an optimizer computes and do not exist here."""
    for key, value in options.items():
        if value:
            raise ValueError(f"{name}: {key}=True is not supported")
