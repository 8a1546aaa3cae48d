"""The command that starts the dashboard."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

import quantviz
from quantviz import images, networks
from quantviz.comparison.sandbox_process import UPLOAD_BYTES
from quantviz.comparison.serving import Serving
from quantviz.networks.card import read_card
from quantviz.networks.onnx_files.files import MAX_BYTES
from quantviz.specs import QuantvizError, UsageError


@click.command("serve")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8501, show_default=True, help="The port that the page has."
)
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen at; 0.0.0.0 lets other machines see the page.",
)
@click.option(
    "--upload-limit",
    type=click.IntRange(1, MAX_BYTES >> 20),
    default=UPLOAD_BYTES >> 20,
    show_default=True,
    help="MiB of an ONNX file that visitors may upload.",
)
@click.option(
    "--card",
    "cards",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A network card that visitors may choose on the page Your network; repeat it for more.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    help="A network of your own, package.module:function, that visitors may choose; repeat it for more.",
)
def serve_command(port: int, address: str, upload_limit: int, cards: tuple[Path, ...], models: tuple[str, ...]) -> None:
    """Start the dashboard and serve it until Ctrl-C.

    The page has no login: at an address that other machines reach, everybody there can use it.
    """
    read = [read_card(path) for path in cards]
    for name in models:
        networks.spec(name)  # refused now, and not when somebody chooses it
    networks.allow((*models, *(card.model for card in read)))
    offered = Serving(upload_limit << 20, tuple(card.path for card in read), models)
    names = [path.name for path in offered.cards]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"Two cards are called {twice!r}, and visitors choose by name; rename one of them.")
    app = dashboard() / "app.py"
    # -P keeps Python files of the working folder from being imported instead of libraries.
    command = [sys.executable, "-P", "-m", "streamlit", "run", str(app)]
    largest = max(upload_limit, images.MAX_BYTES >> 20)
    options = [f"--server.address={address}", f"--server.port={port}", f"--server.maxUploadSize={largest}"]
    # The server takes this process's place, so that Ctrl-C and kill reach it.
    os.execve(sys.executable, [*command, *options], os.environ | offered.environment())


def dashboard() -> Path:
    """Return the folder with ``app.py``, ``pages/`` and Streamlit's settings: an installed package's, or a checkout's.

    Raises:
        QuantvizError: there is none.
    """
    package = Path(quantviz.__file__).parent
    for folder in (package / "_dashboard", package.parent):
        if (folder / "app.py").is_file() and (folder / "pages").is_dir():
            return folder
    raise QuantvizError(
        f"The dashboard is neither in {package / '_dashboard'} nor in {package.parent}; install quantviz again."
    )
