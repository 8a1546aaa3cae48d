"""The tensor store trusts nothing in its folder."""

from __future__ import annotations

import os
import pickle
import shutil
import threading
from pathlib import Path

import diskcache
import pytest
from store_support import entry_file, filled, key_of, record_of, same, sql, store_at


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


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
    with store_at(tmp_path, size_limit=2**20 if after == "evict" else 2**30, timeout=30) as store:
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
