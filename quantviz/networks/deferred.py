"""Packages whose ``__init__`` waits until somebody asks for what it defines.

timm's and torchvision's import every network that they have, and by way of torchvision's operators torch's compiler:
seconds, for a network that is defined in one file.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from types import MappingProxyType, ModuleType
from typing import Any, Final

DEFERRED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "timm": "timm.version",
        "timm.data": "timm.data.constants",
        "timm.models": "",
        "torchvision": "torchvision.version",
        "torchvision.models": "",
        "torchvision.ops": "torchvision.ops.stochastic_depth",
    }
)
"""The packages, each behind the one that holds it -> a module of it whose names it gives without its ``__init__``."""

# Whoever imports one of their modules here takes this first, so that two threads do not wait for each other's imports.
_IMPORTING = threading.RLock()
_PATIENCE = 60.0  # seconds that a thread waits for another one's import


_deferring = False


def defer() -> None:
    """Let packages be deferred in this process, which is that of one command.

    Where several threads import, as in a server or a notebook, one of them could see what another is just importing.
    """
    global _deferring
    _deferring = True


@contextmanager
def one_by_one() -> Iterator[None]:
    """Let modules of the packages of ``DEFERRED`` be imported without the rest of these, for the length of a block.

    A package that is not imported yet is put in place without what its ``__init__`` defines. That runs once anybody
    asks for one of its names, or imports one of its modules outside such a block: ``import timm; timm.list_models()``
    does what it always does. That is so in the main thread of a command alone (see ``defer``); others get the packages
    whole.
    """
    if not _deferring or threading.current_thread() is not threading.main_thread():
        yield
        return
    with _IMPORTING:
        for name in DEFERRED:
            if name not in sys.modules:
                _defer(name)
        if _COMPLETING not in sys.meta_path:
            sys.meta_path.insert(0, _COMPLETING)
        before, _COMPLETING.resting = _COMPLETING.resting, threading.get_ident()
        try:
            yield
        finally:
            _COMPLETING.resting = before


def _defer(name: str) -> None:
    spec = find_spec(name)  # of the package before it, which is in place
    if spec is None or spec.submodule_search_locations is None:
        return
    module = module_from_spec(spec)
    if type(module) is ModuleType:
        module.__class__ = _Deferred
        sys.modules[name] = module


class _Deferred(ModuleType):
    """A package without the names that its ``__init__`` gives it."""

    __spec__: ModuleSpec

    def __getattr__(self, name: str) -> Any:
        missing = AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if name.startswith("__") and name not in ("__all__", "__version__"):
            raise missing  # what looks through all modules asks for such
        if name != "__all__" and (light := DEFERRED[self.__name__]):
            with one_by_one():
                found = vars(import_module(light)).get(name)
            if found is not None and not isinstance(found, ModuleType):
                return found
        if not _run(self):
            raise missing  # as of any package whose __init__ is not through
        return getattr(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        # Python hands a package each of its modules. One may have the name of a function that the package's __init__
        # defines, as torchvision.ops.stochastic_depth has, and would hide it.
        if isinstance(value, ModuleType) and not _RUNNING.get(self.__name__):
            return
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        _run(self)
        return list(super().__dir__())


_RUNNING: dict[str, bool] = {}
"""Package -> whether its ``__init__`` is running."""


def _run(package: ModuleType) -> bool:
    """Run a package's ``__init__``, after which it is like any other; return False where this thread is at it.

    Raises:
        ImportError: another thread's import does not end.
    """
    name = package.__name__
    with _here():
        if type(package) is not _Deferred:
            return True
        if _RUNNING.get(name):
            return False
        _RUNNING[name] = True
        try:
            for full, module in list(sys.modules.items()):
                if full.rpartition(".")[0] == name:
                    setattr(package, full.rpartition(".")[2], module)
            loader = package.__spec__.loader
            assert loader is not None
            loader.exec_module(package)
            whole: Any = package
            whole.__class__ = ModuleType
        finally:
            _RUNNING[name] = False
    return True


@contextmanager
def _here() -> Iterator[None]:
    if not _IMPORTING.acquire(timeout=_PATIENCE):
        raise ImportError("Another thread imports timm or torchvision, and does not end; start the program again.")
    try:
        yield
    finally:
        _IMPORTING.release()


class _Completing:
    """First of Python's finders: completes a package before one of its modules is imported by somebody else."""

    resting: int | None = None
    """The thread that imports modules one by one."""

    def find_spec(self, name: str, _path: Sequence[str] | None = None, _target: object = None) -> ModuleSpec | None:
        """Return None, for the next finder to answer; where the package has imported the module, what gives that."""
        package = sys.modules.get(name.rpartition(".")[0])
        if type(package) is _Deferred and self.resting != threading.get_ident():
            # A thread that is at it imports this very module, which cannot wait for it.
            if _IMPORTING.acquire(blocking=False):
                try:
                    _run(package)
                finally:
                    _IMPORTING.release()
                if (module := sys.modules.get(name)) is not None:
                    # Python takes the module's own spec in place of what is returned here, and would run it again.
                    module.__spec__ = ModuleSpec(name, _There(module))
                    return module.__spec__
        return None


class _There(Loader):
    """Gives a module that is imported already, and does not run it a second time."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, _spec: ModuleSpec) -> ModuleType:
        """Return the module."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module back its own spec, in whose place Python has put that of this loader."""
        module.__spec__ = self._spec


_COMPLETING = _Completing()
