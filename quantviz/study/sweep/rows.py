"""The rows of a study: the results of one model under one protocol on one picture, at every bit-width."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quantviz import images, saliency, scores
from quantviz.comparison.protocols import explained, finished, seed_of
from quantviz.comparison.references import SPECTRAL_RESIDUAL
from quantviz.comparison.workbench import Workbench
from quantviz.specs import (
    AnyVariant,
    CamResult,
    FileVariant,
    GroundTruth,
    Heatmap,
    ImageError,
    ImageSample,
    Preprocessing,
    Progress,
    QuantvizError,
    no_progress,
    scheme_name,
)
from quantviz.study.planning import SweepRequest
from quantviz.study.specs.plan import FAITHFUL_METRICS, Piece, StudyImage, StudyPlan
from quantviz.study.specs.row import StudyRow
from quantviz.study.sweep.networks import AtLayer, networks_of_piece
from quantviz.study.sweep.properties import picture_properties
from quantviz.study.sweep.truths import Truths, planned_bytes

if TYPE_CHECKING:
    from torch import nn


ObserverState = dict[str, dict[str, list[float]]]
"""Label of the bit-width -> place in the network -> its observer's moving averages of the least and greatest value."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture as a network reads it.

    Attributes:
        id: sha256 of the file.
        size: (H, W) of the picture.
        input: (1, 3, h, w) float32.
        salient: its saliency (h, w), on the pixels of the input.
        truth: the user's ground truth on the same pixels; or a sentence on why it cannot be used; or None.
        properties: as in ``StudyRow``.
    """

    id: str
    size: tuple[int, int]
    input: npt.NDArray[np.float32]
    salient: Heatmap
    truth: GroundTruth | str | None = None
    properties: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """A picture with what all variants are compared with.

    Attributes:
        index: its place in the plan.
        picture: as ``RowMaker.load`` gave it.
        reference: the float network's result, or a sentence on why there is none.
        truth: as in ``Picture``.
        of_float: columns of the float map against the ground truth.
        faithful: columns on how faithful the float map is.
        compared: its maps, ready to be compared.
    """

    index: int
    picture: Picture | str
    reference: CamResult | str
    truth: GroundTruth | str | None
    of_float: dict[str, float | None]
    faithful: dict[str, float | None]
    compared: _Compared


class RowMaker:
    """Makes the rows of one model under one protocol: holds its networks, with what their observers have seen.

    ``networks`` are those of the variants by their labels, and ``simulated`` the simulations of deployed ones, each
    with the CAM at its own target layer.
    """

    def __init__(
        self, bench: Workbench, plan: StudyPlan, request: SweepRequest, piece: Piece, progress: Progress
    ) -> None:
        model = plan.models[piece.model]
        self.plan, self.model, self.folder = plan, model.name, request.dataset
        self.variants = plan.variants_at(piece.model, piece.protocol)
        self.truths = Truths(plan, request.truth)
        made = networks_of_piece(bench, plan, request, piece, progress)
        self.labelled = plan.counts_labels(model, made.classes)
        self.preprocessing: Preprocessing = made.preprocessing
        self.float_network, self.networks, self.simulated = made.reference, made.variants, made.simulated
        self.one_at_a_time, self._last = made.one_at_a_time, ""

    def load(self, image: StudyImage) -> Picture | str:
        """Return a picture ready for the networks, or a sentence on why it cannot be used.

        Raises:
            QuantvizError: the file is no longer the one that was planned, or can no longer be read.
        """
        try:
            data = planned_bytes(self.folder, image, "Picture")
            sample = images.load(data, name=image.path)
        except ImageError as error:
            return str(error)
        return self.prepared(sample)

    def prepared(self, sample: ImageSample) -> Picture:
        """Return a decoded picture ready for the networks."""
        crop = images.crop(sample.rgb, self.preprocessing)
        salient = saliency.predictor(SPECTRAL_RESIDUAL).predict(crop)
        height, width = sample.rgb.shape[:2]
        truth = self.truths.read(sample, self.preprocessing)
        found = picture_properties(self.plan.property_columns, crop, truth)
        return Picture(sample.id, (height, width), images.normalize(crop, self.preprocessing), salient, truth, found)

    def rows(self, index: int, picture: Picture | str) -> list[StudyRow]:
        """Return a picture's rows, one for each variant.

        Args:
            index: the picture's place in the plan.
            picture: from ``load``.
        """
        begun = self._begun(index, picture)
        return [self._row(begun, variant, self.networks[variant.label]) for variant in self.variants]

    def rows_of(
        self, pictures: Iterable[tuple[int, Picture | str]], state: ObserverState, step: Callable[[], None]
    ) -> tuple[list[StudyRow], ObserverState]:
        """Return the rows of pictures in a row, and the state of the observers after them.

        Args:
            pictures: (place in the plan, from ``load``) of each.
            state: of the observers before them.
            step: called as often as there are pictures, as the work goes on; whatever it raises ends the call.
        """
        if self.one_at_a_time:
            return self._variant_by_variant(pictures, state, step)
        for label in self.networks:
            _restore(self.networks[label], state.get(label, {}))
        rows: list[StudyRow] = []
        for index, picture in pictures:
            rows += self.rows(index, picture)
            step()
        return rows, _known({label: _state(network) for label, network in self.networks.items()})

    def _variant_by_variant(
        self, pictures: Iterable[tuple[int, Picture | str]], state: ObserverState, step: Callable[[], None]
    ) -> tuple[list[StudyRow], ObserverState]:
        """Return what ``rows_of`` does, with one network in memory beside the float one."""
        begun = [self._begun(index, picture) for index, picture in pictures]
        rows: dict[tuple[int, str], StudyRow] = {}
        after: ObserverState = {}
        done = 0
        for variant in sorted(self.variants, key=lambda variant: variant.label != self._last):  # it is still there
            self._last, network = variant.label, self.networks[variant.label]
            _restore(network, state.get(variant.label, {}))
            for at, one in enumerate(begun):
                rows[at, variant.label] = self._row(one, variant, network)
                if len(rows) // len(self.variants) > done:  # as large a part of the work as a picture is
                    done += 1
                    step()
            after[variant.label] = _state(network)
            del network  # before the next one is made
        ordered = [rows[at, variant.label] for at in range(len(begun)) for variant in self.variants]
        return ordered, _known(after)

    def _begun(self, index: int, picture: Picture | str) -> _Begun:
        """Return a picture with what the float network gives, which all variants are compared with."""
        reference = picture if isinstance(picture, str) else self._result(picture, self.float_network, None, None)
        truth = None if isinstance(picture, str) else picture.truth
        of_float = self.truths.scores("float", None if isinstance(reference, str) else reference.heatmap, truth)
        faithful = self._faithful("float", picture, self.float_network, reference)
        return _Begun(index, picture, reference, truth, of_float, faithful, _Compared())

    def _row(self, begun: _Begun, variant: AnyVariant, network: AtLayer) -> StudyRow:
        """Return the row of a picture and a variant."""
        image, picture, reference = self.plan.images[begun.index], begun.picture, begun.reference
        label = image.label if self.labelled else None
        columns: dict[str, Any] = {"label": label, "simulation": dict.fromkeys(self.plan.simulation_columns)}
        heatmap = None
        quantized: CamResult | str = ""
        if isinstance(picture, str) or isinstance(reference, str):
            columns["error"] = reference
        else:
            target = None if "own_class" in variant.quant.deviations else reference.class_index
            quantized = self._result(picture, network, variant, target)
            columns |= _columns(reference, quantized, picture.salient, label, begun.compared)
            if not isinstance(quantized, str):
                heatmap = quantized.heatmap
                columns["simulation"] |= self._simulation(picture, variant, quantized, begun.compared)
        columns["faithful"] = begun.faithful | self._faithful("quantized", picture, network, quantized)
        columns["truth"] = begun.of_float | self.truths.scores("quantized", heatmap, begun.truth)
        unknown = dict.fromkeys(self.plan.property_columns)
        columns["properties"] = unknown if isinstance(picture, str) else picture.properties
        columns["truth_error"] = begun.truth if isinstance(begun.truth, str) else ""
        scheme = variant.bits if isinstance(variant, FileVariant) else scheme_name(variant.quant)
        known = (begun.index, image.sha256, self.model, variant.label, scheme, variant.protocol)
        return StudyRow(*known, **columns)

    def _simulation(
        self, picture: Picture, variant: AnyVariant, deployed: CamResult, compared: _Compared
    ) -> dict[str, float | bool | None]:
        """Return the columns that compare the simulated with the deployed network; {} where one has no result."""
        if not variant.deployed:
            return {}
        simulated = self._result(picture, self.simulated[variant.label], variant, deployed.class_index)
        if isinstance(simulated, str):
            return {}
        flipped = simulated.predictions[0].index != deployed.predictions[0].index
        columns = compared.columns("simulated_v_deployed", simulated.heatmap, deployed.heatmap)
        return columns | {"simulated_flipped": flipped}

    def _faithful(
        self, side: str, picture: Picture | str, network: AtLayer, result: CamResult | str
    ) -> dict[str, float | None]:
        """Return the columns that say how faithful a network's own map is; {} in a study without them."""
        if not self.plan.faithful:
            return {}
        columns: dict[str, float | None] = {f"{side}_{metric}": None for metric in FAITHFUL_METRICS}
        if isinstance(picture, str) or isinstance(result, str):
            return columns
        import torch

        from quantviz.cam import faithfulness

        try:
            found = faithfulness(network[0], torch.from_numpy(picture.input), result.heatmap, result.class_index)
        except QuantvizError:  # logits of a changed picture that are not finite: there is no score
            return columns
        return columns | {f"{side}_{metric}": found[metric].value for metric in FAITHFUL_METRICS}

    def _result(
        self, picture: Picture, network: AtLayer, variant: AnyVariant | None, target: int | None
    ) -> CamResult | str:
        """Return a network's result, or a sentence on why it has none; ``variant`` is None for the float network."""
        import torch

        name, seed = variant.name if variant else "float", seed_of(picture.id, quantized=variant is not None)
        try:
            result = explained(network[0], torch.from_numpy(picture.input), network[1], target, seed, no_progress, name)
        except QuantvizError as error:
            return str(error)
        return finished(result, (variant or self.variants[0]).quant, picture.size)


def _state(network: AtLayer) -> dict[str, list[float]]:
    """Return the state of a network's observers by their places; {} where it has none."""
    with network[0].locked() as module:
        return {
            place: [float(quantizer.low), float(quantizer.high)]
            for place, quantizer in _observers(module)
            if quantizer.low is not None and quantizer.high is not None
        }


def _known(states: ObserverState) -> ObserverState:
    """Return the states of the networks that have any."""
    return {label: state for label, state in states.items() if state}


def _restore(network: AtLayer, state: Mapping[str, Sequence[float]]) -> None:
    """Let a network's observers go on from a state."""
    import torch

    with network[0].locked() as module:
        for place, quantizer in _observers(module):
            low, high = state.get(place, (None, None))
            quantizer.low = None if low is None else torch.tensor(low, dtype=torch.float32)
            quantizer.high = None if high is None else torch.tensor(high, dtype=torch.float32)


def _observers(network: nn.Module) -> list[tuple[str, Any]]:
    from quantviz.quantize.paper import quantizers

    return [(place, quantizer) for place, quantizer in quantizers(network) if quantizer.online]


def _columns(
    reference: CamResult, quantized: CamResult | str, salient: Heatmap, label: int | None, compared: _Compared
) -> dict[str, Any]:
    """Return the columns that compare two results."""
    first = reference.predictions[0]
    columns: dict[str, Any] = {
        "float_class": reference.class_index,
        "float_top1": first.index,
        "float_probability": first.probability,
        "float_correct": None if label is None else first.index == label,
        "float_degenerate": reference.heatmap.degenerate,
        "saliency_degenerate": salient.degenerate,
    }
    columns |= compared.columns("float_v_saliency", reference.heatmap, salient)
    if isinstance(quantized, str):
        return columns | {"error": quantized}
    second = quantized.predictions[0]
    columns |= {
        "quantized_class": quantized.class_index,
        "quantized_top1": second.index,
        "quantized_probability": second.probability,
        "quantized_correct": None if label is None else second.index == label,
        "flipped": first.index != second.index,
        "quantized_degenerate": quantized.heatmap.degenerate,
    }
    columns |= compared.columns("quantized_v_float", quantized.heatmap, reference.heatmap)
    return columns | compared.columns("quantized_v_saliency", quantized.heatmap, salient)


class _Compared:
    """Compares the maps of one picture, each with several others; what comparisons share is computed once."""

    def __init__(self) -> None:
        self._ready: dict[int, tuple[Heatmap, scores.ReadyMap]] = {}

    def columns(self, name: str, first: Heatmap, second: Heatmap) -> dict[str, float | None]:
        """Return the columns of a comparison; the second map is the ground truth of KLD."""
        agreement = scores.compare(self._of(first), self._of(second))
        return {f"{name}_sim": agreement.sim, f"{name}_cc": agreement.cc, f"{name}_kld": agreement.kld}

    def _of(self, heatmap: Heatmap) -> scores.ReadyMap:
        known = self._ready.setdefault(id(heatmap), (heatmap, scores.ReadyMap(heatmap.values)))
        return known[1]
