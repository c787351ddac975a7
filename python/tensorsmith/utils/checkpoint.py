"""Memory for time: a region's intermediate values are forgotten after the forward pass and computed again in backward.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".

The region runs once as always. What its graph leads to (the arguments, and the leaves that the function uses otherwise)
becomes the inputs of one node, and the graph goes. The node's backward runs the function again and walks the new graph.
"""

from __future__ import annotations

import copy
import functools
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast

from tensorsmith import _core
from tensorsmith.autograd import enable_grad, is_grad_enabled, no_grad
from tensorsmith.random import Generator, default_generator

if TYPE_CHECKING:
    from tensorsmith.tensor import Tensor

__all__ = ["CheckpointError", "checkpoint", "checkpoint_sequential", "noop_context_fn"]

Contexts = Callable[[], tuple[AbstractContextManager[Any], AbstractContextManager[Any]]]


class CheckpointError(RuntimeError):
    """The function did something else when it ran again."""


def noop_context_fn() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """The default of `context_fn`: nothing around either run."""
    return nullcontext(), nullcontext()


# --- nested values --------------------------------------------------------------------------------


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Nested tuples, lists and dicts with other leaves; itself where none is another."""
    if isinstance(value, dict):
        items = {key: _mapped(item, change) for key, item in value.items()}
        if all(items[key] is item for key, item in value.items()):
            return value
        changed = copy.copy(value)
        changed.update(items)
        return changed
    if isinstance(value, (tuple, list)):
        parts = [_mapped(item, change) for item in value]
        if all(a is b for a, b in zip(parts, value)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return change(value)


def _leaves(value: Any, kind: type) -> list[Any]:
    """What there is of a class in nested values, each object once."""
    found: dict[int, Any] = {}

    def look(item: Any) -> Any:
        if isinstance(item, kind):
            found.setdefault(id(item), item)
        return item

    _mapped(value, look)
    return list(found.values())


# --- what the function closes over ----------------------------------------------------------------


def _assigned(code: types.CodeType) -> set[str]:
    """Names of cells that the code, or a function that it makes, assigns to."""
    import dis

    names = {i.argval for i in dis.get_instructions(code) if i.opname in ("STORE_DEREF", "DELETE_DEREF")}
    return names.union(*(_assigned(c) for c in code.co_consts if isinstance(c, types.CodeType)))


def _computed(x: Any) -> bool:
    return isinstance(x, _core.TensorBase) and x.requires_grad and not x.is_leaf


def _captured(function: Any) -> dict[int, Tensor]:
    """Computed tensors that a function closes over, by the place of their cells: arguments by another way."""
    if not isinstance(function, types.FunctionType):
        return {}
    found: dict[int, Tensor] = {}
    for place, cell in enumerate(function.__closure__ or ()):
        try:
            content = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
        if _computed(content):
            found[place] = content
    if found:
        assigned = _assigned(function.__code__)
        found = {p: x for p, x in found.items() if function.__code__.co_freevars[p] not in assigned}
    return found


def _closing_over(function: Any, captured: dict[int, Tensor]) -> Any:
    """The function with these tensors in its cells."""
    if not captured:
        return function
    cells = list(function.__closure__)
    for place, x in captured.items():
        cells[place] = types.CellType(x)
    made = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, tuple(cells)
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


# --- graphs ---------------------------------------------------------------------------------------


def _reached(
    outputs: Sequence[Tensor], stand_ins: Sequence[Tensor]
) -> tuple[dict[int, Tensor], dict[int, Any]]:
    """Leaves and nodes behind the outputs, up to the arguments' stand-ins."""
    stops = {id(x.grad_fn) for x in stand_ins}
    leaves: dict[int, Tensor] = {}
    nodes: dict[int, Any] = {}
    pending: list[Any] = [y.grad_fn or y for y in outputs]
    while pending:
        target = pending.pop()
        if isinstance(target, _core.TensorBase):
            leaves[id(target)] = cast("Tensor", target)
        elif id(target) not in nodes and id(target) not in stops:
            nodes[id(target)] = target
            pending.extend(target.next_functions)
    return leaves, nodes


