"""Sweeps in processes of their own: started, watched, cancelled and resumed, and what is refused."""

import subprocess
import time

import pytest
from PIL import Image
from study_support import synthetic_plan, synthetic_study
from sweep_support import SQUEEZE, weights_file

from quantviz import images
from quantviz.specs import ImageError, QuantvizError, UsageError, spec_of
from quantviz.store import TensorStore
from quantviz.study.planning import SweepRequest
from quantviz.study.sweep.jobs import SweepOrder, _started, cancel, forget, job, jobs, resume, running, start
from quantviz.study.sweep.run import sweep
from quantviz.study.sweep.state import JobState, read_state, write_state
from quantviz.study.table import study_table

PATIENCE = 300.0


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Return a folder of 20 small crops."""
    folder = tmp_path_factory.mktemp("pictures")
    for place in range(20):
        rgb = images.bundled("coffee").rgb[4 * place : 4 * place + 180, 5 * place : 5 * place + 240]
        Image.fromarray(rgb).save(folder / f"{place:02d}.jpg", quality=90)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return weights_file(tmp_path_factory.mktemp("weights") / "untrained.safetensors")


@pytest.fixture
def order(pictures, weights, monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTVIZ_CACHE", str(tmp_path / "cache"))
    return SweepOrder(
        name="one.study",
        dataset=pictures,
        models=(SQUEEZE,),
        bits=("8",),
        protocols=("calibrated", "paper"),
        weights={SQUEEZE: weights},
    )


def waited(path, *states):
    """Return the job once it is in one of these states."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = job(path)
        if found.state in states:
            return found
        time.sleep(0.1)
    pytest.fail(f"{path.name} is still {job(path)}")


def first_piece(order, path, tmp_path):
    """Go on with a study in this process until it has a piece; return the piece's file."""

    def stop(*_):
        if list(path.glob("pieces/*.parquet")):
            raise KeyboardInterrupt

    request = SweepRequest(order.dataset, order.models, (spec_of("standard"),), order.weights, order.protocols)
    with TensorStore(tmp_path / "cache" / "tensors") as store, pytest.raises(KeyboardInterrupt):
        sweep(request, path, store, stop)
    (found,) = path.glob("pieces/*.parquet")
    return found


def test_a_sweep_is_started_watched_cancelled_and_resumed(tmp_path, order):
    directory = tmp_path / "studies"
    begun = start(directory, order)
    assert (begun.state, begun.name) == ("starting", "one.study")
    told = waited(begun.path, "running").progress
    assert told.images == 40
    with pytest.raises(UsageError, match=r"Another sweep is running \(one\.study\)"):
        start(directory, SweepOrder("two", order.dataset, order.models, order.bits))
    assert running(directory).path == begun.path
    cancel(begun.path)
    stopped = waited(begun.path, "stopped", "failed", "finished")
    assert (stopped.state, stopped.progress) == ("stopped", None)
    assert stopped.message.startswith("Interrupted; what was done is kept")
    assert "--state" not in (begun.path / "plan.json").read_text()
    with pytest.raises(UsageError, match=r"No sweep is running for study 'one.study'"):
        cancel(begun.path)
    kept = first_piece(order, begun.path, tmp_path)
    before = kept.stat()
    assert resume(begun.path).state in ("starting", "running")
    assert waited(begun.path, "finished", "failed", "stopped").state == "finished"
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    table = study_table(begun.path)
    assert [cell[1:] for cell in table.cells] == [("W8A8", protocol) for protocol in order.protocols]
    assert not table.columns["error"].any()
    assert [found.state for found in jobs(directory)] == ["finished"]
    with pytest.raises(UsageError, match="is there already"):
        start(directory, order)


