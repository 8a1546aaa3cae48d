"""The tensor store on damaged databases, and on locked, full and read-only disks."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from store_support import filled, garbage, key_of, record_of, run_script, same, sql, store_at

from quantviz.specs import StoreError
from quantviz.store import StoreInfo, TensorStore


def broken_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : len(content)] = b"\x5a" * (len(content) - 4096)
    path.write_bytes(content)


def another_database(path: Path) -> None:
    path.unlink()
    sql(path.parent, "CREATE TABLE Cache (something TEXT)")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [garbage, broken_page, another_database, a_folder, lambda path: os.truncate(path, path.stat().st_size // 2)],
    ids=["garbage", "broken page", "another database", "a folder", "truncated"],
)
def test_a_damaged_database_is_set_aside_and_rebuilt(tmp_path, damage):
    folder = filled(tmp_path, 3)
    database = folder / "cache.db"
    damage(database)
    left = database.read_bytes() if database.is_file() else None
    with store_at(tmp_path) as store:
        assert store.get(key_of(0)) is None
        assert store.put(key_of(0), record_of(0))
        assert same(store.get(key_of(0)), record_of(0))
        info = store.info()
        (aside,) = info.set_aside
        assert info.healthy
        assert info.entries == 1
        assert str(aside) in info.problem
        assert "damaged" in info.problem
        assert left is None or aside.read_bytes() == left
    assert len(list(folder.rglob("*.val"))) == 1, "files that no row names would outlive every size limit"
    with store_at(tmp_path) as again:
        assert same(again.get(key_of(0)), record_of(0))
        assert again.info().problem == ""
        assert again.info().set_aside == (aside,)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 600, bytes(range(256)) * 40])
def test_leftover_journals_do_no_harm(tmp_path, suffix, content):
    folder = filled(tmp_path)
    (folder / f"cache.db{suffix}").write_bytes(content)
    with store_at(tmp_path) as store:
        assert same(store.get(key_of(0)), record_of(0))
        assert store.put(key_of(1), record_of(1))
        assert store.verify().good == 2


def test_an_empty_database_file_starts_a_store(tmp_path):
    folder = filled(tmp_path)
    os.truncate(folder / "cache.db", 0)
    with store_at(tmp_path) as store:
        assert store.get(key_of(0)) is None
        assert store.put(key_of(0), record_of(0))


def test_damage_under_an_open_store_is_a_miss_and_heals(tmp_path):
    with TensorStore(tmp_path / "tensors", timeout=0.1) as store:
        store.put(key_of(0), record_of(0))
        garbage(tmp_path / "tensors" / "cache.db")
        assert store.get(key_of(0)) is None
        assert not store.put(key_of(0), record_of(0))
        info = store.info()
        assert not info.healthy
        assert "damaged" in info.problem
        time.sleep(0.6)
        assert store.put(key_of(0), record_of(0))
        assert store.info().healthy
        assert len(store.info().set_aside) == 1


def test_a_folder_deleted_under_an_open_store_is_made_again(tmp_path):
    with store_at(tmp_path) as store:
        assert store.put(key_of(0), record_of(0))
        shutil.rmtree(tmp_path / "tensors")
        assert store.get(key_of(0)) is None
        assert store.put(key_of(0), record_of(0))
        assert same(store.get(key_of(0)), record_of(0))
        assert store.info().entries == 1


def test_a_locked_database_is_a_miss_and_does_not_hang(tmp_path):
    folder = filled(tmp_path)
    with store_at(tmp_path) as store, store_at(tmp_path) as late:
        assert same(store.get(key_of(0)), record_of(0))
        holder = sqlite3.connect(folder / "cache.db", isolation_level=None)
        try:
            holder.execute("BEGIN EXCLUSIVE")
            start = time.monotonic()
            assert store.get(key_of(0)) is None
            assert not store.put(key_of(1), record_of(1))
            assert late.get(key_of(0)) is None
            assert not late.put(key_of(1), record_of(1))
            for one in (store, late):
                assert not one.info().healthy
                assert "another process" in one.info().problem
                with pytest.raises(StoreError, match="another process"):
                    one.clear()
                with pytest.raises(StoreError, match="another process"):
                    one.verify()
            assert time.monotonic() - start < 30  # diskcache itself tries for 60 s
            holder.execute("ROLLBACK")
        finally:
            holder.close()
        time.sleep(1.1)
        for one in (store, late):
            assert same(one.get(key_of(0)), record_of(0))
            assert one.put(key_of(1), record_of(1))
            assert one.info().healthy
            assert one.info().problem == ""
            assert one.info().set_aside == ()
    assert len(list(folder.rglob("*.val"))) == 2, "a refused put leaves no file"


def test_a_store_is_not_opened_while_another_process_may_not_be_disturbed(tmp_path):
    folder = filled(tmp_path)
    with contextlib.closing(sqlite3.connect(folder / "cache.db", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")  # others may read, and diskcache would try for a minute to write its settings
        start = time.monotonic()
        with store_at(tmp_path) as store:
            assert not store.put(key_of(1), record_of(1))
            assert "another process" in store.info().problem
        assert time.monotonic() - start < 30  # diskcache itself tries for 60 s


def test_another_process_in_the_middle_of_writing_delays_but_loses_nothing(tmp_path):
    folder = filled(tmp_path)
    holder = sqlite3.connect(folder / "cache.db", isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, lambda: (holder.execute("ROLLBACK"), holder.close()))
    with TensorStore(folder, timeout=5) as store:
        release.start()
        assert store.put(key_of(1), record_of(1))
        release.join()
        assert same(store.get(key_of(0)), record_of(0))


@pytest.mark.parametrize("where", ["file/tensors", "file", "link", "$HOME/tensors", "/proc/quantviz/tensors", "a\0b"])
def test_a_folder_that_cannot_be_used_is_an_always_miss_store(tmp_path, where):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "at all")
    with TensorStore(tmp_path / where, timeout=0.1) as store:
        assert store.get(key_of(0)) is None
        assert not store.put(key_of(0), record_of(0))
        info = store.info()
        assert isinstance(info, StoreInfo)
        assert (info.entries, info.healthy) == (0, False)
        assert "QUANTVIZ_CACHE" in info.problem or where == "a\0b"
        assert "\n" not in info.problem
        with pytest.raises(StoreError):
            store.verify()
        with pytest.raises(StoreError):
            store.clear()
    assert (tmp_path / "file").read_text() == "mine"


READ_ONLY = """
import os, sys, pathlib, stat
from quantviz.store import TensorStore
from quantviz.specs import StoredRecord
folder = pathlib.Path(sys.argv[1])
for path in [*folder.rglob("*"), folder, folder.parent]:
    path.chmod(0o555 if path.is_dir() else 0o444)
