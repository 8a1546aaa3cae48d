"""Studies on disk: a plan, pieces that are whole or absent, and the results that they add up to. Imports specs only.

A study is a folder::

    plan.json            everything that decides it, written first
    pieces/000000.parquet  some pictures under one model and protocol, each file committed atomically
    results.parquet      all pieces in order, written last
    progress.json        while a sweep runs: how far it is
    lock                 held by the sweep that writes here
"""

from quantviz.study.folder import StudyFolder
from quantviz.study.results import Results

__all__ = ["Results", "StudyFolder"]
