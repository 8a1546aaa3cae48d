"""The tensor store, on real folders, databases, threads and processes."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import pickle
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import diskcache
import numpy as np
import pytest

import quantviz
from quantviz.specs import StoredRecord, StoreError
from quantviz.store import StoreInfo, TensorStore, default_directory

PACKAGE = Path(quantviz.__file__).parent


def key_of(value: object) -> str:
    return hashlib.sha256(str(value).encode()).hexdigest()


def record_of(seed: int, side: int = 16) -> StoredRecord:
    rng = np.random.default_rng(seed)
    arrays = {"native": rng.random((7, 7), dtype=np.float32), "map": rng.random((side, side), dtype=np.float32)}
    return StoredRecord(arrays, {"seed": seed, "side": side})


def same(found: StoredRecord | None, expected: StoredRecord) -> bool:
    return (
        found is not None
        and found.metadata == expected.metadata
        and found.arrays.keys() == expected.arrays.keys()
        and all(
            (found.arrays[n].dtype, found.arrays[n].shape, found.arrays[n].tobytes()) == (a.dtype, a.shape, a.tobytes())
            for n, a in expected.arrays.items()
        )
    )


def store_at(path: Path, **options: float) -> TensorStore:
    return TensorStore(path / "tensors", timeout=0.2, **options)


def filled(path: Path, count: int = 1) -> Path:
    """Make a store with records of seeds 0, 1, ... under key_of(seed), close it, return its folder."""
    with store_at(path) as store:
        for seed in range(count):
            assert store.put(key_of(seed), record_of(seed))
    return path / "tensors"


def sql(folder: Path, statement: str, *values: object) -> list[tuple]:
    """Run one statement behind the store's back."""
    con = sqlite3.connect(folder / "cache.db", isolation_level=None, timeout=5)
    try:
        con.execute("PRAGMA synchronous = 0")
        return con.execute(statement, values).fetchall()
    finally:
        con.close()


def entry_file(folder: Path, key: str) -> Path:
    ((name,),) = sql(folder, "SELECT filename FROM Cache WHERE key = ?", key)
    return folder / name


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def age(path: Path, seconds: float = 3600) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)
    return path


# --- what goes in comes out ---


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"odd floats": np.array([np.nan, -0.0, np.inf, -np.inf, 1e-45], dtype=np.float32)},
        {"nan payload": np.array([0x7FF8_0000_DEAD_BEEF, 0xFFF8_0000_0000_0001], dtype=np.uint64).view(np.float64)},
        {"scalar": np.array(3.5), "none": np.zeros((0, 5), dtype=np.float32)},
        {"bytes": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "longs": np.array([-(2**63), 2**63 - 1])},
        {"transposed": np.arange(6.0).reshape(2, 3).T, "strided": np.arange(10.0)[::-3]},
        {"fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)), "naïve/名": np.ones(1)},
    ],
    ids=lambda arrays: "+".join(arrays) or "empty",
)
def test_arrays_come_back_bit_for_bit_and_read_only(tmp_path, arrays):
    record = StoredRecord(arrays, {"text": "ü\ud800", "list": [1, 2.5, None, True], "deep": {"x": {"y": 1e-300}}})
    with store_at(tmp_path) as store:
        assert store.put(key_of(1), record)
        assert same(store.get(key_of(1)), record)
    with store_at(tmp_path) as again:
        found = again.get(key_of(1))
        assert same(found, record)
        assert not any(array.flags.writeable for array in found.arrays.values())


def test_a_later_record_replaces_an_earlier_one_and_its_file(tmp_path):
    with store_at(tmp_path) as store:
        store.put(key_of(1), record_of(1))
        store.put(key_of(1), record_of(2))
        assert same(store.get(key_of(1)), record_of(2))
        assert store.info().entries == 1
    assert len(list((tmp_path / "tensors").rglob("*.val"))) == 1


@pytest.mark.parametrize("key", ["", "ab" * 31, "AB" * 32, "g" * 64, "a" * 64 + "\n", "../" + "a" * 61, b"a" * 64, 7])
def test_only_sha256_keys_are_taken(tmp_path, key):
    with store_at(tmp_path) as store:
        with pytest.raises(StoreError, match="sha256"):
            store.get(key)
        with pytest.raises(StoreError, match="sha256"):
            store.put(key, record_of(1))


