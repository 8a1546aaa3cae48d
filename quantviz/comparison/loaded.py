"""Loaded float networks, their calibrated ranges and learned weights, and their quantized copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from quantviz import __version__, networks
from quantviz.cam import Locked
from quantviz.comparison.calibration import CalibrationSet
from quantviz.comparison.machine import PROCESSOR, processor_kind
from quantviz.comparison.pool import Pool
from quantviz.comparison.records import pack_learned, pack_ranges, unpack_learned, unpack_ranges
from quantviz.comparison.shipped_ranges import ShippedRanges, shipped_ranges
from quantviz.specs import (
    COMPUTATION_VERSION,
    ModelSpec,
    Phase,
    Progress,
    QuantSpec,
    WeightsRef,
    digest_of,
    no_progress,
)
from quantviz.store import TensorStore

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quantviz.cam import KeptFeatures
    from quantviz.quantize import LearnedLayer, Ranges

NETWORK_BYTES: Final = 1 << 30
"""Bytes of weights that are kept in memory of each kind: of networks as they are, folded and quantized."""

_BATCH = 8
# Raised whenever a change of the code changes what is learned, so that older weights are not read.
_LEARNING_VERSION = 2


@dataclass(frozen=True, slots=True)
class Loaded:
    """A float network with the complete description of its weights."""

    network: Locked[nn.Module]
    ref: WeightsRef


@dataclass(frozen=True, slots=True)
class Subject:
    """A model with its weights, the layer its maps are taken at, and the images it is calibrated on.

    Attributes:
        spec: the architecture.
        located: where its weights are.
        ref: which weights they are.
        layer: dotted name of the CAM target layer.
        calibration: the calibration images.
    """

    spec: ModelSpec
    located: networks.LocatedWeights
    ref: WeightsRef
    layer: str
    calibration: CalibrationSet

    @property
    def shipped_ranges(self) -> ShippedRanges | None:
        """The ranges by ``minmax`` that come with the package, where it holds them."""
        return shipped_ranges(self.spec.name, self.ref, self.calibration.ref)

    def key(self, kind: str, **rest: Any) -> str:
        """Return the store's key: the digest of everything that decides a result of this kind."""
        decides = {
            "kind": kind,
            "computation": COMPUTATION_VERSION,
            "versions": deciding_versions(),
            "model": self.spec.name,
            "weights": self.ref.sha256,
            "preprocessing": self.ref.preprocessing,
        }
        if self.ref.names:  # results hold them
            decides["classes"] = self.ref.names
        if (shipped := self.shipped_ranges) is not None:  # computed ones differ from them by a processor's rounding
            decides["shipped ranges"] = shipped.digest
        return digest_of(decides | rest)


