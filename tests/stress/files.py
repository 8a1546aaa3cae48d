"""Strangers' files, kills, tampering and faults of the disk, counted; ``make stress-files`` runs it.

``python tests/stress/files.py --pictures 1000 --others 500 --kills 100 --tamperings 200 --faults 20 --write PAGE.md``
ends with status 1 where anything was wrong. Time is judged as processor time: on a busy machine the clock shows what
others do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import faults
import hostile

MOST_SECONDS = 5.0
MOST_BYTES = 300 << 20
_HANG = 900.0
_HERE = Path(__file__).parent


@dataclass
class Tally:
    """What a kind of files came to.

    Attributes:
        files: how many were given.
        wall: the longest answer, in seconds.
        cpu: the most processor time of one.
        peak: the most memory over idle, in bytes.
        refused: how many were refused in a sentence.
        wrong: what was not as it should be.
    """

    files: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    peak: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)


class Reader:
    """The process of ``readers.py``; a new one where it has ended."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.process: subprocess.Popen[str] | None = None

    def judged(self, kind: str, path: Path) -> dict[str, Any]:
        """Return what the process says of a file; that it hung or ended counts as wrong."""
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                [sys.executable, str(_HERE / "readers.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=self.place,
                text=True,
                env={**os.environ, "TMPDIR": str(self.place), "OMP_NUM_THREADS": "1"},
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"kind": kind, "path": str(path)}) + "\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], _HANG)
        line = self.process.stdout.readline() if ready else ""
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        how = "ended" if ready else f"gave no answer within {_HANG:g} s"
        self.process.wait()
        return {
            "wall": _HANG,
            "cpu": 0.0,
            "peak": 0,
            "wrong": f"the process {how} ({self.process.returncode})",
            "said": "",
        }

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            with self.process:  # which closes its pipes, at whose end it ends
                pass


def read_all(files: Iterable[hostile.File], place: Path, keep: Path | None = None) -> tuple[Tally, Counter[str]]:
    """Give files to the readers; return what came of them, and how many of each kind there were."""
    tally, kinds, reader = Tally(), Counter[str](), Reader(place)
    for number, (kind, data) in enumerate(files):
        path = place / f"{number:05d}-{kind}"
        path.write_bytes(data)
        found = reader.judged(kind, path)
        tally.files += 1
        kinds[kind] += 1
        tally.refused += bool(found["said"])
        tally.wall, tally.cpu = max(tally.wall, found["wall"]), max(tally.cpu, found["cpu"])
        tally.peak = max(tally.peak, found["peak"])
        wrong = found["wrong"]
        if found["cpu"] > MOST_SECONDS:
            wrong += f" took {found['cpu']:.1f} s of processor time"
        if found["peak"] > MOST_BYTES:
            wrong += f" took {found['peak'] >> 20} MiB"
        if (place / "executed").exists():
            wrong += " was executed"
            (place / "executed").unlink()
        if wrong:
            tally.wrong.append(f"{path.name}: {wrong.strip()}")
            if keep is not None:
                (keep / path.name).write_bytes(data)
        path.unlink(missing_ok=True)
    reader.close()
    return tally, kinds


def main() -> None:
    """Run it, print a table, and end with status 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, count in (("pictures", 1000), ("others", 500), ("kills", 100), ("tamperings", 200), ("faults", 20)):
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="leave out the handmade files that take much")
    parser.add_argument("--write", type=Path, help="the documentation's page that is to have the results")
    parser.add_argument("--keep", type=Path, help="a folder for the files that something was wrong with")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    if options.keep:
        options.keep.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="quantviz-stress-") as name:
        place = Path(name)
        began = time.monotonic()
        read = {
            "pictures": read_all(
                hostile.pictures(chance, options.pictures, large=not options.small), place, options.keep
            ),
            "other files": read_all(
                hostile.others(chance, options.others, large=not options.small), place, options.keep
            ),
        }
        killed = faults.kills(place, chance, options.kills)
        tampered = faults.tamperings(place, chance, options.tamperings)
        faulty, how = faults.disk_faults(place, chance, options.faults)
        seconds = time.monotonic() - began
    done = {
        "kill -9 of a writer of the cache": killed,
        "tamperings with the cache": tampered,
        f"disk faults ({how})": faulty,
    }
    page = table(read, done, options.seed, seconds)
    print(page)
    if options.write:
        text = options.write.read_text("utf-8")
        start = text.index("<!-- results -->") + len("<!-- results -->")
        options.write.write_text(f"{text[:start]}\n\n{page}", "utf-8")
    wrong = [line for tally, _ in read.values() for line in tally.wrong]
    wrong += [line for counts in done.values() for line in counts.wrong]
    print("\n".join(wrong), file=sys.stderr)
    sys.exit(bool(wrong))


def table(
    read: dict[str, tuple[Tally, Counter[str]]], done: dict[str, faults.Counts], seed: int, seconds: float
) -> str:
    """Return the results in Markdown."""
    lines = [
        f"Seed {seed}; {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; "
        f"{seconds / 60:.0f} minutes on {time.strftime('%d %B %Y')}.",
        "",
        "| files | how many | refused in a sentence | most processor time | longest answer | peak over idle | wrong |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for what, (tally, kinds) in read.items():
        of = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        lines.append(
            f"| {what} ({of}) | {tally.files} | {tally.refused} | {tally.cpu:.1f} s | {tally.wall:.1f} s | "
            f"{tally.peak / 2**20:.0f} MiB | {len(tally.wrong)} |"
        )
    lines += ["", "| what was done | times | told | wrong |", "| --- | --- | --- | --- |"]
    lines += [f"| {what} | {counts.done} | {counts.told} | {len(counts.wrong)} |" for what, counts in done.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
