"""ONNX files of the user's compared on one picture: a float file, and quantized files beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from quantviz import images
from quantviz.comparison.files_request import FilesRequest, check_size, preprocessing_of_files
from quantviz.comparison.input_grid import calibrated_otherwise
from quantviz.comparison.pair import PairRequest, compare_pair
from quantviz.comparison.pool import Pool
from quantviz.comparison.preprocessing_check import check_preprocessing
from quantviz.networks import Network
from quantviz.networks.card import RESERVED
from quantviz.networks.onnx_files import RULE, FilePair, Opened, Target, TensorMatch, open_file, pair_of
from quantviz.networks.onnx_files.files import identity
from quantviz.networks.preprocessing import IMAGENET, resize_for, words_of
from quantviz.specs import (
    Comparison,
    GivenQuant,
    ImageSample,
    Phase,
    Preprocessing,
    Progress,
    UsageError,
    WeightsRef,
    no_progress,
)
from quantviz.store import TensorStore

if TYPE_CHECKING:
    import numpy.typing as npt

    from quantviz.networks.onnx_files.network import OnnxNetwork

EXAMPLES: Final = ("coffee", "chelsea", "rocket")
"""Bundled photographs on which ways to read a target are held to the untouched file."""

_FLOAT = "FP32"  # the label of a file with nothing quantized
_KEPT = 4
_MODULES: Pool[OnnxNetwork] = Pool(_KEPT)
_WARNINGS: Pool[str] = Pool(_KEPT)


def compare_files(
    files: FilesRequest,
    sample: ImageSample,
    request: PairRequest | None = None,
    *,
    store: TensorStore | None = None,
    progress: Progress = no_progress,
) -> dict[str, Comparison]:
    """Compare a float ONNX file with each of its quantized files on one picture.

    Files are read, matched and opened once; they stay in memory until they change.

    Args:
        files: which files.
        sample: the picture.
        request: what to compare by; None for the defaults.
        store: where results are kept, or None.
        progress: reports what is being done.

    Returns:
        Quantized file's name -> its comparison, in the order of the request. Where shapes or numbers of classes differ
        between the files, ``notes`` say so first.

    Raises:
        CheckpointError: a file cannot be used.
        UsageError: an unknown layer; or as ``compare_pair``.
        QuantvizError: as ``compare_pair``.
    """
    progress("Reading the ONNX files", None, Phase.LOADING)
    comparisons: dict[str, Comparison] = {}
    for name, pair in pairs_of(files).items():
        first, second = networks_of(files, name, pair)
        warning = input_warning(files, pair, first)
        told = (*pair.findings, *_kinds(pair), *((warning,) if warning else ()))
        first = replace(first, notes=(*told, *first.notes))
        comparisons[name] = compare_pair(
            first, second, sample, request, store=store, progress=progress, same_classes=False
        )
    return comparisons


def pairs_of(files: FilesRequest) -> dict[str, FilePair]:
    """Return the quantized files by what results call them, each beside the float file, in the request's order.

    Raises:
        CheckpointError: a file cannot be used.
        UsageError: two have one name, or the input is none that the files take.
    """
    preprocessing = preprocessing_of_files(files)
    size = preprocessing.size
    reference = open_file(files.reference, external=files.external, size=size)
    pairs: dict[str, FilePair] = {}
    for path in files.quantized:
        name = _name(files, path)
        if name in pairs:
            raise UsageError(f"Two quantized files are called {name!r}; rename one of them.")
        opened = open_file(path, external=files.external, size=size)
        check_size(opened, preprocessing, reference.file.name)
        pairs[name] = pair_of(reference, opened)
    return pairs


def target_of(files: FilesRequest, pair: FilePair) -> tuple[Target, TensorMatch]:
    """Return the float file's target and what stands for it in the quantized file.

    Raises:
        UsageError: there is no such target, or nothing stands for it.
    """
    if files.card is None or files.card.quantized_layer is None:
        return pair.target(files.layer)
    target, other = pair.reference.target(files.layer), pair.quantized.target(files.card.quantized_layer)
    return target, TensorMatch(target.tensor, other.tensor, "by the card")


def input_warning(files: FilesRequest, pair: FilePair, reference: Network) -> str:
    """Return what speaks against the input's preprocessing; "" where nothing.

    The grid of the quantized file's input is asked first (``calibrated_otherwise``), then known pictures
    (``check_preprocessing``).
    """
    if told := calibrated_otherwise(pair.quantized, reference.weights.preprocessing):
        return told
    key = (identity(files.reference), reference.weights.sha256, reference.weights.preprocessing, reference.classes)
    return _WARNINGS.get(key, lambda: check_preprocessing(reference).warning)


def file_network(
    path: Path, preprocessing: Preprocessing, layer: str | None = None, names: tuple[str, ...] = ()
) -> Network:
    """Return a quantized ONNX file as a network, to stand beside a float network of another origin.

    Args:
        path: the file.
        preprocessing: of the float network.
        layer: tensor that maps are taken at; None for the last spatial tensor before pooling.
        names: of the classes, or ().

    Raises:
        CheckpointError: the file cannot be used.
        UsageError: an unknown layer, or a wrong number of names.
    """
    opened = open_file(path, size=preprocessing.size)
    target = opened.target(layer).tensor
    module = _module(path, opened, target, preprocessing, frozenset())
    details = {"source": "file", "name": opened.file.name, "sha256": opened.file.sha256, **_format(opened)}
    return Network(
        name=opened.file.name,
        module=module,
        layer=module.layer,
        weights=_weights(opened, preprocessing),
        target=target,
        classes=_names_for(opened, names),
        quant=GivenQuant(_label(opened), details),
        backend="onnxruntime",
        notes=_running_notes(opened, module),
    )


def _name(files: FilesRequest, path: Path) -> str:
    variants = files.card.files if files.card is not None else ()
    own = next((variant.name for variant in variants if variant.file == path), path.stem)
    return path.name if own in RESERVED else own


def networks_of(files: FilesRequest, name: str, pair: FilePair) -> tuple[Network, Network]:
    """Return the float and the quantized file of a pair as networks.

    Args:
        files: which files.
        name: of the quantized file in ``pairs_of``.
        pair: of ``pairs_of``.

    Raises:
        CheckpointError: a file cannot be run.
        UsageError: an unknown layer, or a wrong number of class names.
    """
    preprocessing, names = preprocessing_of_files(files), files.names
    path = next(entry for entry in files.quantized if _name(files, entry) == name)
    target, match = target_of(files, pair)
    first = _module(files.reference, pair.reference, target.tensor, preprocessing, frozenset())
    fused = frozenset(pair.matching.fused())
    second = _module(path, pair.quantized, match.quantized_tensor, preprocessing, fused)
    given = files.input or (files.card is not None and files.card.settings)
    reference = Network(
        name=files.card.name if files.card is not None else pair.reference.file.name,
        module=first,
        layer=first.layer,
        weights=_weights(pair.reference, preprocessing),
        target=target.tensor,
        classes=_names_for(pair.reference, names),
        backend="onnxruntime",
        notes=(
            f"Input: {words_of(preprocessing)}{'' if given else ', as ImageNet networks usually take it'}.",
            *_layer_notes(files, pair, match),
            *_running_notes(pair.reference, first),
        ),
    )
    quantized = Network(
        name=pair.quantized.file.name,
        module=second,
        layer=second.layer,
        weights=_weights(pair.quantized, preprocessing),
        target=match.quantized_tensor,
        classes=names if pair.quantized.logits.classes == len(names) else (),
        quant=GivenQuant(_label(pair.quantized), _details(pair, match, second)),
        backend="onnxruntime",
        notes=_running_notes(pair.quantized, second),
    )
    return reference, quantized


def _module(
    path: Path,
    opened: Opened,
    target: str,
    preprocessing: Preprocessing,
    fused: frozenset[str],
) -> OnnxNetwork:
    """Return a file parted at a target; kept, so that a second picture costs no more than its maps."""

    def make() -> OnnxNetwork:
        from quantviz.networks.onnx_files.network import OnnxNetwork

        return OnnxNetwork(opened, target, _examples(preprocessing, opened.size), set(fused))

    key = (identity(path), opened.file.sha256, opened.size, target, preprocessing, fused)
    return _MODULES.get(key, make)


def _examples(preprocessing: Preprocessing, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    own = preprocessing
    if size != own.size:
        own = replace(own, crop=size, resize=resize_for(size, IMAGENET))
    crops = (images.crop(images.bundled(name).rgb, own) for name in EXAMPLES)
    return np.concatenate([images.normalize(crop, own) for crop in crops])


def _weights(opened: Opened, preprocessing: Preprocessing) -> WeightsRef:
    return WeightsRef("file", opened.file.name, opened.file.sha256, preprocessing, opened.logits.classes)


def _names_for(opened: Opened, names: tuple[str, ...]) -> tuple[str, ...]:
    if names and len(names) != opened.logits.classes:
        raise UsageError(
            f"{len(names)} class names were given, but {opened.file.name} has {opened.logits.classes} classes; give "
            "one for each, a line a name."
        )
    return names


def _label(opened: Opened) -> str:
    return f"{opened.quantization.label} {opened.quantization.format}"


def _format(opened: Opened) -> dict[str, Any]:
    return {"format": opened.quantization.format, "bits": opened.quantization.label}


def _details(pair: FilePair, match: TensorMatch, module: OnnxNetwork) -> dict[str, Any]:
    opened = pair.quantized
    return {
        "source": "file",
        "name": opened.file.name,
        "sha256": opened.file.sha256,
        **_format(opened),
        "match": {"float": match.float_tensor, "quantized": match.quantized_tensor, "how": match.how},
        "read_as": module.read_as,
        "output_difference": module.held.logits,
        "tail_difference": module.held.tail,
        "findings": list(pair.findings),
    }


def _kinds(pair: FilePair) -> list[str]:
    """Say where a file is not of the kind that it was given as."""
    first, second, notes = pair.reference, pair.quantized, []
    if first.quantization.tensors:
        notes.append(f"{first.file.name}, given as the float file, is quantized itself: {_label(first)}.")
    if second.quantization.label == _FLOAT:
        notes.append(f"{second.file.name}, given as a quantized file, has nothing quantized in it.")
    return notes


def _layer_notes(files: FilesRequest, pair: FilePair, match: TensorMatch) -> list[str]:
    opened, target = pair.reference, pair.reference.target(match.float_tensor)
    notes = [f"Layer {target.tensor} is {RULE}; another can be named as target."] if files.layer is None else []
    notes.append(f"{match.quantized_tensor} in {pair.quantized.file.name} stands for it: matched {match.how}.")
    if behind := pair.matching.swallowed(match):
        notes.append(
            f"{pair.quantized.file.name} cuts there what {behind} cuts in {opened.file.name}, so that the two are not "
            f"the same values; name {behind} as target."
        )
    if files.layer is None and target.shape[0] == opened.logits.classes:
        earlier = [entry.tensor for entry in opened.targets if entry.shape[0] != target.shape[0]][-1:]
        advice = f"; {earlier[0]}, named as target, is what the last convolution reads" if earlier else ""
        notes.append(f"Its channels are the classes' own scores{advice}.")
    return notes


def _running_notes(opened: Opened, module: OnnxNetwork) -> tuple[str, ...]:
    """Say how the file was run, and how far the parts are from the untouched file."""
    held, span = module.held, module.held.span or 1.0
    changed = (
        "left its output as it was"
        if held.logits == 0
        else f"changed its output by up to {held.logits:.3g}, as fewer operators were fused"
    )
    reading = f"{module.read_as} as a further output {changed}"
    ran = f"{opened.file.name} ran by ONNX Runtime at its default level; {reading}."
    if module.refusal:
        return ran, module.refusal
    if held.tail is not None and held.tail > 1e-5 * span:
        return ran, (
            f"Behind the layer, torch's logits of {opened.file.name} are within {held.tail:.3g} of ONNX Runtime's, "
            f"{held.tail / span:.1%} of their range."
        )
    return (ran,)