class _Entry:
    """Where computed arguments come into a region: each is another tensor there, whose gradient passes, and stops while
    `closed`.
    """

    def __init__(self) -> None:
        self.closed = False

    def __call__(self, x: Tensor) -> Tensor:
        inner = x.detach()
        _core.record("checkpoint_argument", lambda dy: (None if self.closed else dy,), (x,), (inner,))
        return inner


@contextmanager
def _without_hooks(leaves: Sequence[Tensor]) -> Iterator[None]:
    """The leaves' hooks wait for the whole gradient, which the walk around this one has."""
    held = []
    try:
        for leaf in leaves:
            hooks = leaf._register_hook(_nothing)
            hooks.pop()
            held.append((hooks, hooks[:]))
            hooks.clear()
        yield
    finally:
        for hooks, before in held:
            hooks[:] = before


def _nothing(_: Any) -> None: ...


# --- the region -----------------------------------------------------------------------------------


def _state(generator: Generator) -> tuple[str, Any]:
    device = "cuda" if generator._drawing else "cpu"
    return device, generator.on(device).copy()


def _set_states(generators: Sequence[Generator], states: Sequence[tuple[str, Any]]) -> None:
    with no_grad():
        for generator, (device, words) in zip(generators, states):
            generator.on(device).copy_(words)


