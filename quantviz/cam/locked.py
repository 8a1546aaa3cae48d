"""Networks that threads share: a module is reached only while its lock is held."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Generic, TypeVar

from quantviz.cam.threads import one_thread

if TYPE_CHECKING:
    from torch import nn

M = TypeVar("M", bound="nn.Module")
M_co = TypeVar("M_co", bound="nn.Module", covariant=True)

_LOCKS: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
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
            self._lock = _LOCKS.setdefault(module, threading.RLock())

    @contextmanager
    def locked(self, *, in_one_thread: bool = True) -> Iterator[M_co]:
        """Hold the lock and give the module, which must be left as it was and not be used after the block.

        Args:
            in_one_thread: compute in one thread meanwhile, so that numbers do not depend on how many there are.
        """
        with self._lock, one_thread() if in_one_thread else nullcontext():
            yield self._module


def lockable(network: M | Locked[M]) -> Locked[M]:
    """Return a network as it is, or the handle of a bare module."""
    return network if isinstance(network, Locked) else Locked(network)
