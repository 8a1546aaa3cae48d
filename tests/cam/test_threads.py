"""One thread for whatever decides a number: whom it holds for, and that everybody has theirs afterwards."""

import threading

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from quantviz.cam import Locked, cores, one_thread


@pytest.fixture(autouse=True)
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def blas_threads():
    return {entry["num_threads"] for entry in threadpool_info() if entry["internal_api"] == "openblas"}


def elsewhere(call):
    """Return what a call gives in a thread that begins now."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call()))
    thread.start()
    thread.join()
    return found[0]


def test_a_block_has_one_thread_and_others_keep_theirs():
    before = blas_threads()
    with one_thread():
        assert (torch.get_num_threads(), cores(), blas_threads()) == (1, 1, {1})
        assert elsewhere(lambda: (torch.get_num_threads(), cores())) == (4, 4)
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert (torch.get_num_threads(), cores(), blas_threads()) == (4, 4, before)


def test_an_exception_gives_the_threads_back():
    before = blas_threads()
    with pytest.raises(ZeroDivisionError), one_thread():
        _ = 1 // 0
    assert (torch.get_num_threads(), blas_threads()) == (4, before)


def test_two_threads_inside_at_once_leave_as_they_came():
    before = blas_threads()
    inside, leave = threading.Event(), threading.Event()
    seen = []

    def stay():
        with one_thread():
            inside.set()
            leave.wait(60)
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=stay)
    thread.start()
    assert inside.wait(60)
    with one_thread():
        pass
    assert (torch.get_num_threads(), blas_threads()) == (4, {1})  # the other one is inside still
    leave.set()
    thread.join()
    assert (seen, blas_threads()) == ([1, 4], before)


def test_what_depends_on_threads_elsewhere_has_the_same_bits_inside():
    generator = torch.Generator().manual_seed(0)
    row, weight = (torch.randn(size, generator=generator) for size in ((1, 1280), (1000, 1280)))
    many = torch.randn(1, 64, 56, 56, generator=generator)
    square = many.numpy().reshape(-1)[: 300 * 300].reshape(300, 300).astype(np.float64)

    def numbers():
        values = (
            torch.nn.functional.linear(row, weight),
            many.sum(),
            torch.from_numpy(np.linalg.solve(square, square.T)),
        )
        return [value.numpy().tobytes() for value in values]

    found = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        with one_thread():
            found.append(numbers())
        found.append(elsewhere(lambda: _within(numbers)))
    assert all(each == found[0] for each in found)


def _within(call):
    with one_thread():
        return call()


def test_a_locked_network_runs_in_one_thread_unless_it_is_timed_otherwise():
    network = Locked(torch.nn.Identity())
    with network.locked():
        assert torch.get_num_threads() == 1
    with network.locked(in_one_thread=False):
        assert torch.get_num_threads() == 4
