"""The memory that a sweep's worker takes at most: ``python -m quantviz.bench.memory vgg16 8 16 6 4``.

A worker in a process of its own makes the networks of a model with untrained weights and computes the rows of two
pictures. The same with the float network alone, beside which it is to be read: both hold torch, the picture's passes
and what loading takes.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from quantviz.store import TensorStore

_MIB: Final = 1 << 20


def peak(model: str, bits: Sequence[int]) -> int:
    """Return the greatest memory of a worker, bytes (of Linux's resident set).

    Args:
        model: name of an architecture.
        bits: the bit-widths of its quantized networks; none: the float network's map alone.

    Raises:
        subprocess.CalledProcessError: the worker failed; its output says why.
    """
    code = f"from quantviz.bench.memory import work; work({model!r}, {tuple(bits)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def work(model: str, bits: Sequence[int]) -> None:
    """Do what a worker does, and print the greatest memory that this process has had, bytes."""
    from quantviz.store import TensorStore

    with tempfile.TemporaryDirectory() as folder, TensorStore(Path(folder, "cache")) as store:
        if bits:
            _rows(model, bits, Path(folder), store)
        else:
            _float_map(model, store)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _rows(model: str, bits: Sequence[int], folder: Path, store: TensorStore) -> None:
    """Compute a piece of a study of two pictures."""
    from PIL import Image

    from quantviz import images
    from quantviz.bench.paths import UNTRAINED
    from quantviz.specs import QuantSpec
    from quantviz.study.planning import SweepRequest, plan_of
    from quantviz.study.sweep.worker import PieceWorker

    pictures = folder / "pictures"
    pictures.mkdir()
    for name in ("chelsea", "coffee"):
        Image.fromarray(images.bundled(name).rgb).save(pictures / f"{name}.png")
    quants = tuple(QuantSpec(width, width) for width in bits)
    request = SweepRequest(pictures, (model,), quants, {model: UNTRAINED})
    plan = plan_of(request)
    PieceWorker(plan, request, store).compute(plan.pieces[0], {}, lambda: None)


def _float_map(model: str, store: TensorStore) -> None:
    """Make one map of the float network."""
    import torch

    from quantviz import cam, images
    from quantviz.bench.paths import UNTRAINED
    from quantviz.comparison.request import CompareRequest
    from quantviz.comparison.workbench import Workbench
    from quantviz.specs import QuantSpec, no_progress

    bench = Workbench(store, float_models=1, quantized_models=1)
    request = CompareRequest(model, UNTRAINED)
    subject = bench.subject(request, no_progress)
    network = bench.protocols.reference(subject, QuantSpec(), no_progress)
    crop = images.crop(images.bundled("chelsea").rgb, subject.ref.preprocessing)
    image = torch.from_numpy(images.normalize(crop, subject.ref.preprocessing))
    cam.explain(network, image, replace(request.cam, layer=subject.layer))


if __name__ == "__main__":
    name, widths = sys.argv[1], [int(word) for word in sys.argv[2:]]
    alone, together = peak(name, ()), peak(name, widths)
    print(f"{name}: float {alone / _MIB:.0f} MiB, with {widths} {together / _MIB:.0f} MiB, {together / alone:.2f}")
