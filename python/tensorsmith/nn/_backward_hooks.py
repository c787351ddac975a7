"""Full backward hooks: an identity node around a module's inputs, and one around its outputs.

The outputs' node learns the gradients of all outputs at once, the inputs' node those of all inputs; the hooks
run there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorsmith as ts
from tensorsmith import _core
from tensorsmith.tensor import Tensor

Gradients = tuple[Tensor | None, ...]


class Watch:
    """One call of a module that has backward hooks."""

    def __init__(self, module: Any, pre_hooks: list[Any], hooks: list[Any]) -> None:
        self.module = module
        self.pre_hooks = pre_hooks
        self.hooks = hooks
        self.grad_output: Gradients = ()
        self.arguments = self.results = 0
        self.positions: list[int] = []
        self.result_positions: list[int] = []

    def inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, those that need gradients as outputs of the inputs' node."""
        self.arguments = len(args)
        if not self.hooks or not ts.is_grad_enabled():
            return args
        self.positions = [i for i, x in enumerate(args) if isinstance(x, Tensor) and x.requires_grad]
        if not self.positions:
            return args
        watched = _identity("backward_hook_inputs", self._on_inputs, tuple(args[i] for i in self.positions))
        changed = list(args)
        for i, x in zip(self.positions, watched, strict=True):
            changed[i] = x
        return tuple(changed)

    def outputs(self, result: Any) -> Any:
        """The result, its tensors that have gradients as outputs of the outputs' node."""
        if not ts.is_grad_enabled():
            return result
        items = list(result) if isinstance(result, (tuple, list)) else [result]
        self.results = len(items)
        self.result_positions = positions = [
            i for i, y in enumerate(items) if isinstance(y, Tensor) and y.requires_grad
        ]
        if not positions:
            return result
        watched = _identity("backward_hook_outputs", self._on_outputs, tuple(items[i] for i in positions))
        for i, y in zip(positions, watched, strict=True):
            items[i] = y
        if not isinstance(result, (tuple, list)):
            return items[0]
        return type(result)(*items) if hasattr(result, "_fields") else type(result)(items)

    def _on_outputs(self, *grads: Tensor | None) -> Gradients:
        # One entry for each result, None where it is no tensor that has a gradient.
        all_grads: list[Tensor | None] = [None] * self.results
        for i, grad in zip(self.result_positions, grads, strict=True):
            all_grads[i] = grad
        self.grad_output = tuple(all_grads)
        for hook in self.pre_hooks:
            changed = hook.call(self.module, self.grad_output)
            if changed is not None:
                self.grad_output = _checked("full backward pre-hook", changed, self.results)
        if self.hooks and not self.positions:  # no input will ask for a gradient: this is the moment
            self._run_hooks((None,) * self.arguments)
        return tuple(self.grad_output[i] for i in self.result_positions)

    def _on_inputs(self, *grads: Tensor | None) -> Gradients:
        all_grads: list[Tensor | None] = [None] * self.arguments
        for i, grad in zip(self.positions, grads, strict=True):
            all_grads[i] = grad
        result = self._run_hooks(tuple(all_grads))
        return tuple(result[i] for i in self.positions)

    def _run_hooks(self, grad_input: Gradients) -> Gradients:
        for hook in self.hooks:
            changed = hook.call(self.module, grad_input, self.grad_output)
            if changed is not None:
                grad_input = _checked("full backward hook", changed, len(grad_input))
        return grad_input


def _identity(
    name: str, function: Callable[..., Gradients], tensors: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    outputs = tuple(tensor.detach() for tensor in tensors)
    _core.record(name, function, tensors, outputs)
    return outputs


def _checked(kind: str, gradients: Any, count: int) -> Gradients:
    if isinstance(gradients, Tensor):
        gradients = (gradients,)
    if not isinstance(gradients, tuple) or len(gradients) != count:
        raise RuntimeError(f"{kind} must return None or a tuple of {count} gradients, got {gradients!r}")
    return gradients
