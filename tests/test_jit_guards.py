"""ts.jit: what a recording took for granted and is no longer so is noticed."""

from __future__ import annotations

import collections
import dataclasses
import functools
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensorsmith as ts
from jit_steps import tensor
from tensorsmith import nn, optim
from tensorsmith.train import parameters_hash

SCALE = 2.0
TABLE = {"w": 1.0, "list": [1.0, 2.0]}


def test_globals_and_closures(monkeypatch: pytest.MonkeyPatch) -> None:
    offset = 1.0

    @ts.jit
    def f(x: Any) -> Any:
        return x * SCALE + offset + TABLE["w"] + sum(TABLE["list"])

    x = ts.ones((2,))
    assert f(x).tolist() == [7, 7]
    monkeypatch.setitem(globals(), "SCALE", 10.0)
    assert f(x).tolist() == [15, 15]
    offset = 2.0
    assert f(x).tolist() == [16, 16]
    monkeypatch.setitem(TABLE, "w", 0.0)
    assert f(x).tolist() == [15, 15]
    monkeypatch.setitem(TABLE, "list", [])
    assert f(x).tolist() == [12, 12]
    assert "SCALE" in f.why()[1] and "offset" in f.why()[2] and "'w'" in f.why()[3]


def test_a_model_in_training_and_evaluation() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    f = ts.jit(lambda x: model(x).detach())
    x = tensor(3, 4)
    for _ in range(3):
        model.eval()
        assert np.array_equal(f(x).numpy(), model(x).detach().numpy())
        model.train()
        assert (f(x).numpy() == 0).any()
    assert f.cache_info()[:2] == (4, 2)
    model[1].p = 0.0
    assert np.array_equal(f(x).numpy(), model(x).detach().numpy())


def test_a_tensor_that_is_resized() -> None:
    class Holder:
        w: Any = nn.Parameter(ts.ones((1,)))

    holder = Holder()
    holder.w = nn.Parameter(ts.ones((1,)))
    f = ts.jit(lambda x: (x + holder.w).detach())
    assert f(ts.ones((3,))).tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="shape"):  # memory of another size is another tensor
        holder.w.data = ts.full((3,), 4.0)
    holder.w = nn.Parameter(ts.full((3,), 4.0))
    assert f(ts.ones((3,))).tolist() == [5, 5, 5]
    assert "holder.w" in f.why()[-1] and f.cache_info().misses == 2


@pytest.mark.parametrize("how", ["attribute", "data", "module", "append", "bias", "item"])
def test_replaced_tensors(how: str) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    keep = list(model.parameters())  # so that nothing dies
    f = ts.jit(lambda x: model(x).detach())
    x = tensor(2, 3)
    f(x)
    new = nn.Parameter(tensor(3, 3, seed=9))
    if how == "attribute":
        model[0].weight = new
    elif how == "data":
        model[0].weight.data = new.detach()
    elif how == "module":
        model[0] = nn.Linear(3, 3)
    elif how == "append":
        model.append(nn.ReLU())
    elif how == "bias":
        model[0].bias = None
    else:
        with ts.no_grad():
            model[0].weight[0] = 7.0  # in place: the recording reads it
    assert np.array_equal(f(x).numpy(), model(x).detach().numpy())
    assert f.cache_info().misses == (1 if how == "item" else 2)
    assert len(keep) == 4


def test_a_tensor_nobody_else_holds_any_more() -> None:
    def make() -> Any:
        holder = [lambda: None]
        w = ts.ones((2,))
        holder[0] = lambda: w  # not reachable by name

        def get() -> Any:
            return holder[0]()

        def put(value: Any) -> None:
            holder[0] = lambda: value

        return get, put

    get, put = make()
    f = ts.jit(lambda x: x + get())
    x = ts.ones((2,))
    assert f(x).tolist() == [2, 2]
    put(ts.full((2,), 5.0))
    assert f(x).tolist() == [6, 6]


