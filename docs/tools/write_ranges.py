"""Write quantviz/comparison/ranges.json: the default network's activation ranges on the bundled photographs."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from quantviz.comparison import CompareRequest, Workbench
from quantviz.comparison.loaded import LoadedNetworks, Subject
from quantviz.comparison.shipped_ranges import FILE, identity
from quantviz.quantize import Ranges, calibrate
from quantviz.specs import no_progress
from quantviz.store import TensorStore

PAGE = Path(__file__).resolve().parents[2] / "quantviz" / "comparison" / FILE


def main() -> None:
    """Write the file."""
    with TemporaryDirectory() as folder, TensorStore(Path(folder)) as store:
        bench = Workbench(store)
        subject = bench.subject(CompareRequest())  # the default network alone has its weights in a package
        ranges = computed(bench.networks, subject)
    PAGE.write_text(json.dumps([entry(subject, ranges)], indent=1, allow_nan=False) + "\n", encoding="utf-8")


def computed(networks: LoadedNetworks, subject: Subject) -> Ranges:
    """Return the ranges on the subject's calibration images, computed."""
    request = CompareRequest()
    with networks.base(subject, request.quant, no_progress).locked() as module:
        return calibrate(module, networks.batches(subject, no_progress, ""))


def entry(subject: Subject, ranges: Ranges) -> dict[str, Any]:
    """Return what the file holds of one network."""
    calibration = subject.calibration.ref
    return {
        "model": subject.spec.name,
        "weights": subject.ref.sha256,
        "calibration": calibration.sha256,
        "identity": identity(subject.spec.name, subject.ref.sha256, subject.ref.preprocessing, calibration.sha256),
        "images": ranges.images,
        "limits": {name: list(limits) for name, limits in ranges.limits.items()},
    }


if __name__ == "__main__":
    main()
