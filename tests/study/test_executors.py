"""Who computes a sweep: several processes, or workers of Ray; and what is computed when."""

import os
import shutil
import signal
import sys
from dataclasses import replace

import pytest
import sweep_support
from sweep_support import SQUEEZE, children, files_of, has_loaded, named, plan_with, sweeping, wait_for

from quantviz.specs import QuantvizError, UsageError, spec_of
from quantviz.store import TensorStore
from quantviz.study.folder import StudyFolder
from quantviz.study.planning import plan_of
from quantviz.study.sweep.executor import Executor
from quantviz.study.sweep.run import sweep
from quantviz.study.sweep.schedule import Schedule, before
from quantviz.study.sweep.worker import PieceWorker, RemoteWorker, job_of

asked, study = sweep_support.asked, sweep_support.study


def kill_workers():
    found = [pid for pid in children(os.getpid()) if named(pid, b"quantviz.study.sweep.worker")]
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return found


def test_several_processes_find_the_same_and_a_killed_one_is_replaced(study, asked, cache, tmp_path):
    killed = []

    def kill_one(message, part, _phase=None):
        if "images/s" in message and not killed:
            killed.extend(kill_workers())

    with TensorStore(cache / "tensors") as store:
        found = sweep(asked, tmp_path / "two", store, kill_one, executor=Executor(workers=2))
    assert found.computed == found.pieces == 10
    assert found.rate > 0
    assert len(killed) == 2
    assert not kill_workers()  # none is left
    assert files_of(tmp_path / "two") == files_of(study)


def test_networks_that_do_not_fit_together_are_made_one_at_a_time(asked, cache, tmp_path, monkeypatch):
    asked = replace(asked, quants=(spec_of("standard", 8, 8), spec_of("standard", 4, 4)), batch=3)
    steps = []
    with TensorStore(cache / "tensors") as store:
        sweep(asked, tmp_path / "held", store)
        monkeypatch.setattr("quantviz.study.sweep.networks.NETWORK_BYTES", 0)
        worker = PieceWorker(plan_of(asked), asked, store)
        worker.compute(worker.plan.pieces[0], {}, lambda: steps.append(1))
        sweep(asked, tmp_path / "one", store)
    assert len(steps) == 3
    assert files_of(tmp_path / "one") == files_of(tmp_path / "held")


def test_a_piece_that_kills_every_worker_is_given_up(asked, cache, tmp_path):
    with TensorStore(cache / "tensors") as store:
        told = rf"ended 3 times on pictures 1 to 1 under {SQUEEZE}.*signal 9, Killed.*what was done is kept"
        with pytest.raises(QuantvizError, match=told):
            sweep(asked, tmp_path / "study", store, lambda *_: kill_workers(), executor=Executor(workers=2))
    assert not kill_workers()


def test_what_a_worker_refuses_ends_the_sweep_with_its_sentence(asked, cache, tmp_path):
    weights = tmp_path / "lost.safetensors"
    shutil.copyfile(asked.weights[SQUEEZE], weights)

    def lose(message, part, _phase=None):
        if message.startswith("Starting"):
            weights.unlink(missing_ok=True)

    asked, told = replace(asked, weights={SQUEEZE: str(weights)}), r"lost\.safetensors.*cannot be opened"
    with TensorStore(cache / "tensors") as store, pytest.raises(QuantvizError, match=told):
        sweep(asked, tmp_path / "study", store, lose, executor=Executor(workers=2))
    assert not kill_workers()
    assert StudyFolder(tmp_path / "study").progress() is None


