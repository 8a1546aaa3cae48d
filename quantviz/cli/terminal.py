"""What the commands share: argument types, tables, progress, files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from quantviz.api.files import write_file
from quantviz.cli.printed import raw
from quantviz.specs import MAX_BITS, MIN_BITS, Phase, Progress, no_progress, printable
from quantviz.store import TensorStore, default_directory

cache_option = click.option(
    "--cache", "cache_dir", type=click.Path(path_type=Path), help="Cache folder; QUANTVIZ_CACHE otherwise."
)
json_option = click.option(
    "--json", "json_path", help="Write the result as JSON to this path, or to standard output for -."
)


class Bits(click.ParamType[int | None]):
    """A bit-width; ``none`` where activations may stay in float."""

    name = "bits"

    def __init__(self, optional: bool) -> None:
        self.optional = optional

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Return the bit-width, or None for ``none``."""
        if self.optional and str(value).lower() == "none":
            return None
        try:
            bits = int(value)
        except ValueError:
            bits = -1
        if not MIN_BITS <= bits <= MAX_BITS:
            choice = f"{MIN_BITS} to {MAX_BITS}" + (" or none" if self.optional else "")
            self.fail(f"{value!r} is no bit-width; use {choice}.", param, ctx)
        return bits


class Target(click.ParamType[Literal["float", "own"] | int]):
    """The class to explain."""

    name = "class"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Literal["float", "own"] | int:
        """Return the rule or the class index."""
        if value == "float" or value == "own":
            rule: Literal["float", "own"] = value
            return rule
        if not str(value).isascii() or not str(value).isdigit():
            self.fail(f"{value!r} is no class; use float, own, or a class index.", param, ctx)
        return int(value)


def open_store(folder: Path | None) -> TensorStore:
    """Open the store in ``folder``, or in the default cache folder."""
    return TensorStore(store_folder(folder))


@contextmanager
def watched_store(folder: Path | None) -> Iterator[TensorStore]:
    """Open a store for work that does not need it, and say on standard error if it could not help."""
    with open_store(folder) as store:
        yield store
        if problem := store.info().problem:
            click.echo(f"quantviz: {problem}", err=True)


def store_folder(folder: Path | None) -> Path:
    """Return where the store of this cache folder, or of the default one, lies."""
    return (folder or default_directory()) / "tensors"


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show progress on standard error where a person watches it."""
    console = Console(file=raw(sys.stderr))
    if not console.is_terminal:
        yield no_progress
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Starting", total=None)

        def report(message: str, fraction: float | None = None, phase: Phase = Phase.WORKING) -> None:
            total = None if fraction is None else 1.0
            bar.update(task, description=printable(message), total=total, completed=fraction or 0.0)

        yield report


class PlainTable(Table):
    """A table whose texts are shown as they are: brackets in names are no markup, and nothing steers the terminal."""

    def add_row(self, *cells: Any, **style: Any) -> None:
        """Add a row of texts, or of what rich can draw."""
        super().add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in cells), **style)


def table_of(*headings: str) -> Table:
    """Return an empty table with these headings."""
    table = PlainTable(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(Text(printable(heading), style="bold"), overflow="fold")
    return table


def show(table: Table) -> None:
    """Print a table; one that goes to a file or a pipe is not cut to a screen that is not there."""
    console = Console(file=raw(sys.stdout), highlight=False)
    if not console.is_terminal:
        console = Console(file=raw(sys.stdout), highlight=False, width=1000)
    console.print(table)


def count_of(count: int, what: str) -> str:
    """Return a count in words: "1 picture", "2 pictures"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def emit_json(value: dict[str, Any], path: str) -> None:
    """Write JSON to a file, or to standard output for ``-``."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    if path == "-":
        click.echo(text, nl=False)
    else:
        write_file(Path(path), text.encode())


class RenamedOption(click.Option):
    """An option that is also taken by its old name, which the help leaves out; using it prints the new one.

    Args:
        old: the old name, ``--engine`` say.
    """

    def __init__(self, *args: Any, old: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.old = old

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Add the old name to the parser, where its value is kept apart."""
        super().add_to_parser(parser, ctx)
        parser.add_option(obj=self, opts=[self.old], dest=self.old, nargs=1)

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """Return the value under either name, and where it is from."""
        if self.old not in opts:
            return super().consume_value(ctx, opts)
        click.echo(f"quantviz: {self.old} is now called {self.opts[0]}.", err=True)
        return opts[self.old], ParameterSource.COMMANDLINE
