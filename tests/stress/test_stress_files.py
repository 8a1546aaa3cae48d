"""The short form of ``make stress-files``: some files of every kind, kills and tampering; no time is judged."""

import random

import faults
import files
import hostile


def test_some_hostile_files_are_refused_or_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_SECONDS", 1e9)
    chance = random.Random(5)
    some = [*hostile.pictures(chance, 40, large=False), *hostile.others(chance, 50, large=False)]
    tally, kinds = files.read_all(some, tmp_path)
    assert tally.wrong == []
    assert tally.files == len(some)
    assert tally.refused > len(some) // 4
    assert len(kinds) > 8


def test_the_cache_bears_kills_and_tampering(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chance = random.Random(6)
    killed = faults.kills(tmp_path, chance, 2)
    tampered = faults.tamperings(tmp_path, chance, 8)
    assert killed.wrong + tampered.wrong == []
    assert (killed.done, tampered.done) == (2, 8)