class _Region:
    """One call of `checkpoint` that is recorded."""

    def __init__(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], preserve: bool, check: bool
    ) -> None:
        self.function = function
        self.check = check
        # All that comes in: arguments, and what the function closes over.
        self.given: tuple[Any, Any, Any] = (args, kwargs, _captured(function))
        tensors = _leaves(self.given, _core.TensorBase)
        self.inputs = [x for x in tensors if _computed(x)]
        self.leaves: list[Tensor] = []  # that its graph leads to
        self.watched = tensors  # with their versions: what must be as it was
        self.versions: list[int] = []
        self.older: list[Any] = []  # weak references to nodes of the graph that outlived it
        self.generators = [default_generator, *_leaves(self.given, Generator)] if preserve else []
        self.states = [_state(g) for g in self.generators]
        self.mode = _core.is_autocast_enabled(), str(_core.device())
        self.outside: AbstractContextManager[Any] = nullcontext()
        self.described: list[Any] = []
        self.used: set[int] = set()

    def call(self, stand_ins: Sequence[Tensor]) -> Any:
        inner = {id(x): y for x, y in zip(self.inputs, stand_ins)}
        args, kwargs, captured = _mapped(self.given, lambda x: inner.get(id(x), x))
        return _closing_over(self.function, captured)(*args, **kwargs)

    def record(self, context: AbstractContextManager[Any]) -> Any:
        """What the function returns, its tensors with a gradient as outputs of this region's node."""
        entry = _Entry()
        stand_ins = [entry(x) for x in self.inputs]
        with context:
            result = self.call(stand_ins)
        tensors = _leaves(result, _core.TensorBase)
        outputs = [y for y in tensors if y.requires_grad]
        if not outputs:
            return result
        self.described = [_description(y) for y in tensors]
        leaves, nodes = _reached(outputs, stand_ins)
        self.leaves = list(leaves.values())
        self.watched = [*self.watched, *self.leaves]
        self.note_versions()
        plain = {id(y): y.detach() for y in outputs}
        self.connect(list(plain.values()))
        result = _mapped(result, lambda y: plain.get(id(y), y))
        references = [weakref.ref(node) for node in nodes.values()]
        del outputs, tensors, nodes, stand_ins  # and with them the graph
        self.older = [reference for reference in references if reference() is not None]
        return result

    def connect(self, outputs: list[Tensor]) -> None:
        """Makes tensors the outputs of a node. Where there are several, each has one of its own behind it, which says
        that its gradient was asked for: the others' are no zeros to send through the graph.
        """
        sources = (*self.inputs, *self.leaves)
        if len(outputs) == 1:
            self.used = {0}
            _core.record("checkpoint", self.backward, sources, tuple(outputs))
            return
        behind = tuple(y.detach() for y in outputs)
        _core.record("checkpoint", self.backward, sources, behind)
        for number, (x, y) in enumerate(zip(behind, outputs)):
            _core.record("checkpoint", functools.partial(self._pass, number), (x,), (y,))

    def _pass(self, number: int, dy: Tensor) -> tuple[Tensor]:
        self.used.add(number)
        return (dy,)

    def note_versions(self) -> None:
        self.versions = [x._version for x in self.watched]

    def backward(self, *dys: Tensor) -> tuple[Any, ...]:
        used = sorted(self.used)
        if len(dys) > 1:
            self.used = set()
        if any(x._version != version for x, version in zip(self.watched, self.versions)):
            raise RuntimeError(
                "checkpoint: an argument or a parameter of the function was modified in place after its forward "
                "pass, so that it cannot be computed again"
            )
        create = is_grad_enabled()
        entry = _Entry()
        with enable_grad(), self.as_before():
            # Gradients stop at these, and with create_graph go on when they themselves are differentiated.
            stand_ins = [entry(x) if create else x.detach().requires_grad_() for x in self.inputs]
            result = self.call(stand_ins)
        self.note_versions()  # buffers that the function itself writes
        outputs = self.compared(result)
        self.check_graph(outputs, stand_ins)
        leaves = [leaf for leaf in self.leaves if leaf.requires_grad]
        wanted = (*stand_ins, *leaves)
        del result
        with _without_hooks(leaves):
            entry.closed = True
            try:
                found = _core.backward(
                    tuple(outputs[n] for n in used), tuple(dys[n] for n in used), wanted, create, create
                )
            finally:
                entry.closed = False
        by_leaf = dict(zip(map(id, leaves), found[len(stand_ins) :]))
        return (*found[: len(stand_ins)], *(by_leaf.get(id(leaf)) for leaf in self.leaves))

    @contextmanager
    def as_before(self) -> Iterator[None]:
        """The modes and random numbers of the forward pass, and afterwards those of now."""
        autocast, device = self.mode
        now = [_state(g) for g in self.generators]
        casts, place = _core.is_autocast_enabled(), str(_core.device())
        try:
            _set_states(self.generators, self.states)
            _core.set_autocast(autocast)
            _core.set_device(device)
            with self.outside:
                yield
        finally:
            _core.set_device(place)
            _core.set_autocast(casts)
            _set_states(self.generators, now)

    def compared(self, result: Any) -> list[Tensor]:
        """The outputs of the second run that have gradients, where they are like those of the first."""
        tensors = _leaves(result, _core.TensorBase)
        outputs = [y for y in tensors if y.requires_grad]
        described = [_description(y) for y in tensors]
        wanted = sum(d[3] for d in self.described)
        if len(outputs) != wanted or (self.check and len(tensors) != len(self.described)):
            raise CheckpointError(
                f"checkpoint: the function returned {len(tensors)} tensors, {len(outputs)} of them with a gradient, "
                f"when it ran again in backward, and {len(self.described)}, {wanted} with a gradient, in forward"
            )
        for number, (now, before) in enumerate(zip(described, self.described)):
            if self.check and now != before:
                raise CheckpointError(
                    f"checkpoint: result {number} of the function was {_text(before)} in forward and {_text(now)} "
                    "when it ran again in backward"
                )
        return outputs

    def check_graph(self, outputs: list[Tensor], stand_ins: list[Tensor]) -> None:
        """Every gradient of the new graph has a place to go."""
        leaves, nodes = _reached(outputs, stand_ins)
        for reference in self.older:
            if (node := reference()) is not None and id(node) in nodes:
                raise RuntimeError(
                    "checkpoint: the function uses a tensor that was computed before it (by "
                    f"{node.name}) and is not an argument; pass it as one"
                )
        known = {id(x) for x in (*stand_ins, *self.leaves)}
        for leaf in leaves.values():
            if id(leaf) not in known:
                raise CheckpointError(
                    f"checkpoint: the function uses a leaf of shape {tuple(leaf.shape)} when it runs again in "
                    "backward that it did not use in forward"
                )


