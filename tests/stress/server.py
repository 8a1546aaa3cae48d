"""Load one dashboard server as many visitors do, and say what it did: ``make stress``.

Visitors speak the page's own websocket, without a browser. Every map that a visitor was shown is compared with what a
second server, in one thread, with an empty cache and a single visitor, shows at the same address.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import connect

ROOT = Path(__file__).parents[2]
PICTURES = ("astronaut", "chelsea", "coffee", "rocket")
METHODS = ("gradcam", "gradcam++", "eigencam", "layercam")
BITS = ("8", "6", "4", "3")
MOST_SECONDS = 3600
VIEWER = "quantviz_viewer"  # which is sent all maps, as numbers

# Python reads it when it starts: a connection to anywhere but this machine is written down.
WATCH = """
import os, sys
def note(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = str(arguments[1][0])
        if not (host.startswith("127.") or host in ("::1", "localhost")):
            with open(os.environ["STRESS_CONNECTS"], "a") as file:
                file.write(host + "\\n")
sys.addaudithook(note)
"""


class Server:
    """A dashboard in a process of its own, with a cache of its own, that is told to count."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        watch = folder / "watch"
        watch.mkdir(parents=True)
        (watch / "sitecustomize.py").write_text(WATCH)
        self.connects = folder / "connects.txt"
        self.log = folder / "server.log"
        known = {
            "QUANTVIZ_CACHE": str(folder / "cache"),
            "TORCH_HOME": str(folder / "torch"),
            "STRESS_CONNECTS": str(self.connects),
            "PYTHONPATH": os.pathsep.join([str(watch), str(ROOT)]),
        }
        command = [sys.executable, "-m", "quantviz", "serve", "--public", "--metrics", "--port", str(self.port)]
        environment = os.environ | known | (environment or {})
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)

    def ready(self) -> None:
        """Wait until it answers."""
        for _ in range(MOST_SECONDS):
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended: {self.log.read_text()[-2000:]}")
            with contextlib.suppress(OSError):
                self.health()
                return
            time.sleep(1)
        raise SystemExit("the server did not start")

    def health(self) -> dict[str, int]:
        """Return what /health says."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=60) as answer:
            told: dict[str, int] = json.loads(answer.read())
        return told

    def end(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(timeout=120)
        except subprocess.TimeoutExpired:  # a computation is not interrupted in the midst of a pass
            self.process.kill()
            self.process.wait()


class Visitor:
    """One page that is open."""

    def __init__(self, server: Server) -> None:
        self.url = f"ws://127.0.0.1:{server.port}/_stcore/stream"

    async def __aenter__(self) -> Visitor:
        self.socket = await connect(
            self.url,
            subprotocols=["streamlit"],
            max_size=None,
            open_timeout=MOST_SECONDS,
            ping_timeout=MOST_SECONDS,
        )  # type: ignore[list-item]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.socket.close()

    async def open(self, page: str, query: dict[str, str]) -> tuple[float, list[str], list[str]]:
        """Open a page at an address; return the seconds until it is whole, its figures' digests, and its errors."""
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.page_name, state.is_history_navigation = urlencode(query), page, True
        began = time.monotonic()
        await self.socket.send(message.SerializeToString())
        figures: dict[str, str] = {}
        errors: list[str] = []
        while True:
            told = ForwardMsg()
            told.ParseFromString(await asyncio.wait_for(self.socket.recv(), MOST_SECONDS))  # type: ignore[arg-type]
            kind = told.WhichOneof("type")
            if kind == "delta" and told.delta.WhichOneof("type") == "new_element":
                element = told.delta.new_element
                which = element.WhichOneof("type")
                place = str(list(told.metadata.delta_path))
                if which == "plotly_chart":
                    figures[place] = hashlib.sha256(element.plotly_chart.spec.encode()).hexdigest()
                elif which == "bidi_component" and element.bidi_component.component_name == VIEWER:
                    figures[place] = digest_of_maps(element.bidi_component.json)
                elif which == "exception":
                    errors.append(element.exception.message)
                elif which == "alert" and element.alert.format == element.alert.ERROR:
                    errors.append(element.alert.body)
            elif kind == "script_finished":
                if told.script_finished == ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                    figures, errors = {}, []
                    continue
                return time.monotonic() - began, sorted(figures.values()), errors


