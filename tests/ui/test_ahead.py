"""What is computed ahead: it gives way to whoever asks for something, and ends with its visitor."""

from __future__ import annotations

import threading
import time

import pytest

from quantviz.specs import UsageError
from quantviz.ui import ahead as module
from quantviz.ui.ahead import Ahead


class Bench:
    """Computes until it is let go on, and notes what it began and what it ended."""

    def __init__(self):
        self.begun, self.ended = [], []
        self.busy = False
        self.running = 0
        self.most = 0
        self.step = threading.Semaphore(0)
        self.began = threading.Semaphore(0)

    def compute(self, request, _sample, progress):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            self.begun.append(request)
            self.began.release()
            self.step.acquire()
            progress("half")
            if request == "wrong":
                raise UsageError("wrong")
            if request == "broken":
                raise ZeroDivisionError
            self.ended.append(request)
        finally:
            self.running -= 1

    def ahead(self, *requests):
        return Ahead(requests, None, self.compute, lambda: self.busy)

    def go_on(self, times=1):
        self.step.release(times)


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Nobody counts as gone because the machine is slow."""
    monkeypatch.setattr(module, "LEFT", 1e6)


def until_over(work):
    work._thread.join(60)
    assert not work.running


def test_the_nearest_comes_first_and_what_fails_stops_nothing(bench):
    bench.go_on(4)
    work = bench.ahead("W7", "wrong", "broken", "W6")
    until_over(work)
    assert bench.begun == ["W7", "wrong", "broken", "W6"]
    assert bench.ended == ["W7", "W6"]
    assert work.failed == {"wrong", "broken"}


def test_it_gives_way_to_who_asks_and_begins_again(bench):
    work = bench.ahead("W7")
    assert bench.began.acquire(timeout=60)
    bench.busy = True
    bench.go_on()
    while bench.running:
        time.sleep(0.01)
    assert bench.ended == []
    assert work.running
    assert not work.failed
    bench.busy = False
    bench.go_on()
    until_over(work)
    assert bench.begun == ["W7", "W7"]
    assert bench.ended == ["W7"]


def test_it_does_not_begin_while_somebody_computes(bench):
    bench.busy = True
    work = bench.ahead("W7")
    work.cancel()
    until_over(work)
    assert bench.begun == []


def test_one_is_computed_at_a_time_for_all_visitors(bench):
    bench.go_on(6)
    works = [bench.ahead("W7", "W6"), bench.ahead("W5", "W4"), bench.ahead("W3", "W2")]
    for work in works:
        until_over(work)
    assert sorted(bench.ended) == ["W2", "W3", "W4", "W5", "W6", "W7"]
    assert bench.most == 1


@pytest.mark.parametrize("left", [True, False])
def test_it_ends_with_its_visitor(bench, monkeypatch, left):
    work = bench.ahead("W7", "W6")
    assert bench.began.acquire(timeout=60)
    if left:
        monkeypatch.setattr(module, "LEFT", -1.0)
    else:
        work.cancel()
    bench.go_on(2)
    until_over(work)
    assert bench.begun == ["W7"]
    assert bench.ended == []
