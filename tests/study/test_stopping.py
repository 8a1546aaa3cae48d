"""How a sweep is stopped at any moment, and what it tells on disk of how far it is."""

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import sweep_support
from sweep_support import SQUEEZE, children, files_of, named, sweeping, sweeping_anew, wait_for

from quantviz.store import TensorStore
from quantviz.study.folder import StudyFolder
from quantviz.study.sweep.run import sweep
from quantviz.study.sweep.schedule import before
from quantviz.study.sweep.state import JobState, read_state
from quantviz.study.sweep.worker import PieceWorker

asked = sweep_support.asked

INTERRUPTED = "quantviz: Interrupted; what was done is kept, and the same command goes on from there.\n"


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """Ask for so many pictures that the sweep has some left when the test has seen the first ones."""
    return sweep_support.small_request(tmp_path_factory.mktemp("many") / "pictures", crops=8)


def begun(out):
    return lambda: any(out.glob("pieces/*.parquet"))


def says(out, words):
    def condition():
        found = StudyFolder(out).progress() if out.exists() else None
        return found is not None and words in found.what

    return condition


def assert_stopped(process, number, started):
    """Check that the command ends in order at a signal, and every process with it."""
    process.send_signal(number)
    told, complaint = process.communicate(timeout=60)
    assert (process.returncode, told, complaint) == (128 + number, "", INTERRUPTED)
    assert_gone(started)


def assert_gone(started):
    """Check that all these processes end: a killed one is there until its new parent has asked how it ended."""
    deadline = time.monotonic() + 60
    while any(named(pid, b"quantviz") or named(pid, b"ray") for pid in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in started if named(pid, b"quantviz") or named(pid, b"ray")]


def committed(out):
    return {name: data for name, data in files_of(out).items() if name.startswith("pieces")}


def made_again(out, asked, cache, path):
    """Return the files of a stopped sweep's pieces, computed once more in this process."""
    stopped, folder = StudyFolder(out), StudyFolder(path)
    plan = stopped.plan()
    with TensorStore(cache / "tensors") as store, folder.locked():
        folder.begin(plan)
        worker = PieceWorker(plan, asked, store)
        for piece in plan.pieces:
            if stopped.has(plan, piece):
                last = before(plan, piece)
                state = {} if last is None else folder.state(last)
                folder.commit(plan, piece, *worker.compute(piece, state, lambda: None))
    return committed(path)


def test_a_running_sweep_tells_on_disk_how_far_it_is(asked, cache, tmp_path):
    out, told = tmp_path / "study", []
    folder = StudyFolder(out)

    def look(message, part, _phase=None):
        if message.startswith(SQUEEZE):  # a picture is done
            time.sleep(0.3)
        if (found := folder.progress()) is not None:
            told.append(found)

    with TensorStore(cache / "tensors") as store:
        sweep(replace(asked, command="quantviz sweep"), out, store, look)
    assert folder.progress() is None
    assert not list(out.glob("progress*"))
    first, last = told[0], told[-1]
    assert (first.pieces_done, first.pieces, first.images_done, first.images) == (0, 10, 0, 10)
    assert (first.rate, first.seconds_left) == (None, None)
    assert (first.pid, first.host, first.command) == (os.getpid(), os.uname().nodename, "quantviz sweep")
    assert last.images_done >= last.pieces_done >= 5
    assert 0 < last.rate < 1 / 0.3
    assert last.seconds_left == pytest.approx((last.images - last.images_done) / last.rate)
    assert "paper" in last.what
    times = sorted({found.updated for found in told})
    assert all(later - sooner > 0.4 for sooner, later in pairwise(times[1:]))
    assert abs(times[-1] - time.time()) < 60


