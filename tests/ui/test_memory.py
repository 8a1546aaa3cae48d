"""The server's freed memory: given back to the system."""

import ctypes
import gc
import subprocess
import sys

import pytest

from quantviz.ui import memory

# 200,000 blocks are freed but for the last one, so that glibc by itself keeps all of the heap. Streamlit is not needed.
HOLES = """
import runpy, sys
from pathlib import Path
trimmer = runpy.run_path(sys.argv[1])["trimmer"]
pages = lambda: int(Path("/proc/self/statm").read_text().split()[1])
kept = [bytes(3000) for _ in range(200_000)]
full, last = pages(), kept[-1]
del kept
trim = trimmer()
trim()
print(full - pages())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_holes_are_given_back():
    told = subprocess.run([sys.executable, "-c", HOLES, memory.__file__], capture_output=True, text=True, check=True)
    assert int(told.stdout) * 4096 > 200e6


def test_another_c_library_has_nothing_to_trim(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _name: object())
    assert memory.trimmer() is None
    memory.keep_trimmed()


def test_what_is_set_aside_is_searched_for_garbage_no_more():
    gc.unfreeze()
    held = [[] for _ in range(1000)]
    before = len(gc.get_objects())
    memory.set_aside()
    try:
        assert len(gc.get_objects()) < before - 900
        assert gc.get_freeze_count() > 1000
        assert len(held) == 1000
    finally:
        gc.unfreeze()