@pytest.mark.parametrize(
    ("arrays", "metadata"),
    [
        ({"a": np.zeros(2, dtype=np.float16)}, {}),
        ({"a": np.zeros(2, dtype=">f4")}, {}),
        ({"a": np.array([None])}, {}),
        ({"a": np.array(["text"])}, {}),
        ({"a": [1.0, 2.0]}, {}),
        ({1: np.zeros(2)}, {}),
        ({"__metadata__": np.zeros(2)}, {}),
        ({"\ud800": np.zeros(2)}, {}),
        ({}, {"x": math.nan}),
        ({}, {"x": object()}),
        ({}, {"x": np.float32(1)}),
    ],
)
def test_what_cannot_be_kept_is_refused_at_once(tmp_path, arrays, metadata):
    with store_at(tmp_path) as store:
        with pytest.raises(StoreError) as caught:
            store.put(key_of(1), StoredRecord(arrays, metadata))
        assert "\n" not in str(caught.value)
        assert store.info().entries == 0


def test_the_folder_its_parents_and_files_are_private(tmp_path):
    before = os.umask(0)
    try:
        folder = filled(tmp_path / "new" / "parent")
    finally:
        os.umask(before)
    made = [tmp_path / "new", tmp_path / "new" / "parent", folder]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}
    assert stat.S_IMODE(entry_file(folder, key_of(0)).stat().st_mode) == 0o600


def test_an_entry_copied_under_another_key_is_a_miss(tmp_path):
    folder = filled(tmp_path, 2)
    shutil.copyfile(entry_file(folder, key_of(0)), entry_file(folder, key_of(1)))
    with store_at(tmp_path) as store:
        assert store.get(key_of(1)) is None
        assert same(store.get(key_of(0)), record_of(0))
        assert store.verify().bad == ((key_of(1), "it was stored under another key"),)


@pytest.mark.parametrize("where", [0, 9, 20, 44, 60, 200, -1])
def test_a_flipped_bit_is_a_miss(tmp_path, where):
    path = entry_file(filled(tmp_path), key_of(0))
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    with store_at(tmp_path) as store:
        assert store.get(key_of(0)) is None
        assert store.info().healthy
        assert store.put(key_of(0), record_of(0))
        assert same(store.get(key_of(0)), record_of(0))


@pytest.mark.parametrize("size", [0, 7, 43, 44, 52, 400, 5000])
def test_a_file_of_another_length_is_a_miss(tmp_path, size):
    path = entry_file(filled(tmp_path), key_of(0))
    os.truncate(path, size)
    with store_at(tmp_path) as store:
        assert store.get(key_of(0)) is None


def test_a_deleted_file_is_a_miss(tmp_path):
    entry_file(filled(tmp_path), key_of(0)).unlink()
    with store_at(tmp_path) as store:
        assert store.get(key_of(0)) is None


@pytest.mark.parametrize("note", ["[" * 100_000, "{}", "[]", "null", '{"key": 1}', '{"key": "K", "metadata": []}'])
def test_a_well_formed_file_with_a_strange_header_is_a_miss(tmp_path, note):
    path = entry_file(filled(tmp_path), key_of(0))
    header = json.dumps({"__metadata__": {"quantviz": note.replace("K", key_of(0))}}).encode()
    payload = len(header).to_bytes(8, "little") + header
    path.write_bytes(b"quantviz" + (1).to_bytes(4, "little") + hashlib.sha256(payload).digest() + payload)
    with store_at(tmp_path) as store:
        assert store.get(key_of(0)) is None


# --- nothing in the folder is trusted ---


def plant_pickle(folder: Path, key: str, marker: Path, place: str) -> None:
    bomb = pickle.dumps(Bomb(marker))
    if place == "file":
        entry_file(folder, key).write_bytes(bomb)
        sql(folder, "UPDATE Cache SET mode = 4 WHERE key = ?", key)
    elif place == "value":
        sql(folder, "UPDATE Cache SET mode = 4, filename = NULL, value = ? WHERE key = ?", bomb, key)
    else:
        sql(folder, "INSERT INTO Cache (key, raw, store_time, size, mode, value) VALUES (?, 0, 1, 0, 4, ?)", bomb, bomb)


@pytest.mark.parametrize("place", ["file", "value", "key"])
def test_a_planted_pickle_is_never_run(tmp_path, place):
    folder, marker = filled(tmp_path, 2), tmp_path / "executed"
    plant_pickle(folder, key_of(0), marker, place)
    copy = shutil.copytree(folder, tmp_path / "copy")

    with store_at(tmp_path) as store:
        assert (store.get(key_of(0)) is None) == (place != "key")
        report = store.verify()
        assert (report.checked, len(report.bad)) == (2 + (place == "key"), 1)
        assert store.put(key_of(0), record_of(5))
        assert same(store.get(key_of(0)), record_of(5))
        store.verify(repair=True)
        assert store.clear() == 2
    assert not marker.exists()

    with diskcache.Cache(str(copy)) as stock:  # the same folder in plain diskcache: the bomb is a real one
        stock.get(key_of(0))
        list(stock)
    assert marker.exists()