@pytest.fixture
def slow_interpreter(monkeypatch, tmp_path):
    """Have sweeps started by a program that never gets as far as a plan."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 300\n")
    program.chmod(0o755)
    monkeypatch.setattr("quantviz.study.sweep.jobs.sys.executable", str(program))


def test_a_sweep_that_is_cancelled_before_it_has_a_plan_is_shown_as_stopped(tmp_path, order, slow_interpreter):
    begun = start(tmp_path / "studies", order)
    assert begun.state is JobState.STARTING
    with pytest.raises(UsageError, match=r"Another sweep is running \(one\.study\)"):
        start(tmp_path / "studies", order)
    cancel(begun.path)
    stopped = waited(begun.path, "stopped", "failed")
    assert (stopped.state, stopped.message) == (JobState.STOPPED, "")  # as it was asked to
    assert not (begun.path / "plan.json").exists()
    assert [found.state for found in jobs(tmp_path / "studies")] == ["stopped"]
    forget(begun.path)
    assert jobs(tmp_path / "studies") == ()


def test_another_dashboard_sees_and_cancels_a_sweep_that_is_starting(tmp_path, order, slow_interpreter, monkeypatch):
    begun = start(tmp_path / "studies", order)
    children = dict(_started)
    monkeypatch.setattr("quantviz.study.sweep.jobs._started", {})  # as in a process that started none
    assert job(begun.path).state is JobState.STARTING
    cancel(begun.path)
    children[begun.path].wait(60)
    assert job(begun.path).state is JobState.STOPPED


KILLED = "Its process was killed or the machine went down; start it again to go on."


def state_file(path):
    return path.with_name(f"{path.name}.state.json")


def test_the_state_is_read_from_its_file_and_never_from_the_words_of_the_log(tmp_path):
    path = synthetic_study(tmp_path / "made", synthetic_plan(3, models=("resnet50",)))
    (path / "results.parquet").unlink()
    log = tmp_path / "made.log"
    log.write_text("quantviz: Interrupted; what was done is kept.\n")
    write_state(state_file(path), JobState.FAILED, "The disk is full.")
    assert (job(path).state, job(path).message) == ("failed", "The disk is full.")
    log.write_text("quantviz: The disk is full.\n")
    write_state(state_file(path), JobState.STOPPED, "Interrupted.")
    assert (job(path).state, job(path).message) == ("stopped", "Interrupted.")
    write_state(state_file(path), JobState.RUNNING)  # this process, which is there
    assert job(path).state is JobState.STARTING
    with subprocess.Popen(["sleep", "0"]) as ended:
        pass
    write_state(state_file(path), JobState.RUNNING, pid=ended.pid)
    assert (job(path).state, job(path).message) == ("stopped", KILLED)
    write_state(state_file(path), JobState.FAILED, "Not written.", anew=True)
    assert job(path).state is JobState.STOPPED
    assert [entry.name for entry in tmp_path.iterdir() if "part" in entry.name] == []


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"state": "asleep"}'])
def test_studies_without_a_usable_state_are_resumable_where_they_have_a_plan(tmp_path, content):
    path = synthetic_study(tmp_path / "made", synthetic_plan(3, models=("resnet50",)))
    (path / "results.parquet").unlink()
    for name in ("made", "other"):
        (tmp_path / f"{name}.log").write_text("quantviz: A last word.\n")
        if content is not None:
            state_file(tmp_path / name).write_text(content)
    assert (job(path).state, job(path).message) == ("stopped", "A last word.")
    assert (job(tmp_path / "other").state, job(tmp_path / "other").message) == ("failed", "A last word.")


def test_a_sweep_that_fails_says_why_and_can_be_forgotten(tmp_path, order):
    bad = tmp_path / "bad.pth"
    asked = SweepOrder("bad", order.dataset, order.models, ("8",), weights={SQUEEZE: str(bad)})
    begun = start(tmp_path / "studies", asked)
    failed = waited(begun.path, "failed", "finished", "stopped")
    assert failed.state == "failed"
    assert failed.message == read_state(state_file(begun.path)).message
    assert "bad.pth" in failed.message
    assert [found.name for found in jobs(tmp_path / "studies")] == ["bad"]
    forget(begun.path)
    assert jobs(tmp_path / "studies") == ()
    assert not any((tmp_path / "studies").iterdir())


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"name": "../up"}, UsageError, r"name '\.\./up' cannot be used"),
        ({"name": ""}, UsageError, "cannot be used"),
        ({"models": ()}, UsageError, "No model is given"),
        ({"bits": ("99",)}, UsageError, "99 is not a whole number from 2 to 16"),
        ({"bits": ("eight",)}, UsageError, "Bits 'eight' are unknown"),
        ({"protocols": ("other",)}, UsageError, "Protocol 'other' is unknown"),
        ({"weights": {"vgg16": "untrained"}}, UsageError, "'vgg16', which is not swept"),
        ({"models": ("alexnet",)}, UsageError, "alexnet"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_starts(tmp_path, order, changes, error, told):
    fields = {name: getattr(order, name) for name in SweepOrder.__slots__} | {"weights": {}} | changes
    with pytest.raises(error, match=told):
        start(tmp_path / "studies", SweepOrder(**fields))
    assert jobs(tmp_path / "studies") == ()


def test_a_folder_without_pictures_is_refused_before_anything_starts(tmp_path, order):
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "nowhere"):
        with pytest.raises(ImageError, match=folder):
            start(tmp_path / "studies", SweepOrder("one", tmp_path / folder, order.models, order.bits))
    assert not (tmp_path / "studies").exists()


def test_finished_studies_are_jobs_and_other_folders_are_not(tmp_path):
    path = synthetic_study(tmp_path / "made", synthetic_plan(3, models=("resnet50",)))
    (tmp_path / "other").mkdir()
    (tmp_path / "notes.txt").write_text("nothing")
    assert [(found.name, found.state) for found in jobs(tmp_path)] == [("made", "finished")]
    (path / "results.parquet").unlink()
    assert job(path).state == "stopped"
    with pytest.raises(UsageError, match="is there or being made"):
        forget(path)
    assert jobs(tmp_path / "nowhere") == ()


def test_only_a_sweeps_own_command_is_run_again(tmp_path):
    plan = synthetic_plan(3, models=("resnet50",), command="rm -r /tmp/nothing")
    path = synthetic_study(tmp_path / "made", plan)
    with pytest.raises(UsageError, match="has no saved command"):
        resume(path)
    with pytest.raises(QuantvizError, match="has no saved command"):
        resume(tmp_path / "nowhere")
