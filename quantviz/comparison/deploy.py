"""Networks whose first part a backend runs and whose rest torch runs: float ones, and deployed quantized ones."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from quantviz.cam import Locked
from quantviz.comparison.declared import integer_layers, simulated_layers, target_grid
from quantviz.comparison.loaded import LoadedNetworks, Subject
from quantviz.comparison.machine import EXPORT_VERSION, backend_versions
from quantviz.comparison.pool import Pool
from quantviz.specs import CamSpec, Phase, Progress, QuantSpec, QuantvizError, StoredRecord, check_deployable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quantviz.backends import Front, Output, Session, Split

BACKENDS: Final = ("torch", "onnxruntime", "ncnn")

_ROUNDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class _Exported:
    """An exported network.

    Attributes:
        model: the ONNX model; empty where the export was refused.
        outputs: of the model.
        head: the one layer of weights behind the target, where the model goes on to the logits; None where it ends at
            the target.
        refusal: why the network cannot be exported, or "".
    """

    model: bytes
    outputs: tuple[Output, ...]
    head: str | None
    refusal: str

    def split(self, network: Locked[nn.Module], layer: str, front: Front) -> Locked[Split]:
        """Return a network of this architecture whose part before the target ``front`` runs."""
        from quantviz.backends import HeadedSplit, Split

        with network.locked() as module:
            if self.head is None:
                return Locked(Split(module, layer, self.outputs, front))
            return Locked(HeadedSplit(module, layer, self.outputs, front, self.head))


class Backends:
    """Networks parted at their target layer; any number of threads may share it.

    Args:
        networks: the loaded models and their quantized copies.
        limit: how many of a kind to keep in memory.
        simulated: how many simulated networks to keep.
    """

    def __init__(self, networks: LoadedNetworks, *, limit: int = 3, simulated: int = 4) -> None:
        self.networks = networks
        self._exported: Pool[_Exported] = Pool(limit)
        self._floats: Pool[Locked[Split]] = Pool(limit)
        self._deployed: Pool[Locked[Split]] = Pool(limit)
        self._simulated: Pool[Locked[Split]] = Pool(simulated)
        self._exporters: dict[str, subprocess.Popen[bytes]] = {}
        self._known: set[str] = set()
        self._raised: dict[str, int] = {}
        self._guard = threading.Lock()

    def prepare(self, subject: Subject, quant: QuantSpec, progress: Progress, backend: str = "onnxruntime") -> str:
        """Export a network unless the store has it; return why a backend cannot run it up to its layer, or "".

        An exception of progress ends the call before or after the export, not during it.

        Args:
            subject: the network and its layer.
            quant: its scheme; only equalization changes the export. ``QuantSpec()`` for the float network.
            progress: reports what is being done.
            backend: one of ``BACKENDS``.
        """
        exported = self._front(subject, quant, progress)
        if backend == "ncnn" and not exported.refusal:
            from quantviz.backends import NotSplittableError

            try:
                self.reference(subject, progress, backend)
            except NotSplittableError as error:
                return str(error)
        return exported.refusal

    def reference(self, subject: Subject, progress: Progress, backend: str = "onnxruntime") -> Locked[Split]:
        """Return the float network, its part before the target on a backend.

        Args:
            subject: the network and its layer.
            progress: reports what is being done.
            backend: ``"onnxruntime"`` or ``"ncnn"``.

        Raises:
            NotSplittableError: it cannot be parted there, or the backend cannot run it.
        """

        def make() -> Locked[Split]:
            from quantviz.backends import FrontModule, NotSplittableError, Session, by_ncnn, check_front

            exported = self._front(subject, QuantSpec(), progress)
            if exported.refusal:
                raise NotSplittableError(exported.refusal)
            base = self.networks.base(subject, QuantSpec(), progress)
            if backend != "ncnn":
                return exported.split(base, subject.layer, Session(exported.model))
            front = by_ncnn(exported.model, logits=exported.head is not None)
            with base.locked() as module:  # what ONNX Runtime computes was compared with torch at the export
                whole = FrontModule(module, exported.outputs, logits=exported.head is not None).eval()
                check_front(front, whole, self.networks.example(subject), backend)
            return exported.split(base, subject.layer, front)

        return self._floats.get((*_identity(subject), backend), make)

    def simulated(self, subject: Subject, quant: QuantSpec, progress: Progress) -> Locked[Split]:
        """Return the simulated network, its part before the target in float32 on ONNX Runtime.

        Args:
            subject: the network and its layer.
            quant: its scheme, under the calibrated protocol.
            progress: reports what is being done.

        Raises:
            NotSplittableError: the network cannot be parted there, or rounds what the export does not name.
        """

        def make() -> Locked[Split]:
            from quantviz.backends import NotSplittableError, Session, simulated_model

            exported = self._front(subject, quant, progress)
            if exported.refusal:
                raise NotSplittableError(exported.refusal)
            simulated = self.networks.quantized(subject, quant, progress)
            with simulated.locked() as module:
                model = simulated_model(exported.model, simulated_layers(module))
            return exported.split(simulated, subject.layer, Session(model, fuse_integers=False))

        key = (*_identity(subject), quant, subject.calibration.ref.sha256)
        return self._simulated.get(key, make)

    def cannot_simulate(self, subject: Subject, quant: QuantSpec, progress: Progress) -> str:
        """Return why ONNX Runtime cannot run a simulated network up to its layer, or ""."""
        from quantviz.backends import NotSplittableError

        try:
            self.simulated(subject, quant, progress)
        except NotSplittableError as error:
            return str(error)
        return ""

    def deployed(self, subject: Subject, quant: QuantSpec, progress: Progress) -> Locked[Split]:
        """Return the deployed network: on integers up to the target or the logits, simulated after that.

        Args:
            subject: the network and its layer.
            quant: its scheme.
            progress: reports what is being done.

        Raises:
            UsageError: as ``check_deployable``.
            NotSplittableError: the network cannot be parted there, or a layer has no integer form.
        """
        check_deployable(quant)

        def make() -> Locked[Split]:
            from quantviz.backends import NotSplittableError, Session

            exported = self._front(subject, quant, progress)
            if exported.refusal:
                raise NotSplittableError(exported.refusal)
            simulated = self.networks.quantized(subject, quant, progress)
            integers = self._integers(subject, quant, exported, progress)
            return exported.split(simulated, subject.layer, Session(integers))

        key = (*_identity(subject), quant, subject.calibration.ref.sha256)
        return self._deployed.get(key, make)

    def sessions(self, subject: Subject, quant: QuantSpec, progress: Progress, threads: int) -> tuple[Session, Session]:
        """Return the float and the deployed network as ONNX Runtime alone runs them, by so many threads.

        Raises:
            as ``deployed``.
        """
        from quantviz.backends import NotSplittableError, Session

        check_deployable(quant)
        exported = self._front(subject, quant, progress)
        if exported.refusal:
            raise NotSplittableError(exported.refusal)
        return Session(exported.model, threads), Session(self._integers(subject, quant, exported, progress), threads)

    def raised_channels(self, subject: Subject, quant: QuantSpec) -> int:
        """Return in how many channels of a network from ``deployed`` the weight's scale is larger than simulated.

        There the bias would not fit into int32 (``IntegerLayer.with_room``).
        """
        return self._raised[_integers_key(subject, quant)]

    def ready(self, subject: Subject, quant: QuantSpec) -> bool:
        """Tell whether a network of this scheme has been exported, or was found not to be exportable."""
        key = _front_key(subject, quant)
        if key not in self._known and self.networks.store.get(key) is not None:
            self._known.add(key)  # the record is tens of megabytes: read once
        return key in self._known

    def export_apart(self, subject: Subject, quant: QuantSpec, command: list[str]) -> bool:
        """Export in a separate process, which the first call starts; return whether it is still running.

        An export hooks every module of its process, so it must not run beside other threads that use networks.

        Args:
            subject: the network and its layer.
            quant: its scheme.
            command: arguments of ``python -m quantviz`` that export it into the same store.

        Raises:
            QuantvizError: the process failed.
        """
        key = _front_key(subject, quant)
        with self._guard:
            process = self._exporters.get(key)
            if process is None:
                started, nothing = [sys.executable, "-m", "quantviz", *command], subprocess.DEVNULL
                process = subprocess.Popen(started, stdin=nothing, stdout=nothing, stderr=subprocess.PIPE)
                self._exporters[key] = process
        if process.poll() is None:
            return True
        with self._guard:
            self._exporters.pop(key, None)
        said = process.communicate()[1].decode(errors="replace").strip().splitlines()
        if not self.ready(subject, quant):
            reason = said[-1].removeprefix("quantviz: ") if said else "the cache could not keep it."
            raise QuantvizError(f"The export to ONNX failed: {reason}")
        return False

    def at_work(self, subject: Subject, quant: QuantSpec) -> bool:
        """Tell whether a process that ``export_apart`` started is still running."""
        with self._guard:
            process = self._exporters.get(_front_key(subject, quant))
        return process is not None and process.poll() is None

    def _front(self, subject: Subject, quant: QuantSpec, progress: Progress) -> _Exported:
        def make() -> _Exported:
            key = _front_key(subject, quant)
            record = self.networks.store.get(key)
            if record is None:
                record = self._export(subject, quant, progress)
                self.networks.store.put(key, record)
            metadata = record.metadata
            outputs = tuple((str(name), int(call)) for name, call in metadata["outputs"])
            model = record.arrays["onnx"].tobytes() if outputs else b""
            return _Exported(model, outputs, metadata["head"] or None, metadata["refusal"])

        return self._exported.get((*_identity(subject), quant.equalize), make)

    def _export(self, subject: Subject, quant: QuantSpec, progress: Progress) -> StoredRecord:
        from quantviz.backends import NotSplittableError, exported, head_of, outputs_before

        base = self.networks.base(subject, quant, progress)
        progress("Exporting to ONNX, once for these weights and this layer", None, Phase.EXPORTING)
        try:
            with base.locked() as module:
                example = self.networks.example(subject)
                outputs = outputs_before(module, subject.layer, example)
                head = head_of(module, subject.layer, outputs, example)
                model = exported(module, outputs, example, logits=head is not None)
        except NotSplittableError as error:
            return StoredRecord({}, {"outputs": [], "head": "", "refusal": str(error)})
        metadata = {"outputs": outputs, "head": head or "", "refusal": ""}
        return StoredRecord({"onnx": np.frombuffer(model, np.uint8)}, metadata)

    def _integers(self, subject: Subject, quant: QuantSpec, exported: _Exported, progress: Progress) -> bytes:
        """Return the ONNX model on integers, from the store if it is there."""
        from quantviz.backends import on_integers

        key = _integers_key(subject, quant)
        record = self.networks.store.get(key)
        if record is None:
            simulated = self.networks.quantized(subject, quant, progress)
            batches = self.networks.batches(subject, progress, "Calibrating the integer kernels")
            with simulated.locked() as module:
                target = target_grid(module, subject.layer, self.networks.example(subject))
                roomy = {name: layer.with_room() for name, layer in integer_layers(module).items()}
            layers = {name: layer for name, (layer, _) in roomy.items()}
            inputs = (batch.numpy() for batch in batches())
            model = on_integers(exported.model, layers, inputs, target)
            raised = sum(count for _, count in roomy.values())
            record = StoredRecord({"onnx": np.frombuffer(model, np.uint8)}, {"raised": raised})
            self.networks.store.put(key, record)
        self._raised[key] = int(record.metadata["raised"])
        return record.arrays["onnx"].tobytes()


def parted_layer(network: Locked[Split]) -> str:
    """Return the dotted name of the layer that a parted network's maps are taken at."""
    with network.locked() as module:
        return module.layer


