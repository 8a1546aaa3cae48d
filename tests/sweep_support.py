"""A small study of an untrained network, the command that makes it, and the processes of this machine."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from quantviz import images
from quantviz.pipeline.plan import SweepRequest
from quantviz.pipeline.sweep import sweep
from quantviz.specs import spec_of
from quantviz.store import TensorStore
from quantviz.study import StudyFolder

SQUEEZE = "squeezenet1_1"


def small_request(folder, crops=1):
    """Write crops of five bundled photographs; return a request of as many pieces under each of two protocols."""
    folder.mkdir(exist_ok=True)
    for name in ("chelsea", "coffee", "rocket", "china", "flower"):
        for top in range(crops):
            Image.fromarray(images.bundled(name).rgb[top : top + 120, :160]).save(folder / f"{name}{top or ''}.png")
    quants = (spec_of("standard", 8, 8),)
    return SweepRequest(folder, (SQUEEZE,), quants, {SQUEEZE: "untrained"}, ("calibrated", "paper"), batch=1)


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


# A test run started in the background ignores SIGINT, and its children would.
HEARING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
DEAF = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
"""
MAIN = "from quantviz.cli import main\nmain()\n"


@contextlib.contextmanager
def sweeping(asked, out, cache, *options, code=HEARING + MAIN):
    """Start the command, and end whatever is left of it."""
    words = ["sweep", asked.dataset, "--models", SQUEEZE, "--weights", f"{SQUEEZE}=untrained", "--batch", 1]
    words += ["--protocols", ",".join(asked.protocols), "--out", out, *options]
    environment = {**os.environ, "QUANTVIZ_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", code, *map(str, words)]
    with subprocess.Popen(command, env=environment, start_new_session=True, **pipes) as process:
        timer = threading.Timer(150, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            process.kill()


def wait_for(process, condition):
    """Wait until a condition has held once; a process that ended may have met it last."""
    deadline = time.monotonic() + 120
    while not (met := condition()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert met or condition()


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return small_request(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def study(asked, cache, tmp_path_factory):
    return whole_study(asked, tmp_path_factory.mktemp("studies") / "one", cache)