def digest_of_maps(told: str) -> str:
    """Return the digest of the float network's map and of the quantized one's that was asked for.

    The viewer is also sent the maps at other precisions, as far as they happen to be computed.
    """
    shown = json.loads(told)
    return hashlib.sha256(json.dumps([shown["reference"], shown["frames"][shown["start"]]]).encode()).hexdigest()


def queries(models: list[str]) -> list[dict[str, str]]:
    """Return the addresses that visitors choose from."""
    return [
        {"model": model, "weights": "untrained", "image": picture, "cam": method, "weight_bits": bits, "act_bits": "8"}
        for model in models
        for picture in PICTURES
        for method in METHODS
        for bits in BITS
    ]


async def act(server: Server, seed: int, known: list[dict[str, str]], actions: int, found: list[tuple]) -> None:  # type: ignore[type-arg]
    """Open one address after another, each in a page of its own, as a visitor with links does."""
    draw = random.Random(seed)
    for _ in range(actions):
        query = draw.choice(known)
        async with Visitor(server) as visitor:
            found.append((query, *await visitor.open("compare", query)))


async def load(server: Server, options: argparse.Namespace, known: list[dict[str, str]]) -> dict[str, object]:
    """Load a server, and return what was measured and shown."""
    shown: list[tuple] = []  # type: ignore[type-arg]
    async with contextlib.AsyncExitStack() as idle:
        for _ in range(options.idle):
            await (await idle.enter_async_context(Visitor(server))).open("", {})
        began = time.monotonic()
        await asyncio.gather(*(act(server, seed, known, options.actions, shown) for seed in range(options.sessions)))
        seconds = time.monotonic() - began
        cached: list[tuple] = []  # type: ignore[type-arg]
        seen = [query for query, _, figures, errors in shown if figures and not errors]
        heavy = seen[0] | {"cam": "scorecam"}
        async with Visitor(server) as other:
            computing = asyncio.create_task(other.open("compare", heavy))
            draw = random.Random(1)
            for _ in range(options.cached):
                query = draw.choice(seen)
                async with Visitor(server) as visitor:  # in a page of its own, whose widgets are the address's
                    cached.append((query, *await visitor.open("compare", query), computing.done()))
            computing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await computing
        before = server.health()["resident_bytes"]
        async with Visitor(server) as visitor:
            for _ in range(options.reruns):
                await visitor.open("compare", seen[0])
        after = server.health()["resident_bytes"]
    while server.health()["connections"]:
        await asyncio.sleep(1)
    await asyncio.sleep(options.settle)
    left = server.health()["resident_bytes"]
    return {
        "shown": shown,
        "cached": cached,
        "seconds": seconds,
        "resident": (before, after, left),
        "crashed": server.process.poll() is not None,
    }


async def reference(server: Server, wanted: list[dict[str, str]]) -> dict[str, list[str]]:
    """Return what a single visitor is shown, by the address."""
    told = {}
    for query in wanted:
        async with Visitor(server) as visitor:
            told[json.dumps(query)] = (await visitor.open("compare", query))[1]
    return told


