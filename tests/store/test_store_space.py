"""What takes space, and folders that others could have put records into."""

import os

import pytest
from store_support import filled, garbage, key_of, record_of, same, store_at

from quantviz.store import space_taken


def test_each_thing_that_takes_space_is_told_with_what_becomes_of_it(tmp_path):
    filled(tmp_path, 3)
    for name in ("one", "two"):
        (tmp_path / "studies" / name / "pieces").mkdir(parents=True)
        (tmp_path / "studies" / name / "plan.json").write_bytes(bytes(200_000))
    (tmp_path / "studies" / "one" / "pieces" / "000000.parquet").write_bytes(bytes(500_000))
    (tmp_path / "studies" / "link").symlink_to("/usr")
    (tmp_path / "weights").mkdir()
    rows = {row.what: row for row in space_taken(tmp_path, tmp_path / "nowhere", 4 << 30)}
    assert list(rows)[:2] == ["study one", "study two"]
    assert rows["study one"].files == 2
    assert 700_000 <= rows["study one"].bytes < 750_000
    assert rows["study one"].kept == "until you delete it"
    assert rows["maps and results"].kept == "up to 4096 MiB, the oldest go first"
    assert "study link" not in rows
    assert rows["maps and results"].files >= 4


def test_databases_set_aside_are_told(tmp_path):
    folder = filled(tmp_path, 1)
    garbage(folder / "cache.db")
    with store_at(tmp_path) as store:
        assert store.info().set_aside
    kept = {row.what: row.kept for row in space_taken(tmp_path, tmp_path / "none", 1 << 30)}
    assert kept["damaged databases set aside, counted above, too"] == "until `quantviz cache clear`"


def test_a_folder_of_another_user_is_not_believed(tmp_path, monkeypatch):
    folder = filled(tmp_path, 1)
    owner = os.stat(folder).st_uid
    if os.geteuid() == 0:  # root may use anybody's folder; so pose as two others
        os.chown(folder, 12345, -1)
        owner = 12345
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    with store_at(tmp_path) as store:
        assert store.get(key_of(0)) is None
        assert not store.put(key_of(1), record_of(1))
        assert f"belongs to user {owner}" in store.info().problem
        assert "QUANTVIZ_CACHE" in store.info().problem


@pytest.mark.parametrize(("mode", "believed"), [(0o777, False), (0o1777, True), (0o775, True)])
def test_a_folder_that_all_may_write_to_is_not_believed(tmp_path, mode, believed):
    folder = filled(tmp_path, 1)
    folder.chmod(mode)
    with store_at(tmp_path) as store:
        assert same(store.get(key_of(0)), record_of(0)) is believed
        assert ("all users may write" in store.info().problem) is not believed
