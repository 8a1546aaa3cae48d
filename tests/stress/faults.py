"""The cache and studies under kills, tampering and disks that refuse: nothing lost, nothing wrong, each told."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hostile import Executed

from quantviz.specs import QuantvizError, StoredRecord, StoreError
from quantviz.store import TensorStore
from quantviz.study.folder import StudyFolder
from quantviz.study.shipped import shipped_studies

RECORDS = 12

_WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from faults import key_of, record_of
from quantviz.store import TensorStore
with TensorStore(Path({folder!r}), timeout=5) as store:
    print("open", flush=True)
    number = 0
    while True:
        store.put(key_of(number % 40), record_of(number % 40))
        number += 1
"""


@dataclass
class Counts:
    """What was done, and what was wrong."""

    done: int = 0
    told: int = 0
    wrong: list[str] = field(default_factory=list)


def key_of(number: int) -> str:
    """Return the key of a record."""
    return hashlib.sha256(f"record {number}".encode()).hexdigest()


def record_of(number: int) -> StoredRecord:
    """Return the record of a number."""
    chance = np.random.default_rng(number)
    return StoredRecord({"map": chance.random((56, 56), dtype=np.float32)}, {"number": number})


def check(folder: Path, counts: Counts, what: str, *, most: int = 40) -> int:
    """Read every record: each must be the one that was kept, or none; and the store must take one again."""
    read = 0
    with TensorStore(folder, timeout=5) as store:
        for number in range(most):
            found, kept = store.get(key_of(number)), record_of(number)
            if found is None:
                continue
            read += 1
            if found.metadata != kept.metadata or found.arrays["map"].tobytes() != kept.arrays["map"].tobytes():
                counts.wrong.append(f"{what}: record {number} is another one")
        if not store.put(key_of(most), record_of(most)) or store.get(key_of(most)) is None:
            counts.wrong.append(f"{what}: the store takes nothing ({store.info().problem})")
        counts.told += bool(store.info().problem)
    return read


def kills(place: Path, chance: random.Random, count: int) -> Counts:
    """Kill a process that writes to the cache at random moments, with SIGKILL."""
    counts, folder = Counts(), place / "killed" / "tensors"
    script = _WRITER.format(here=str(Path(__file__).parent), folder=str(folder))
    for number in range(count):
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.random() * 0.2)
            process.send_signal(signal.SIGKILL)
        counts.done += 1
        if number and not check(folder, counts, f"kill {number}"):
            counts.wrong.append(f"kill {number}: every record is lost")
    with TensorStore(folder, timeout=5) as store:
        found = store.verify()
        if found.bad:
            counts.wrong.append(f"after the kills {len(found.bad)} records are bad: {found.bad[0]}")
    return counts


def tamperings(place: Path, chance: random.Random, count: int) -> Counts:
    """Change files and rows of the cache, and plant what was never kept."""
    counts, executed = Counts(), place / "executed"
    os.chdir(place)
    for number in range(count):
        folder = place / "tampered" / "tensors"
        shutil.rmtree(folder.parent, ignore_errors=True)
        with TensorStore(folder, timeout=5) as store:
            for record in range(RECORDS):
                store.put(key_of(record), record_of(record))
        way = _tampered(folder, chance)
        check(folder, counts, f"tampering {number} ({way})", most=RECORDS)
        counts.done += 1
        if executed.exists():
            counts.wrong.append(f"tampering {number} ({way}): what was planted was run")
            executed.unlink()
    return counts


def _tampered(folder: Path, chance: random.Random) -> str:
    files = sorted(folder.rglob("*.val"))
    file, database = chance.choice(files), folder / "cache.db"
    way = chance.choice(("bit", "cut", "swapped", "gone", "link", "row", "pickle", "database", "journal", "mode"))
    if way == "bit":
        _flip(file, chance, chance.randint(1, 8))
    elif way == "cut":
        os.truncate(file, chance.randrange(file.stat().st_size))
    elif way == "swapped":
        shutil.copy(file, files[files.index(file) - 1])
    elif way == "gone":
        file.unlink()
    elif way == "link":
        file.unlink()
        file.symlink_to("/etc/passwd")
    elif way == "database":
        _flip(database, chance, 40)
    elif way == "journal":
        (folder / "cache.db-wal").write_bytes(chance.randbytes(5000))
    else:
        with closing(sqlite3.connect(database)) as planted, planted:
            if way == "row":
                planted.execute("UPDATE Cache SET filename = '/etc/passwd' WHERE rowid % 2 = 0")
            elif way == "pickle":
                planted.execute("UPDATE Cache SET mode = 4, filename = NULL, value = ?", (pickle.dumps(Executed()),))
            else:
                planted.execute("UPDATE Cache SET mode = ?, size = -1", (chance.randint(-2, 9),))
    return way


