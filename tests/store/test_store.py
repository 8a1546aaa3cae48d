"""The tensor store on real folders: what comes back, how large it grows, and where it lies."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
import time
from pathlib import Path

import numpy as np
import pytest
from store_support import PACKAGE, entry_file, filled, garbage, key_of, record_of, run_script, same, sql, store_at

from quantviz.specs import StoredRecord, StoreError
from quantviz.store import TensorStore, default_directory


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
        assert "digest" in reasons[key_of(1)]
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


# --- what is written later ---


def test_what_is_written_later_is_read_at_once_and_there_for_the_next_store(tmp_path):
    with store_at(tmp_path) as store:
        for number in range(40):  # more than wait at a time
            store.put_later(key_of(number), record_of(number))
            assert same(store.get(key_of(number)), record_of(number))
        store.put_later(key_of(0), record_of(77))
        assert same(store.get(key_of(0)), record_of(77))
        assert store.info().entries == 40
        store.put_later(key_of(40), record_of(40))
    with store_at(tmp_path) as again:
        assert same(again.get(key_of(0)), record_of(77))
        assert same(again.get(key_of(40)), record_of(40))
        assert again.info().entries == 41
        assert again.verify().good == 41


def test_clearing_leaves_nothing_that_was_to_be_written_later(tmp_path):
    with store_at(tmp_path) as store:
        store.put_later(key_of(1), record_of(1))
        assert store.clear() == 1
        assert store.get(key_of(1)) is None


def test_a_closed_store_keeps_nothing_later(tmp_path):
    store = store_at(tmp_path)
    store.close()
    store.put_later(key_of(1), record_of(1))
    assert store.get(key_of(1)) is None
    with pytest.raises(StoreError, match="sha256"):
        store.put_later("name", record_of(1))


def test_a_disk_that_takes_nothing_is_told_of_and_stops_nobody(tmp_path):
    (tmp_path / "tensors").write_text("a file where the folder belongs")
    with TensorStore(tmp_path / "tensors") as store:
        store.put_later(key_of(1), record_of(1))
        assert not store.info().healthy
        assert store.get(key_of(1)) is None


AT_EXIT = """
import atexit, pathlib, sys
from quantviz.specs import StoredRecord
from quantviz.store import TensorStore

def last():
    store.put_later("2" * 64, StoredRecord({}, {"n": 2}))
    store.close()

store = TensorStore(pathlib.Path(sys.argv[1]))
atexit.register(last)
store.put_later("1" * 64, StoredRecord({}, {"n": 1}))
"""


def test_what_comes_while_python_exits_is_written_too(tmp_path):
    run_script(AT_EXIT, tmp_path / "tensors")
    with store_at(tmp_path) as store:
        assert [store.get(digit * 64).metadata["n"] for digit in "12"] == [1, 2]