def test_attributes_that_a_later_function_names() -> None:
    class Box:
        factor = 0.0

    box = Box()
    box.factor = 2.0

    def use(b: Any, x: Any) -> Any:
        return x * b.factor

    f = ts.jit(lambda x: use(box, x))  # `box` is seen before `use`
    assert f(ts.ones((2,))).tolist() == [2, 2]
    box.factor = 3.0
    assert f(ts.ones((2,))).tolist() == [3, 3] and f.why()[-1] == "box.factor has changed"


def test_a_hook_is_a_change() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    f = ts.jit(lambda x: model(x).detach())
    x = tensor(2, 3)
    plain = f(x).tolist()
    handle = model[0].register_forward_hook(lambda module, args, y: y * 2)
    assert f(x).tolist() == [[2 * v for v in row] for row in plain]
    second = model[0].register_forward_hook(lambda module, args, y: y * 2)
    assert f(x).tolist() == [[4 * v for v in row] for row in plain]
    second.remove()
    handle.remove()
    assert f(x).tolist() == plain
    assert f.cache_info().misses == 3


def test_hooks_of_a_gradient() -> None:
    p, factor = nn.Parameter(ts.ones((3,))), [2.0]

    @ts.jit
    def step(x: Any, leaf: Any) -> Any:
        p.grad = leaf.grad = None
        (p * x * leaf).sum().backward()
        return p.grad.sum() + leaf.grad.sum() * 100

    x, leaf = ts.ones((3,)), ts.ones((3,)).requires_grad_()
    expected = [303.0]
    hook = None

    def check() -> None:
        assert [float(step(x, leaf)) for _ in range(2)] == expected * 2

    check()
    hook = p.register_hook(lambda g: g * factor[0])
    expected = [306.0]
    check()
    factor[0] = 3.0
    expected = [309.0]
    check()
    hook.remove()
    expected = [303.0]
    check()
    other = leaf.register_hook(lambda g: g * factor[0])
    expected = [903.0]
    check()
    factor[0] = 2.0
    expected = [603.0]
    check()
    other.remove()
    expected = [303.0]
    check()


def test_optimizer_options() -> None:
    p = nn.Parameter(ts.ones((2,)))
    opt = optim.SGD([p], lr=1.0)

    @ts.jit
    def step() -> None:
        p.grad = ts.ones((2,))
        opt.step()

    step()
    assert p.tolist() == [0, 0]
    opt.param_groups[0]["lr"] = 0.5
    step()
    assert p.tolist() == [-0.5, -0.5] and step.cache_info().misses == 1
    opt.param_groups[0]["maximize"] = True
    step()
    assert p.tolist() == [0, 0] and step.cache_info().misses == 2
    q = nn.Parameter(ts.ones((2,)))
    opt.add_param_group({"params": [q], "lr": 2.0})
    q.grad = ts.ones((2,))
    step()
    assert p.tolist() == [0.5, 0.5] and q.tolist() == [-1, -1]


def test_state_of_a_checkpoint_is_read() -> None:
    def run(jit: bool) -> str:
        ts.manual_seed(0)
        model = nn.Linear(4, 4)
        opt = optim.AdamW(model.parameters(), lr=0.1)

        def step(x: Any) -> None:
            opt.zero_grad()
            (model(x) ** 2).sum().backward()
            opt.step()

        f = ts.jit(step) if jit else step
        f(tensor(2, 4))
        import copy

        saved, weights = copy.deepcopy(opt.state_dict()), copy.deepcopy(model.state_dict())
        f(tensor(2, 4, seed=1))
        opt.load_state_dict(saved)
        model.load_state_dict(weights)
        f(tensor(2, 4, seed=2))
        return parameters_hash(model)

    assert run(False) == run(True)


# --- what a function can reach, and how it changes ------------------------------------------------

# Each gives a function, and what changes the world that it looks at.
Change = tuple[Callable[[Any], Any], Callable[[], Any]]
LIMIT = 3.0


def attribute_of_a_class() -> Change:
    class Config:
        scale = 2.0

    return lambda x: x * Config.scale, lambda: setattr(Config, "scale", 3.0)