def test_what_an_ended_sweep_left_is_not_taken_for_progress(asked, cache, tmp_path):
    out, kept = tmp_path / "study", []
    folder = StudyFolder(out)

    def stop(message, part, _phase=None):
        if "images/s" in message:
            kept.append((out / "progress.json").read_text())
            raise KeyboardInterrupt

    with TensorStore(cache / "tensors") as store, pytest.raises(KeyboardInterrupt):
        sweep(asked, out, store, stop)
    assert not (out / "progress.json").exists()
    told = json.loads(kept[0])

    def left(**change):
        (out / "progress.json").write_text(json.dumps({**told, **change}))
        return folder.progress()

    assert left().pid == os.getpid()  # this process lives
    with subprocess.Popen(["sleep", "0"]) as ended:
        pass
    assert left(pid=ended.pid) is None
    assert left(process_started="1 another boot") is None
    assert left(host="elsewhere").host == "elsewhere"
    assert left(host="elsewhere", updated="now") is None
    (out / "progress.json").write_text("[]")
    assert folder.progress() is None
    with TensorStore(cache / "tensors") as store:
        sweep(asked, out, store)
    assert not (out / "progress.json").exists()


def test_control_c_ends_a_sweep_that_is_importing_what_it_needs(asked, tmp_path):
    out = tmp_path / "study"
    with sweeping_anew(asked, out, tmp_path / "cache", "--state", tmp_path / "state.json") as process:
        wait_for(process, (out / "plan.json").exists)
        assert read_state(tmp_path / "state.json").state is JobState.RUNNING
        assert_stopped(process, signal.SIGINT, [])
    state = read_state(tmp_path / "state.json")
    assert (state.state, f"quantviz: {state.message}\n") == (JobState.STOPPED, INTERRUPTED)
    assert (state.pid, state.host, state.at_work(tmp_path / "state.json")) == (process.pid, os.uname().nodename, False)
    assert set(files_of(out)) == {"plan.json", "lock"}


def test_control_c_ends_a_sweep_that_is_calibrating(asked, tmp_path):
    out, pictures = tmp_path / "study", tmp_path / "pictures"
    pictures.mkdir()
    for place in range(256):  # so that it takes a while on any machine
        (pictures / f"{place:03d}.png").symlink_to(asked.dataset / "coffee.png")
    with sweeping(asked, out, tmp_path / "cache", "--calibration", pictures) as process:
        wait_for(process, says(out, "Calibrating"))
        assert_stopped(process, signal.SIGINT, [])
    assert set(files_of(out)) == {"plan.json", "lock"}


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_control_c_ends_the_workers_too_and_keeps_what_is_committed(lasting, cache, tmp_path, workers):
    out = tmp_path / "study"
    with sweeping(lasting, out, cache, "--workers", workers) as process:
        wait_for(process, begun(out))
        started = children(process.pid)
        assert len(started) == (0 if workers == 1 else workers)
        assert_stopped(process, signal.SIGINT, started)
    kept = committed(out)
    assert 0 < len(kept) < 80
    assert set(files_of(out)) == {"plan.json", "lock", *kept}
    assert made_again(out, lasting, cache, tmp_path / "again") == kept


def test_no_worker_outlives_a_killed_sweep(asked, cache, tmp_path):
    out = tmp_path / "study"
    with sweeping(asked, out, cache, "--workers", 2) as process:
        wait_for(process, lambda: children(process.pid))
        started = children(process.pid)
        process.kill()
        process.wait()
        assert_gone(started)


def test_sigterm_ends_a_sweep_that_ignores_control_c(lasting, cache, tmp_path):
    out = tmp_path / "study"
    with sweeping(lasting, out, cache, deaf=True) as process:
        wait_for(process, begun(out))
        process.send_signal(signal.SIGINT)
        assert_stopped(process, signal.SIGTERM, [])
    assert not (out / "progress.json").exists()


def test_control_c_ends_ray_too(asked, cache, tmp_path):
    out = tmp_path / "study"
    with sweeping(asked, out, cache, "--executor", "ray", "--workers", 1) as process:
        wait_for(process, lambda: any(named(pid, b"raylet") for pid in children(process.pid)))
        started = children(process.pid)
        words = b" ".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in started if named(pid, b"raylet"))
        folder = re.search(rf"{tempfile.gettempdir()}/ray-\w+".encode(), words).group().decode()
        assert Path(folder).is_dir()
        assert_stopped(process, signal.SIGINT, started)
    assert not Path(folder).exists()