def _description(y: Tensor) -> tuple[Any, ...]:
    return tuple(y.shape), y.dtype, y.device, y.requires_grad


def _text(described: tuple[Any, ...]) -> str:
    shape, dtype, device, needs = described
    return f"{dtype}{shape} on {device} with{'' if needs else 'out'} a gradient"


# --- what is public -------------------------------------------------------------------------------


def _chosen(name: str, what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name}: {what} must be True or False, got {value!r}")
    return value


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = False,
    context_fn: Contexts = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """`function(*args, **kwargs)`, whose intermediate values are computed again in backward instead of kept.

    What stays in memory between is the arguments and the results; backward costs one more forward pass. Gradients go to
    the arguments (tensors in tuples, lists and dicts too), to computed tensors that the function closes over, and to
    the parameters that it uses. They have the same bits as without, except where a tensor is used several times inside
    and outside as well: the sum of its gradients is then grouped otherwise. Checkpoints nest; `create_graph` and
    `retain_graph` work; without gradients it is the plain call.

    preserve_rng_state: the second run draws the same numbers, of the default generator and of generators among the
    arguments. Autocast and the default device are those of the forward pass as well. determinism_check: "default" has
    backward compare number, shapes, dtypes and devices of the results, "none" does not. context_fn: returns two context
    managers, around the first run and the second. use_reentrant, debug and early_stop are accepted and ignored: one way
    serves both values.

    What else the function does, it does twice: batch norm moves its running statistics again. It may not write to
    computed arguments that have a gradient (RuntimeError), and tensors that it writes otherwise must not matter to its
    results, for the second run finds them written. RuntimeError in backward where the second run is not like the first
    (CheckpointError), where an argument or parameter was modified in place between, and for a computed tensor that the
    function reaches otherwise (through an attribute, a global or a list).

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
    """
    if not callable(function):
        raise TypeError(f"checkpoint: function must be callable, got {type(function).__name__}")
    if determinism_check not in ("default", "none"):
        raise ValueError(
            f"checkpoint: determinism_check must be 'default' or 'none', got {determinism_check!r}"
        )
    _chosen("checkpoint", "preserve_rng_state", preserve_rng_state)
    if not callable(context_fn):
        raise TypeError(f"checkpoint: context_fn must be callable, got {type(context_fn).__name__}")
    first, second = context_fn()
    if not is_grad_enabled():
        with first:
            return function(*args, **kwargs)
    while isinstance(function, functools.partial):
        args, kwargs = (*function.args, *args), {**function.keywords, **kwargs}
        function = function.func
    region = _Region(function, args, kwargs, preserve_rng_state, determinism_check == "default")
    region.outside = second
    return region.record(first)


def checkpoint_sequential(
    functions: Any,
    segments: int,
    input: Any,
    use_reentrant: bool | None = False,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """`input` through `functions` one after another (an `nn.Sequential` or a sequence), in `segments` pieces, all but
    the last of which are checkpointed.

    The pieces have `len(functions) // segments` functions, the last one the rest. ValueError unless segments is from 1
    to len(functions). Other arguments are those of `checkpoint`.

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost".
    """
    layers = list(functions.children()) if hasattr(functions, "children") else list(functions)
    if isinstance(segments, bool) or not hasattr(segments, "__index__"):
        raise TypeError(f"checkpoint_sequential: segments must be an integer, got {type(segments).__name__}")
    if not 1 <= segments <= len(layers):
        raise ValueError(
            f"checkpoint_sequential: segments must be from 1 to {len(layers)}, the number of functions, got {segments}"
        )
    size = len(layers) // segments
    options = {"use_reentrant": use_reentrant, "preserve_rng_state": preserve_rng_state, **kwargs}
    for start in range(0, size * (segments - 1), size):
        input = checkpoint(functools.partial(_through, layers[start : start + size]), input, **options)
    return _through(layers[size * (segments - 1) :], input)


def _through(layers: Sequence[Callable[..., Any]], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x