def test_planted_settings_change_nothing(tmp_path):
    folder, elsewhere, marker = filled(tmp_path), tmp_path / "elsewhere", tmp_path / "executed"
    elsewhere.mkdir()
    planted = {
        "size_limit": 1,
        "cull_limit": 1000,
        "eviction_policy": "none; DROP TABLE Cache",
        "statistics": 1,
        "disk_pickle_protocol": pickle.dumps(Bomb(marker)),
        "disk_min_file_size": 10**9,
        "disk__directory": str(elsewhere),
        "_directory": str(elsewhere),
        "_disk": "x",
        "close": 0,
        "sqlite_journal_mode": "off",
        "sqlite_writable_schema": 1,
        "sqlite_user_version = 77 --": 1,
        "count": "many",
        "size": -(10**15),
    }
    for name, value in planted.items():
        sql(folder, "INSERT OR REPLACE INTO Settings VALUES (?, ?)", name, value)
    with store_at(tmp_path) as store:
        assert same(store.get(key_of(0)), record_of(0))
        assert store.put(key_of(1), record_of(1))
        assert store.info().entries == 2
        assert 0 < store.info().bytes < 10**6
        assert (store.info().size_limit, store.info().policy) == (4 * 2**30, "least-recently-stored")
        # Planted while the store is open: a thread's new connection reads nothing of it either.
        sql(folder, "INSERT OR REPLACE INTO Settings VALUES ('sqlite_user_version', 78)")
        sql(folder, "INSERT OR REPLACE INTO Settings VALUES ('size_limit', 1)")
        sql(folder, "UPDATE Settings SET value = value + 0.5 WHERE key IN ('size', 'count')")
        kept = []
        thread = threading.Thread(target=lambda: kept.append(store.put(key_of(2), record_of(2))))
        thread.start()
        thread.join()
        assert kept == [True]
        assert store.info().entries == 3
        assert store.verify().good == 3
    assert sql(folder, "PRAGMA user_version") == [(0,)]
    assert not any(elsewhere.iterdir())
    assert not marker.exists()


def test_settings_of_impossible_types_are_damage(tmp_path):
    folder = filled(tmp_path)
    sql(folder, "INSERT INTO Settings VALUES (?, ?)", b"\xff", 1)
    with store_at(tmp_path) as store:
        assert store.put(key_of(1), record_of(1))
        assert len(store.info().set_aside) == 1


def planted_file(kind: str, tmp_path: Path, folder: Path) -> tuple[str, Path]:
    """Plant a good record outside the folder, and a way to it inside; return its name in the row and the file."""
    inside = entry_file(folder, key_of(0))
    outside = tmp_path / "outside" / inside.parent.name / inside.name
    outside.parent.mkdir(parents=True)
    shutil.move(inside, outside)
    name = inside.relative_to(folder).as_posix()
    if kind == "absolute":
        name = str(outside)
    elif kind == "dotted":
        name = os.path.relpath(outside, folder)
    elif kind == "dotted twice":
        name = f"../../{outside.relative_to(folder.parent.parent)}"
    elif kind == "absolute after folders":
        name = f"{name[:6]}{outside}"
    elif kind == "dotted inside":
        name = f"{name[:2]}/../{name}"
    elif kind == "file link":
        inside.symlink_to(outside)
    elif kind == "folder link":
        inside.parent.rmdir()
        inside.parent.parent.rmdir()
        inside.parent.parent.symlink_to(tmp_path / "outside")
    elif kind == "second folder link":
        inside.parent.rmdir()
        inside.parent.symlink_to(outside.parent)
    elif kind == "pipe":
        os.mkfifo(inside)
    elif kind == "folder":
        inside.mkdir()
    elif kind == "blob":
        name = name.encode()  # type: ignore[assignment]
    return name, outside