def milliseconds(
    networks: Mapping[str, tuple[Locked[nn.Module], CamSpec]], image: Tensor, class_index: int, rounds: int = _ROUNDS
) -> dict[str, float]:
    """Return the milliseconds that one map by each network takes: medians of a few runs, taken in turn.

    Args:
        networks: by name, each with its map's method and layer.
        image: (1, 3, H, W) float32.
        class_index: the class to explain.
        rounds: number of runs of each; one more, the first, does not count.
    """
    from quantviz import cam

    taken: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(rounds + 1):
        for name, (network, spec) in networks.items():
            with network.locked() as module:  # waiting for another thread is not its time
                started = time.perf_counter()
                cam.explain(module, image, spec, class_index)
                taken[name].append(1000 * (time.perf_counter() - started))
    return {name: round(statistics.median(values[1:]), 3) for name, values in taken.items()}


def _front_key(subject: Subject, quant: QuantSpec) -> str:
    decides = {"layer": subject.layer, "equalized": quant.equalize, "export": EXPORT_VERSION}
    return subject.key("exported network", backend=backend_versions(), **decides)


def _integers_key(subject: Subject, quant: QuantSpec) -> str:
    decides = {"front": _front_key(subject, quant), "quantization": quant}
    return subject.key("integer network", calibration=subject.calibration.ref.sha256, **decides)


def _identity(subject: Subject) -> tuple[object, ...]:
    return subject.spec.name, subject.ref.sha256, subject.ref.preprocessing, subject.layer
