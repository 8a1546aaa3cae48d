"""The command line. Exit status: 0 done, 2 wrong use, 1 anything else, each with one line on standard error.

``quantviz check`` has a status of its own: 1 a limit is broken, 3 undecided.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from quantviz import __version__
from quantviz.cli.bench import bench_command
from quantviz.cli.card import card_command
from quantviz.cli.check import check_command
from quantviz.cli.compare import compare
from quantviz.cli.diagnose import diagnose_command
from quantviz.cli.floor import floor_command
from quantviz.cli.inspect import inspect_command
from quantviz.cli.layers import search_command, sensitivity_command
from quantviz.cli.manage import cache, fetch_weights, models, prepare
from quantviz.cli.printed import printed_streams
from quantviz.cli.protocol import attribute
from quantviz.cli.published import published_command
from quantviz.cli.randomise import randomise_command
from quantviz.cli.report import replay_command, report_command
from quantviz.cli.score import pair, score
from quantviz.cli.serve import serve_command
from quantviz.cli.study import merge_command, sweep_command
from quantviz.cli.summary import summary_command
from quantviz.specs import QuantvizError, brief, system_words


def main() -> NoReturn:
    """Run the command line and exit."""
    with printed_streams():
        _run()


def _run() -> NoReturn:
    try:
        cli.main(prog_name="quantviz", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:  # whose message is the whole page, of many lines
        click.echo(error.format_message())
    except click.ClickException as error:
        _fail(error.format_message(), 2 if isinstance(error, click.UsageError) else 1)
    except QuantvizError as error:
        _fail(str(error), error.exit_status)
    except (click.Abort, KeyboardInterrupt):
        _fail("Interrupted.", 1)
    except BrokenPipeError:
        # Whoever read standard output has gone; nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if os.environ.get("QUANTVIZ_DEBUG"):
            raise
        _fail(system_words(error), 1)
    except Exception as error:
        if os.environ.get("QUANTVIZ_DEBUG"):
            raise
        _fail(f"Unexpected {type(error).__name__}: {error}; QUANTVIZ_DEBUG=1 shows where.", 1)
    sys.exit(0)


def _fail(message: str, status: int) -> NoReturn:
    print("quantviz: " + brief(" ".join(message.split())), file=sys.stderr)
    sys.exit(status)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="quantviz")
def cli() -> None:
    """When a network is quantized, does it still look at the same things?"""


for _command in (
    compare,
    randomise_command,
    sensitivity_command,
    search_command,
    attribute,
    score,
    pair,
    models,
    fetch_weights,
    cache,
):
    cli.add_command(_command)
for _command in (sweep_command, merge_command, summary_command, floor_command, report_command, replay_command):
    cli.add_command(_command)
for _command in (published_command, diagnose_command, prepare, bench_command):
    cli.add_command(_command)
for _command in (serve_command, inspect_command, card_command, check_command):
    cli.add_command(_command)
