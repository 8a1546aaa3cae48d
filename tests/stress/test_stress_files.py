"""The short form of ``make stress-files``: some files of every kind, kills and tampering; no time is judged."""

import random
from itertools import islice

import faults
import files
import hostile

QUICK = {"bits", "card", "classes", "plan", "bundle", "synset"}


def test_some_hostile_files_are_refused_or_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_SECONDS", 1e9)
    chance = random.Random(5)
    pictures = (file for file in hostile.pictures(chance, 80) if len(file[1]) < 20_000)
    others = (file for file in hostile.others(chance, 90) if file[0] in QUICK or len(file[1]) < 20_000)
    small = [*islice(pictures, 3, 50), *islice(others, 50)]
    tally, kinds = files.read_all(small, tmp_path)
    assert tally.wrong == []
    assert tally.files == len(small)
    assert tally.refused > len(small) // 4
    assert len(kinds) > 8


def test_the_cache_bears_kills_and_tampering(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chance = random.Random(6)
    killed = faults.kills(tmp_path, chance, 2)
    tampered = faults.tamperings(tmp_path, chance, 8)
    assert killed.wrong + tampered.wrong == []
    assert (killed.done, tampered.done) == (2, 8)
