"""The workbenches of this process: one for each cache folder, so that networks stay loaded from call to call."""

from __future__ import annotations

import atexit
import threading
from pathlib import Path

from quantviz.comparison import Workbench
from quantviz.store import TensorStore, default_directory

_BENCHES: dict[Path, Workbench] = {}
_GUARD = threading.Lock()


def workbench(cache: str | Path | None) -> Workbench:
    """Return the workbench on a cache folder, or on the default one.

    Args:
        cache: the folder, ``QUANTVIZ_CACHE`` or the default one if None. Its store is the one that `quantviz` uses.
    """
    folder = (Path(cache).expanduser() if cache is not None else default_directory()).absolute() / "tensors"
    with _GUARD:
        if folder not in _BENCHES:
            _BENCHES[folder] = Workbench(TensorStore(folder))
        return _BENCHES[folder]


@atexit.register
def _close() -> None:
    for bench in _BENCHES.values():
        bench.store.close()
