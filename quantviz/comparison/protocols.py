"""Networks, pictures and maps under a protocol, for one picture and for a sequence of them.

What a protocol does not change is that of the calibrated protocol, and shared with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from quantviz.cam import Locked, lockable
from quantviz.comparison.loaded import LoadedNetworks, Subject
from quantviz.comparison.pool import Pool
from quantviz.specs import (
    CALIBRATED,
    DEVIATIONS,
    CamResult,
    CamSpec,
    FloatMap,
    GivenQuant,
    Heatmap,
    ImageSample,
    Phase,
    Prediction,
    Progress,
    QuantSpec,
    StoredRecord,
    UsageError,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from quantviz.cam import Explanation, KeptFeatures

MANY_PASSES = ("scorecam", "ablationcam")
"""Methods that run the network once or more a channel."""

_TOP = 5
_SEED_DIGITS = 15


class ProtocolNetworks:
    """Networks under any protocol; any number of threads may share it.

    Args:
        networks: the loaded models and their calibrated copies.
    """

    def __init__(self, networks: LoadedNetworks) -> None:
        self.networks = networks
        self._trained: Pool[Locked[nn.Module]] = Pool(2)
        self._bases: Pool[Locked[nn.Module]] = Pool(2)
        self._frozen: Pool[Locked[nn.Module]] = Pool(2)

    def reference(self, subject: Subject, quant: QuantSpec, progress: Progress) -> Locked[nn.Module]:
        """Return the float network that maps are compared with."""

        def make() -> Locked[nn.Module]:
            from quantviz.quantize import train_mode

            plain = self.networks.load(subject.spec, subject.located, progress).network
            with plain.locked() as module:
                return Locked(train_mode(module))

        if "train_mode" not in quant.deviations:
            return self.networks.reference(subject, progress)
        return self._trained.get((subject.spec.name, subject.ref.sha256), make)

    def quantized(self, subject: Subject, quant: QuantSpec, progress: Progress) -> Locked[nn.Module]:
        """Return the quantized network: a new one, that has seen no picture, with ``online_ranges``; else shared."""

        def make() -> Locked[nn.Module]:
            from quantviz.quantize import paper

            base = self._base(subject, quant, progress)
            online = "online_ranges" in quant.deviations
            ranges = None if online else self._ranges(subject, quant, base, progress)
            progress(f"Quantizing to {quant.label}", None, Phase.QUANTIZING)
            with base.locked() as module:
                return Locked(paper(module, quant, ranges))

        quant = network_quant(quant)
        if not quant.deviations:
            return self.networks.quantized(subject, quant, progress)
        if "online_ranges" in quant.deviations:
            return make()
        return self._frozen.get((*_identity(subject), quant, subject.calibration.ref.sha256), make)

    def after_picture(
        self, subject: Subject, quant: QuantSpec, sample: ImageSample, image: Tensor, progress: Progress
    ) -> tuple[Locked[nn.Module], Locked[nn.Module]]:
        """Return the float and the quantized network as they are after one picture, for more passes over it.

        A network that the protocol changes is a new copy, with the picture's draws; others are shared.
        """
        from quantviz.quantize import after_picture

        quant = network_quant(quant)
        networks = []
        for quantized, get in enumerate((self.reference, self.quantized)):
            network = get(subject, quant, progress)
            if _changes(quant, bool(quantized)):
                with network.locked() as module:
                    network = Locked(after_picture(module, image, seed_of(sample.id, bool(quantized))))
            networks.append(network)
        return networks[0], networks[1]

    def kept_features(self, quant: QuantSpec, *, quantized: bool) -> KeptFeatures | None:
        """Return the store of a network's forward passes; None where a picture's may differ from call to call."""
        return None if _changes(network_quant(quant), quantized) else self.networks.kept_features()

    def _base(self, subject: Subject, quant: QuantSpec, progress: Progress) -> Locked[nn.Module]:
        def make() -> Locked[nn.Module]:
            from quantviz.quantize import paper_base

            plain = self.networks.load(subject.spec, subject.located, progress).network
            with plain.locked() as module:
                return Locked(paper_base(module, quant, self.networks.example(subject), subject.layer))

        return self._bases.get((*_identity(subject), _frame(quant)), make)

    def _ranges(
        self, subject: Subject, quant: QuantSpec, base: Locked[nn.Module], progress: Progress
    ) -> Mapping[str, tuple[float, float]]:
        """Return the range at each quantized place on the calibration images, from the store if it is there."""
        from quantviz.quantize import site_ranges

        mixed = [(bits.name, bits.act_bits is None) for bits in quant.layer_bits]
        decides = {
            "protocol": _frame(quant),
            "layer": subject.layer,
            "left out": mixed,
            "float": quant.act_bits is None,
        }
        key = subject.key("protocol ranges", calibration=subject.calibration.ref.sha256, **decides)
        record = self.networks.store.get(key)
        if record is None:
            batches = self.networks.batches(subject, progress, "Calibrating the activation ranges")
            with base.locked() as module:
                ranges = site_ranges(module, quant, batches())
            limits = np.array(list(ranges.values()), np.float64).reshape(-1, 2)
            record = StoredRecord({"limits": limits}, {"layers": list(ranges)})
            self.networks.store.put(key, record)
        limits = record.arrays["limits"]
        return {
            name: (float(low), float(high)) for name, (low, high) in zip(record.metadata["layers"], limits, strict=True)
        }


def network_quant(quant: QuantSpec) -> QuantSpec:
    """Return ``quant`` with only those deviations that change the network.

    Raises:
        UsageError: as ``quantize.check_protocol``.
    """
    if quant.protocol == CALIBRATED:  # without torch
        return quant
    from quantviz.quantize import NETWORK_DEVIATIONS, check_protocol

    check_protocol(quant)
    return with_deviations(quant, quant.deviations & set(NETWORK_DEVIATIONS))


def with_deviations(quant: QuantSpec, names: frozenset[str] | set[str]) -> QuantSpec:
    """Return ``quant`` under the protocol that has exactly these deviations."""
    return replace(quant, protocol="+".join([CALIBRATED, *(name for name in DEVIATIONS if name in names)]))


def without(quant: QuantSpec, name: str) -> QuantSpec:
    """Return ``quant`` without one deviation."""
    return with_deviations(quant, quant.deviations - {name})


def subject_of(subject: Subject, quant: QuantSpec) -> Subject:
    """Return the subject with the preprocessing of the protocol of ``quant``."""
    if "stretched_input" not in quant.deviations:
        return subject
    preprocessing = replace(subject.ref.preprocessing, fit="stretch")
    return replace(subject, ref=replace(subject.ref, preprocessing=preprocessing))


def target_of(target: Literal["float", "own"] | int, quant: QuantSpec) -> Literal["float", "own"] | int:
    """Return the class rule under the protocol of ``quant``; ``target`` is the user's."""
    return "own" if "own_class" in quant.deviations else target