def attribute_that_hides_one_of_the_class() -> Change:
    class Box:
        scale = 2.0

    box = Box()
    return lambda x: x * box.scale, lambda: setattr(box, "scale", 3.0)


def attribute_of_a_base() -> Change:
    class Base(nn.Module):
        scale = 2.0

        def forward(self, x: Any) -> Any:
            return x * self.scale

    class Layer(Base):
        def forward(self, x: Any) -> Any:
            return super().forward(x) + 1

    layer = Layer()
    return lambda x: layer(x), lambda: setattr(Base, "scale", 3.0)


def attribute_that_comes() -> Change:
    options = types.SimpleNamespace()
    return lambda x: x * getattr(options, "scale", 2.0), lambda: setattr(options, "scale", 3.0)


def attribute_by_getattr() -> Change:
    options = types.SimpleNamespace(scale=2.0)
    return lambda x: x * getattr(options, "scale"), lambda: setattr(options, "scale", 3.0)  # noqa: B009


def slot() -> Change:
    class Box:
        __slots__ = ("scale",)

    box = Box()
    box.scale = 2.0
    return lambda x: x * box.scale, lambda: setattr(box, "scale", 3.0)


def slots_of_a_dataclass() -> Change:
    @dataclasses.dataclass
    class Options:
        __slots__ = ("inner",)
        inner: list[float]

    options = Options([2.0])
    return lambda x: x * options.inner[0], lambda: options.inner.__setitem__(0, 3.0)


