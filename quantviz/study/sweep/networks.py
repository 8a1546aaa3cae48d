"""The networks of a piece of a study: of one model under one protocol, simulated or as files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantviz.cam import Locked, lockable
from quantviz.comparison.cards import beside_file, card_of
from quantviz.comparison.deploy import parted_layer
from quantviz.comparison.files import networks_of, pairs_of
from quantviz.comparison.files_request import files_of_card
from quantviz.comparison.loaded import NETWORK_BYTES, Subject, bytes_of
from quantviz.comparison.protocols import subject_of
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.networks import Network
from quantviz.networks.card import Card
from quantviz.specs import CamSpec, FileVariant, Preprocessing, Progress, QuantSpec, QuantvizError, Variant
from quantviz.study.planning import SweepRequest
from quantviz.study.specs.plan import Piece, StudyModel, StudyPlan

if TYPE_CHECKING:
    from torch import nn

AtLayer = tuple[Locked["nn.Module"], CamSpec]
"""A network, and the CAM at its own target layer."""


@dataclass(frozen=True, slots=True, eq=False)
class PieceNetworks:
    """The networks of one model under one protocol.

    Attributes:
        preprocessing: of all of them.
        classes: of the float network.
        reference: the float network.
        variants: label of a variant -> its network.
        simulated: label of a deployed variant -> its simulation.
        one_at_a_time: together the variants would take too much memory, and each is made whenever it is asked for.
    """

    preprocessing: Preprocessing
    classes: int
    reference: AtLayer
    variants: Mapping[str, AtLayer]
    simulated: dict[str, AtLayer] = field(default_factory=dict)
    one_at_a_time: bool = False


class _MadeWhenAsked(Mapping[str, AtLayer]):
    """Networks by their labels, none of which is held."""

    def __init__(self, labels: Sequence[str], make: Callable[[str], AtLayer]) -> None:
        self._labels, self._make = tuple(labels), make

    def __getitem__(self, label: str) -> AtLayer:
        return self._make(label)

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)


def networks_of_piece(
    bench: Workbench, plan: StudyPlan, request: SweepRequest, piece: Piece, progress: Progress
) -> PieceNetworks:
    """Return the networks of a piece.

    Args:
        bench: holds the networks.
        plan: of the study.
        request: what the plan was made from.
        piece: of the plan.
        progress: reports what is being loaded.

    Raises:
        QuantvizError: a network cannot be made, or is no longer the one that was planned.
    """
    model, asked = plan.models[piece.model], request.models[piece.model]
    variants = plan.variants_at(piece.model, piece.protocol)
    files = [variant for variant in variants if isinstance(variant, FileVariant)]
    if not model.in_torch:
        return _of_files(plan, model, _card(asked), files)
    simulated = [variant for variant in variants if isinstance(variant, Variant)]
    first = simulated[0] if simulated else Variant(QuantSpec())
    weights = request.weights.get(asked)
    subject = study_subject(bench, plan, model, first, weights, request.calibration, progress, asked)
    if files:
        return _beside_files(bench, plan, subject, _card(asked), files, progress)
    return _simulations(bench, plan, subject, simulated, progress)


def _simulations(
    bench: Workbench, plan: StudyPlan, subject: Subject, variants: list[Variant], progress: Progress
) -> PieceNetworks:
    """Return variants that quantviz rounds beside the float network in torch."""
    simulate = partial(_simulated, bench, plan, subject, progress=progress)
    reference = _reference(bench, plan, subject, variants[0].quant, progress)
    deployed = [variant for variant in variants if variant.deployed]
    made = partial(
        PieceNetworks,
        subject.ref.preprocessing,
        bench.networks.load(subject.spec, subject.located, progress).ref.classes,
        reference,
    )
    if plan.backend == "torch" and not deployed and bytes_of(reference[0]) * len(variants) > NETWORK_BYTES:
        named = {variant.label: variant for variant in variants}
        lazy = _MadeWhenAsked(tuple(named), lambda label: simulate(named[label]))
        for _ in lazy.values():  # their ranges and learned weights are in the store from then on
            pass
        return made(lazy, one_at_a_time=True)
    cam = replace(plan.cam, layer=subject.layer)
    return made(
        {
            variant.label: bench.network(subject, variant, cam, progress) if variant.deployed else simulate(variant)
            for variant in variants
        },
        {variant.label: simulate(Variant(variant.quant)) for variant in deployed},
    )


def _reference(bench: Workbench, plan: StudyPlan, subject: Subject, quant: QuantSpec, progress: Progress) -> AtLayer:
    """Return the float network on the study's backend."""
    if plan.backend == "torch":
        return bench.protocols.reference(subject, quant, progress), replace(plan.cam, layer=subject.layer)
    split = bench.backends.reference(subject, progress, plan.backend)
    return split, replace(plan.cam, layer=parted_layer(split))