def finished(result: CamResult, quant: QuantSpec | GivenQuant, image_size: tuple[int, int]) -> CamResult:
    """Return the result with its map as the protocol of ``quant`` finishes it.

    With ``eight_bit_maps`` the map on the target layer's grid, ReLU applied, is resized to the picture (Pillow's
    bicubic), min-max scaled and rounded to 256 levels, like a file of the published code. Scores and figures are of the
    network's input, so it is then resized (bilinear) to the input's resolution. A map without evidence is 0 / 0 in the
    published code; here it stays flagged and is not scored.

    Args:
        result: of one network.
        quant: with its protocol.
        image_size: (H, W) of the picture.
    """
    if "eight_bit_maps" not in quant.deviations or result.heatmap.degenerate:
        return result
    height, width = image_size
    large = np.asarray(Image.fromarray(result.native.values).resize((width, height), Image.Resampling.BICUBIC))
    low, high = float(large.min()), float(large.max())
    if not high > low:
        return replace(result, heatmap=Heatmap(np.zeros_like(result.heatmap.values), "constant"))
    levels = np.round((large - low) * (255 / (high - low))).astype(np.uint8)
    across = Image.fromarray(levels.astype(np.float32) / np.float32(255))
    down, right = result.heatmap.values.shape
    values = np.asarray(across.resize((right, down), Image.Resampling.BILINEAR))
    return replace(result, heatmap=Heatmap(np.clip(values, 0, 1)))


