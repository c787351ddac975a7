"""Handles that take hooks off again."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any

_serial = itertools.count()


class RemovableHandle:
    """What `register_*_hook` returns: `remove()` takes the hook off; also a context manager."""

    def __init__(self, hooks: dict[int, Any], owner: Any = None) -> None:
        self.id = next(_serial)
        self._hooks = hooks
        self._owner: Callable[[], Any] = weakref.ref(owner) if owner is not None else (lambda: None)

    def remove(self) -> None:
        """Take the hook off. A second call does nothing."""
        self._hooks.pop(self.id, None)
        owner = self._owner()
        if owner is not None:
            owner._hooks_changed()

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()
