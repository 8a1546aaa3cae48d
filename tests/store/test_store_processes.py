"""The tensor store shared by threads and processes."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

from store_support import filled, garbage, key_of, record_of, run_script, same, store_at

from quantviz.store import TensorStore, _tensors
from quantviz.store._rows import Rows


def hammer(store: TensorStore, worker: int, rounds: int) -> tuple[int, int]:
    """Put and get shared and own keys; return hits and refusals. A hit with wrong content raises."""
    hits = refused = 0
    for step in range(rounds):
        for name, seed in (
            (f"own {worker} {step}", 1000 * worker + step),
            (f"shared {step % 5}", 1000 * worker + step),
        ):
            refused += not store.put(key_of(name), record_of(seed))
            found = store.get(key_of(name))
            if found is None:
                continue
            hits += 1
            seed_found = int(found.metadata["seed"])
            if not same(found, record_of(seed_found)) or seed_found % 1000 % 5 != step % 5:
                raise AssertionError(f"wrong content under {name}")
            if name.startswith("own") and seed_found != seed:
                raise AssertionError(f"another record under {name}")
    return hits, refused


def hammer_process(folder: str, worker: int, rounds: int, results: multiprocessing.Queue) -> None:
    with TensorStore(Path(folder), timeout=120) as store:
        results.put((*hammer(store, worker, rounds), store.info().problem))


def test_threads_share_one_store(tmp_path):
    outcomes = []
    with TensorStore(tmp_path / "tensors", timeout=10) as store:
        threads = [threading.Thread(target=lambda w=w: outcomes.append(hammer(store, w, 20))) for w in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # A record that is replaced between a reader's row and its file is a miss, so some shared hits may lack.
        assert len(outcomes) == 6
        assert all(hits >= 20 and refused == 0 for hits, refused in outcomes), outcomes
        report = store.verify()
        assert (report.good, report.bad) == (6 * 20 + 5, ())


def test_processes_share_one_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    folder = tmp_path / "tensors"
    workers = [context.Process(target=hammer_process, args=(str(folder), w, 20, results)) for w in range(3)]
    for worker in workers:
        worker.start()
    outcomes = [results.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert all(hits >= 20 and refused == 0 and not problem for hits, refused, problem in outcomes), outcomes
    with store_at(tmp_path) as store:
        report = store.verify()
        assert (report.good, report.bad) == (3 * 20 + 5, ())
        assert store.info().set_aside == ()


def test_processes_that_find_the_same_damage_rebuild_it_once(tmp_path):
    folder = filled(tmp_path)
    garbage(folder / "cache.db")
    start = threading.Barrier(4)
    infos = []

    def open_it() -> None:
        with TensorStore(folder, timeout=10) as store:
            start.wait()
            kept = store.put(key_of(threading.get_ident()), record_of(1))
            infos.append((kept, store.info().healthy, len(store.info().set_aside)))

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert infos == [(True, True, 1)] * 4
    assert len(list(folder.glob("cache.db.damaged-*"))) == 1


FORK = """
import os, sys, pathlib, warnings
from quantviz.store import TensorStore, _tensors
from quantviz.store._rows import Rows
from quantviz.specs import StoredRecord
warnings.simplefilter("ignore", DeprecationWarning)
store = TensorStore(pathlib.Path(sys.argv[1]))
store.put("0" * 64, StoredRecord({}, {"n": 0}))
child = os.fork()
if child == 0:
    fine = store.get("0" * 64).metadata == {"n": 0} and store.put("1" * 64, StoredRecord({}, {"n": 1}))
    os._exit(0 if fine else 1)
print(os.waitpid(child, 0)[1], store.get("1" * 64).metadata["n"], store.put("2" * 64, StoredRecord({})))
"""


def test_a_forked_child_goes_on_with_the_store(tmp_path):
    assert run_script(FORK, tmp_path / "tensors").split() == ["0", "1", "True"]


def test_many_open_a_new_folder_at_once(tmp_path):
    # The tables of a database in the making once passed for damage, and it was set aside from under its maker.
    for round_ in range(15):
        together, kept = threading.Barrier(5), []

        def work(folder=tmp_path / str(round_), together=together, kept=kept):
            with TensorStore(folder, timeout=30) as store:
                together.wait()
                stored = store.put(key_of("one"), record_of(1))
                kept.append((stored, store.info().problem, store.info().set_aside))

        threads = [threading.Thread(target=work) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert kept == [(True, "", ())] * 5


def test_a_lock_that_sqlite_tells_of_at_once_is_waited_for(tmp_path, monkeypatch):
    met = []

    class Locked(Rows):
        def __init__(self, *words):
            met.append(words)
            if len(met) < 3:
                raise BlockingIOError("database is locked")
            super().__init__(*words)

    monkeypatch.setattr(_tensors, "Rows", Locked)
    with TensorStore(tmp_path / "tensors", timeout=60) as store:
        assert store.put(key_of("one"), record_of(1))
        assert store.info().problem == ""
    assert len(met) == 3
