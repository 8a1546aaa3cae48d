"""Sweeps of other machines: judged by what is seen to change, whatever any clock says."""

import json
import os
from dataclasses import asdict, replace

import pytest
from study_support import synthetic_plan, synthetic_study

from quantviz.study import process
from quantviz.study.folder import StudyFolder
from quantviz.study.specs.progress import StudyProgress
from quantviz.study.sweep.jobs import job
from quantviz.study.sweep.state import JobState, read_state, write_state
from quantviz.study.watching import SILENT, Watch


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    watch = Watch(clock)
    for place in ("quantviz.study.folder.ELSEWHERE", "quantviz.study.sweep.state.ELSEWHERE"):
        monkeypatch.setattr(place, watch)
    return clock


def test_what_changes_is_alive_and_what_is_silent_is_not(tmp_path, clock):
    watch = Watch(clock)
    assert watch.still_changes(tmp_path, "a")
    clock.now = SILENT - 1
    assert watch.still_changes(tmp_path, "a")
    assert watch.still_changes(tmp_path, "b")
    clock.now += SILENT - 1
    assert watch.still_changes(tmp_path, "b")
    assert watch.still_changes(tmp_path / "other", "b")
    clock.now += 1
    assert not watch.still_changes(tmp_path, "b")
    assert watch.still_changes(tmp_path, "a")


def test_few_files_are_remembered(tmp_path, clock):
    watch = Watch(clock)
    for number in range(1001):
        watch.still_changes(tmp_path / str(number), "a")
    clock.now = SILENT
    assert not watch.still_changes(tmp_path / "1000", "a")
    assert watch.still_changes(tmp_path / "0", "a")  # as at a first look


PROGRESS = StudyProgress(1, 2, 3, 4, None, None, "Sweeping", "quantviz sweep", 1, "elsewhere", "1 boot", 0.0)


@pytest.mark.parametrize("written", [0.0, 1e12])
def test_no_clock_makes_a_running_sweep_stopped_or_a_dead_one_running(tmp_path, clock, written):
    """Its machine's clock may be decades behind or ahead of this one's, and be set while it runs."""
    folder = StudyFolder(tmp_path)

    def told(**change):
        (tmp_path / "progress.json").write_text(json.dumps(asdict(replace(PROGRESS, **change))))

    for beat in range(5):
        told(updated=written - 3600 * (beat == 3) + beat)
        assert folder.progress().host == "elsewhere"
        clock.now += SILENT - 1
        assert job(tmp_path).state is JobState.RUNNING
    clock.now += 1
    assert folder.progress() is None
    told(updated=written - 7200)
    assert folder.progress().updated == written - 7200


def test_a_sweep_that_starts_elsewhere_is_starting_until_it_is_silent_for_long(tmp_path, clock):
    path = synthetic_study(tmp_path / "made", synthetic_plan(3, models=("resnet50",)))
    (path / "results.parquet").unlink()
    file = tmp_path / "made.state.json"
    write_state(file, JobState.RUNNING)
    file.write_text(json.dumps(asdict(replace(read_state(file), host="elsewhere", updated=0.0))))
    assert job(path).state is JobState.STARTING
    clock.now = SILENT
    ended = job(path)
    assert (ended.state, ended.message.partition(";")[0]) == (
        JobState.STOPPED,
        "Its process was killed or the machine went down",
    )


def test_a_killed_sweep_of_the_command_line_is_shown_with_the_reason(tmp_path):
    path = synthetic_study(tmp_path / "made", synthetic_plan(3, models=("resnet50",)))
    (path / "results.parquet").unlink()
    assert job(path).message == ""
    killed = replace(PROGRESS, host=os.uname().nodename, process_started="1 another boot")
    (path / "progress.json").write_text(json.dumps(asdict(killed)))
    ended = job(path)
    assert ended.state is JobState.STOPPED
    assert ended.message == "Its process was killed or the machine went down; start it again to go on."


@pytest.mark.parametrize("before", [0, 1])
def test_what_a_telling_that_was_cut_off_left_is_taken_back(tmp_path, monkeypatch, before):
    pid, host, started = process.this()
    folder, told = StudyFolder(tmp_path), replace(PROGRESS, pid=pid, host=host, process_started=started)
    for _ in range(before):
        folder.tell(told)

    def cut_off(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut_off)
        with pytest.raises(KeyboardInterrupt):
            folder.tell(told)
    assert len(os.listdir(tmp_path)) == 1 + before
    folder.silence()
    assert os.listdir(tmp_path) == []