def method_of_a_class() -> Change:
    class Layer(nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2

    layer = Layer()
    return lambda x: layer(x), lambda: setattr(Layer, "forward", lambda self, x: x + 5)


def method_of_an_instance() -> Change:
    layer = nn.ReLU()
    return lambda x: layer(x), lambda: setattr(layer, "forward", lambda x: x + 5)


def class_of_an_instance() -> Change:
    class One: ...

    class Other: ...

    thing = One()
    return lambda x: x * 2 if isinstance(thing, One) else x, lambda: setattr(thing, "__class__", Other)


def behind_a_static_method() -> Change:
    state = [2.0]

    class Scale:
        @staticmethod
        def now() -> float:
            return state[0]

    return lambda x: x * Scale.now(), lambda: state.__setitem__(0, 3.0)


def behind_a_class_method_and_a_property() -> Change:
    state = [2.0]

    class Scale:
        @classmethod
        def now(cls) -> float:
            return state[0]

        @property
        def half(self) -> float:
            return self.now() / 2

    scale = Scale()
    return lambda x: x * scale.half, lambda: state.__setitem__(0, 3.0)


def behind_a_cached_function() -> Change:
    state = [2.0]

    @functools.cache
    def scale() -> float:
        return state[0]

    def change() -> None:
        state[0] = 3.0
        scale.cache_clear()

    return lambda x: x * scale(), change


def code_of_a_function() -> Change:
    def double(x: Any) -> Any:
        return x * 2

    def triple(x: Any) -> Any:
        return x * 3

    return lambda x: double(x), lambda: setattr(double, "__code__", triple.__code__)


def defaults_of_a_function() -> Change:
    def scaled(x: Any, scale: float = 2.0) -> Any:
        return x * scale

    return lambda x: scaled(x), lambda: setattr(scaled, "__defaults__", (3.0,))


def keyword_defaults() -> Change:
    def scaled(x: Any, *, scale: list[float] = [2.0]) -> Any:  # noqa: B006
        return x * scale[0]

    return lambda x: scaled(x), lambda: scaled.__kwdefaults__["scale"].__setitem__(0, 3.0)


def attribute_of_a_function() -> Change:
    def scaled(x: Any) -> Any:
        return x * scaled.scale  # type: ignore[attr-defined]

    scaled.scale = 2.0  # type: ignore[attr-defined]
    return scaled, lambda: setattr(scaled, "scale", 3.0)


def elements_of_a_set() -> Change:
    chosen = {"relu"}
    return lambda x: x.relu() if "relu" in chosen else x, lambda: chosen.clear()


def elements_of_a_deque() -> Change:
    latest = collections.deque([1.0, 2.0], maxlen=2)
    return lambda x: x * latest[0], lambda: latest.append(3.0)


def arguments_of_a_partial() -> Change:
    options = {"scale": [2.0]}
    f = functools.partial(lambda x, scale: x * scale[0], **options)
    return lambda x: f(x), lambda: options["scale"].__setitem__(0, 3.0)


def builtin_that_a_global_hides() -> Change:
    return lambda x: x * max(2.0, 1.0), lambda: globals().__setitem__("max", min)


def global_that_goes() -> Change:
    def f(x: Any) -> Any:
        try:
            return x * LIMIT
        except NameError:
            return x

    return f, lambda: globals().pop("LIMIT")


def module_of_the_user() -> Change:
    options = types.ModuleType("options")
    options.scale = 2.0  # type: ignore[attr-defined]
    return lambda x: x * options.scale, lambda: setattr(options, "scale", 3.0)


def attribute_of_a_list() -> Change:
    class Layers(list):  # type: ignore[type-arg]
        scale = 2.0

    layers = Layers([1.0])
    return lambda x: x * layers.scale, lambda: setattr(layers, "scale", 3.0)


def deep_in_containers() -> Change:
    table = {"a": ([{"b": 2.0}],)}
    return lambda x: x * table["a"][0][0]["b"], lambda: table["a"][0][0].__setitem__("b", 3.0)


def order_of_a_dict() -> Change:
    scales = collections.OrderedDict(a=2.0, b=3.0)
    return (
        lambda x: functools.reduce(lambda y, s: y * s + s, scales.values(), x),
        lambda: scales.move_to_end("a"),
    )


def dict_of_the_library() -> Change:
    scales = collections.UserDict(a=2.0)
    return lambda x: x * scales["a"], lambda: scales.__setitem__("a", 3.0)


def behind_a_view_of_a_dict() -> Change:
    scales = {"a": 2.0}
    view = types.MappingProxyType(scales)
    return lambda x: x * view["a"], lambda: scales.__setitem__("a", 3.0)


def elements_of_a_bytearray() -> Change:
    scales = bytearray([2])
    return lambda x: x * scales[0], lambda: scales.__setitem__(0, 3)


def in_a_frozenset_and_behind_a_weak_reference() -> Change:
    class Box:
        scale = 2.0

    one, other = Box(), Box()
    boxes, seen = frozenset([one]), weakref.ref(other)

    def f(x: Any) -> Any:
        return next(iter(boxes)).scale * x * seen().scale  # type: ignore[union-attr]

    return f, lambda: (setattr(one, "scale", 3.0), setattr(other, "scale", 5.0))


def attribute_of_a_metaclass() -> Change:
    class Meta(type):
        scale = 2.0

    class Options(metaclass=Meta):
        pass

    return lambda x: x * Options.scale, lambda: setattr(Meta, "scale", 3.0)


def module_imported_within() -> Change:
    options = types.ModuleType("jit_guards_options")
    options.scale = 2.0  # type: ignore[attr-defined]
    sys.modules["jit_guards_options"] = options

    def f(x: Any) -> Any:
        from jit_guards_options import scale  # type: ignore[import-not-found]

        return x * scale

    return f, lambda: setattr(options, "scale", 3.0)


def behind_a_transform() -> Change:
    gradient = ts.grad(lambda x: (x * x * SCALE).sum())
    return lambda x: gradient(x), lambda: globals().__setitem__("SCALE", 3.0)


def behind_a_generic_function() -> Change:
    @functools.singledispatch
    def scaled(kind: Any, x: Any) -> Any:
        return x

    @scaled.register
    def _(kind: int, x: Any) -> Any:
        return x * SCALE

    return lambda x: scaled(1, x), lambda: globals().__setitem__("SCALE", 3.0)


def behind_a_mode() -> Change:
    @ts.no_grad()
    def scaled(x: Any) -> Any:
        return x * SCALE

    return lambda x: scaled(x), lambda: globals().__setitem__("SCALE", 3.0)


CHANGES = [
    order_of_a_dict, dict_of_the_library, behind_a_view_of_a_dict, elements_of_a_bytearray,
    in_a_frozenset_and_behind_a_weak_reference, attribute_of_a_metaclass, module_imported_within, behind_a_transform,
    behind_a_generic_function, behind_a_mode,
    attribute_of_a_class, attribute_that_hides_one_of_the_class, attribute_of_a_base, attribute_that_comes,
    attribute_by_getattr, slot, slots_of_a_dataclass, method_of_a_class, method_of_an_instance, class_of_an_instance,
    behind_a_static_method, behind_a_class_method_and_a_property, behind_a_cached_function, code_of_a_function,
    defaults_of_a_function, keyword_defaults, attribute_of_a_function, elements_of_a_set, elements_of_a_deque,
    arguments_of_a_partial, builtin_that_a_global_hides, global_that_goes, module_of_the_user, attribute_of_a_list,
    deep_in_containers,
]  # fmt: skip


@pytest.mark.parametrize("make", CHANGES)
def test_changes_are_noticed(make: Callable[[], Change]) -> None:
    names = dict(globals())
    f, change = make()
    replayed = ts.jit(f)
    x = tensor(5)
    before = f(x).tolist()
    try:
        assert [replayed(x).tolist() for _ in range(3)] == [before] * 3
        assert replayed.cache_info()[:2] == (2, 1)
        change()
        after = f(x).tolist()
        assert after != before and [replayed(x).tolist() for _ in range(3)] == [after] * 3
        assert replayed.cache_info()[:2] == (4, 2) and replayed.why()[-1].endswith("has changed")
    finally:
        globals().update(names)
        if "max" not in names:
            globals().pop("max", None)


def test_arguments_that_are_objects_are_looked_at() -> None:
    @dataclasses.dataclass
    class Options:
        scale: float
        weight: Any

    f = ts.jit(lambda x, o: x * o.scale + o.weight)
    options = Options(2.0, tensor(3, seed=1))
    x = tensor(3)

    def check() -> None:
        for _ in range(2):
            assert f(x, options).tolist() == (x * options.scale + options.weight).tolist()

    check()
    options.scale = 3.0
    check()
    options.weight = tensor(3, seed=2)
    check()
    options = Options(2.0, tensor(3, seed=3))
    check()
    assert f.cache_info()[:2] == (4, 4)
    chosen = {1}
    g = ts.jit(lambda x, chosen: x * len(chosen))
    assert g(x, chosen).tolist() == x.tolist()
    chosen.add(2)
    assert g(x, chosen).tolist() == (x * 2).tolist()


def test_a_long_chain_of_objects_is_walked() -> None:
    class Node:
        def __init__(self, following: Any) -> None:
            self.following = following

    end = Node(None)
    chain = end
    for _ in range(100_000):  # recursion would not come back
        chain = Node(chain)
    f = ts.jit(lambda x: x * 2 if chain.following is not None else x)
    assert f(ts.ones((1,))).tolist() == [2]
    end.following = chain
    f(ts.ones((1,)))
    assert "has changed" in f.why()[-1]
    while chain is not end:  # nor would taking it apart
        following, chain.following = chain.following, None
        chain = following


def test_an_attribute_is_no_global_of_that_name() -> None:
    options = types.SimpleNamespace(SCALE=2.0)
    f = ts.jit(lambda x: x * options.SCALE)
    x = ts.ones((1,))
    f(x)
    globals()["SCALE"] = 5.0
    try:
        assert f(x).tolist() == [2] and f.cache_info()[:2] == (1, 1)
        g = ts.jit(lambda x: (lambda: x * SCALE)())  # nor is one missed in a function within
        assert g(x).tolist() == [5]
    finally:
        globals()["SCALE"] = 2.0
    assert g(x).tolist() == [2]
