"""What the site has of the code itself: the metrics' page, the public names, and a check that each is documented.

A page asks for a part by a line of its own, ``<!-- part: metrics -->``, ``<!-- part: limits -->`` or
``<!-- part: python -->``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import quantviz

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_PART = re.compile(r"^<!-- part: (\w+) -->$", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, Any]:
    """Put the parts into the pages as they are read, and refuse to build a site that lacks a public name."""
    from sphinx.errors import ExtensionError

    def check(_app: Sphinx) -> None:
        if missing := undocumented(quantviz):
            raise ExtensionError("These public names have no docstring: " + ", ".join(missing))

    def fill(_app: Sphinx, _page: str, content: list[str]) -> None:
        content[0] = _PART.sub(lambda part: PARTS[part[1]](), content[0])

    app.connect("builder-inited", check)
    app.connect("source-read", fill)
    return {"parallel_read_safe": True}


def metrics() -> str:
    """Return the page of all metrics, as the dashboard shows it."""
    from quantviz.comparison import describe_faithfulness
    from quantviz.scores import describe

    return f"{describe()}\n\n{describe_faithfulness()}"


def limits() -> str:
    """Return the table of what each reader of files takes at most."""
    from quantviz.specs.limits import LIMITS

    rows = (f"| {row.files} | {row.size} | {row.content} | {row.where} |" for row in LIMITS)
    return "\n".join(["| files | size | content | read in |", "| --- | --- | --- | --- |", *rows])


def python() -> str:
    """Return a section for each public name, functions first, its text taken from the docstring."""
    names = sorted(public(quantviz), key=lambda name: (not inspect.isfunction(getattr(quantviz, name)), name))
    return "\n\n".join(_section(name) for name in names)


def _section(name: str) -> str:
    value = getattr(quantviz, name)
    if inspect.isclass(value):
        directive = f".. autoclass:: quantviz.{name}\n   :members:\n   :inherited-members: Exception"
    elif callable(value):
        directive = f".. autofunction:: quantviz.{name}"
    else:
        directive = f".. autodata:: quantviz.{name}"
    return f"## {name}\n\n```{{eval-rst}}\n{directive}\n```"


def public(module: ModuleType) -> list[str]:
    """Return the names that a module offers, all but those like ``__version__``."""
    return [name for name in getattr(module, "__all__", ()) if not name.startswith("__")]


def undocumented(module: ModuleType) -> list[str]:
    """Return the public names of a module, and of its classes, that have no docstring of their own."""
    missing = []
    for name in public(module):
        value = getattr(module, name)
        if not _documented(value):
            missing.append(name)
        if inspect.isclass(value):
            missing += [f"{name}.{member}" for member in _members(value) if not _documented(getattr(value, member))]
    return missing


def _members(value: type) -> list[str]:
    ours = [part for part in value.__mro__ if part.__module__.split(".")[0] == value.__module__.split(".")[0]]
    kinds = (property, staticmethod, classmethod)
    return sorted(
        {
            name
            for part in ours
            for name, member in vars(part).items()
            if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, kinds))
        }
    )


def _documented(value: Any) -> bool:
    text = value.__doc__
    # A dataclass without a docstring gets its signature as one.
    return bool(text and text.strip()) and not text.startswith(f"{getattr(value, '__name__', '')}(")


PARTS: dict[str, Callable[[], str]] = {"metrics": metrics, "python": python, "limits": limits}
