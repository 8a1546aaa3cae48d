"""Networks that threads share: a module is reached only while its lock is held."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Generic, TypeVar

from quantviz.cam.threads import one_thread

if TYPE_CHECKING:
    from torch import nn

M = TypeVar("M", bound="nn.Module")
M_co = TypeVar("M_co", bound="nn.Module", covariant=True)


class _Lock:
    """A lock that its thread may take again, given in the order of asking; its holder can let others pass meanwhile."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._owner: int | None = None
        self._depth = 0
        self._waiting: deque[object] = deque()

    @property
    def waiting(self) -> int:
        """How many threads wait for it."""
        return len(self._waiting)

    def take(self) -> None:
        with self._changed:
            if self._owner == threading.get_ident():
                self._depth += 1
            else:
                self._wait(1)

    def leave(self) -> None:
        with self._changed:
            self._depth -= 1
            if not self._depth:
                self._owner = None
                self._changed.notify_all()

    def let_pass(self) -> None:
        """Let those who wait now have it once each, if this thread holds it."""
        with self._changed:
            if self._owner == threading.get_ident() and self._waiting:
                depth, self._owner, self._depth = self._depth, None, 0
                self._changed.notify_all()
                self._wait(depth)

    def _wait(self, depth: int) -> None:
        ticket = object()
        self._waiting.append(ticket)
        try:
            while self._owner is not None or self._waiting[0] is not ticket:
                self._changed.wait()
            self._owner, self._depth = threading.get_ident(), depth
        finally:
            self._waiting.remove(ticket)
            self._changed.notify_all()


_LOCKS: weakref.WeakKeyDictionary[nn.Module, _Lock] = weakref.WeakKeyDictionary()
_LOCKS_GUARD = threading.Lock()


class Locked(Generic[M_co]):
    """A network that several threads share; two threads in one hooked module crash or give wrong maps.

    It cannot be called: ``with network.locked() as module`` is the way to its module. All handles of one module share
    one lock, which the thread that holds it may take again.

    Args:
        module: in eval mode; nothing else should hold it.
    """

    __slots__ = ("_lock", "_module")

    def __init__(self, module: M_co) -> None:
        self._module = module
        with _LOCKS_GUARD:
            self._lock = _LOCKS.setdefault(module, _Lock())

    @contextmanager
    def locked(self, *, in_one_thread: bool = True) -> Iterator[M_co]:
        """Hold the lock and give the module, which must be left as it was and not be used after the block.

        Args:
            in_one_thread: compute in one thread meanwhile, so that numbers do not depend on how many there are.
        """
        self._lock.take()
        try:
            with one_thread() if in_one_thread else nullcontext():
                yield self._module
        finally:
            self._lock.leave()

    @property
    def waiting(self) -> int:
        """How many threads wait for the module."""
        return self._lock.waiting


def let_others_pass(module: nn.Module) -> None:
    """Let threads that wait for a module have it, where the calling thread holds its lock; then go on.

    For a long computation, between passes, while nothing of it is hooked to the module.
    """
    with _LOCKS_GUARD:
        lock = _LOCKS.get(module)
    if lock is not None:
        lock.let_pass()


def lockable(network: M | Locked[M]) -> Locked[M]:
    """Return a network as it is, or the handle of a bare module."""
    return network if isinstance(network, Locked) else Locked(network)
