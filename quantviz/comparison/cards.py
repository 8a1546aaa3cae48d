"""A network card compared on one picture: its float network beside each of its variants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from quantviz import images, networks
from quantviz.cam import lockable
from quantviz.comparison.calibration import calibration_set
from quantviz.comparison.files import EXAMPLES, compare_files, file_network
from quantviz.comparison.files_request import files_of_card, preprocessing_of_card
from quantviz.comparison.input_grid import calibrated_otherwise
from quantviz.comparison.loaded import Subject
from quantviz.comparison.pair import PairRequest, compare_pair
from quantviz.comparison.pool import Pool
from quantviz.comparison.protocols import subject_of
from quantviz.comparison.request import CompareRequest
from quantviz.comparison.workbench import Workbench
from quantviz.networks import Network
from quantviz.networks.card import Card, is_card, read_card
from quantviz.networks.onnx_files import open_file, target_like
from quantviz.networks.onnx_files.files import identity
from quantviz.specs import Comparison, ImageSample, Progress, QuantSpec, UsageError, no_progress, parse_bits

_TARGETS: Pool[str] = Pool(8)


def card_of(model: str) -> Card | None:
    """Return the card that a model's name is the path of, or None for another name.

    Raises:
        UsageError: the card is wrong.
    """
    return read_card(Path(model)) if is_card(model) else None


def compare_card(
    bench: Workbench,
    card: Card,
    request: CompareRequest,
    sample: ImageSample,
    progress: Progress = no_progress,
    *,
    classes: Path | None = None,
) -> dict[str, Comparison]:
    """Compare the float network of a card with each of its variants on one picture.

    Args:
        bench: with the networks and the store.
        card: with one variant or more.
        request: what to compare by; its model is the card, and its bits give way to those of the variants.
        sample: the picture.
        progress: reports what is being done.
        classes: of ONNX files: the file of class names, in place of the card's.

    Returns:
        Variant's name -> its comparison, in the card's order.

    Raises:
        CheckpointError: a file cannot be used.
        UsageError: an unknown layer; or as ``compare_pair`` and ``Workbench.compare``.
        QuantvizError: as these.
    """
    wanted = PairRequest(request.cam.method, request.target, request.saliency, request.saliency_name, request.crop)
    if card.float_file is not None:
        files = files_of_card(card, request.cam.layer, classes)
        return compare_files(files, sample, wanted, store=bench.store, progress=progress)
    comparisons = {}
    for variant in card.variants:
        if variant.file is None:
            weight_bits, act_bits = parse_bits(variant.bits)
            quant = replace(request.quant, weight_bits=weight_bits, act_bits=act_bits)
            comparisons[variant.name] = bench.compare(replace(request, quant=quant), sample, progress)
        else:
            pair = beside_file(bench, card, variant.file, bench.subject(request, progress), progress)
            comparisons[variant.name] = compare_pair(*pair, sample, wanted, store=bench.store, progress=progress)
    return comparisons


def float_network(bench: Workbench, card: Card, progress: Progress = no_progress) -> Network:
    """Return the float network of a card.

    Args:
        bench: with the networks and the store.
        card: of any origin.
        progress: reports what is being loaded.

    Raises:
        CheckpointError: a file cannot be used.
        UsageError: an unknown model or layer, or a wrong number of class names.
        WeightsUnavailable: weights are neither on disk nor reachable.
    """
    if card.float_file is not None:
        preprocessing = preprocessing_of_card(card, open_file(card.float_file))
        return file_network(card.float_file, preprocessing, card.layer, card.classes)
    spec = card.of_spec(networks.spec(card.model))
    located = networks.resolve(spec, progress=progress)
    ref = bench.networks.load(spec, located, progress).ref
    ref = replace(ref, names=spec.class_names)
    subject = Subject(spec, located, ref, spec.layer, calibration_set(None))
    return subject_network(bench, subject, progress)


def beside_file(
    bench: Workbench, card: Card, file: Path, subject: Subject, progress: Progress
) -> tuple[Network, Network]:
    """Return the float network of a card that names a model, and one of its files.

    Args:
        bench: with the networks.
        card: of the file.
        file: of a variant.
        subject: the card's model.
        progress: reports what is being loaded.

    Raises:
        CheckpointError: the file cannot be used.
        UsageError: an unknown layer, no tensor of the file is like the model's layer, or the numbers of classes differ.
    """
    reference = subject_network(bench, subject, progress)
    target = card.quantized_layer or _TARGETS.get(
        (identity(file), reference.weights, reference.layer), lambda: _target_like(file, reference)
    )
    quantized = file_network(file, reference.weights.preprocessing, target, subject.ref.names)
    if told := calibrated_otherwise(
        open_file(file, size=reference.weights.preprocessing.size), quantized.weights.preprocessing
    ):
        quantized = replace(quantized, notes=(told, *quantized.notes))
    counts = reference.weights.classes, quantized.weights.classes
    if counts[0] != counts[1]:
        raise UsageError(
            f"{reference.name} has {counts[0]} classes and {quantized.name} {counts[1]}; give files of the same "
            f"network in card {card.path.name!r}."
        )
    return reference, quantized


def _target_like(file: Path, reference: Network) -> str:
    """Return the tensor of a file that holds what the target layer of the float network gives."""
    import torch

    preprocessing = reference.weights.preprocessing
    picture = images.normalize(images.crop(images.bundled(EXAMPLES[0]).rgb, preprocessing), preprocessing)
    given: list[torch.Tensor] = []
    with lockable(reference.module).locked() as module, torch.no_grad():
        layer = module.get_submodule(reference.layer)
        handle = layer.register_forward_hook(lambda _module, _inputs, output: given.append(output))
        try:
            module(torch.from_numpy(picture))
        finally:
            handle.remove()
    if not given or not isinstance(given[0], torch.Tensor) or given[0].ndim != 4:
        raise UsageError(
            f"Layer {reference.layer!r} of {reference.name} gives no (1, C, h, w) tensor that one of {file.name} could "
            "be compared with; name its tensor by layer = { float = ..., quantized = ... } in the card."
        )
    opened = open_file(file, size=preprocessing.size)
    return target_like(opened, picture, given[0][0].numpy(), reference.layer).tensor


def subject_network(bench: Workbench, subject: Subject, progress: Progress) -> Network:
    """Return the float network of a subject as one of any origin.

    Raises:
        as ``Workbench.compare``.
    """
    subject = subject_of(subject, QuantSpec())
    ref = bench.networks.load(subject.spec, subject.located, progress).ref
    with bench.protocols.reference(subject, QuantSpec(), progress).locked() as module:  # which a lock goes with
        return Network(
            name=subject.spec.name,
            module=module,
            layer=subject.layer,
            weights=replace(subject.ref, classes=ref.classes, note=ref.note),
            classes=subject.ref.names,
        )