def seed_of(image: str, quantized: bool) -> int:
    """Return the seed of dropout's draws: of the picture's sha256, and of which network draws.

    The two networks draw independently, as in the published code, where each continues torch's global stream: the
    change of a map by dropout alone is part of that protocol's drift.
    """
    return 2 * int(image[:_SEED_DIGITS], 16) + quantized


def explained(
    network: nn.Module | Locked[nn.Module],
    image: Tensor,
    cam_spec: CamSpec,
    target: int | None,
    seed: int,
    progress: Progress,
    name: str,
    kept: KeptFeatures | None = None,
    classes: Sequence[str] = (),
) -> CamResult:
    """Return one network's map of one picture, and its predictions.

    Args:
        network: float or quantized, under any protocol.
        image: (1, 3, H, W) float32.
        cam_spec: method and named target layer.
        target: the class to explain, or None for the network's own top-1.
        seed: of dropout's draws, where it is active.
        progress: reports how far methods with many forward passes are.
        name: of the network, for progress.
        kept: forward passes of this network, if it does not change; as in ``cam.explain``.
        classes: names of the network's classes, in order; if empty, those of ``networks.build.labels``.

    Raises:
        UsageError: there are not as many names as classes; or as ``cam.explain``.
        QuantvizError: as ``cam.explain``.
    """
    from quantviz import cam
    from quantviz.quantize import seeded

    def of_network(message: str, fraction: float | None = None, phase: Phase = Phase.EXPLAINING) -> None:
        progress(f"{message}, {name} model", fraction, phase)

    progress(f"{cam_spec.method} of the {name} model", None, Phase.EXPLAINING)
    with lockable(network).locked() as module, seeded(module, seed):
        explanation = cam.explain(module, image, cam_spec, target, of_network, kept)
    return result_of(explanation, name, classes)


def result_of(explanation: Explanation, name: str, classes: Sequence[str] = ()) -> CamResult:
    """Return a map with the predictions by their names.

    Args:
        explanation: of a network.
        name: of the network, for messages.
        classes: as in ``explained``.

    Raises:
        UsageError: there are not as many names as classes.
    """
    from quantviz.networks.build import labels

    top = _top(explanation.probabilities, classes or labels(len(explanation.probabilities)), name)
    return CamResult(explanation.heatmap, explanation.native, explanation.class_index, top)


def _top(probabilities: FloatMap, names: Sequence[str], name: str) -> tuple[Prediction, ...]:
    """Return the classes with the greatest probabilities (classes,), the greatest first."""
    if len(names) != len(probabilities):
        raise UsageError(
            f"{len(names)} class names were given, but the {name} model has {len(probabilities)} classes; "
            "give one name for each."
        )
    order = np.argsort(-probabilities, kind="stable")[:_TOP]
    return tuple(Prediction(int(index), names[index], float(probabilities[index])) for index in order)


def _identity(subject: Subject) -> tuple[object, ...]:
    return subject.spec.name, subject.ref.sha256, subject.ref.preprocessing, subject.layer


def _changes(quant: QuantSpec, quantized: bool) -> bool:
    """Tell whether a network may give another result next time: dropout draws, and observers update."""
    return "train_mode" in quant.deviations or (quantized and bool(quant.deviations))


def _frame(quant: QuantSpec) -> tuple[str, ...]:
    """Return the deviations that change the network before it is quantized."""
    return tuple(name for name in ("train_mode", "output_quantizers") if name in quant.deviations)