def test_a_worker_elsewhere_says_which_file_it_misses_on_which_host(asked, cache, tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(asked.dataset, folder)
    asked = replace(asked, dataset=folder)
    plan = plan_of(asked)
    with TensorStore(cache / "tensors") as store:
        job = job_of(plan, asked, store, foreign=True)
    (folder / "china.png").unlink()
    here = os.getcwd()
    kind, error = RemoteWorker(job).compute(plan.pieces[1], {}, lambda: None)
    assert kind == "failed"
    assert str(error).startswith(f"On host {os.uname().nodename}: ")
    assert str(folder / "china.png") in str(error)
    other = replace(job, plan=replace(plan, versions={**plan.versions, "torch": "1.0"}))
    kind, error = RemoteWorker(other).open(plan.pieces[0])
    assert kind == "failed"
    assert "torch" in str(error)
    assert "1.0 in the study" in str(error)
    assert os.getcwd() == here


def test_pieces_in_a_row_begin_first_and_are_of_one_worker_each(study):
    plan = plan_with(study, ("a", "b"))
    schedule = Schedule(plan, plan.pieces)
    assert schedule.most_workers == 2 * 5 + 2
    assert [schedule.take(member).protocol for member in (0, 1)] == ["paper", "paper"]
    assert schedule.take(2) is None  # both models are being loaded for the first time
    schedule.opened(0)
    schedule.opened(1)
    third = schedule.take(2)
    assert (third.protocol, third.start) == ("calibrated", 0)
    assert schedule.take(3).model != third.model  # nobody had the other model's networks
    done = schedule.done(0)
    again = schedule.take(0)
    assert (again.number, again.protocol) == (done.number + 1, "paper")
    schedule.died(0, "signal 9")
    assert schedule.take(0) == again


def test_the_first_calibration_is_not_done_twice(study):
    plan = plan_with(study, ("a",), protocols=("calibrated",))
    schedule = Schedule(plan, plan.pieces)
    assert schedule.take(0) == plan.pieces[0]
    assert schedule.take(1) is None
    schedule.opened(0)
    assert schedule.take(1) == plan.pieces[1]
    schedule.died(1, "signal 9")
    assert schedule.take(1) == plan.pieces[1]


def test_every_piece_is_taken_once(study):
    plan = plan_with(study, ("a", "b", "c"))
    schedule, found, busy = Schedule(plan, plan.pieces), [], {}
    while schedule.left:
        for member in range(4):
            if member not in busy and (piece := schedule.take(member)):
                busy[member] = piece
                schedule.opened(member)
        member = min(busy, key=lambda member: (busy[member].number * 7) % 11)  # they end in no order
        assert schedule.done(member) == busy[member]
        found.append(busy.pop(member))
    assert sorted(piece.number for piece in found) == [piece.number for piece in plan.pieces]
    for protocol in ("a", "b", "c"):
        row = [
            piece.start for piece in found if piece.protocol == "paper" and plan.models[piece.model].name == protocol
        ]
        assert row == sorted(row)


@pytest.mark.slow
def test_ray_finds_the_same_and_replaces_a_killed_actor(study, asked, cache, tmp_path):
    out = tmp_path / "study"

    def at_work():
        """Return the actors that were given a piece: they import torch, and have some of that before them."""
        return [pid for pid in children(process.pid) if named(pid, b"ray::_Actor") and has_loaded(pid, b"libtorch")]

    with sweeping(asked, out, cache, "--executor", "ray", "--workers", 2) as process:
        wait_for(process, at_work)
        os.kill(at_work()[0], signal.SIGKILL)
        started = children(process.pid)
        told, complaint = process.communicate(timeout=300)
    assert (process.returncode, complaint) == (0, "")
    assert "10 of 10 pieces computed" in told
    whole, found = files_of(study), files_of(out)
    assert [name for name in whole if whole[name] != found.get(name)] == ["plan.json"]  # for the command
    assert not [pid for pid in started if named(pid, b"ray")]


def test_what_an_engine_cannot_be(asked, cache, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"Executor 'spark' is unknown; use one of local, ray"):
        Executor("spark")
    with pytest.raises(UsageError, match="0 workers"):
        Executor(workers=0)
    with pytest.raises(UsageError, match=r"add --executor ray"):
        Executor(address="auto")
    monkeypatch.setitem(sys.modules, "ray", None)
    with TensorStore(cache / "tensors") as store:
        with pytest.raises(UsageError, match=r'pip install "quantviz\[ray\]"'):
            sweep(asked, tmp_path / "study", store, executor=Executor("ray"))
    assert not (tmp_path / "study").exists()


def test_a_piece_before_which_there_is_none_starts_from_nothing(study):
    plan = plan_with(study, ("a", "b"), batch=2)
    for run in plan.runs:
        chained = run[0].protocol == "paper"
        assert [before(plan, piece) for piece in run] == [
            None,
            *(run[:-1] if chained else [None] * (len(run) - 1)),
        ]