@pytest.mark.parametrize("after", ["overwrite", "repair", "clear", "evict"])
@pytest.mark.parametrize(
    "kind",
    [
        "absolute",
        "absolute after folders",
        "dotted",
        "dotted twice",
        "dotted inside",
        "file link",
        "folder link",
        "second folder link",
        "pipe",
        "folder",
        "blob",
    ],
)
def test_a_row_reaches_no_file_outside(tmp_path, kind, after):
    folder = filled(tmp_path)
    name, outside = planted_file(kind, tmp_path, folder)
    content = outside.read_bytes()
    sql(folder, "UPDATE Cache SET filename = ? WHERE key = ?", name, key_of(0))
    if after == "evict":
        sql(folder, "UPDATE Cache SET size = 2000000 WHERE key = ?", key_of(0))
    with store_at(tmp_path, size_limit=2**20 if after == "evict" else 2**30) as store:
        assert store.get(key_of(0)) is None
        if after == "overwrite":
            assert store.put(key_of(0), record_of(3))
            assert same(store.get(key_of(0)), record_of(3))
        elif after == "repair":
            assert store.verify(repair=True).bad[0][0] == key_of(0)
        elif after == "clear":
            assert store.clear() == 1
        else:
            assert store.put(key_of(1), record_of(1))
            assert store.info().entries == 1
        if after != "overwrite":
            assert store.get(key_of(0)) is None
    assert outside.read_bytes() == content


@pytest.mark.parametrize(
    "change",
    [
        "mode = 1, filename = NULL, value = x'00'",
        "mode = 2, value = 'text'",
        "mode = 3",
        "mode = 0",
        "mode = 'x'",
        "mode = NULL",
        "filename = NULL",
        "filename = 3.5",
        "filename = CAST(x'ff2f' AS TEXT)",
        "expire_time = 1",
        "store_time = 'x', size = 'y', access_count = x'00', tag = x'80'",
    ],
)
def test_a_row_of_another_kind_is_a_miss_and_can_be_replaced(tmp_path, change):
    folder = filled(tmp_path, 2)
    sql(folder, f"UPDATE Cache SET {change} WHERE key = ?", key_of(0))
    with store_at(tmp_path) as store:
        found = store.get(key_of(0))
        assert found is None or same(found, record_of(0))
        assert (found is None) == ("store_time" not in change)
        assert same(store.get(key_of(1)), record_of(1))
        assert store.put(key_of(0), record_of(7))
        assert same(store.get(key_of(0)), record_of(7))
        assert store.info().set_aside == ()


@pytest.mark.parametrize("name", ["cache.db", "cache.db-journal"])
def test_a_database_that_is_a_link_is_not_followed(tmp_path, name):
    folder, outside = filled(tmp_path), tmp_path / "outside.db"
    outside.write_bytes(b"")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    with store_at(tmp_path) as store:
        assert store.put(key_of(1), record_of(1))
        assert same(store.get(key_of(1)), record_of(1))
    assert outside.read_bytes() == b""


# --- damage, locks, full and read-only disks ---


def garbage(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(20_000))


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
            assert time.monotonic() - start < 6
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


def run_script(script: str, *arguments: object, **environment: str) -> str:
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    environ = {"PYTHONPATH": str(PACKAGE.parent), "PATH": os.environ["PATH"]} | environment
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


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


# --- size limit ---


def test_the_oldest_records_go_first_and_no_more_than_needed(tmp_path):
    one = record_of(0, side=224)
    size = one.arrays["map"].nbytes
    with store_at(tmp_path, size_limit=2**20) as store:
        for seed in range(8):
            assert store.put(key_of(seed), record_of(seed, side=224))
            assert same(store.get(key_of(seed)), record_of(seed, side=224)), "the newest must survive its own put"
        info = store.info()
        assert 2**20 - 2 * size < info.bytes <= 2**20
        kept = [seed for seed in range(8) if store.get(key_of(seed))]
        assert kept == list(range(8 - info.entries, 8))
        assert info.entries >= 3
        files = list((tmp_path / "tensors").rglob("*.val"))
        assert len(files) == info.entries


def test_a_later_limit_replaces_the_one_in_the_database(tmp_path):
    with store_at(tmp_path) as store:
        for seed in range(8):
            store.put(key_of(seed), record_of(seed, side=224))
        assert store.info().entries == 8
    with store_at(tmp_path, size_limit=2**20) as store:
        assert store.info().bytes <= 2**20
        assert store.info().size_limit == 2**20
        assert store.get(key_of(7))
    with store_at(tmp_path, size_limit=2**22) as store:
        for seed in range(8):
            store.put(key_of(seed), record_of(seed, side=224))
        assert store.info().entries == 8


def test_a_record_too_large_for_the_limit_evicts_nothing(tmp_path):
    with store_at(tmp_path, size_limit=2**20) as store:
        assert store.put(key_of(0), record_of(0))
        assert not store.put(key_of(1), StoredRecord({"a": np.zeros(2**17)}))
        assert same(store.get(key_of(0)), record_of(0))
        assert store.info().healthy
    with pytest.raises(StoreError, match="1000 bytes"):
        TensorStore(tmp_path, size_limit=1000)