class LoadedNetworks:
    """Float networks and quantized copies over one store; any number of threads may share it.

    Args:
        store: where ranges and learned weights are kept.
        float_models: how many float models to keep in memory, and as many folded ones.
        quantized_models: how many quantized copies to keep; of each of the three, ``NETWORK_BYTES`` at most, but one.
    """

    def __init__(self, store: TensorStore, *, float_models: int, quantized_models: int) -> None:
        self.store = store
        self._floats: Pool[Loaded] = Pool(float_models, NETWORK_BYTES, lambda made: bytes_of(made.network))
        self._bases: Pool[Locked[nn.Module]] = Pool(float_models, NETWORK_BYTES, bytes_of)
        self._quantized: Pool[Locked[nn.Module]] = Pool(quantized_models, NETWORK_BYTES, bytes_of)
        self._kept: Pool[KeptFeatures] = Pool(1)

    def kept_features(self) -> KeptFeatures:
        """Return the store of the last forward passes, for networks that do not change: 128 MiB at most."""
        from quantviz.cam import KeptFeatures

        return self._kept.get("", KeptFeatures)

    def load(self, spec: ModelSpec, located: networks.LocatedWeights, progress: Progress) -> Loaded:
        """Return the float network as its constructor makes it."""

        def make() -> Loaded:
            # Before torch is imported, which takes seconds the first time.
            progress(f"Loading {spec.name}", None, Phase.LOADING)
            from quantviz.networks.build import build

            module, ref = build(spec, located)
            return Loaded(Locked(module), ref)

        return self._floats.get((spec.name, located.ref.sha256, located.ref.source), make)

    def reference(self, subject: Subject, progress: Progress) -> Locked[nn.Module]:
        """Return the float network that maps are taken of.

        It is the model with batch norm folded, which differs by float32's rounding and takes less time.
        """
        return self.base(subject, QuantSpec(), progress)

    def base(self, subject: Subject, quant: QuantSpec, progress: Progress) -> Locked[nn.Module]:
        """Return the float network that is rounded (``quantize.float_base``)."""

        def make() -> Locked[nn.Module]:
            plain = self.load(subject.spec, subject.located, progress).network
            from quantviz.quantize import float_base

            with plain.locked() as module:
                return Locked(float_base(module, quant, self.example(subject), subject.layer))

        preprocessing = subject.ref.preprocessing
        key = (subject.spec.name, subject.ref.sha256, preprocessing, subject.layer, quant.equalize)
        return self._bases.get(key, make)

    def quantized(self, subject: Subject, quant: QuantSpec, progress: Progress) -> Locked[nn.Module]:
        """Return the quantized copy under the calibrated protocol."""

        def make() -> Locked[nn.Module]:
            from quantviz.quantize import assemble

            base = self.base(subject, quant, progress)
            ranges = self.ranges(subject, quant, progress)
            learned = self.learned(subject, quant, progress)
            self._quantized.make_room(bytes_of(base))
            progress(f"Quantizing to {quant.label}", None, Phase.QUANTIZING)
            with base.locked() as module:
                return Locked(assemble(module, quant, ranges, learned))

        preprocessing, calibration = subject.ref.preprocessing, subject.calibration.ref.sha256
        key = (subject.spec.name, subject.ref.sha256, preprocessing, subject.layer, quant, calibration)
        return self._quantized.get(key, make)

    def ranges(self, subject: Subject, quant: QuantSpec, progress: Progress) -> Ranges:
        """Return the range of each quantized layer's input on the calibration images.

        They come from the package or from the store where these hold them.
        """
        from quantviz.quantize import Ranges, calibrate

        shipped = subject.shipped_ranges
        if shipped is not None and quant.ranges == "minmax" and not quant.equalize:
            return Ranges(shipped.limits, shipped.images)
        # Equalization leaves what is near the target as it was, so that ranges depend on where it is.
        decides = {"ranges": quant.ranges, "equalized for": subject.layer if quant.equalize else None}
        key = subject.key("ranges", calibration=subject.calibration.ref.sha256, **decides)
        record = self.store.get(key)
        if record is not None:
            return unpack_ranges(record)
        base = self.base(subject, quant, progress)
        batches = self.batches(subject, progress, "Calibrating the activation ranges")
        with base.locked() as module:
            ranges = calibrate(module, batches, quant.ranges)
        self.store.put(key, pack_ranges(ranges))
        return ranges

    def learned(self, subject: Subject, quant: QuantSpec, progress: Progress) -> Mapping[str, LearnedLayer]:
        """Return weights that are not rounded to nearest, by layer, from the store if they are there."""
        from quantviz.quantize import learn

        if not quant.learns:
            return {}
        quant = _learned_as(quant)
        key = self._learned_key(subject, quant, progress)
        record = self.store.get(key)
        if record is not None:
            return unpack_learned(record)
        base, ranges = self.base(subject, quant, progress), self.ranges(subject, quant, progress)
        batches = self.batches(subject, no_progress, "")
        with base.locked() as module:
            learned = learn(module, quant, ranges, batches, self._views(subject), progress)
        self.store.put(key, pack_learned(learned))
        return learned

    def has_learned(self, subject: Subject, quant: QuantSpec, progress: Progress) -> bool:
        """Return whether the store holds what ``learned`` would learn; ``quant`` learns something."""
        return self.store.get(self._learned_key(subject, _learned_as(quant), progress)) is not None

    def _learned_key(self, subject: Subject, quant: QuantSpec, progress: Progress) -> str:
        # Batch norm stays apart from a target that is a convolution, which changes the weights to be learned.
        target = subject.layer
        if not quant.equalize:
            from torch import nn

            with self.base(subject, quant, progress).locked() as module:
                target = target if isinstance(module.get_submodule(target), nn.Conv2d) else ""
        decides = {"quantization": quant, "kept": target, "learning": _LEARNING_VERSION}
        return subject.key("learned weights", calibration=subject.calibration.ref.sha256, **decides)

    def batches(self, subject: Subject, progress: Progress, what: str) -> Callable[[], Iterator[Tensor]]:
        """Return a function that yields the calibration inputs in batches, (N, 3, H, W) float32."""
        import torch

        def once() -> Iterator[Tensor]:
            done = 0
            inputs = subject.calibration.inputs(subject.ref.preprocessing)
            while batch := list(islice(inputs, _BATCH)):
                progress(what, done / subject.calibration.ref.images, Phase.CALIBRATING)
                yield torch.from_numpy(np.concatenate(batch))
                done += len(batch)

        return once

    def _views(self, subject: Subject) -> Callable[[int], Tensor]:
        import torch

        def draw(count: int) -> Tensor:
            return torch.from_numpy(np.concatenate(list(subject.calibration.views(subject.ref.preprocessing, count))))

        return draw

    def example(self, subject: Subject) -> Tensor:
        """Return one calibration input (1, 3, H, W), by which a changed network is checked."""
        import torch

        return torch.from_numpy(next(subject.calibration.inputs(subject.ref.preprocessing)))


def versions() -> dict[str, str]:
    """Return the versions of quantviz and of every library that decides a result, and the kind of processor."""
    return {"quantviz": __version__, **deciding_versions()}


@lru_cache(maxsize=1)
def deciding_versions() -> Mapping[str, str]:
    """Return what decides a result beside its settings, part of every key: libraries' versions, kind of processor."""
    libraries = ("torch", "torchvision", "timm", "grad-cam", "numpy", "scipy", "pillow")
    return {**{name: version(name) for name in libraries}, PROCESSOR: processor_kind()}


def bytes_of(network: Locked[nn.Module]) -> int:
    """Return the bytes of a network's parameters and buffers."""
    with network.locked() as module:
        return sum(values.nbytes for values in (*module.parameters(), *module.buffers()))


def _learned_as(quant: QuantSpec) -> QuantSpec:
    """Return the scheme without layers in float: leaving one in float does not change how the others were learned."""
    bits = (bits for bits in quant.layer_bits if (bits.weight_bits, bits.act_bits) != (None, None))
    return replace(quant, layer_bits=tuple(bits))