for parent in folder.parents[1:]:
    if os.getuid() == 0 and not parent.stat().st_mode & stat.S_IXOTH:
        parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for name in (folder, folder.parent / "other"):
    store = TensorStore(name, timeout=0.2)
    print(store.get("0" * 64), store.put("0" * 64, StoredRecord({})), store.info().healthy, store.info().problem)
"""


def test_a_read_only_disk_is_an_always_miss_store(tmp_path):
    folder = filled(tmp_path / "closed")
    try:
        lines = run_script(READ_ONLY, folder).splitlines()
    finally:
        for path in (folder.parent, folder, *folder.rglob("*")):
            path.chmod(0o755)
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("None False False The cache in ")
        assert "readonly" in line or "Permission denied" in line
    assert not list(folder.glob("*damaged*"))


FULL = """
import resource, sys, pathlib
import numpy as np
from quantviz.store import TensorStore
from quantviz.specs import StoredRecord
store = TensorStore(pathlib.Path(sys.argv[1]))
small, large = StoredRecord({"a": np.zeros(10)}), StoredRecord({"a": np.zeros(100_000)})
print(store.put("0" * 64, small))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
print(store.put("1" * 64, large), store.info().healthy, store.get("0" * 64) is not None, store.get("1" * 64))
print(store.put("2" * 64, small), store.info().healthy, store.info().problem)
"""


def test_a_disk_that_takes_no_more_refuses_and_goes_on_reading(tmp_path):
    assert run_script(FULL, tmp_path / "tensors").splitlines() == ["True", "False False True None", "True True "]
    assert len(list((tmp_path / "tensors").rglob("*.val"))) == 2, "half a file was left behind"
