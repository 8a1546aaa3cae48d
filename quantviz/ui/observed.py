"""What the server has done and does: counters for Prometheus, and the log as JSON."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

_BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Upper bounds of the latencies' buckets, seconds."""


class Observed:
    """Counters, gauges and latencies; any number of threads may share it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._gauges: dict[str, float] = {}
        self._buckets: dict[str, Counter[float]] = {}
        self._sums: dict[str, float] = {}

    def count(self, name: str) -> None:
        """Add one to a counter; its name holds its labels, ``comparisons_total{cache="hit"}`` say."""
        with self._guard:
            self._counts[name] += 1

    def set(self, name: str, value: float) -> None:
        """Set a gauge."""
        with self._guard:
            self._gauges[name] = value

    def add(self, name: str, change: float) -> None:
        """Add to a gauge."""
        with self._guard:
            self._gauges[name] = self._gauges.get(name, 0.0) + change

    def gauge(self, name: str) -> float:
        """Return a gauge, 0 where nobody has set it."""
        with self._guard:
            return self._gauges.get(name, 0.0)

    def took(self, name: str, seconds: float) -> None:
        """Add a latency, in seconds, to a histogram."""
        with self._guard:
            bound = next((bound for bound in _BOUNDS if seconds <= bound), float("inf"))
            self._buckets.setdefault(name, Counter())[bound] += 1
            self._sums[name] = self._sums.get(name, 0.0) + seconds

    def text(self) -> str:
        """Return everything in Prometheus' text format."""
        with self._guard:
            counts, gauges = dict(self._counts), dict(self._gauges)
            buckets = {name: Counter(found) for name, found in self._buckets.items()}
            sums = dict(self._sums)
        lines: list[str] = []
        for kind, values in (("counter", counts), ("gauge", gauges)):
            families: set[str] = set()
            for name, value in sorted(values.items()):
                family = f"quantviz_{name.partition('{')[0]}"
                if family not in families:
                    families.add(family)
                    lines.append(f"# TYPE {family} {kind}")
                lines.append(f"quantviz_{name} {value:g}")
        for name, found in sorted(buckets.items()):
            lines.append(f"# TYPE quantviz_{name} histogram")
            below = 0
            for bound in (*_BOUNDS, float("inf")):
                below += found[bound]
                label = "+Inf" if bound == float("inf") else f"{bound:g}"
                lines.append(f'quantviz_{name}_bucket{{le="{label}"}} {below}')
            lines += [f"quantviz_{name}_sum {sums[name]:g}", f"quantviz_{name}_count {below}"]
        return "\n".join(lines) + "\n"


OBSERVED: Final = Observed()
"""Of this process."""


def resident_bytes() -> int:
    """Return the memory that this process has resident, in bytes; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class JsonLines(logging.Formatter):
    """Formats a record as a JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line: time (UTC), level, logger, message, what ``extra`` holds under ``told``, and a traceback."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "told", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