def percentile(values: list[float], part: float) -> float:
    """Return the value that this part of the values does not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(part * len(ranked)))] if ranked else float("nan")


def run(options: argparse.Namespace) -> dict[str, object]:
    """Run everything and return the results."""
    known = queries(options.models)
    with tempfile.TemporaryDirectory() as home:
        server = Server(Path(home) / "loaded")
        try:
            server.ready()
            measured = asyncio.run(load(server, options, known))
        finally:
            server.end()
        shown, cached = measured["shown"], measured["cached"]
        wanted = [json.loads(text) for text in sorted({json.dumps(entry[0]) for entry in shown})]  # type: ignore[attr-defined]
        alone = Server(Path(home) / "alone", {"OMP_NUM_THREADS": "1"})
        try:
            alone.ready()
            expected = asyncio.run(reference(alone, wanted))
        finally:
            alone.end()
        outside = [place.connects.read_text().split() for place in (server, alone) if place.connects.exists()]
        tracebacks = sum(place.log.read_text().count("Traceback") for place in (server, alone))
    pages = [entry for entry in (*shown, *cached) if not entry[3]]  # type: ignore[misc]
    wrong = [entry[0] for entry in pages if entry[2] != expected[json.dumps(entry[0])]]
    before, after, left = measured["resident"]  # type: ignore[misc]
    quick = [entry[1] for entry in cached if not entry[4]]  # type: ignore[attr-defined]
    return {
        "sessions": options.sessions,
        "actions": len(shown),  # type: ignore[arg-type]
        "idle": options.idle,
        "models": options.models,
        "crashed": measured["crashed"],
        "tracebacks": tracebacks,
        "errors": sorted({error for entry in (*shown, *cached) for error in entry[3]}),  # type: ignore[misc]
        "figures": sum(len(entry[2]) for entry in pages),
        "maps": sum(2 for entry in pages if entry[2]),
        "wrong": wrong,
        "p50": round(statistics.median([entry[1] for entry in shown]), 2),  # type: ignore[attr-defined]
        "p95": round(percentile([entry[1] for entry in shown], 0.95), 2),  # type: ignore[attr-defined]
        "cached_while_computing": len(quick),
        "cached_p95": round(percentile(quick, 0.95), 2),
        "reruns": options.reruns,
        "resident_mib": [round(value / 2**20) for value in (before, after, left)],
        "growth": round(after / before - 1, 3),
        "connects_outside": [host for hosts in outside for host in hosts],
        "seconds": round(measured["seconds"]),  # type: ignore[call-overload]
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_at_end": [round(value, 1) for value in os.getloadavg()],
    }


def page_of(result: dict[str, object]) -> str:
    """Return the results as a page of the documentation."""
    before, after, left = result["resident_mib"]  # type: ignore[misc]
    rows = [
        ("visitors at work, actions", f"{result['sessions']}, {result['actions']}"),
        ("idle visitors", result["idle"]),
        ("crashes, tracebacks", f"{result['crashed']}, {result['tracebacks']}"),
        ("maps shown (float and quantized)", result["maps"]),
        ("of these unlike the single-threaded reference", len(result["wrong"])),  # type: ignore[arg-type]
        ("seconds of an action, median and 95 %", f"{result['p50']}, {result['p95']}"),
        (
            "seconds of a cached view while one visitor computes, 95 %",
            f"{result['cached_p95']} of {result['cached_while_computing']}",
        ),
        (f"resident memory before and after {result['reruns']} reruns", f"{before}, {after} MiB"),
        ("resident memory when all have left", f"{left} MiB"),
        ("connections to other machines", len(result["connects_outside"])),  # type: ignore[arg-type]
        ("networks", ", ".join(result["models"])),  # type: ignore[arg-type]
        ("machine, its load at the end", f"{result['machine']}, {result['load_at_end']}"),
    ]
    lines = [
        "# Under load",
        "",
        "What `make stress` measured last. Weights are untrained: load does not depend on them. Other work on the "
        "machine makes times longer; its load is the last row.",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
        "`make stress SHORT=1` takes the short form; `python tests/stress/server.py --help` names its sizes.",
    ]
    return "\n".join(lines) + "\n"


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the sizes that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--actions", type=int, default=50)
    parser.add_argument("--idle", type=int, default=25)
    parser.add_argument("--cached", type=int, default=100, help="cached views while one visitor computes")
    parser.add_argument("--reruns", type=int, default=500)
    parser.add_argument("--settle", type=int, default=180, help="seconds after the last visitor has left")
    parser.add_argument("--models", nargs="+", default=["squeezenet1_1", "mobilenet_v2"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    return parser.parse_args(arguments)


def main() -> None:
    """Run, print the results, and fail where something was wrong, crashed or left the machine."""
    options = options_of()
    result = run(options)
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    if options.page:
        options.page.write_text(page_of(result))
    if result["crashed"] or result["wrong"] or result["connects_outside"] or result["tracebacks"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
