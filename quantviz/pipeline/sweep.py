"""Sweep: every picture of a study under every model, bit-width and protocol, kept piece by piece."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from quantviz import images, saliency, scores
from quantviz.pipeline.compare import CompareRequest, Workbench
from quantviz.pipeline.plan import SweepRequest, plan_of
from quantviz.pipeline.protocols import explained, finished, network_quant, seed_of, subject_of
from quantviz.pipeline.sources import SPECTRAL_RESIDUAL
from quantviz.specs import (
    CALIBRATED,
    CamResult,
    Heatmap,
    ImageError,
    Piece,
    Preprocessing,
    Progress,
    QuantSpec,
    QuantvizError,
    StudyImage,
    StudyPlan,
    StudyRow,
    UsageError,
    no_progress,
    scheme_name,
)
from quantviz.store import TensorStore
from quantviz.study import StudyFolder

if TYPE_CHECKING:
    from torch import nn

_AHEAD = 2
_CLASSES = 1000

T = TypeVar("T")
V = TypeVar("V")
State = dict[str, dict[str, list[float]]]
"""Bit-widths -> place in the network -> least and greatest value that its observer has seen on average."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep left.

    Attributes:
        plan: what the study is decided by.
        computed: pieces that this call computed; 0 where the study was finished already.
    """

    plan: StudyPlan
    computed: int


def sweep(request: SweepRequest, out: Path, store: TensorStore, progress: Progress = no_progress) -> Swept:
    """Make a study, or go on with one; whenever it is killed, the same call goes on where it was.

    Results do not depend on interruptions or the number of threads: the same request gives the same bytes in
    ``results.parquet``. Torch runs in one thread meanwhile. Nothing of a picture is kept beyond its piece. A picture
    that cannot be used has rows that tell why.

    Args:
        request: what to sweep over.
        out: the study's folder.
        store: where ranges and learned weights are kept; maps are not.
        progress: told what is being done, how fast and how long it will take; whatever it raises ends the call.

    Raises:
        UsageError: the folder holds another study or another sweep is writing to it; or as ``plan_of``.
        StoreError: the study cannot be written.
        QuantvizError: a network cannot be made, or a picture changed meanwhile.
    """
    folder = StudyFolder(out)
    before = folder.plan()
    plan = plan_of(request, before, progress)
    if before is not None:
        _same(before, plan, out)
        if folder.finished(before):  # nothing is written, so that the folder may be read-only
            return Swept(before, 0)
    with folder.locked():
        before = folder.plan()
        if before is None:
            _check(plan)
            folder.begin(plan)
        else:
            _same(before, plan, out)
            plan = before
        pace = _Pace(plan, [piece for piece in plan.pieces if not folder.has(plan, piece)], progress)
        for lane in plan.lanes:
            if todo := [piece for piece in lane if piece in pace.todo]:
                bench = Workbench(store, float_models=1, quantized_models=len(plan.quants))
                with _one_thread():
                    _run(_Lane(bench, plan, request, todo[0], progress), folder, todo, pace)
        progress("Writing the results", None)
        folder.finish(plan)
    return Swept(plan, len(pace.todo))


def _check(plan: StudyPlan) -> None:
    """Refuse, before anything is written, what a protocol does not define."""
    for protocol in plan.protocols:
        if protocol != CALIBRATED:
            for quant in plan.quants_of(protocol):
                network_quant(quant)


def _same(before: StudyPlan, plan: StudyPlan, out: Path) -> None:
    if different := before.difference(plan):
        again = f" ({before.command})" if before.command else ""
        raise UsageError(
            f"Study {str(out)!r} was made with {different}; choose another folder, or repeat its own command{again}."
        )


class _Pace:
    """Tells how far a sweep is, how fast it is, and how long it will take."""

    def __init__(self, plan: StudyPlan, todo: Sequence[Piece], progress: Progress) -> None:
        self.plan, self.todo, self.progress = plan, frozenset(todo), progress
        self.all = sum(piece.stop - piece.start for piece in plan.pieces)
        self.left = sum(piece.stop - piece.start for piece in todo)
        self.done = 0
        self.started = 0.0

    def step(self, piece: Piece) -> None:
        """Count one more picture of a piece; the first one, with loading and calibration before it, sets the clock."""
        self.done, self.left = self.done + 1, self.left - 1
        now = time.monotonic()
        self.started = self.started or now
        what = f"{self.plan.models[piece.model].name}, {piece.protocol}"
        if now > self.started:
            rate = (self.done - 1) / (now - self.started)
            what = f"{what}: {rate:.1f} images/s, {_duration(self.left / rate)} left"
        self.progress(what, 1 - self.left / self.all)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """A picture as a network reads it.

    Attributes:
        id: sha256 of the file.
        size: (H, W) of the picture.
        input: (1, 3, h, w) float32.
        salient: its saliency (h, w), on the pixels of the input.
    """

    id: str
    size: tuple[int, int]
    input: npt.NDArray[np.float32]
    salient: Heatmap


class _Lane:
    """One model under one protocol: its networks at every bit-width, and what their observers have seen."""

    def __init__(
        self, bench: Workbench, plan: StudyPlan, request: SweepRequest, piece: Piece, progress: Progress
    ) -> None:
        model = plan.models[piece.model]
        self.plan, self.model, self.folder = plan, model.name, request.dataset
        self.quants = plan.quants_of(piece.protocol)
        asked = CompareRequest(
            model.name, request.weights.get(model.name), self.quants[0], plan.cam, calibration=request.calibration
        )
        subject = subject_of(bench.subject(asked, progress), self.quants[0])
        ref = bench.networks.load(subject.spec, subject.located, progress).ref
        if ref.sha256 != model.weights.sha256 or subject.calibration.ref != plan.calibration:
            raise QuantvizError("The weights or calibration pictures changed meanwhile; begin a new study.")
        self.labelled = ref.classes == _CLASSES
        self.preprocessing: Preprocessing = subject.ref.preprocessing
        self.cam = replace(plan.cam, layer=subject.layer)
        self.float_network = bench.protocols.reference(subject, self.quants[0], progress)
        self.networks = {quant.label: bench.protocols.quantized(subject, quant, progress) for quant in self.quants}

    def load(self, image: StudyImage) -> _Picture | str:
        """Return a picture ready for the networks, or in one sentence why it cannot be used.

        Raises:
            QuantvizError: the file is no longer the one that was planned, or can no longer be read.
        """
        try:
            _, data = images.read_bytes(self.folder / image.path, image.path)
        except ImageError as error:
            if image.sha256:  # it could be read before; a broken disk or network is no property of the picture
                raise QuantvizError(f"{error} The sweep stops here; repeat its command once that is mended.") from None
            return str(error).replace(str(self.folder / image.path), image.path)
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise QuantvizError(f"Picture {image.path!r} changed since the study was planned; begin a new study.")
        try:
            sample = images.load(data, name=image.path)
        except ImageError as error:
            return str(error)
        crop = images.crop(sample.rgb, self.preprocessing)
        salient = saliency.predictor(SPECTRAL_RESIDUAL).predict(crop)
        height, width = sample.rgb.shape[:2]
        return _Picture(sample.id, (height, width), images.normalize(crop, self.preprocessing), salient)

    def rows(self, index: int, picture: _Picture | str) -> list[StudyRow]:
        """Return a row for each bit-width."""
        image = self.plan.images[index]
        label = image.label if self.labelled else None
        reference = picture if isinstance(picture, str) else self._result(picture, None, None)
        found = []
        for quant in self.quants:
            told: dict[str, Any] = {"label": label}
            if isinstance(picture, str) or isinstance(reference, str):
                told["error"] = reference
            else:
                target = None if "own_class" in quant.deviations else reference.class_index
                told |= _told(reference, self._result(picture, quant, target), picture.salient, label)
            known = (index, image.sha256, self.model, quant.label, scheme_name(quant), quant.protocol)
            found.append(StudyRow(*known, **told))
        return found

    def _result(self, picture: _Picture, quant: QuantSpec | None, target: int | None) -> CamResult | str:
        import torch

        network = self.networks[quant.label] if quant else self.float_network
        name, seed = quant.label if quant else "float", seed_of(picture.id, quantized=quant is not None)
        image = torch.from_numpy(picture.input)
        try:
            result = explained(network, image, self.cam, target, seed, no_progress, name)
        except QuantvizError as error:
            return str(error)
        return finished(result, quant or self.quants[0], picture.size)

    def state(self) -> State:
        """Return what the observers have seen; nothing where the protocol has none."""
        found: State = {}
        for name, network in self.networks.items():
            for place, quantizer in _observers(network):
                if quantizer.low is not None and quantizer.high is not None:
                    found.setdefault(name, {})[place] = [float(quantizer.low), float(quantizer.high)]
        return found

    def restore(self, state: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
        """Let the observers go on from a state."""
        import torch

        for name, network in self.networks.items():
            for place, quantizer in _observers(network):
                low, high = state.get(name, {}).get(place, (None, None))
                quantizer.low = None if low is None else torch.tensor(low, dtype=torch.float32)
                quantizer.high = None if high is None else torch.tensor(high, dtype=torch.float32)


def _observers(network: nn.Module) -> list[tuple[str, Any]]:
    from quantviz.quantize.paper import quantizers

    return [(place, quantizer) for place, quantizer in quantizers(network) if quantizer.online]


def _told(reference: CamResult, quantized: CamResult | str, salient: Heatmap, label: int | None) -> dict[str, Any]:
    """Return what a row says of two results."""
    first = reference.predictions[0]
    found: dict[str, Any] = {
        "float_class": reference.class_index,
        "float_top1": first.index,
        "float_probability": first.probability,
        "float_correct": None if label is None else first.index == label,
        "float_degenerate": reference.heatmap.degenerate,
        "saliency_degenerate": salient.degenerate,
    }
    found |= _scores("float_v_saliency", reference.heatmap, salient)
    if isinstance(quantized, str):
        return found | {"error": quantized}
    second = quantized.predictions[0]
    found |= {
        "quantized_class": quantized.class_index,
        "quantized_top1": second.index,
        "quantized_probability": second.probability,
        "quantized_correct": None if label is None else second.index == label,
        "flipped": first.index != second.index,
        "quantized_degenerate": quantized.heatmap.degenerate,
    }
    found |= _scores("quantized_v_float", quantized.heatmap, reference.heatmap)
    return found | _scores("quantized_v_saliency", quantized.heatmap, salient)


def _scores(name: str, first: Heatmap, second: Heatmap) -> dict[str, float | None]:
    marks = scores.compare(first.values, second.values)
    return {f"{name}_sim": marks.sim, f"{name}_cc": marks.cc, f"{name}_kld": marks.kld}


def _run(lane: _Lane, folder: StudyFolder, todo: Sequence[Piece], pace: _Pace) -> None:
    """Compute and commit the pieces of a lane that are not there."""
    places = (index for piece in todo for index in range(piece.start, piece.stop))
    pictures = _ahead(places, lambda index: lane.load(lane.plan.images[index]))
    last = -1
    with closing(pictures):
        for piece in todo:
            if piece.number != last + 1:
                lane.restore({} if piece.start == 0 else folder.state(_before(lane.plan, piece)))
            rows: list[StudyRow] = []
            for index in range(piece.start, piece.stop):
                rows += lane.rows(index, next(pictures))
                pace.step(piece)
            folder.commit(lane.plan, piece, rows, lane.state())
            last = piece.number


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute in one thread: how sums are shared among several decides their last bits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _before(plan: StudyPlan, piece: Piece) -> Piece:
    return plan.pieces[piece.number - 1]


def _ahead(items: Iterable[T], make: Callable[[T], V]) -> Generator[V, None, None]:
    """Yield ``make`` of each item in order; a few are made in a thread of their own while one is in use."""
    waiting: deque[Future[V]] = deque()
    pool = ThreadPoolExecutor(1)
    try:
        for item in items:
            waiting.append(pool.submit(make, item))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
