"""The networks of a study as its plan has them: from names, weights, network cards and their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from quantviz import networks
from quantviz.comparison.cards import card_of
from quantviz.comparison.files import input_warning, networks_of, pairs_of, target_of
from quantviz.comparison.files_request import files_of_card
from quantviz.networks.card import Card
from quantviz.networks.onnx_files import Opened, open_file
from quantviz.specs import FileVariant, ModelSpec, Progress, UsageError, WeightsRef
from quantviz.study.specs.plan import IMAGENET_CLASSES, ONNX, StudyModel, StudyPlan


@dataclass(frozen=True, slots=True)
class AskedModel:
    """A network as a sweep asks for it.

    Attributes:
        name: as ``networks.spec`` takes it, or the path of a card of ONNX files.
        weights: as in ``CompareRequest``.
        layer: name of its target layer; None for its default.
        names: of the classes, where it has as many and none of its own in a card.
        folders: of the pictures: its classes, where it has as many and nothing else names them.
        labelled: the pictures have labels of one's own, so that classes without names are numbered.
    """

    name: str
    weights: str | None = None
    layer: str | None = None
    names: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    labelled: bool = False


def planned_model(asked: AskedModel, known: StudyPlan | None, progress: Progress) -> tuple[StudyModel, tuple[str, ...]]:
    """Return a network of a plan, and notes on it for the reader.

    Args:
        asked: which network.
        known: the plan of a study that may be the same; it saves drawing untrained weights, and judging the input.
        progress: reports a download.

    Raises:
        UsageError: an unknown model or layer, a wrong card, or a wrong number of class names.
        CheckpointError: a file cannot be used.
        WeightsUnavailable: weights are neither on disk nor reachable.
    """
    card = card_of(asked.name)
    if card is not None and card.float_file is not None:
        return _of_files(card, asked, known)
    spec = networks.spec(asked.name)
    layer = asked.layer or spec.layer
    swept = {(entry.name, entry.layer) for entry in known.models} if known else set()
    if layer != spec.layer and (spec.name, layer) not in swept:
        from quantviz.networks.build import check_layer

        check_layer(spec, layer)
    located = networks.resolve(spec, asked.weights, progress=progress)
    ref = located.ref
    if not ref.sha256:
        ref = _known(spec.name, known) or _built(spec, located)
    ref = _with_names(ref, spec, located, asked)
    if card is None:
        return StudyModel(asked.name, ref, layer), ()
    files = tuple(_file(variant.name, card, _opened(card, variant.name, ref)) for variant in card.files)
    return StudyModel(card.name, ref, layer, card.model, files), ()


def _known(name: str, plan: StudyPlan | None) -> WeightsRef | None:
    models = plan.models if plan is not None else ()
    return next((entry.weights for entry in models if entry.name == name and not entry.weights.trained), None)


def _built(spec: ModelSpec, located: networks.LocatedWeights) -> WeightsRef:
    from quantviz.networks.build import build

    return build(spec, located)[1]


def _with_names(ref: WeightsRef, spec: ModelSpec, located: networks.LocatedWeights, asked: AskedModel) -> WeightsRef:
    """Return weights with the names of their classes: of the card, as asked, of the checkpoint, or of the folders."""
    if not (spec.class_names or asked.names or asked.folders or asked.labelled):
        return ref
    # How many classes a user's file has is known once it is read.
    built = _built(spec, located) if ref.source == "file" else ref
    classes = built.classes
    if spec.class_names and len(spec.class_names) != classes:
        raise _wrong_number(spec.class_names, spec.name, classes)
    numbered = tuple(f"class {index}" for index in range(classes)) if classes != IMAGENET_CLASSES else ()
    known = (spec.class_names, asked.names, built.names, asked.folders, numbered if asked.labelled else ())
    names = next((names for names in known if names and len(names) == classes), ())
    return replace(ref, classes=classes, names=names)


def _of_files(card: Card, asked: AskedModel, known: StudyPlan | None) -> tuple[StudyModel, tuple[str, ...]]:
    """Return the files of a card, and what speaks against them."""
    if asked.weights is not None:
        raise UsageError(f"Card {card.path.name!r} has its weights in its files; leave --weights of it out.")
    files = files_of_card(card, asked.layer)
    pairs = pairs_of(files)
    first = next(iter(pairs.values()))
    classes, notes = first.reference.logits.classes, list[str]()
    if card.classes and len(card.classes) != classes:
        raise _wrong_number(card.classes, card.name, classes)
    for pair in pairs.values():
        _check_classes(pair.quantized, classes, card)
        notes += [finding for finding in pair.findings if finding not in notes]
    reference, _ = networks_of(files, next(iter(pairs)), first)
    if known is None and (warning := input_warning(files, first, reference)):
        notes.append(warning)
    known_names = (card.classes, asked.names, asked.folders)
    names = next((names for names in known_names if names and len(names) == classes), ())
    weights = replace(reference.weights, names=names)
    variants = tuple(
        _file(name, card, pair.quantized, target_of(files, pair)[1].quantized_tensor) for name, pair in pairs.items()
    )
    return StudyModel(card.name, weights, target_of(files, first)[0].tensor, ONNX, variants), tuple(notes)


def _opened(card: Card, name: str, ref: WeightsRef) -> Opened:
    path = next(variant.file for variant in card.files if variant.name == name)
    assert path is not None
    return open_file(path, size=ref.preprocessing.size)


def _file(label: str, card: Card, opened: Opened, layer: str | None = None) -> FileVariant:
    bits = f"{opened.quantization.label} {opened.quantization.format}"
    return FileVariant(label, opened.file.name, opened.file.sha256, bits, layer or card.quantized_layer or "")


def _check_classes(opened: Opened, classes: int, card: Card) -> None:
    if opened.logits.classes != classes:
        raise UsageError(
            f"{opened.file.name} has {opened.logits.classes} classes and the float network of card {card.path.name!r} "
            f"{classes}; give files of the same network."
        )


def _wrong_number(names: Sequence[str], name: str, classes: int) -> UsageError:
    return UsageError(
        f"{len(names):,} class names were given for {name}, which has {classes:,} classes; give a name for each."
    )
