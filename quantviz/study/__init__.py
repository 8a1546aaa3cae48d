"""A study: its folder on disk, planning, summary, filters, bundle, replay, and the paper's table beside it.

A study is a folder::

    plan.json            everything that decides it, written first
    pieces/000000.parquet  some pictures under one model and protocol, each file committed atomically
    results.parquet      all pieces in order, written last
    progress.json        while a sweep runs: how far it is
    lock                 held by the sweep that writes here
"""