def _simulated(bench: Workbench, plan: StudyPlan, subject: Subject, variant: Variant, progress: Progress) -> AtLayer:
    """Return the simulated network of a variant on the study's backend."""
    if plan.backend == "torch":
        return bench.network(subject, variant, replace(plan.cam, layer=subject.layer), progress)
    split = bench.backends.simulated(subject, variant.quant, progress)
    return split, replace(plan.cam, layer=parted_layer(split))


def study_subject(
    bench: Workbench,
    plan: StudyPlan,
    model: StudyModel,
    variant: Variant,
    weights: str | None,
    calibration: Path | None,
    progress: Progress,
    asked: str = "",
) -> Subject:
    """Return a model of a study, with the preprocessing of a variant's protocol.

    Args:
        bench: holds the networks.
        plan: of the study.
        model: of the plan.
        variant: of the plan.
        weights: as in ``CompareRequest``.
        calibration: folder of the calibration pictures, or None for the bundled photographs.
        progress: reports what is being loaded.
        asked: the model as ``networks.spec`` takes it, where that is not its name: the path of its card.

    Raises:
        QuantvizError: its weights or the calibration pictures are no longer those that were planned.
    """
    cam = replace(plan.cam, layer=model.layer)
    names = model.weights.names
    request = CompareRequest(asked or model.name, weights, variant.quant, cam, calibration=calibration, names=names)
    subject = subject_of(bench.subject(request, progress), variant.quant)
    ref = bench.networks.load(subject.spec, subject.located, progress).ref
    if ref.sha256 != model.weights.sha256 or subject.calibration.ref != plan.calibration:
        raise QuantvizError("The weights or calibration pictures changed meanwhile; begin a new study.")
    return subject


def _of_files(plan: StudyPlan, model: StudyModel, card: Card, files: list[FileVariant]) -> PieceNetworks:
    """Return ONNX files beside an ONNX file."""
    request = files_of_card(card, model.layer)
    pairs = pairs_of(request)
    networks: dict[str, AtLayer] = {}
    for file in files:
        pair = pairs.get(file.label)
        if pair is None or (pair.reference.file.sha256, pair.quantized.file.sha256) != _digests(model, file):
            raise _changed(card)
        reference, quantized = networks_of(request, file.label, pair)
        networks[file.label] = _at_layer(plan, quantized)
    weights = reference.weights
    return PieceNetworks(weights.preprocessing, weights.classes, _at_layer(plan, reference), networks)


def _beside_files(
    bench: Workbench,
    plan: StudyPlan,
    subject: Subject,
    card: Card,
    files: list[FileVariant],
    progress: Progress,
) -> PieceNetworks:
    """Return ONNX files beside a network in torch."""
    paths = {variant.name: variant.file for variant in card.files}
    networks: dict[str, AtLayer] = {}
    for file in files:
        path = paths.get(file.label)
        if path is None:
            raise _changed(card)
        reference, quantized = beside_file(bench, card, path, subject, progress)
        if quantized.weights.sha256 != file.sha256:
            raise _changed(card)
        networks[file.label] = _at_layer(plan, quantized)
    weights = reference.weights
    return PieceNetworks(weights.preprocessing, weights.classes, _at_layer(plan, reference), networks)


def _at_layer(plan: StudyPlan, network: Network) -> AtLayer:
    module: Any = network.module
    return lockable(module), replace(plan.cam, layer=network.layer)


def _digests(model: StudyModel, file: FileVariant) -> tuple[str, str]:
    return model.weights.sha256, file.sha256


def _card(asked: str) -> Card:
    card = card_of(asked)
    if card is None:
        raise QuantvizError(f"{asked!r} is no network card; begin a new study.")
    return card


def _changed(card: Card) -> QuantvizError:
    return QuantvizError(f"The files of card {card.path.name!r} changed meanwhile; begin a new study.")
