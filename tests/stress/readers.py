"""One process that gives strangers' files to the readers and watches itself: time, memory, what is run and opened.

``python tests/stress/readers.py`` reads lines of JSON from standard input, ``{"kind": ..., "path": ...}``, and answers
each by a line: seconds, processor time (of its children, too), peak of memory over idle, and whatever was wrong.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from quantviz import images, truth
from quantviz.images.libtiff import is_hushed
from quantviz.layerwise.bits_file import read_bits
from quantviz.networks import checkpoint_file
from quantviz.networks.card import read_card
from quantviz.networks.classes import names_of_file
from quantviz.specs import QuantvizError
from quantviz.study.bundle import opened
from quantviz.study.folder import StudyFolder
from quantviz.study.labels import table_labels
from quantviz.study.published import read_attribution
from quantviz.study.results import Results
from quantviz.study.tables import BROKEN

SIZE = (480, 640)
_OWN_CHILD = "quantviz.images.decoder"


def _rows(path: Path) -> None:
    try:
        Results(path)
    except BROKEN:  # which the study's folder turns into a sentence
        return


def _plan(path: Path) -> None:
    folder = path.with_suffix(".study")
    folder.mkdir()
    path.rename(folder / "plan.json")
    StudyFolder(folder).plan()


def _bundle(path: Path) -> None:
    with opened(path):
        pass


READERS: dict[str, Callable[[Path], object]] = {
    "picture": lambda path: images.load(path.read_bytes(), name=path.name),
    "map": lambda path: images.read_map(path),
    "fixations": lambda path: truth.read_fixations(path.read_bytes(), SIZE, image="cat.jpg"),
    "boxes": lambda path: truth.read_boxes(path.read_bytes(), SIZE, image="cat.jpg"),
    "synset": lambda path: truth.object_synset(path),
    "bits": lambda path: read_bits(path.read_bytes(), path.name, "squeezenet1_1"),
    "attribution": lambda path: read_attribution(path.read_bytes(), path.name),
    "card": lambda path: read_card(path),
    "labels": lambda path: table_labels(path, path.parent, [path.parent / "cat.jpg"], ["cat", "dog"]),
    "classes": lambda path: names_of_file(path),
    "weights": lambda path: checkpoint_file.tensors_of(path.read_bytes(), path.name, 64 << 20, "", [], []),
    "plan": _plan,
    "rows": _rows,
    "bundle": _bundle,
}


class Watch:
    """Notes what is opened outside the given roots, and what is run, while it is armed."""

    def __init__(self, roots: list[str]) -> None:
        self.roots = tuple(os.path.realpath(root) for root in roots)
        self.armed = False
        self.seen: list[str] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, values: tuple[Any, ...]) -> None:
        """Note an event of the interpreter."""
        if not self.armed:
            return
        if event == "open" and isinstance(values[0], str | bytes):
            place = os.path.realpath(os.fsdecode(values[0]))
            if not place.startswith(self.roots):
                self.seen.append(f"opened {place[:200]}")
        elif event == "subprocess.Popen":
            if _OWN_CHILD not in str(values[1]):
                self.seen.append(f"ran {str(values[1])[:200]}")
        elif event in ("os.system", "os.exec", "os.posix_spawn", "socket.connect", "ctypes.dlopen"):
            self.seen.append(f"{event} {str(values)[:200]}")
        elif event == "pickle.find_class" and values[0] not in ("collections", "torch._utils", "torch"):
            self.seen.append(f"unpickled {values}")


def memory(field: str) -> int:
    """Return a figure of this process's memory in bytes: ``VmRSS`` or ``VmHWM``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) << 10
    return 0


def spent() -> float:
    """Return the processor time of this process and of its children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def judged(kind: str, path: Path, watch: Watch, idle: int) -> dict[str, Any]:
    """Give one file to its reader; return what was seen."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    wall, cpu, wrong, said = time.monotonic(), spent(), "", ""
    watch.seen, watch.armed = [], True
    try:
        READERS[kind](path)
    except QuantvizError as error:
        said = str(error)
        if "\n" in said or len(said) > 5000:
            wrong = f"the message is of {len(said)} signs: {said[:200]}"
    except BaseException:
        wrong = traceback.format_exc()[-1500:]
    watch.armed = False
    if watch.seen:
        wrong += "; ".join(watch.seen[:3])
    return {
        "wall": time.monotonic() - wall,
        "cpu": spent() - cpu,
        "peak": memory("VmHWM") - idle,
        "wrong": wrong,
        "said": said[:200],
    }


def warm() -> None:
    """Let everything be imported that readers import when they are first used."""
    images.bundled("coffee")
    is_hushed()
    for reader in (READERS["bits"], READERS["weights"], READERS["card"]):
        try:
            reader(Path("/dev/null"))
        except QuantvizError:
            continue


def main() -> None:
    """Answer until standard input ends."""
    checkout = str(Path(__file__).parents[2])
    folders = [os.getcwd(), checkout, sys.prefix, sys.base_prefix, tempfile.gettempdir() + "/quantviz-"]
    watch = Watch([*folders, "/proc/self", "/dev/null", "/usr/share/zoneinfo"])
    warm()
    idle = memory("VmRSS")
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(judged(order["kind"], Path(order["path"]), watch, idle)), flush=True)


if __name__ == "__main__":
    main()
