"""Run the command line, as ``quantviz`` or ``python -m quantviz``."""

from typing import NoReturn

from quantviz.cli import main
from quantviz.networks.deferred import defer


def run() -> NoReturn:
    """Run the command line in a process of its own, and exit."""
    defer()
    main()


if __name__ == "__main__":
    run()