def _flip(file: Path, chance: random.Random, count: int) -> None:
    data = bytearray(file.read_bytes())
    for _ in range(count):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    file.write_bytes(data)


def disk_faults(place: Path, chance: random.Random, count: int) -> tuple[Counts, str]:
    """Let the disk be full, read-only or gone while the cache and a study are in use.

    On a small tmpfs where this process may mount one; else by a limit on the size of files.
    """
    counts, disk = Counts(), place / "disk"
    disk.mkdir()
    mounts = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounts.returncode:
        return counts, "not done: only root may mount the small disk that they need"
    try:
        for number in range(count):
            _fault(disk, chance.choice(("full", "full", "read-only", "deleted", "study")), counts, number)
    finally:
        subprocess.run(["umount", "-l", disk], check=False)
    return counts, "a tmpfs of 1 MiB: full, read-only, deleted while in use, full under a study"


def _fault(disk: Path, way: str, counts: Counts, number: int) -> None:
    for left in disk.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    what = f"fault {number} ({way})"
    counts.done += 1
    if way == "study":
        _study_on_full_disk(disk, counts, what)
        return
    folder = disk / "cache" / "tensors"
    with TensorStore(folder, timeout=1) as store:
        for record in range(3):
            store.put(key_of(record), record_of(record))
    if way == "read-only":  # before it is opened: what is open for writing keeps a disk from becoming so
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with TensorStore(folder, timeout=1) as store:
        store.get(key_of(0))
        if way == "full":
            (disk / "ballast").write_bytes(b"")
            with (disk / "ballast").open("r+b", buffering=0) as ballast:
                try:
                    while ballast.write(bytes(4096)):
                        continue
                except OSError:
                    pass
        elif way == "deleted":
            shutil.rmtree(folder)
        taken = store.put(key_of(30), record_of(30))
        problem = store.info().problem
        counts.told += bool(problem)
        if way != "deleted" and (taken or not problem):
            counts.wrong.append(f"{what}: taken {taken}, told {problem!r}")
        for record in range(3):
            found = store.get(key_of(record))
            if found is not None and found.arrays["map"].tobytes() != record_of(record).arrays["map"].tobytes():
                counts.wrong.append(f"{what}: record {record} is another one")
        if way == "read-only":
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        (disk / "ballast").unlink(missing_ok=True)
        deadline = time.monotonic() + 60  # it rests for some seconds after trouble
        while not store.put(key_of(31), record_of(31)) and time.monotonic() < deadline:
            time.sleep(0.2)
        if store.get(key_of(31)) is None:
            counts.wrong.append(f"{what}: it does not come back ({store.info().problem})")


def _study_on_full_disk(disk: Path, counts: Counts, what: str) -> None:
    plan = StudyFolder(next(iter(shipped_studies().values()))).plan()
    assert plan is not None
    folder = StudyFolder(disk / "study")
    (disk / "ballast").write_bytes(bytes((1 << 20) - (24 << 10)))
    try:
        with folder.locked():
            folder.begin(plan)
        counts.wrong.append(f"{what}: a plan was written to a full disk")
    except StoreError as error:
        counts.told += "cannot be written" in str(error)
    if folder.plan() is not None:
        counts.wrong.append(f"{what}: half a plan is left")
    (disk / "ballast").unlink()
    try:
        with folder.locked():
            folder.begin(plan)
        if folder.plan() != plan:
            counts.wrong.append(f"{what}: another plan is read")
    except QuantvizError as error:
        counts.wrong.append(f"{what}: it does not come back ({error})")
