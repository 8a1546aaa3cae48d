"""A small study of an untrained network, the command that makes it, and the processes of this machine."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
from PIL import Image

from quantviz import images, networks
from quantviz.cli import main
from quantviz.specs import spec_of
from quantviz.store import TensorStore
from quantviz.study.folder import StudyFolder
from quantviz.study.planning import SweepRequest
from quantviz.study.sweep.run import sweep

SQUEEZE = "squeezenet1_1"


def weights_file(path):
    """Write untrained weights: those without a file are known only once torch, which takes seconds, has drawn them."""
    from quantviz.networks.build import build

    spec = networks.spec(SQUEEZE)
    safetensors.torch.save_file(build(spec, networks.resolve(spec, "untrained"))[0].state_dict(), path)
    return str(path)


def small_request(folder, crops=1):
    """Write crops of five bundled photographs; return a request of as many pieces under each of two protocols."""
    folder.mkdir(exist_ok=True)
    for name in ("chelsea", "coffee", "rocket", "china", "flower"):
        for top in range(crops):
            Image.fromarray(images.bundled(name).rgb[top : top + 120, :160]).save(folder / f"{name}{top or ''}.png")
    quants, weights = (spec_of("standard", 8, 8),), {SQUEEZE: weights_file(folder.with_name("weights.safetensors"))}
    return SweepRequest(folder, (SQUEEZE,), quants, weights, ("calibrated", "paper"), batch=1)


def whole_study(asked, out, cache):
    """Return the study that one process makes."""
    with TensorStore(cache / "tensors") as store:
        done = sweep(asked, out, store)
        assert done.computed == done.pieces > 0
    return out


def plan_with(study, models, **changes):
    """Return the plan of a study of several models, with other changes."""
    plan = StudyFolder(study).plan()
    return replace(plan, models=tuple(replace(plan.models[0], name=name) for name in models), **changes)


def files_of(study):
    return {file.relative_to(study).as_posix(): file.read_bytes() for file in study.rglob("*") if file.is_file()}


def children(pid):
    """Return the processes that descend from one."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, file.read_text().split()):
                found += [child, *children(child)]
    return found


def named(pid, words):
    with contextlib.suppress(OSError):
        return words in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    return False


def has_loaded(pid, library):
    with contextlib.suppress(OSError):
        return library in Path(f"/proc/{pid}/maps").read_bytes()
    return False


class Fork:
    """A command in a fork of a process that has imported torch once, used as ``subprocess.Popen`` is."""

    _context = multiprocessing.get_context("forkserver")
    _context.set_forkserver_preload(
        [
            "torchvision",
            "quantviz.cam",
            "quantviz.networks.build",
            "quantviz.quantize.paper",
            "quantviz.study.sweep.run",
        ]
    )

    def __init__(self, words, environment, deaf, folder):
        self._files = Path(folder, "told"), Path(folder, "complaint")
        self._process = self._context.Process(target=_command, args=(words, environment, deaf, self._files))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout=None):
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"the command goes on after {timeout} s"

    def communicate(self, timeout=None):
        self.wait(timeout)
        return tuple(file.read_text() for file in self._files)

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self._process.kill()


def _command(words, environment, deaf, files):
    os.setsid()
    os.environ.update(environment)
    for number, file in zip((1, 2), files, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    # A test run started in the background ignores SIGINT, and its children would.
    signal.signal(signal.SIGINT, signal.SIG_IGN if deaf else signal.default_int_handler)
    sys.argv = ["quantviz", *words]
    main()


def words_of(asked, out, *options):
    """Return the command line that asks for the same as a request."""
    weights = [word for name, choice in asked.weights.items() for word in ("--weights", f"{name}={choice}")]
    bits = ",".join(quant.label for quant in asked.quants)
    words = ["sweep", asked.dataset, "--models", ",".join(asked.models), *weights, "--bits", bits]
    words += ["--protocols", ",".join(asked.protocols), "--batch", asked.batch, "--out", out, *options]
    return [str(word) for word in words]


@contextlib.contextmanager
def sweeping(asked, out, cache, *options, deaf=False):
    """Start the command, and end whatever is left of it."""
    environment = {"QUANTVIZ_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        process = Fork(words_of(asked, out, *options), environment, deaf, folder)
        timer = threading.Timer(400, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            process.kill()
            process.wait()


HEARING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from quantviz.cli import main
main()
"""


@contextlib.contextmanager
def sweeping_anew(asked, out, cache, *options):
    """Start the command in an interpreter of its own, which has not imported torch yet."""
    environment = {**os.environ, "QUANTVIZ_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", HEARING, *words_of(asked, out, *options)]
    with subprocess.Popen(command, env=environment, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process, condition):
    """Wait until a condition has held once; a process that ended may have met it last."""
    deadline = time.monotonic() + 300
    while not (met := condition()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert met or condition()


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return small_request(tmp_path_factory.mktemp("small") / "pictures")


@pytest.fixture(scope="module")
def study(asked, cache, tmp_path_factory):
    return whole_study(asked, tmp_path_factory.mktemp("studies") / "one", cache)