# --- verify, clear, close ---


def test_verify_names_what_is_bad_and_repair_removes_it(tmp_path):
    folder = filled(tmp_path, 6)
    entry_file(folder, key_of(0)).unlink()
    os.truncate(entry_file(folder, key_of(1)), 100)
    path = entry_file(folder, key_of(2))
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    sql(folder, "UPDATE Cache SET key = 'not a key' WHERE key = ?", key_of(3))
    generated = folder / "ab" / "cd" / f"{'e' * 28}.val"
    generated.parent.mkdir(parents=True)
    generated.write_bytes(b"left over")
    foreign = folder / "notes.txt"
    foreign.write_text("mine")
    young = generated.with_name(f"{'f' * 28}.val")
    young.write_bytes(b"in the making")
    age(generated)
    age(foreign)
    with store_at(tmp_path) as store:
        report = store.verify()
        assert (report.checked, report.good, report.removed) == (6, 2, 0)
        reasons = dict(report.bad)
        assert reasons.keys() == {key_of(0), key_of(1), key_of(2), "not a key"}
        assert "No such file" in reasons[key_of(0)]
        assert "100 bytes instead of" in reasons[key_of(1)]
        assert "digest" in reasons[key_of(2)]
        assert report.orphans == (generated, foreign)
        assert store.verify() == report
        assert store.verify(repair=True).removed == 5
        after = store.verify()
        assert (after.checked, after.good, after.bad, after.orphans) == (2, 2, (), (foreign,))
        assert young.exists()
        assert same(store.get(key_of(5)), record_of(5))


def test_verify_of_an_empty_store(tmp_path):
    with store_at(tmp_path) as store:
        report = store.verify()
        assert (report.checked, report.good, report.bad, report.orphans) == (0, 0, (), ())


def test_clear_removes_entries_leftovers_and_databases_set_aside(tmp_path):
    folder = filled(tmp_path, 3)
    garbage(folder / "cache.db")
    with store_at(tmp_path) as store:
        for seed in range(120):
            store.put(key_of(seed), record_of(seed, side=1))
        assert store.clear() == 120
        assert store.clear() == 0
        assert store.info().entries == 0
        assert store.info().set_aside == ()
    assert [path.name for path in folder.iterdir()] == ["cache.db"]


def test_a_closed_store_misses_and_says_so(tmp_path):
    store = store_at(tmp_path)
    store.put(key_of(0), record_of(0))
    store.close()
    store.close()
    assert store.get(key_of(0)) is None
    assert not store.put(key_of(0), record_of(0))
    assert "closed" in store.info().problem
    with pytest.raises(StoreError, match="closed"):
        store.clear()


# --- threads and processes ---


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
    with TensorStore(Path(folder), timeout=10) as store:
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
    outcomes = [results.get(timeout=60) for _ in workers]
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
from quantviz.store import TensorStore
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


# --- where it lies ---


def test_default_directory_follows_the_environment_first(monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTVIZ_CACHE", str(tmp_path / "chosen"))
    assert default_directory() == tmp_path / "chosen"
    assert not (tmp_path / "chosen").exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("QUANTVIZ_CACHE", "~/mine")
    assert default_directory() == tmp_path / "mine"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUANTVIZ_CACHE", "relative")
    assert default_directory() == tmp_path / "relative"


@pytest.mark.parametrize("value", ["", None])
def test_default_directory_of_a_checkout(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("QUANTVIZ_CACHE", raising=False)
    else:
        monkeypatch.setenv("QUANTVIZ_CACHE", value)
    assert default_directory() == PACKAGE.parent / "cache"


def test_default_directory_of_an_installed_package(tmp_path):
    installed = tmp_path / "site-packages" / "quantviz"
    shutil.copytree(PACKAGE / "store", installed / "store", ignore=shutil.ignore_patterns("__pycache__"))
    (installed / "__init__.py").write_text("")
    shutil.copytree(PACKAGE / "specs", installed / "specs", ignore=shutil.ignore_patterns("__pycache__"))
    script = "from quantviz.store import default_directory; print(default_directory())"
    home, caches, python = str(tmp_path / "home"), str(tmp_path / "caches"), str(installed.parent)
    for environment, expected in (
        ({"XDG_CACHE_HOME": caches}, f"{caches}/quantviz"),
        ({"XDG_CACHE_HOME": "relative"}, f"{home}/.cache/quantviz"),
        ({}, f"{home}/.cache/quantviz"),
    ):
        assert run_script(script, HOME=home, PYTHONPATH=python, **environment).strip() == expected
