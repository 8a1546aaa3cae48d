"""The line of visitors, and what is kept in memory for them."""

import threading

import pytest

from quantviz.comparison.pool import Pool
from quantviz.comparison.waiting import Line
from quantviz.specs import UsageError, no_progress


class Visit:
    """Somebody who comes to a line, stays until told to go, and notes what is said meanwhile."""

    def __init__(self, line, name, order, *, long=False):
        self.said, self.error = [], None
        self._here, self._go, self._waits = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._stay, args=(line, name, order, long))
        self._thread.start()

    def _stay(self, line, name, order, long):
        def told(message, *_):
            self.said.append(message)
            self._waits.set()

        with line.turn(told, long=long):
            order.append(name)
            self._here.set()
            assert self._go.wait(60)

    def here(self):
        assert self._here.wait(60)
        return self

    def waits(self):
        assert self._waits.wait(60)
        return self

    def go(self):
        self._go.set()
        self._thread.join()


def test_a_place_is_left_for_what_is_quick():
    line, order = Line(2, 8, "{} other computations", most_long=1), []
    first = Visit(line, "long 1", order, long=True).here()
    second = Visit(line, "long 2", order, long=True).waits()
    assert "Waiting for 1 other computations" in second.said
    quick = Visit(line, "quick", order).here()
    assert (line.served, line.waiting) == (2, 1)
    quick.go()
    first.go()
    second.here().go()
    assert order == ["long 1", "quick", "long 2"]
    assert (line.served, line.waiting) == (0, 0)


def test_who_comes_first_is_served_first():
    line, order = Line(1, 8), []
    served = Visit(line, "a", order).here()
    waiting = [Visit(line, name, order).waits() for name in "bcd"]
    served.go()
    for visit in waiting:
        visit.here().go()
    assert order == list("abcd")


def test_who_leaves_makes_room_and_the_last_is_sent_away():
    line = Line(1, 1, "{} other computations")

    def leave(*_):
        raise KeyboardInterrupt

    with line.turn(no_progress):
        with pytest.raises(KeyboardInterrupt), line.turn(leave):
            pytest.fail("it was served")
        assert line.waiting == 0
        order = []
        other = Visit(line, "other", order).waits()
        with pytest.raises(UsageError, match="1 other computations are waiting already"), line.turn(no_progress):
            pytest.fail("it was served")
    other.here().go()


def test_a_pool_keeps_within_its_bytes_and_always_the_last():
    pool = Pool(9, 10, len)
    for name, size in (("a", 4), ("b", 4), ("c", 2)):
        pool.get(name, lambda size=size: "x" * size)
    assert pool.nbytes == 10
    pool.get("a", lambda: pytest.fail("it is there"))
    pool.get("d", lambda: "x" * 3)  # "b" was unused for longest
    assert pool.nbytes == 9
    assert pool.get("b", lambda: "made anew") == "made anew"
    pool.get("e", lambda: "x" * 50)
    assert pool.nbytes == 50


def test_a_pool_makes_room_before_a_value_is_made():
    pool = Pool(9, 10, len)
    for name in ("a", "b"):
        pool.get(name, lambda: "x" * 4)
    before = []

    def make():
        pool.make_room(5)
        before.append(pool.nbytes)
        return "x" * 5

    assert pool.get("c", make) == "x" * 5
    assert before == [4]
    assert pool.nbytes == 9
    pool.get("b", lambda: pytest.fail("it is there"))
