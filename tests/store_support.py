"""What the tests of the tensor store share: records, stores, and a look into their files."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np

import quantviz
from quantviz.specs import StoredRecord
from quantviz.store import TensorStore

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
    return TensorStore(path / "tensors", **{"timeout": 0.2} | options)


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


def garbage(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(20_000))


def run_script(script: str, *arguments: object, **environment: str) -> str:
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    environ = {"PYTHONPATH": str(PACKAGE.parent), "PATH": os.environ["PATH"]} | environment
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout
