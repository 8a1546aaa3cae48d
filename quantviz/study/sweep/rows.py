"""The rows of a study: the results of one model under one protocol on one picture, at every bit-width."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from quantviz import images, saliency, scores
from quantviz.comparison.protocols import explained, finished, seed_of
from quantviz.comparison.references import SPECTRAL_RESIDUAL, TruthSource
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
from quantviz.study.specs.plan import FAITHFUL_METRICS, Piece, StudyImage, StudyPlan, TruthFile
from quantviz.study.specs.row import StudyRow
from quantviz.study.sweep.networks import AtLayer, networks_of_piece

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
    """

    id: str
    size: tuple[int, int]
    input: npt.NDArray[np.float32]
    salient: Heatmap
    truth: GroundTruth | str | None = None


class Truths:
    """The user's ground truth of a study's pictures, and maps' scores against it.

    Args:
        plan: of the study.
        folder: of ground truth; ignored where the plan has none.
    """

    def __init__(self, plan: StudyPlan, folder: Path | None) -> None:
        self.truth, self.folder = plan.truth, folder or Path()
        files = () if plan.truth is None else plan.truth.files
        self.files = {image.path: file for image, file in zip(plan.images, files, strict=False) if file is not None}

    def read(self, sample: ImageSample, preprocessing: Preprocessing) -> GroundTruth | str | None:
        """Return a picture's ground truth in its crop's pixels, a sentence on why it cannot be used, or None.

        Raises:
            QuantvizError: the file is no longer the one that was planned, or can no longer be read.
        """
        file = self.files.get(sample.name)
        if file is None or self.truth is None:
            return None
        name = PurePosixPath(file.path).name
        try:
            data = planned_bytes(self.folder, file, "Ground truth")
            truth = TruthSource(data, name, self.truth.kind).read(sample, preprocessing)
        except ImageError as error:
            return str(error)
        if truth.kind == "map" and truth.values is not None:
            fault = scores.degenerate(truth.values)
            return f"{name} carries no evidence ({fault})." if fault else truth
        content = {"fixations": truth.points, "boxes": truth.boxes}.get(truth.kind, truth.values)
        empty = content is None or not content.size or (truth.kind == "mask" and not (content == 1).any())
        return f"{name}: {truth.notes[-1]}." if empty else truth

    def scores(self, side: str, heatmap: Heatmap | None, truth: GroundTruth | str | None) -> dict[str, float | None]:
        """Return the columns of one side's map: None where there is no map, no evidence or no ground truth."""
        if self.truth is None:
            return {}
        columns: dict[str, float | None] = dict.fromkeys(self.truth.metrics)
        if isinstance(truth, GroundTruth) and heatmap is not None and not heatmap.degenerate:
            measured = scores.measure(heatmap.values, truth, self.truth.metrics)
            columns |= {name: score.value for name, score in measured.items()}
        return {f"{side}_v_truth_{name}": value for name, value in columns.items()}


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
        return Picture(sample.id, (height, width), images.normalize(crop, self.preprocessing), salient, truth)

    def rows(self, index: int, picture: Picture | str) -> list[StudyRow]:
        """Return a picture's rows, one for each variant.

        Args:
            index: the picture's place in the plan.
            picture: from ``load``.
        """
        image = self.plan.images[index]
        label = image.label if self.labelled else None
        reference = picture if isinstance(picture, str) else self._result(picture, self.float_network, None, None)
        truth = None if isinstance(picture, str) else picture.truth
        of_float = self.truths.scores("float", None if isinstance(reference, str) else reference.heatmap, truth)
        faithful_float = self._faithful("float", picture, self.float_network, reference)
        rows, compared = [], _Compared()
        for variant in self.variants:
            columns: dict[str, Any] = {"label": label, "simulation": dict.fromkeys(self.plan.simulation_columns)}
            heatmap = None
            quantized: CamResult | str = ""
            if isinstance(picture, str) or isinstance(reference, str):
                columns["error"] = reference
            else:
                target = None if "own_class" in variant.quant.deviations else reference.class_index
                quantized = self._result(picture, self.networks[variant.label], variant, target)
                columns |= _columns(reference, quantized, picture.salient, label, compared)
                if not isinstance(quantized, str):
                    heatmap = quantized.heatmap
                    columns["simulation"] |= self._simulation(picture, variant, quantized, compared)
            of_quantized = self._faithful("quantized", picture, self.networks[variant.label], quantized)
            columns["faithful"] = faithful_float | of_quantized
            columns["truth"] = of_float | self.truths.scores("quantized", heatmap, truth)
            columns["truth_error"] = truth if isinstance(truth, str) else ""
            scheme = variant.bits if isinstance(variant, FileVariant) else scheme_name(variant.quant)
            known = (index, image.sha256, self.model, variant.label, scheme, variant.protocol)
            rows.append(StudyRow(*known, **columns))
        return rows

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

    def state(self) -> ObserverState:
        """Return the state of the observers; {} where the protocol has none."""
        states: ObserverState = {}
        for name, (network, _) in self.networks.items():
            with network.locked() as module:
                for place, quantizer in _observers(module):
                    if quantizer.low is not None and quantizer.high is not None:
                        states.setdefault(name, {})[place] = [float(quantizer.low), float(quantizer.high)]
        return states

    def restore(self, state: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
        """Let the observers go on from a state."""
        import torch

        for name, (network, _) in self.networks.items():
            with network.locked() as module:
                for place, quantizer in _observers(module):
                    low, high = state.get(name, {}).get(place, (None, None))
                    quantizer.low = None if low is None else torch.tensor(low, dtype=torch.float32)
                    quantizer.high = None if high is None else torch.tensor(high, dtype=torch.float32)


def planned_bytes(folder: Path, file: StudyImage | TruthFile, what: str) -> bytes:
    """Return the bytes of a file that a study was planned with.

    Args:
        folder: where it lies.
        file: its path there and its digest.
        what: the noun for messages.

    Raises:
        ImageError: it cannot be read, and could not when the study was planned.
        QuantvizError: it is no longer the one that was planned, or can no longer be read.
    """
    try:
        _, data = images.read_bytes(folder / file.path, file.path)
    except ImageError as error:
        if file.sha256:  # it could be read before; a broken disk or network is no property of the file
            raise QuantvizError(f"{error} The sweep stops here; repeat its command once that is mended.") from None
        raise ImageError(str(error).replace(str(folder / file.path), file.path)) from None
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise QuantvizError(f"{what} {file.path!r} changed since the study was planned; begin a new study.")
    return data


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
