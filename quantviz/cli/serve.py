"""The command that starts the dashboard."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from pathlib import Path
from typing import Any

import click

import quantviz
from quantviz import images, networks
from quantviz.comparison.sandbox_process import UPLOAD_BYTES
from quantviz.comparison.serving import MOST_SECONDS, SESSION_BYTES, Serving
from quantviz.networks.card import read_card
from quantviz.networks.onnx_files.files import MAX_BYTES
from quantviz.specs import QuantvizError, UsageError
from quantviz.study.presentation import read_presentation

# A thread for each visitor gives glibc a heap for each, and all of them get holes; it reads this when it starts.
_ALLOCATOR = {"MALLOC_ARENA_MAX": "2"}


@click.command("serve")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8501, show_default=True, help="The port that the page has."
)
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen at; 0.0.0.0 lets other machines in, with --public or --trust-everyone.",
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
    help="A network card that visitors may choose on the pages Your network and Diagnose; repeat it for more.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    help="A network of your own, package.module:function, that visitors may choose; repeat it for more.",
)
@click.option(
    "--study",
    "studies",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A study's folder that visitors may open by its name; repeat it for more.",
)
@click.option(
    "--dataset",
    "datasets",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A folder of pictures that visitors of a public server may choose by its name; repeat it for more.",
)
@click.option("--public", is_flag=True, help="For strangers: nothing that they type is a path of this machine.")
@click.option("--trust-everyone", is_flag=True, help="Let everybody who reaches the address use this account's files.")
@click.option(
    "--session-limit",
    type=click.IntRange(1, 1 << 16),
    help=f"MiB that one session may have uploaded at a time; {SESSION_BYTES >> 20} with --public, else no limit.",
)
@click.option(
    "--seconds",
    type=click.IntRange(1, 86400),
    help=f"How long one computation may take; {MOST_SECONDS} with --public, else no limit.",
)
@click.option("--metrics", is_flag=True, help="Answer /health, and /metrics for Prometheus.")
@click.option("--json-log", is_flag=True, help="Write the log as a JSON object a line.")
@click.option(
    "--present",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="The presentation that /present steps through; one that comes with quantviz if not given.",
)
@click.option(
    "--base-path",
    default="",
    metavar="PATH",
    help="The path below which a proxy serves the page: tools/quantviz for https://example.org/tools/quantviz.",
)
def serve_command(port: int, address: str, upload_limit: int, **choices: Any) -> None:
    """Start the dashboard and serve it until Ctrl-C.

    The page has no login: at an address that other machines reach, everybody there can use it. Such an address needs
    --public, or --trust-everyone.
    """
    cards, models = choices.pop("cards"), choices.pop("models")
    base, presented = checked_base(choices.pop("base_path")), presented_by(choices.pop("present"))
    read = [read_card(path) for path in cards]
    for name in models:
        networks.spec(name)  # refused now, and not when somebody chooses it
    networks.allow((*models, *(card.model for card in read)))
    reachable = not _loopback(address)
    offered = _offered(upload_limit, tuple(card.path for card in read), models, reachable=reachable, **choices)
    largest = max(upload_limit, images.MAX_BYTES >> 20)
    options = {"server.address": address, "server.port": port, "server.maxUploadSize": largest}
    if offered.public:
        options |= {"server.websocketPingInterval": 20}  # so that who has left is noticed
    if base:
        options |= {"server.baseUrlPath": base}
    # -P keeps Python files of the working folder from being imported instead of libraries.
    command = [sys.executable, "-P", "-m", "quantviz.ui.server", str(dashboard() / "app.py")]
    # The server takes this process's place, so that Ctrl-C and kill reach it.
    command += [f"--{name}={value}" for name, value in options.items()]
    os.execve(sys.executable, command, _ALLOCATOR | os.environ | offered.environment() | presented)


def checked_base(path: str) -> str:
    """Return a base path without slashes around it.

    Raises:
        UsageError: it holds anything but letters, digits, ``-``, ``_``, ``.`` and single slashes.
    """
    base = path.strip("/")
    if base and not all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", part) for part in base.split("/")):
        raise UsageError(f"Base path {path!r} is no path of a page; write tools/quantviz say.")
    return base


def presented_by(file: Path | None) -> dict[str, str]:
    """Return the environment variable that tells the server its presentation, {} without one.

    Raises:
        UsageError: the file cannot be used.
    """
    if file is None:
        return {}
    read_presentation(file)  # refused now, and not before an audience
    return {"QUANTVIZ_PRESENT": str(file.absolute())}


def _offered(
    upload_limit: int,
    cards: tuple[Path, ...],
    models: tuple[str, ...],
    *,
    reachable: bool,
    public: bool,
    trust_everyone: bool,
    studies: tuple[Path, ...],
    datasets: tuple[Path, ...],
    session_limit: int | None,
    seconds: int | None,
    metrics: bool,
    json_log: bool,
) -> Serving:
    """Return what is offered, and say on standard error what visitors can reach.

    Raises:
        UsageError: two things of one name; a folder that is not there; or an address that others reach without a word
            on whom it is for.
    """
    _check_audience(reachable, public, trust_everyone)
    _check_folders(cards, studies, datasets)
    bytes_a_session = (session_limit or 0) << 20 or (SESSION_BYTES if public else 0)
    offered = Serving(
        upload_bytes=upload_limit << 20,
        cards=cards,
        models=models,
        public=public,
        studies=tuple(path.absolute() for path in studies),
        datasets=tuple(path.absolute() for path in datasets),
        session_bytes=bytes_a_session,
        seconds=seconds or (MOST_SECONDS if public else 0),
        metrics=metrics,
        json_log=json_log,
        reachable=reachable,
    )
    if trust_everyone:
        click.echo(
            "quantviz: whoever reaches this address can show pictures and studies from any folder that this account "
            "can read, and start sweeps; --public closes that.",
            err=True,
        )
    return offered


def _check_audience(reachable: bool, public: bool, trust_everyone: bool) -> None:
    """Refuse an address that others reach without a word on whom it is for."""
    if public and trust_everyone:
        raise UsageError("--public is for people nobody knows, --trust-everyone for people one trusts; give one.")
    if reachable and not public and not trust_everyone:
        raise UsageError(
            "Other machines reach this address, and whoever does can read any picture and study that your account can "
            "and start sweeps; add --public, which closes that, or --trust-everyone."
        )


def _check_folders(cards: tuple[Path, ...], studies: tuple[Path, ...], datasets: tuple[Path, ...]) -> None:
    """Refuse two things of one name, and folders that are not there."""
    for what, paths in (("cards", cards), ("studies", studies), ("datasets", datasets)):
        names = [path.name for path in paths]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UsageError(f"Two {what} are called {twice!r}, and visitors choose by name; rename one of them.")
    for path in studies:
        if not (path / "plan.json").is_file():
            raise UsageError(f"{str(path)!r} is no study (no plan.json in it); name a folder that quantviz sweep made.")
    for path in datasets:
        if not path.is_dir():
            raise UsageError(f"{str(path)!r} is no folder; name one of pictures.")


def _loopback(address: str) -> bool:
    """Tell whether only this machine reaches an address."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:  # a name, which may stand for any address
        return False


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
